"""A route for WebSockets on a running gateway, with both ends of a tunnel in the hands of the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from gateway.core.reasons import Reason, Verdict
from gateway.core.websocket import accept_of
from gateway.wire.limits import Timeouts
from tests.support import frames
from tests.support.gateway import POLICY, Key, RunningGateway, running_gateway
from tests.support.raw import SAFETY_SECONDS, RawClient
from tests.support.rows import get

LIVE = """\
  - {name: live, match: GET /live, upstream: live, allow: {api_key: READ}, websocket: true}
  - {name: live.pages, match: GET /pages, upstream: live, allow: anyone, websocket: true,
     cors: {origins: [https://app.test]}}
"""
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nServer: x\r\n"
    b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)
IDLE_SECONDS = Timeouts().websocket_idle
TEXT = frames.frame(b"hello", frames.TEXT)
"""From an upstream."""
SAID = frames.frame(b"hello", frames.TEXT, masked=True)
"""From a client."""


def close_of(code: int, text: bytes = b"") -> bytes:
    """A close frame of a server."""
    return frames.frame(code.to_bytes(2, "big") + text, frames.CLOSE)


class Upstream:
    """A listener whose connections the test plays itself."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SAFETY_SECONDS)
        self.legs: list[Leg] = []

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> Leg:
        accepted, _ = self.listener.accept()
        accepted.settimeout(SAFETY_SECONDS)
        self.legs.append(Leg(accepted))
        return self.legs[-1]

    def close_legs(self) -> None:
        for leg in self.legs:
            leg.socket.close()
        self.legs.clear()

    def is_left_alone(self) -> bool:
        self.listener.setblocking(False)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return True
        finally:
            self.listener.settimeout(SAFETY_SECONDS)
        return False


class Leg:
    """The upstream's end of one connection."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.buffer = b""

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = self.socket.recv(65536)
            assert data, self.buffer
            self.buffer += data
        place = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:place], self.buffer[place:]
        return taken

    def ended(self) -> bool:
        """Whether the gateway has gone, and sent nothing more before."""
        try:
            return self.buffer + self.socket.recv(65536) == b""
        except ConnectionResetError:
            return self.buffer == b""


@contextmanager
def opened_gateway(folders: pytest.TempPathFactory, upstream: Upstream, **settings: Any) -> Iterator[RunningGateway]:
    live = f"http://127.0.0.1:{upstream.port}"
    rest = socket.create_server(("127.0.0.1", 0))
    with closing(rest):
        nobody = f"http://127.0.0.1:{rest.getsockname()[1]}"
        folder = folders.mktemp("live")
        upstreams = {"live": live, "rest": nobody}
        with running_gateway(folder, policy=POLICY + LIVE, upstreams=upstreams, **settings) as gateway:
            yield gateway


@contextmanager
def tunnel(
    gateway: RunningGateway,
    upstream: Upstream,
    key: Key | None = None,
    *,
    client_socket: RawClient | None = None,
    switching: bytes = SWITCHING,
) -> Iterator[tuple[RawClient, Leg]]:
    """A WebSocket that is open, both ends in hand."""
    line = (key or gateway.keys.a).line
    with client_socket or RawClient(gateway.port) as client:
        client.send(get(b"/live", *HANDSHAKE, authorization=line))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(switching)
        client.read_until(b"\r\n\r\n")
        yield client, leg


def ending(gateway: RunningGateway) -> tuple[Verdict, Reason | None, int]:
    """The one outcome of the tunnel, once it is there."""
    gateway.until(lambda: bool(gateway.outcomes), "an outcome")
    (outcome,) = gateway.outcomes
    assert gateway.in_flight == 0
    return outcome.verdict, outcome.reason, outcome.status


def fill(sender: socket.socket, piece: bytes) -> int:
    """Bytes that were taken before nobody took more for a while."""
    taken = 0
    sender.settimeout(0.2)
    try:
        while True:
            taken += sender.send(piece)
    except TimeoutError:
        return taken
    finally:
        sender.settimeout(SAFETY_SECONDS)
