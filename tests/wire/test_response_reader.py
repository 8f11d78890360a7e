"""Answers of an upstream: one reading each, and no byte that nobody asked for."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.outgoing import ResponseFacts
from gateway.wire.limits import INFORMATIONAL_LIMIT, RESPONSE_FIELDS_LIMIT, RESPONSE_HEAD_LIMIT_BYTES
from gateway.wire.response_reader import ResponseReader
from tests.wire.splits import every_way


class Listener(ResponseReader):
    """Hears one answer. A connection is reusable if the answer ended cleanly and not one byte came after it."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: ResponseFacts | None = None
        self.body = b""
        self.is_complete = False
        self.is_reusable = False
        self.fault = ""
        self.calls: list[str] = []

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        self.calls.append("started")
        self.facts = facts
        self.body += data

    def response_data(self, data: bytes) -> None:
        assert data
        assert not self.is_complete
        self.body += data

    def response_ended(self, *, clean: bool) -> None:
        self.calls.append("ended")
        self.is_complete = True
        assert self.facts is not None
        self.is_reusable = clean and self.facts.keeps_alive

    def response_invalid(self, detail: str) -> None:
        self.calls.append("invalid")
        assert detail
        self.fault = detail
        self.is_reusable = False

    def heard(self) -> tuple[object, ...]:
        """What there is to say of it, however the bytes came; of a broken answer only that it is broken."""
        started = self.facts and (self.facts.status, b"".join(self.facts.fields), self.facts.content_length)
        if self.fault and not self.is_complete:
            started = None
        return started, self.body if self.is_complete else b"", self.is_complete, self.is_reusable


def fed(pieces: list[bytes], *, answers_head: bool = False, ends: bool = False) -> Listener:
    listener = Listener()
    listener.expect_response(answers_head=answers_head)
    for piece in pieces:
        if listener.fault:
            break
        listener.feed(piece)
    if ends and not listener.fault and not listener.is_complete:
        listener.feed_end()
    return listener


# -- what is read


@pytest.mark.parametrize(
    ("data", "answers_head", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, 200, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", False, 200, b"x"),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", False, 404, b"hello"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: v\r\n\r\n",
            False,
            200,
            b"hello",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False, 304, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True, 200, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True, 200, b""),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", False, 200, b"x"),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 10 + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            False,
            200,
            b"x",
        ),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", False, 200, b"x"),
    ],
)
def test_an_answer_ends_where_its_framing_says_and_leaves_the_connection_clean(
    data: bytes, answers_head: bool, status: int, body: bytes
) -> None:
    for pieces in every_way(data):
        listener = fed(pieces, answers_head=answers_head)
        assert ["started", "ended"] == listener.calls
        assert listener.facts is not None
        assert (status, body, True) == (listener.facts.status, listener.body, listener.is_reusable)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"]
)
def test_an_answer_without_a_length_goes_on_until_the_connection_ends(head: bytes) -> None:
    for pieces in every_way(head + b"hello"):
        assert not fed(pieces).is_complete
        listener = fed(pieces, ends=True)
        assert (b"hello", True, False) == (listener.body, listener.is_complete, listener.is_reusable)


@pytest.mark.parametrize(
    "data",
    # A47
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_never_complete(data: bytes) -> None:
    for pieces in every_way(data):
        listener = fed(pieces)
        assert listener.feed_end() is False
        assert "ended" not in listener.calls


def test_many_answers_are_read_on_one_connection() -> None:
    listener = Listener()
    for head in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ):
        listener.is_complete = False
        listener.expect_response(answers_head=False)
        listener.feed(head)
        assert listener.is_reusable, head
    assert ["started", "ended"] * 6 == listener.calls
    assert b"xxx" == listener.body


def test_an_answer_to_head_is_followed_by_the_next_answer_at_once() -> None:
    listener = Listener()
    listener.expect_response(answers_head=True)
    listener.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    listener.is_complete = False
    listener.expect_response(answers_head=False)
    listener.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    assert b"hello" == listener.body
    assert listener.is_reusable


# -- poison


