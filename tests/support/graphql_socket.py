"""A GraphQL route with WebSockets on a running gateway, with both ends in the hands of the test."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from gateway.core.websocket import accept_of
from gateway.wire.websocket_messages import CLOSE, TEXT, Message, MessageReader, frame
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.rows import AUTHORIZATION, get
from tests.support.websocket import HANDSHAKE, Leg, Upstream

GRAPHQL = """\
  - name: live
    match: POST /live
    upstream: live
    graphql:
      websocket: header
      limits: {depth: 4}
      fields:
        Query.item: {api_key: READ}
        Mutation.add: {api_key: WRITE}
        Subscription.added: {api_key: READ}
        Subscription.removed: {api_key: WRITE}
  - name: pages
    match: POST /pages
    upstream: live
    errors: graphql
    cors: {origins: [https://app.test]}
    body_limit: 1KiB
    graphql:
      websocket: init
      persisted: true
      fields:
        Subscription.added: {api_key: READ}
"""
NEW, OLD = b"graphql-transport-ws", b"graphql-ws"
MASK = b"\x01\x02\x03\x04"
INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}


def offer(protocol: bytes) -> bytes:
    return b"Sec-WebSocket-Protocol: " + protocol


def close_of(code: int, text: str = "") -> Message:
    """What a close frame says."""
    return CLOSE, code.to_bytes(2, "big") + text.encode()


class End:
    """One end of a WebSocket: messages as JSON, frames as they are."""

    def __init__(self, over: RawClient | Leg, *, is_client: bool) -> None:
        self.over = over
        self.is_client = is_client
        size = 1 << 30
        self.reader = MessageReader(from_client=not is_client, limit_bytes=size, largest_bytes=size)
        self.messages: list[Message] = []

    def send(self, data: bytes) -> None:
        self.over.socket.sendall(data)

    def say(self, kind: int, said: bytes) -> None:
        """One frame."""
        self.send(frame(kind, said, MASK if self.is_client else b""))

    def tell(self, message: dict[str, Any]) -> None:
        """One message."""
        self.say(TEXT, json.dumps(message).encode())

    def next(self) -> Message:
        """The next frame that is no answer to a question of the frames themselves."""
        while not self.messages:
            data, self.over.buffer = self.over.buffer, b""
            data = data or self.over.socket.recv(65536)
            assert data, "the gateway has ended the connection"
            self.messages += self.reader.feed(data)
            assert not self.reader.code, self.reader.fault
        return self.messages.pop(0)

    def hears(self) -> dict[str, Any]:
        """The next message."""
        kind, said = self.next()
        assert kind == TEXT, (kind, said)
        heard: dict[str, Any] = json.loads(said)
        return heard

    def is_told(self) -> bool:
        """Whether something has come already."""
        return bool(self.messages or self.over.buffer or select.select([self.over.socket], [], [], 0.0)[0])

    def ended(self) -> bool:
        """Whether the gateway has gone, and said nothing more before."""
        assert isinstance(self.over, Leg)
        return not self.messages and self.over.ended()


def opening(path: bytes = b"/live", protocol: bytes = NEW, authorization: bytes = AUTHORIZATION, *more: bytes) -> bytes:
    return get(path, *HANDSHAKE, offer(protocol), *more, authorization=authorization)


@contextmanager
def opened_gateway(
    folders: pytest.TempPathFactory, upstream: Upstream, *, routes: str = GRAPHQL, **settings: Any
) -> Iterator[RunningGateway]:
    """A gateway whose GraphQL upstream is played by the test."""
    live = f"http://127.0.0.1:{upstream.port}"
    rest = socket.create_server(("127.0.0.1", 0))
    with closing(rest):
        upstreams = {"live": live, "rest": f"http://127.0.0.1:{rest.getsockname()[1]}"}
        folder = folders.mktemp("live")
        with running_gateway(folder, policy=POLICY + routes, upstreams=upstreams, **settings) as gateway:
            yield gateway


def accept(upstream: Upstream, protocol: bytes = NEW, *fields: bytes) -> tuple[Leg, bytes]:
    """The upstream's end of a WebSocket that the gateway opens, and the head that it was sent."""
    leg = upstream.accept()
    head = leg.read_until(b"\r\n\r\n")
    leg.socket.sendall(switching(head, protocol, *fields))
    return leg, head


def switching(head: bytes, protocol: bytes, *fields: bytes) -> bytes:
    """The right answer to a handshake."""
    key = next(
        line[len(b"sec-websocket-key: ") :] for line in head.split(b"\r\n") if line.startswith(b"sec-websocket-k")
    )
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept_of(key),
        *([offer(protocol)] if protocol else []),
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@contextmanager
def client_of(
    gateway: RunningGateway, path: bytes = b"/live", protocol: bytes = NEW, authorization: bytes | None = None
) -> Iterator[End]:
    """A client whose WebSocket the gateway has opened; by default with A's key."""
    line = gateway.keys.a.line if authorization is None else authorization
    with RawClient(gateway.port) as client:
        client.send(opening(path, protocol, line))
        head = client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield End(client, is_client=True)


@contextmanager
def conversation(
    gateway: RunningGateway,
    upstream: Upstream,
    protocol: bytes = NEW,
    authorization: bytes | None = None,
    path: bytes = b"/live",
) -> Iterator[tuple[End, End]]:
    """Both ends, after the init was acknowledged."""
    with client_of(gateway, path, protocol, authorization) as client:
        client.tell(INIT)
        leg, _ = accept(upstream, protocol)
        server = End(leg, is_client=False)
        assert server.hears() == INIT
        server.tell(ACK)
        assert client.hears() == ACK
        yield client, server
