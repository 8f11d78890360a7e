"""The messages of one direction of a WebSocket, whole: fragments joined, masks taken off, texts proved to be UTF-8.

The heads of frames are judged by the same reader as those that only pass (`websocket_frames`); what it lets through is
read here. Texts alone are taken, uncompressed: the readers of messages are those who can say what binary ones mean.
"""

from __future__ import annotations

from typing import Final, final

from gateway.wire.websocket_frames import TOO_LARGE, FrameReader

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

TEXT_ONLY: Final = 1003
NOT_UTF_8: Final = 1007

_BINARY: Final = 2
_ENDS: Final = 0x80
_MASKED: Final = 0x80
_PLAIN_CLOSE: Final = 1000
_CODES_IN_FRAMES: Final = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))
"""Those of the protocol that a frame may bear (RFC 6455 section 7.4); from 3000 to 4999 they are the applications'."""

Message = tuple[int, bytes]
"""`TEXT`, `CLOSE`, `PING` or `PONG`, and what it says."""


def frame(kind: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One whole frame; with the four bytes of a `mask`, a client's."""
    size = len(payload)
    masked = _MASKED if mask else 0
    if size < 126:
        head = bytes((_ENDS | kind, masked | size))
    elif size < 0x10000:
        head = bytes((_ENDS | kind, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_ENDS | kind, masked | 127)) + size.to_bytes(8, "big")
    return head + mask + (_masked(payload, mask) if mask else payload)


def said_in_close(payload: bytes) -> tuple[int, bytes] | None:
    """(code, text) of a close frame's payload; None where no such frame may be sent."""
    if not payload:
        return _PLAIN_CLOSE, b""
    code, text = int.from_bytes(payload[:2], "big"), payload[2:]
    if code not in _CODES_IN_FRAMES and not 3000 <= code < 5000:
        return None
    return (code, text) if _is_utf_8(text) else None


@final
class MessageReader:
    """Joins frames to messages. `code` is 0 until there is a fault, which `fault` then names."""

    __slots__ = ("_frames", "_held", "_is_masked", "_joined", "code", "fault", "limit_bytes")

    def __init__(self, *, from_client: bool, limit_bytes: int, largest_bytes: int) -> None:
        """`limit_bytes` is for a message now, and may be raised later up to `largest_bytes`."""
        self._is_masked = from_client
        self._frames = FrameReader(from_client=from_client, compresses=False, message_limit_bytes=largest_bytes)
        self._held = bytearray()
        """What has come of a frame that is not whole; it begins with a whole head."""
        self._joined = bytearray()
        self.limit_bytes = limit_bytes
        self.code = 0
        self.fault = ""

    @property
    def frames(self) -> int:
        """How many heads were read."""
        return self._frames.frames

    @property
    def is_closed(self) -> bool:
        """The head of a close frame has come."""
        return self._frames.is_closed

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now, in their order, up to the first fault."""
        if self.code:
            return []
        held = self._held
        held += self._frames.feed(data)
        messages: list[Message] = []
        place, end = 0, len(held)
        while end - place >= 2 and not self.code:
            length = held[place + 1] & 0x7F
            start = place + 2
            if length >= 126:
                extended = 2 if length == 126 else 8
                length = int.from_bytes(held[start : start + extended], "big")
                start += extended
            mask = b""
            if self._is_masked:
                mask = bytes(held[start : start + 4])
                start += 4
            kind = held[place] & 0x0F
            if kind < CLOSE and len(self._joined) + length > self.limit_bytes:
                self._at_fault(TOO_LARGE, f"a message of more than {self.limit_bytes} bytes")
                break
            if start + length > end:
                break
            payload = bytes(held[start : start + length])
            if mask:
                payload = _masked(payload, mask)
            self._take(kind, payload, held[place] >= _ENDS, messages)
            place = start + length
        del held[:place]
        if self._frames.code and not self.code:
            self._at_fault(self._frames.code, self._frames.fault)
        return messages

    def _take(self, kind: int, payload: bytes, ends: bool, messages: list[Message]) -> None:
        if kind >= CLOSE:
            messages.append((kind, payload))
            return
        if kind == _BINARY:
            self._at_fault(TEXT_ONLY, "a binary message")
            return
        self._joined += payload
        if not ends:
            return
        text = bytes(self._joined)
        self._joined.clear()
        if _is_utf_8(text):
            messages.append((TEXT, text))
        else:
            self._at_fault(NOT_UTF_8, "a text that is not UTF-8")

    def _at_fault(self, code: int, fault: str) -> None:
        self.code = code
        self.fault = fault


def _masked(payload: bytes, mask: bytes) -> bytes:
    """With the mask, or without it again (RFC 6455 section 5.3)."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    # One long number: 1 ms for a megabyte, where byte by byte takes 60.
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
