"""HTTP/1.1 as bytes: strict readers for requests and responses, and the framing of bodies. No policy here."""
