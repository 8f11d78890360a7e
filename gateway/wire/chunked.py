"""The chunked coding, read strictly (RFC 9112 section 7.1): sizes of hexadecimal digits alone, CRLF alone."""

from __future__ import annotations

from typing import Final

from gateway.wire.limits import CHUNK_LINE_LIMIT_BYTES, TAIL_LIMIT_BYTES

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
LAST_CHUNK: Final = b"0\r\n\r\n"


class ChunkedInvalid(ValueError):
    """The bytes are no chunked coding that every hop reads alike."""


_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILER: Final = 3


class ChunkedReader:
    """Takes the coding off, in pieces of any size.

    `drops_tail`: chunk extensions and trailer fields are skipped, up to a budget, as on answers of an upstream;
    otherwise they are refused, as on requests, where a trailer is a header that comes after the judgement (A22).
    """

    __slots__ = ("_drops_tail", "_line", "_remaining", "_state", "_tail_bytes", "ended")

    def __init__(self, *, drops_tail: bool = False) -> None:
        self._drops_tail = drops_tail
        self._line = bytearray()
        self._remaining = 0
        self._state = _SIZE
        self._tail_bytes = 0
        self.ended = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """(pieces of the body, bytes after its end). Bytes come back only once `ended`.

        Raises: ChunkedInvalid
        """
        pieces: list[bytes] = []
        place, length = 0, len(data)
        while place < length:
            if self._state == _DATA:
                piece = data[place : place + self._remaining] if place or self._remaining < length else data
                pieces.append(piece)
                place += len(piece)
                self._remaining -= len(piece)
                if self._remaining == 0:
                    self._state = _DATA_END
                continue

            end = data.find(b"\n", place)
            if end < 0:
                self._line += data[place:]
                self._check_unfinished()
                break
            self._line += data[place : end + 1]
            place = end + 1
            if not self._line.endswith(b"\r\n") or b"\r" in self._line[:-2]:
                raise ChunkedInvalid("a line that does not end with CRLF")
            line = bytes(self._line[:-2])
            self._line.clear()
            if self._on_line(line):
                self.ended = True
                return pieces, data[place:]
        return pieces, b""

    def _on_line(self, line: bytes) -> bool:
        """Whether the body has ended with this line."""
        if self._state == _DATA_END:
            if line:
                raise ChunkedInvalid("chunk data that goes on beyond its size")
            self._state = _SIZE
            return False

        if self._state == _TRAILER:
            if not line:
                return True
            self._spend(len(line) + 2)
            return False

        digits, separator, _ = line.partition(b";")
        if separator:
            digits = digits.rstrip(b" \t")
            self._spend(len(line) - len(digits))
        if not digits or len(digits) > CHUNK_LINE_LIMIT_BYTES - 2 or not _HEX.issuperset(digits):
            raise ChunkedInvalid("a chunk size that is not 1 to 16 hexadecimal digits")
        self._remaining = int(digits, 16)
        self._state = _DATA if self._remaining else _TRAILER
        return False

    def _spend(self, count: int) -> None:
        if not self._drops_tail:
            raise ChunkedInvalid("a chunk extension or a trailer field")
        self._tail_bytes += count
        if self._tail_bytes > TAIL_LIMIT_BYTES:
            raise ChunkedInvalid(f"more than {TAIL_LIMIT_BYTES} bytes of chunk extensions and trailer fields")

    def _check_unfinished(self) -> None:
        limit = CHUNK_LINE_LIMIT_BYTES + (TAIL_LIMIT_BYTES if self._drops_tail else 0)
        if len(self._line) > limit:
            raise ChunkedInvalid("a chunk line that is too long")
        if not self._drops_tail and not _UNFINISHED.issuperset(self._line):
            raise ChunkedInvalid("a chunk line with more than hexadecimal digits")


_UNFINISHED: Final = _HEX | {0x0D}


def chunk_head(size: int) -> bytes:
    """What is written before a chunk of `size` bytes, which CRLF must follow."""
    return b"%x\r\n" % size
