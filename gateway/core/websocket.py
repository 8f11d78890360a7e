"""The WebSocket handshake (RFC 6455 section 4), and where frames end: what a gateway must know of a tunnel it lets be.

What is said in the frames is not looked at. Their ends are, so that a word of our own can stand between two of them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, final

KEY: Final = b"sec-websocket-key: "
VERSION: Final = b"sec-websocket-version: "
PROTOCOL: Final = b"sec-websocket-protocol: "

GOING_AWAY: Final = 1001
NOT_ALLOWED: Final = 1008
UPSTREAM_BROKE: Final = 1011
TRY_LATER: Final = 1013

# 16 bytes: of the last character, four bits stand for nothing and are zero.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSES: Final = 8


def handshake_fault(version: bytes | None, key: bytes | None) -> str:
    """What is wrong with the fields of a client's handshake; empty when nothing is."""
    if version != b"13":
        return "a `Sec-WebSocket-Version` that is not 13"
    if key is None or _KEY.fullmatch(key) is None:
        return "a `Sec-WebSocket-Key` that is not 16 bytes in base64"
    return ""


def accept_of(key: bytes) -> bytes:
    """What a server that has read `key` answers in `Sec-WebSocket-Accept`."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def answer_fault(fields: list[bytes], key: bytes) -> str:
    """What is wrong with an upstream's 101 to `key`; `fields` are `name: `, value, CRLF, … as it wrote them."""
    accepts = [
        fields[place + 1] for place in range(0, len(fields), 3) if fields[place].lower() == b"sec-websocket-accept: "
    ]
    return "" if accepts == [accept_of(key)] else "status 101 without the one right `Sec-WebSocket-Accept`"


def close_frame(code: int) -> bytes:
    """A server's frame that ends a WebSocket and says why."""
    return bytes((0x80 | _CLOSES, 2)) + code.to_bytes(2, "big")


@final
class Frames:
    """Follows the frames of one direction. `is_closed`: a close frame has begun, after which nothing may follow."""

    __slots__ = ("_head", "_remaining", "is_closed")

    def __init__(self) -> None:
        self._head = b""
        self._remaining = 0
        self.is_closed = False

    @property
    def is_between(self) -> bool:
        """Whether the last byte was the last of a frame, or none has come."""
        return not self._head and not self._remaining

    def feed(self, data: bytes) -> None:
        """Takes the bytes that came."""
        if self._head:
            data = self._head + data
            self._head = b""
        place, end = 0, len(data)
        while place < end:
            if self._remaining:
                step = min(self._remaining, end - place)
                self._remaining -= step
                place += step
                continue
            second = data[place + 1] if place + 1 < end else 0
            length = second & 0x7F
            extended = 8 if length == 127 else 2 if length == 126 else 0
            size = 2 + extended + (4 if second & 0x80 else 0)
            if end - place < size:
                self._head = data[place:]
                return
            if data[place] & 0x0F == _CLOSES:
                self.is_closed = True
            if extended:
                length = int.from_bytes(data[place + 2 : place + 2 + extended], "big")
            self._remaining = length
            place += size
