"""Frames of a WebSocket as they are on the wire (RFC 6455 section 5.2), well-formed or not."""

from __future__ import annotations

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"mask"
"""The mask that every client's frame has here; payloads are given as they are on the wire."""


def frame(
    payload: bytes = b"",
    opcode: int = BINARY,
    *,
    masked: bool = False,
    ends: bool = True,
    reserved: int = 0,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """One frame. `length` and `length_bytes` (0, 2 or 8) say something else than what is so."""
    said = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if said < 126 else 2 if said < 65536 else 8
    short = {0: said, 2: 126, 8: 127}[length_bytes]
    head = bytes((0x80 * ends | reserved | opcode, 0x80 * masked | short))
    if length_bytes:
        head += said.to_bytes(length_bytes, "big")
    return head + (MASK if masked else b"") + payload
