"""Answers on one upstream connection: guard, llhttp, head; then the body by our own framing.

An upstream is trusted no more than a client (A41-A47): a byte that nobody asked for, a length that can be read in
two ways or a broken chunk ends the connection, and what was sent on so far is never made to look complete.
"""

from __future__ import annotations

from typing import Final

import httptools

from gateway.core.outgoing import ResponseFacts, response_facts
from gateway.wire.chunked import ChunkedInvalid, ChunkedReader
from gateway.wire.limits import INFORMATIONAL_LIMIT, RESPONSE_FIELDS_LIMIT, RESPONSE_HEAD_LIMIT_BYTES

_NOT_CONTROL: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_LINE_ENDS: Final = tuple(b"\r\n" * count for count in range(RESPONSE_FIELDS_LIMIT + 3))

IDLE: Final = 0
HEAD: Final = 1
LENGTH: Final = 2
CHUNKED: Final = 3
UNTIL_CLOSE: Final = 4
"""What the next byte belongs to: nobody, a head, or a body by its framing."""


class ResponseReader:
    """Reads one answer at a time; the subclass is told of its head, body bytes, end, and of a fault."""

    __slots__ = (
        "_answers_head",
        "_buffer",
        "_chunks",
        "_headers",
        "_informational",
        "_parser",
        "_remaining",
        "may_switch",
        "reading",
    )

    def __init__(self) -> None:
        self.reading = IDLE
        self.may_switch = False
        """The request asked for a WebSocket, so that a 101 is its answer."""
        self._answers_head = False
        self._informational = 0
        self._remaining = 0
        self._buffer = b""
        self._chunks: ChunkedReader | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)

    # -- what the subclass hears

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        """The final head, with the bytes of the body that came in the same packet, decoded."""
        raise NotImplementedError

    def response_data(self, data: bytes) -> None:
        """Some bytes of the body, decoded."""
        raise NotImplementedError

    def response_ended(self, *, clean: bool) -> None:
        """The body is complete. `clean`: no byte came after it, and both sides may go on."""
        raise NotImplementedError

    def response_invalid(self, detail: str) -> None:
        """The bytes are no answer that can be passed on. The connection must go."""
        raise NotImplementedError

    # -- what the subclass says

    def expect_response(self, *, answers_head: bool) -> None:
        """A request was sent: the next bytes are its answer. `answers_head`: no body will follow (HEAD)."""
        self.reading = HEAD
        self.may_switch = False
        self._answers_head = answers_head
        self._informational = 0

    # -- bytes

    def feed(self, data: bytes) -> None:
        """Takes bytes from the socket, and goes as far as they lead."""
        reading = self.reading
        if reading == HEAD:
            self._feed_head(data)
        elif reading == LENGTH:
            length = len(data)
            if length < self._remaining:
                self._remaining -= length
                self.response_data(data)
                return
            clean = length == self._remaining
            self.response_data(data if clean else data[: self._remaining])
            self._end(clean=clean)
        elif reading == CHUNKED:
            self._feed_chunks(data)
        elif reading == UNTIL_CLOSE:
            self.response_data(data)
        else:
            self.response_invalid("bytes that no request asked for")

    def feed_end(self) -> bool:
        """The upstream has closed its side; returns whether that ends the answer as its framing allows."""
        if self.reading != UNTIL_CLOSE:
            return False
        self._end(clean=False)
        return True

    def _feed_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > RESPONSE_HEAD_LIMIT_BYTES:
                    return self.response_invalid(f"a head of more than {RESPONSE_HEAD_LIMIT_BYTES} bytes")
                if not b"HTTP/1.".startswith(data[:7]) or data.count(b"\n") != data.count(b"\r\n"):
                    return self.response_invalid("no head of HTTP/1.1")
                self._buffer = data
                return None
            end += 4
            if end == len(data):
                head, data = data, b""
            else:
                head, data = data[:end], data[end:]
            self._buffer = b""

            status = self._read_head(head)
            if status >= 200 or (status == 101 and self._switches()):
                break
            if status < 100:
                return None
            # 1xx: not the answer yet. Ours to swallow: we asked for none (RFC 9110 15.2).
            self._informational += 1
            if status == 101:
                return self.response_invalid("status 101, and no upgrade was asked for")
            if self._informational > INFORMATIONAL_LIMIT:
                return self.response_invalid(f"more than {INFORMATIONAL_LIMIT} informational answers")
            if not data:
                return None

        facts = response_facts(status, self._headers, head[7:8] == b"1", self._answers_head)
        if isinstance(facts, str):
            return self.response_invalid(facts)
        # llhttp was given a head that may announce a body; the next head needs a fresh one.
        length = facts.content_length
        bodiless = self._answers_head or status in (204, 304)
        if length != 0 or bodiless or not facts.has_length:
            self._parser = httptools.HttpResponseParser(self)

        if bodiless or length == 0:
            self.response_started(facts, b"")
            return self._end(clean=not data)
        if length > 0:
            received = len(data)
            if received < length:
                self.reading = LENGTH
                self._remaining = length - received
                return self.response_started(facts, data)
            self.response_started(facts, data if received == length else data[:length])
            return self._end(clean=received == length)
        if length == -2:
            self.reading = UNTIL_CLOSE
            return self.response_started(facts, data)
        self.reading = CHUNKED
        self._chunks = chunks = ChunkedReader(drops_tail=True)
        try:
            pieces, rest = chunks.feed(data)
        except ChunkedInvalid as fault:
            return self.response_invalid(str(fault))
        self.response_started(facts, b"".join(pieces))
        if chunks.ended:
            self._chunks = None
            self._end(clean=not rest)
        return None

    def _switches(self) -> bool:
        """Whether a 101 is to the WebSocket that was asked for, and says so (RFC 6455 section 4.1)."""
        said = {name.lower(): value.lower() for name, value in self._headers}
        options = [option.strip() for option in said.get(b"connection", b"").split(b",")]
        return self.may_switch and said.get(b"upgrade") == b"websocket" and b"upgrade" in options

    def _read_head(self, head: bytes) -> int:
        """The status, or 0 after the fault was told."""
        lines = head.count(b"\r\n")
        if len(head) > RESPONSE_HEAD_LIMIT_BYTES or lines >= len(_LINE_ENDS):
            self.response_invalid("a head that is too large")
            return 0
        if (
            head.translate(None, _NOT_CONTROL) != _LINE_ENDS[lines]
            or head[:7] != b"HTTP/1."
            or head[7:9] not in _MINORS
        ):
            self.response_invalid("a head with control bytes, bare line ends or another version")
            return 0
        self._headers = []
        try:
            self._parser.feed_data(head)
            status = self._parser.get_status_code()
        except httptools.HttpParserUpgrade:
            status = self._parser.get_status_code()
            self._parser = httptools.HttpResponseParser(self)
        except httptools.HttpParserError as fault:
            self.response_invalid(type(fault).__name__)
            return 0
        if head[9:12] != b"%d" % status or not 100 <= status <= 599:
            self.response_invalid("a status that is not 100 to 599")
            return 0
        return int(status)

    def _feed_chunks(self, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None  # set with the state
        try:
            pieces, rest = chunks.feed(data)
        except ChunkedInvalid as fault:
            return self.response_invalid(str(fault))
        if pieces:
            self.response_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if chunks.ended:
            self._chunks = None
            self._end(clean=not rest)
        return None

    def _end(self, *, clean: bool) -> None:
        self.reading = IDLE
        self.response_ended(clean=clean)

    # -- llhttp calls this while it reads a head

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))


_MINORS: Final = (b"1 ", b"0 ")
