"""User tokens: verified by their issuers' keys, or by asking their issuer; never by what they say of themselves."""