@pytest.mark.parametrize(
    ("data", "answers_head"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),  # A41
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),  # A44
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
    ],
)
@pytest.mark.parametrize("more", [b"P", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"])
def test_bytes_after_an_answer_cost_the_connection_and_are_nobodys(
    data: bytes, answers_head: bool, more: bytes
) -> None:
    for pieces in every_way(data + more):
        listener = fed(pieces, answers_head=answers_head)
        assert (True, False) == (listener.is_complete, listener.is_reusable)
        assert listener.body in (b"", b"hello")
        assert 1 == listener.calls.count("started")


def test_bytes_that_no_request_asked_for_are_invalid() -> None:
    # A42
    listener = Listener()
    listener.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert ["invalid"] == listener.calls


OK = b"HTTP/1.1 200 OK\r\n"
INVALID = [
    # A43
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    OK + b"Content-Length: -5\r\n\r\n",
    OK + b"Content-Length: +5\r\n\r\n",
    OK + b"Content-Length: 5, 5\r\n\r\n",
    OK + b"Content-Length:\r\n\r\n",
    OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    OK + b"X: a\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    OK + b" X: a\r\nContent-Length: 0\r\n\r\n",
    OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    OK + b"no colon\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"\x15\x03\x01\x00\x02\x02",
    # A45
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * (INFORMATIONAL_LIMIT + 1),
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    # A46
    OK + b"X: y\r\n" * (RESPONSE_FIELDS_LIMIT + 5) + b"Content-Length: 0\r\n\r\n",
    OK + b"X: " + b"y" * RESPONSE_HEAD_LIMIT_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: " + b"y" * (RESPONSE_HEAD_LIMIT_BYTES + 1),
]


@pytest.mark.parametrize("data", INVALID, ids=lambda case: repr(case)[:60])
def test_what_is_not_plainly_an_answer_is_invalid_and_nothing_of_it_is_heard(data: bytes) -> None:
    for answers_head in (False, True):
        for pieces in every_way(data):
            assert ["invalid"] == fed(pieces, answers_head=answers_head).calls


def test_a_broken_chunk_is_invalid_and_the_answer_never_ends() -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for chunk in (b"5\r\nhellox\r\n", b"0x5\r\n", b"5\nhello", b"\r\n"):
        assert ["started", "invalid"] == fed([head, chunk]).calls
        # A fault that comes together with the head is told before anything was started.
        assert ["invalid"] == fed([head + chunk]).calls
        for pieces in every_way(head + chunk):
            assert ["ended"] != fed(pieces).calls[-1:]


# -- any input, however it is cut

PIECES = st.sampled_from(
    [
        OK,
        OK,
        OK,
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 304 N\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\nhello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"x",
        b"\n",
        b"Server: z\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: upgrade\r\n",
        b"Connection: keep-alive\r\n",
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n",
    ]
)
ANSWERS = st.one_of(
    st.lists(PIECES, max_size=8).map(b"".join),
    st.lists(PIECES, max_size=4).map(lambda pieces: OK + b"".join(pieces) + b"\r\nhello"),
    st.binary(max_size=30),
)


@given(ANSWERS, st.booleans(), st.booleans(), st.integers(0))
def test_however_the_bytes_come_the_same_is_heard(data: bytes, answers_head: bool, ends: bool, seed: int) -> None:
    ways = [fed(pieces, answers_head=answers_head, ends=ends).heard() for pieces in every_way(data, seed)]

    assert ways[0] == ways[1] == ways[2]


def by_h11(data: bytes, *, answers_head: bool) -> tuple[int, bytes, bytes] | None:
    """(status, body, rest) as h11 reads a complete answer, None where it refuses or waits."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD" if answers_head else "GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    status, body = 0, b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body, client.trailing_data[0]
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


@given(ANSWERS, st.booleans())
def test_where_h11_takes_an_answer_too_it_is_the_same_one(data: bytes, answers_head: bool) -> None:
    listener = fed([data], answers_head=answers_head)
    other = by_h11(data, answers_head=answers_head)

    if other is not None and listener.is_complete:
        assert listener.facts is not None
        assert other[:2] == (listener.facts.status, listener.body)
        assert other[2] == b"" or not listener.is_reusable


# -- a WebSocket that was asked for

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: x, Upgrade\r\nUPGRADE: WebSocket\r\nA: b\r\n\r\n"


def switched(pieces: list[bytes], *, ends: bool = False) -> Listener:
    listener = Listener()
    listener.expect_response(answers_head=False)
    listener.may_switch = True
    for piece in pieces:
        listener.feed(piece)
    if ends:
        listener.feed_end()
    return listener


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_after_the_switch_every_byte_is_data_until_the_end(before: bytes) -> None:
    data = before + SWITCH + b"HTTP/1.1 200 OK\r\n\r\n\x00\xff"
    for pieces in every_way(data, 1):
        listener = switched(pieces, ends=True)

        assert listener.facts is not None
        assert (listener.facts.status, listener.facts.fields) == (101, [b"A: ", b"b", b"\r\n"])
        assert listener.body == b"HTTP/1.1 200 OK\r\n\r\n\x00\xff"
        assert (listener.is_complete, listener.is_reusable) == (True, False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        SWITCH.replace(b"WebSocket", b"h2c"),
        SWITCH.replace(b"WebSocket", b"websocket, h2c"),
        SWITCH.replace(b"x, Upgrade", b"close"),
    ],
)
def test_a_switch_to_something_else_is_no_answer(head: bytes) -> None:
    assert switched([head]).fault


def test_the_next_answer_on_a_connection_may_not_switch_again_unasked() -> None:
    listener = switched([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    listener.expect_response(answers_head=False)

    listener.feed(SWITCH)

    assert listener.fault
