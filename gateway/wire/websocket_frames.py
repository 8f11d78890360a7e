"""The frames of one direction of a WebSocket, read as they pass: their heads, never what they say (RFC 6455 section 5).

What may pass is handed on as it came, and no payload is held. A head passes whole or not at all, and only where there
is one way to read it: so both sides know where each frame ends, and a frame of ours can stand between two of them.
"""

from __future__ import annotations

from typing import Final, final

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NOT_ALLOWED: Final = 1008
TOO_LARGE: Final = 1009
UPSTREAM_BROKE: Final = 1011
TRY_LATER: Final = 1013

CLOSE_TEXT_LIMIT_BYTES: Final = 123
"""Of a control frame's 125, the code takes two (RFC 6455 section 5.5)."""

_CLOSE: Final = 8
_ENDS: Final = 0x80
_MASKED: Final = 0x80
_RESERVED: Final = 0x70
_COMPRESSED: Final = 0x40
"""RSV1 of a message's first frame, once `permessage-deflate` is agreed on (RFC 7692 section 6)."""
_KNOWN: Final = frozenset((0, 1, 2, 8, 9, 10))
_LENGTH_IN_2: Final = 126
_LENGTH_IN_8: Final = 127


def close_frame(code: int, text: str = "") -> bytes:
    """A server's frame that ends a WebSocket and says why. `text` is ASCII of at most `CLOSE_TEXT_LIMIT_BYTES`."""
    said = code.to_bytes(2, "big") + text.encode("ascii")
    return bytes((_ENDS | _CLOSE, len(said))) + said


@final
class FrameReader:
    """Follows one direction, from its first byte to its first fault.

    `code` is 0 until there is a fault, which `fault` then names; `frames` counts the heads that were read. `is_closed`:
    the head of a close frame has passed, and no frame may follow it.
    """

    __slots__ = (
        "_compresses",
        "_head",
        "_is_masked",
        "_limit_bytes",
        "_message_bytes",
        "_message_goes_on",
        "_remaining",
        "code",
        "fault",
        "frames",
        "is_closed",
    )

    def __init__(self, *, from_client: bool, compresses: bool, message_limit_bytes: int) -> None:
        """`compresses`: `permessage-deflate` was agreed on. `message_limit_bytes` counts payloads; 0 is any size."""
        self._is_masked = from_client
        self._compresses = compresses
        self._limit_bytes = message_limit_bytes
        self._head = b""
        self._remaining = 0
        self._message_bytes = 0
        self._message_goes_on = False
        self.code = 0
        self.fault = ""
        self.frames = 0
        self.is_closed = False

    @property
    def is_between(self) -> bool:
        """Whether the last byte that passed was the last of a frame, or none has passed."""
        return not self._remaining

    def feed(self, data: bytes) -> bytes:
        """What may pass of what has come; it ends before the first frame with a fault."""
        if self.code:
            return b""
        if self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        # Most bytes are within a payload: nothing is looked at up to its end.
        place = self._remaining
        while place < end:
            size = self._head_at(data, place, end)
            if not size:
                self._remaining = 0
                if not self.code:
                    self._head = data[place:]
                return data[:place]
            place += size
        self._remaining = place - end
        return data

    def _head_at(self, data: bytes, place: int, end: int) -> int:
        """The size of the frame at `place`, payload and all; 0 where its head is not whole, or has a fault."""
        if end - place < 2:
            return 0
        first, second = data[place], data[place + 1]
        if not self._may_begin(first, second):
            return 0
        length = second & 0x7F
        extended = 0 if length < _LENGTH_IN_2 else 2 if length == _LENGTH_IN_2 else 8
        size = 2 + extended + (4 if self._is_masked else 0)
        if end - place < size:
            return 0
        if extended:
            length = int.from_bytes(data[place + 2 : place + 2 + extended], "big")
            if length < (_LENGTH_IN_2 if extended == 2 else 0x10000):
                return self._at_fault(PROTOCOL_ERROR, "a length in more bytes than it takes")
            if length >> 63:
                return self._at_fault(PROTOCOL_ERROR, "a length beyond 63 bits")
        opcode = first & 0x0F
        if opcode < _CLOSE:
            self._message_bytes = (self._message_bytes if opcode == 0 else 0) + length
            if 0 < self._limit_bytes < self._message_bytes:
                return self._at_fault(TOO_LARGE, f"a message of more than {self._limit_bytes} bytes")
            self._message_goes_on = first < _ENDS
        elif opcode == _CLOSE:
            self.is_closed = True
        self.frames += 1
        return size + length

    def _may_begin(self, first: int, second: int) -> bool:
        """Whether a frame may begin with these two bytes here; sets the fault."""
        opcode = first & 0x0F
        reserved = first & _RESERVED
        fault = ""
        if self.is_closed:
            fault = "a frame behind the close frame"
        elif opcode not in _KNOWN:
            fault = f"a frame of the unknown kind {opcode}"
        elif reserved and not (reserved == _COMPRESSED and self._compresses and opcode in (1, 2)):
            fault = "a reserved bit that no extension gives a meaning"
        elif (second >= _MASKED) is not self._is_masked:
            fault = "a frame without a mask" if self._is_masked else "a frame with a mask"
        elif opcode >= _CLOSE:
            if first < _ENDS:
                fault = "a control frame in pieces"
            elif second & 0x7F >= _LENGTH_IN_2:
                fault = "a control frame of more than 125 bytes"
            elif opcode == _CLOSE and second & 0x7F == 1:
                fault = "a close frame with half a code"
        elif self._message_goes_on and opcode:
            fault = "a message within another one"
        elif not self._message_goes_on and not opcode:
            fault = "a continuation of nothing"
        if fault:
            self._at_fault(PROTOCOL_ERROR, fault)
            return False
        return True

    def _at_fault(self, code: int, fault: str) -> int:
        self.code = code
        self.fault = fault
        return 0
