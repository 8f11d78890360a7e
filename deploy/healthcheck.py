"""Exit status 0 when the gateway in this container answers `/livez`, else 1. Standard library only, no shell."""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_SECONDS = 2.0


def is_live(listen: str) -> bool:
    """Whether the admin listener of this container at `host:port` answers 200."""
    host, _, port = listen.rpartition(":")
    address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    connection = http.client.HTTPConnection(address, int(port), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_live(os.environ.get("BEARERGATE_ADMIN_LISTEN", "127.0.0.1:9090")) else 1)
