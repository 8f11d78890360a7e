"""The demo: example upstreams, Apps and keys around a real gateway, all from one file of example data."""
