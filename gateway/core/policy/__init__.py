"""The policy: a typed document, compiled whole or refused whole, and the routes it compiles to."""
