"""ASGI servers as other people run them: a process each, with our application, on the store of a running gateway."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.assembly import asgi
from tests.support.gateway import RunningGateway

ROOT = Path(__file__).parents[2]
SAFETY_SECONDS = 20.0
APPLICATION = "gateway.assembly.asgi:asgi_app"
UNCHECKED = "tests.support.asgi_servers:unchecked"

UVICORN = ("uvicorn", "--ws", "none", "--no-proxy-headers", "--factory")
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn, httptools": (*UVICORN, "--http", "httptools"),
    "uvicorn, h11": (*UVICORN, "--http", "h11"),
    "granian": ("granian", "--interface", "asgi", "--http", "1", "--no-ws", "--factory"),
    "hypercorn": ("hypercorn",),
}
"""By the name that the documentation has for it; the address to listen on and the application are added."""


def unchecked() -> asgi.AsgiApplication:
    """The application without its look at the server that it is in, to see what that look is for."""
    asgi._check_server = lambda: None
    return asgi.asgi_app()


class Server:
    """A server's process. `said`: what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8", "replace")


@contextmanager
def started(name: str, gateway: RunningGateway, application: str = UNCHECKED) -> Iterator[Server]:
    """A server with the policy, the store and the upstream of `gateway`; ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    if name == "hypercorn":
        place: tuple[str, ...] = ("--bind", f"127.0.0.1:{port}", f"{application}()")
    else:
        place = ("--host", "127.0.0.1", "--port", str(port), application)
    settings = gateway.settings
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "BEARERGATE_POLICY": str(settings.policy),
        "BEARERGATE_UPSTREAMS": json.dumps(settings.upstreams),
        "BEARERGATE_STORE": settings.store,
        "BEARERGATE_ACCESS_LOG": "none",
        "BEARERGATE_ADMIN_LISTEN": "127.0.0.1:0",
    }
    said = gateway.folder / f"{name.replace(', ', '-')}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[name], *place],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=gateway.folder,
        )
        try:
            yield Server(process, port, said)
        finally:
            process.terminate()
            try:
                process.wait(SAFETY_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def serving(name: str, gateway: RunningGateway, application: str = UNCHECKED) -> Iterator[int]:
    """The port of a server that serves, whatever it is."""
    with started(name, gateway, application) as server:
        end = time.monotonic() + SAFETY_SECONDS
        while not _serves(server.port):
            assert server.process.poll() is None, f"{name} has ended: {server.said}"
            assert time.monotonic() < end, f"{name} does not serve: {server.said}"
            time.sleep(0.05)
        yield server.port


def _serves(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as client:
        client.settimeout(SAFETY_SECONDS)
        client.sendall(b"GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client.recv(12) == b"HTTP/1.1 200"
    return False
