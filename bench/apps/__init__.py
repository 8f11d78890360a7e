"""Small programs that the bench starts: upstreams, a decision service, and gateways to compare with."""
