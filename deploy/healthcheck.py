"""Exit status 0 when the gateway in this container answers `/livez`, else 1. Standard library only, no shell."""

from __future__ import annotations

import http.client
import os
import sys
import tomllib
from pathlib import Path

TIMEOUT_SECONDS = 2.0
DEFAULT = "127.0.0.1:9090"


def admin_listen() -> str:
    """Where the gateway's operators are answered, as it reads it: the environment before the file."""
    listen = os.environ.get("BEARERGATE_ADMIN_LISTEN")
    config = os.environ.get("BEARERGATE_CONFIG")
    if not listen and config:
        listen = tomllib.loads(Path(config).read_text("utf-8")).get("admin_listen")
    return str(listen or DEFAULT)


def is_live(listen: str) -> bool:
    """Whether the admin listener of this container at `host:port` answers 200."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"`{listen}` is not `host:port`")
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
    try:
        sys.exit(0 if is_live(admin_listen()) else 1)
    except (OSError, ValueError) as fault:  # no file, no UTF-8, no TOML, no address
        sys.exit(f"healthcheck: {fault}")
