"""The WebSocket handshake (RFC 6455 section 4): what a client must say to open one, and what may answer it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

KEY: Final = b"sec-websocket-key: "
VERSION: Final = b"sec-websocket-version: "
PROTOCOL: Final = b"sec-websocket-protocol: "
EXTENSIONS: Final = b"sec-websocket-extensions: "

# 16 bytes: of the last character, four bits stand for nothing and are zero.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPT: Final = b"sec-websocket-accept: "
_DEFLATE: Final = b"permessage-deflate"


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
    if _values(fields, _ACCEPT) != [accept_of(key)]:
        return "status 101 without the one right `Sec-WebSocket-Accept`"
    if _extensions(fields) not in ([], [_DEFLATE]):
        # Another one could give frames a meaning that we do not follow.
        return "status 101 with another extension than one `permessage-deflate`"
    return ""


def own_answer_fault(status: int, fields: list[bytes], key: bytes, protocol: bytes) -> str:
    """What is wrong with an upstream's answer to a handshake of ours, which offers one protocol and no extension."""
    if status != 101:
        return f"status {status} to a request for a WebSocket"
    fault = answer_fault(fields, key)
    if fault or _extensions(fields):
        return fault or "status 101 with an extension that was not offered"
    if _values(fields, PROTOCOL) != [protocol]:
        return "status 101 without the sub-protocol that was offered"
    return ""


def compresses(fields: list[bytes]) -> bool:
    """Whether a 101 without a fault agrees to `permessage-deflate`."""
    return _extensions(fields) == [_DEFLATE]


def _extensions(fields: list[bytes]) -> list[bytes]:
    """The names of the extensions that a 101 agrees to (RFC 6455 section 9.1), without their parameters."""
    names = [part.partition(b";")[0].strip().lower() for part in b",".join(_values(fields, EXTENSIONS)).split(b",")]
    return [name for name in names if name]


def _values(fields: list[bytes], start: bytes) -> list[bytes]:
    """The values of the fields whose `name: ` is `start`."""
    return [fields[place + 1] for place in range(0, len(fields), 3) if fields[place].lower() == start]
