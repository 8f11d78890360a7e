"""Requests from one client connection: guard, llhttp, head; then the body by our own framing.

A head passes only if two readers agree on it. First our guard on its raw bytes: CRLF alone ends lines, no control
bytes, a request line of exactly two spaces, bounded length. Then llhttp, which splits it into fields. llhttp never
sees a body: its length is ours to count, so nothing after a head is read as a head unless the request before it ended.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from gateway.core.facts import METHODS
from gateway.core.reasons import Reason, Refusal
from gateway.wire.chunked import ChunkedInvalid, ChunkedReader
from gateway.wire.limits import HEAD_LIMIT_BYTES

_NOT_CONTROL: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_LINE_ENDS: Final = tuple(b"\r\n" * count for count in range(160))
_FIRST_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_VERSIONS: Final = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
_TARGET_LIMIT_WITH_METHOD: Final = 8192 + 32
_METHOD: Final = re.compile(rb"[A-Za-z]{1,32}")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_KNOWN_METHODS: Final = frozenset(METHODS)
_ALLOWED_METHODS: Final = tuple(method.decode() for method in METHODS)

HEAD: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
HELD: Final = 3
"""What the next byte belongs to: a head, a body of known length, a chunked body, or nothing yet (it is kept)."""


class RequestReader:
    """Reads requests; the subclass is told of each head, of body bytes, of a body's end, and of a refusal.

    The subclass answers `on_head` by calling `expect_body` (or nothing, when there is none) and, when it is done with
    the request, `next_request`. While a request is under way without an expected body, further bytes are held.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_has_rest",
        "_line_read",
        "_parser",
        "_remaining",
        "_scanned",
        "_skipped_line",
        "headers",
        "is_http_11",
        "method",
        "state",
        "target",
    )

    def __init__(self) -> None:
        self.state = HEAD
        self.method = b""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_http_11 = True
        self._buffer = bytearray()
        self._scanned = 0
        self._skipped_line = False
        self._line_read = False
        self._has_rest = False
        """Bytes after what was just read are in hand, and not held yet."""
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._parser = httptools.HttpRequestParser(self)

    # -- what the subclass hears

    def head_read(self) -> None:
        """A head: `method`, `target`, `headers`, `is_http_11`."""
        raise NotImplementedError

    def body_read(self, data: bytes) -> None:
        """Some bytes of the body, decoded."""
        raise NotImplementedError

    def body_ended(self) -> None:
        """The body is complete."""
        raise NotImplementedError

    def reading_refused(self, refusal: Refusal) -> None:
        """The bytes are not acceptable. Nothing more may be read from this connection."""
        raise NotImplementedError

    # -- what the subclass says

    def expect_body(self, content_length: int) -> None:
        """After `head_read`: a body of `content_length` bytes follows, or a chunked one if it is -1."""
        # llhttp was given a head that announces a body, and would take the next head for it.
        self._parser = httptools.HttpRequestParser(self)
        if content_length < 0:
            self.state = CHUNKED
            self._chunks = ChunkedReader()
        else:
            self.state = LENGTH
            self._remaining = content_length

    @property
    def held_bytes(self) -> int:
        """Bytes that came before their turn."""
        return len(self._buffer)

    @property
    def reads_head(self) -> bool:
        """Whether some bytes of a head have come, and not all."""
        return self.state == HEAD and bool(self._buffer)

    # -- bytes

    def feed(self, data: bytes) -> None:
        """Takes bytes from the socket, and goes as far as they lead."""
        while data:
            state = self.state
            if state == HEAD:
                data = self._feed_head(data)
            elif state == LENGTH:
                if len(data) < self._remaining:
                    self._remaining -= len(data)
                    self.body_read(data)
                    return
                piece, data = data[: self._remaining], data[self._remaining :]
                self.state = HELD
                self._has_rest = bool(data)
                self.body_read(piece)
                self.body_ended()
            elif state == CHUNKED:
                data = self._feed_chunks(data)
            else:
                self._buffer += data
                return

    def next_request(self) -> None:
        """The request under way is done with: the next byte is a head's. Call `feed_held` to go on with kept bytes."""
        self.state = HEAD
        self.method = b""
        self._scanned = 0
        self._skipped_line = False
        self._line_read = False

    def take_held(self) -> bytes:
        """The bytes that came early, for `feed`."""
        held = bytes(self._buffer)
        self._buffer.clear()
        return held

    def _feed_head(self, data: bytes) -> bytes:
        """Reads one head if it is all there; returns the bytes after it."""
        buffer = self._buffer
        if buffer:
            buffer += data
            end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if end < 0:
                return self._unfinished_head()
            data = bytes(buffer)
            buffer.clear()
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                buffer += data
                return self._unfinished_head()
        self._scanned = 0
        self._line_read = False
        if data[:1] == b"\r":
            if not self._skips_line(data):
                return b""
            data = data[2:]
            end = data.find(b"\r\n\r\n")
            if end < 0:
                buffer += data
                return self._unfinished_head() if data else b""
        end += 4
        if end == len(data):
            head, data = data, b""
        else:
            head, data = data[:end], data[end:]

        if end > HEAD_LIMIT_BYTES:
            return self._reject_long_head(head)
        lines = head.count(b"\r\n")
        if lines >= len(_LINE_ENDS):
            return self._reject(Reason.HEAD_TOO_LARGE, "too many header fields")
        if head.translate(None, _NOT_CONTROL) != _LINE_ENDS[lines]:
            return self._reject(Reason.REQUEST_MALFORMED, "a control byte, a bare CR or a bare LF in the head")

        self.headers = []
        try:
            self._parser.feed_data(head)
            method = self._parser.get_method()
        except httptools.HttpParserUpgrade:
            # Announced, not done: the head is complete, and it is judged like any other.
            method = self._parser.get_method()
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as fault:
            return self._reject_unread(head, type(fault).__name__)
        self.method = method
        start = b"%s %s HTTP/1." % (method, self.target)
        version = head[len(start) : len(start) + 3]
        if not head.startswith(start) or version not in (b"1\r\n", b"0\r\n"):
            return self._reject_request_line(head)
        self.is_http_11 = version == b"1\r\n"
        self.state = HELD
        self._has_rest = bool(data)
        self.head_read()
        return data

    def _skips_line(self, data: bytes | bytearray) -> bool:
        """Whether the empty line at the start is the one that may stand before a request line (RFC 9112 section 2.2).

        Clients of old end a body with CRLF. A second one, or half of one, is refused (A32).
        """
        if data[:2] == b"\r\n" and not self._skipped_line:
            self._skipped_line = True
            return True
        self._reject(Reason.REQUEST_MALFORMED, "more than one empty line before the request line")
        return False

    def _unfinished_head(self) -> bytes:
        """Refuses early what no further byte can mend: no peer waits for a time-out (A12, A30, A34, A37, A38).

        Looks at the new bytes only, so that a head that comes byte by byte costs no more than one that comes whole.
        """
        buffer = self._buffer
        if buffer[:1] == b"\r" and not self._scanned:
            if len(buffer) == 1 and not self._skipped_line:
                return b""
            if not self._skips_line(buffer):
                return b""
            del buffer[:2]
            if not buffer:
                return b""
        if len(buffer) > HEAD_LIMIT_BYTES:
            return self._reject_long_head(bytes(buffer))
        if not self._scanned and buffer[0] not in _FIRST_BYTES:
            return self._reject(Reason.REQUEST_MALFORMED, "a request line that does not start with a method")
        start = self._scanned
        if start and buffer[start - 1] == 0x0D:
            start -= 1
        new = buffer[start:]
        pairs = new.count(b"\r\n")
        if new.count(b"\n") != pairs or new.count(b"\r") != pairs + (new[-1:] == b"\r"):
            return self._reject(Reason.REQUEST_MALFORMED, "a bare CR or a bare LF in the head")
        self._scanned = len(buffer)
        if self._line_read:
            return b""
        if pairs:
            self._line_read = True
            line = bytes(buffer[: buffer.find(b"\r\n") + 2])
            if not line.endswith(_VERSIONS):
                return self._reject_request_line(line)
        elif len(buffer) > _TARGET_LIMIT_WITH_METHOD:
            return self._reject(Reason.TARGET_TOO_LONG, "")
        return b""

    def _reject_long_head(self, data: bytes) -> bytes:
        line = data.partition(b"\r\n")[0]
        long_target = len(line) > _TARGET_LIMIT_WITH_METHOD
        return self._reject(Reason.TARGET_TOO_LONG if long_target else Reason.HEAD_TOO_LARGE, "")

    def _reject_unread(self, head: bytes, detail: str) -> bytes:
        """A head that llhttp does not take: for its request line if that is wrong, else for its fields."""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            return self._reject_request_line(head)
        if words[0] not in _KNOWN_METHODS and _METHOD.fullmatch(words[0]):
            return self._reject(Reason.METHOD_UNKNOWN, "", _ALLOWED_METHODS)
        return self._reject(Reason.REQUEST_MALFORMED, detail)

    def _reject_request_line(self, head: bytes) -> bytes:
        """A request line that is not `method SP target SP version`, or not of our versions (A30-A32)."""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) == 3 and words[0] and _VERSION.fullmatch(words[2]):
            return self._reject(Reason.VERSION_UNSUPPORTED, "")
        return self._reject(Reason.REQUEST_MALFORMED, "a request line that is not `method target HTTP/1.1`")

    def _reject(self, reason: Reason, detail: str, allowed_methods: tuple[str, ...] = ()) -> bytes:
        self.state = HELD
        self.reading_refused(Refusal(reason, detail, allowed_methods=allowed_methods))
        return b""

    def _feed_chunks(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None  # set by expect_body
        try:
            pieces, rest = chunks.feed(data)
        except ChunkedInvalid as fault:
            return self._reject(Reason.BODY_MALFORMED, str(fault))
        if chunks.ended:
            self.state = HELD
            self._has_rest = bool(rest)
            self._chunks = None
        if pieces:
            # As one: a client that sends chunks of one byte must not cost a write for each.
            self.body_read(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if chunks.ended:
            self.body_ended()
        return rest

    # -- llhttp calls these while it reads a head

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
