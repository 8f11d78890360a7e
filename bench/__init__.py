"""The bench: Bearergate beside other proxies and gateways, on one core each, in one run. `python -m bench --list`."""
