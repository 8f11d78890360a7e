"""Numbered steps from an empty store to the tables of `gateway.stores.schema`: forward only, one transaction."""
