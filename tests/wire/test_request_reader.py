"""Requests from a connection: one reading of each head, bodies by our own framing, however the bytes come."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.facts import RequestFacts, facts_of
from gateway.core.reasons import Reason, Refusal
from gateway.wire.limits import HEAD_LIMIT_BYTES
from gateway.wire.request_reader import RequestReader
from tests.wire.splits import every_way


class Door(RequestReader):
    """The smallest door: judges each head, takes its body, goes on to the next; stops where a connection must end."""

    def __init__(self, *, goes_on: bool = True) -> None:
        super().__init__()
        self.heard: list[tuple[object, ...]] = []
        self.facts: RequestFacts | None = None
        self.refusal: Refusal | None = None
        self.is_closed = False
        self.goes_on = goes_on

    def head_read(self) -> None:
        self.heard.append(("head", self.method, self.target, tuple(self.headers), self.is_http_11))
        facts = facts_of(self.method, self.target, self.headers, self.is_http_11)
        if isinstance(facts, Refusal):
            self.reading_refused(facts)
            return
        self.facts = facts
        if facts.content_length != 0:
            self.expect_body(facts.content_length)
        else:
            self.body_ended()

    def body_read(self, data: bytes) -> None:
        if self.heard[-1][0] == "body":
            data = bytes(self.heard.pop()[1]) + data  # type: ignore[call-overload]
        if data:
            self.heard.append(("body", data))

    def body_ended(self) -> None:
        self.heard.append(("ended",))
        assert self.facts is not None
        if self.goes_on and self.facts.keeps_alive:
            self.next_request()
        else:
            self.is_closed = True

    def reading_refused(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.is_closed = True
        if self.heard and self.heard[-1][0] == "body":
            self.heard.pop()  # how much of a broken body was heard is nobody's business: it will never be complete
        self.heard.append(("refused",))


def fed(pieces: list[bytes], *, goes_on: bool = True) -> Door:
    door = Door(goes_on=goes_on)
    for piece in pieces:
        if door.is_closed and door.refusal is not None:
            break
        door.feed(piece)
    return door


def heads(door: Door) -> list[object]:
    return [event[2] for event in door.heard if event[0] == "head"]


# -- what is read


def test_a_head_is_split_into_its_parts() -> None:
    data = b"POST /v1/users?a=1 HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Spaced: \t b\tc\r\nx-high: \xff\r\n\r\n"

    for pieces in every_way(data):
        headers = ((b"Host", b"a"), (b"X-Empty", b""), (b"X-Spaced", b"b\tc"), (b"x-high", b"\xff"))
        assert [("head", b"POST", b"/v1/users?a=1", headers, True), ("ended",)] == fed(pieces).heard


def test_http_1_0_is_told_apart() -> None:
    for pieces in every_way(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"):
        assert ("head", b"GET", b"/", ((b"Host", b"a"),), False) == fed(pieces).heard[0]


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:5\r\n\r\n\r\n\r\n!", b"\r\n\r\n!"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
            b"hello!",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", b"x"),
    ],
)
def test_a_body_ends_where_its_framing_says_and_the_next_head_begins_there(data: bytes, body: bytes) -> None:
    after = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in every_way(data + after + data):
        events = fed(pieces).heard
        assert [("body", body), ("ended",)] == events[1:3] == events[6:8]
        assert b"/next" == events[3][2]


def test_pipelined_requests_are_read_one_after_another() -> None:
    # A27, A28
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in every_way(b"".join(one % number for number in range(5))):
        assert [b"/%d" % number for number in range(5)] == heads(fed(pieces))


def test_what_comes_before_its_turn_is_held() -> None:
    door = fed([b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n", b"Host: a\r\n\r\nGET"], goes_on=False)
    assert [b"/a"] == heads(door)
    assert len(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\nGET") == door.held_bytes

    door.next_request()
    door.feed(door.take_held())

    assert [b"/a", b"/b"] == heads(door)
    assert len(b"GET") == door.held_bytes


def test_bytes_after_a_chunked_body_are_held_too() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1"
    for pieces in every_way(data):
        door = fed(pieces, goes_on=False)
        assert b"GET / HTTP/1.1" == door.take_held()
        assert 0 == door.held_bytes


def test_one_empty_line_before_a_request_is_skipped() -> None:
    # A32, RFC 9112 2.2
    for pieces in every_way(b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"):
        assert [b"/a", b"/b"] == heads(fed(pieces))


def test_whether_a_head_is_under_way_can_be_asked() -> None:
    door = Door()
    under_way = [door.reads_head]
    for piece in (b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r\n"):
        door.feed(piece)
        under_way.append(door.reads_head)

    assert [False, True, False] == under_way


def test_an_announced_upgrade_is_a_head_like_any_other() -> None:
    # A33
    data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in every_way(data):
        assert [b"/", b"/b"] == heads(fed(pieces))


# -- what is refused, by whom does not matter: the same is told however the bytes come

HOST = b"Host: a\r\n"
REFUSED = [
    (b"GET / HTTP/1.1\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),  # A12
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\nHost: a\n\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", Reason.REQUEST_MALFORMED),  # A13
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", Reason.REQUEST_MALFORMED),  # A14, D20
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),  # A15
    (b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X(: a\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", Reason.REQUEST_MALFORMED),  # A16
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x07b\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n", Reason.REQUEST_MALFORMED),
    (b"GET /\r\n\r\n", Reason.REQUEST_MALFORMED),  # A30
    (b"GET / HTTP/1.1x\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),  # A31
    (b"GET / http/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", Reason.VERSION_UNSUPPORTED),
    (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", Reason.VERSION_UNSUPPORTED),
    (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", Reason.VERSION_UNSUPPORTED),
    (b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),  # A32
    (b"\rGET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"GET /\t HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.VERSION_UNSUPPORTED),  # A34
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason.REQUEST_MALFORMED),  # A38
    (b"\x00" * 20, Reason.REQUEST_MALFORMED),
    (b"1GET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"(GET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),
    (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.REQUEST_MALFORMED),  # A37
    (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.METHOD_UNKNOWN),  # B28
    (b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.METHOD_UNKNOWN),
    (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", Reason.METHOD_UNKNOWN),  # A35
    (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", Reason.METHOD_UNKNOWN),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", Reason.TARGET_TOO_LONG),  # B30
    (b"GET /" + b"a" * 9000, Reason.TARGET_TOO_LONG),
    (b"GET /" + b"a" * (HEAD_LIMIT_BYTES + 9) + b" HTTP/1.1\r\n\r\n", Reason.TARGET_TOO_LONG),
    (b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 4000 + b"\r\n") * 9 + b"\r\n", Reason.HEAD_TOO_LARGE),  # C18
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 200 + b"\r\n", Reason.HEAD_TOO_LARGE),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=lambda case: repr(case)[:50])
def test_a_head_that_is_not_plain_is_refused_with_one_reason_however_it_comes(data: bytes, reason: Reason) -> None:
    refusals = [fed(pieces).refusal for pieces in every_way(data)]

    assert [reason] * 3 == [None if refusal is None else refusal.reason for refusal in refusals]
    assert not [refusal for refusal in refusals if refusal is not None and not refusal.reason.closes]


@pytest.mark.parametrize(
    "framing",
    # A1-A9: who refuses, the parser or the facts, is left open; that it is refused and closes is not.
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 4, 4\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: -4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Content-Length: 4_0\r\n",
        b"Content-Length: 4.0\r\n",
        b"Content-Length: 4 4\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: \xd9\xa3\r\n",
        b"Content-Length: " + b"9" * 20 + b"\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: ,chunked\r\n",
        b"Transfer-Encoding: chunked;q=1\r\n",
        b'Transfer-Encoding: "chunked"\r\n',
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer_Encoding: chunked\r\n",
        b"Content_Length: 4\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\x0b\r\n",
    ],
)
def test_framing_with_two_readings_is_refused_and_nothing_behind_it_is_read(framing: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    for pieces in every_way(data):
        door = fed(pieces)
        assert door.refusal is not None
        assert door.refusal.reason.closes
        assert b"/smuggled" not in heads(door)


GADGETS = [bytes((byte,)) for byte in (*range(0x21), *range(0x7F, 0x100))]


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"Content-Length"])
def test_no_byte_beside_a_framing_field_hides_it(name: bytes) -> None:
    # A10: either refused, or the gateway's own framing is that of the plain field, or the body is none.
    value = b"chunked" if name == b"Transfer-Encoding" else b"3"
    for gadget in GADGETS:
        for line in (gadget + name, name + gadget, name[:3] + gadget + name[3:]):
            door = fed([b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b": " + value + b"\r\n\r\n"])
            assert door.refusal is not None, line
        for decorated in (gadget + value, value + gadget):
            door = fed([b"POST / HTTP/1.1\r\nHost: a\r\n" + name + b":" + decorated + b"\r\n\r\n"])
            if door.refusal is None:
                assert door.facts is not None
                assert gadget in (b" ", b"\t")
                assert door.facts.content_length == (-1 if value == b"chunked" else 3)


@pytest.mark.parametrize(
    "body",
    # A17-A20, A22
    [
        b"0x1\r\nx\r\n",
        b"1 \r\nx\r\n",
        b"1;a\r\nx\r\n",
        b"1\nx\r\n",
        b"1\r\nxy\r\n",
        b"0\r\nHost: b\r\n\r\n",
        b"0" * 17 + b"\r\n",
    ],
)
def test_a_broken_chunk_is_refused_and_the_body_never_ends(body: bytes) -> None:
    for pieces in every_way(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body):
        door = fed(pieces)
        assert door.refusal is not None
        assert Reason.BODY_MALFORMED is door.refusal.reason
        assert ("ended",) not in door.heard


@pytest.mark.parametrize("before", [b"", b"\r\n"])
@pytest.mark.parametrize(("extra", "is_read"), [(0, True), (1, False)])
def test_a_head_of_exactly_the_limit_is_read_however_it_comes(before: bytes, extra: int, is_read: bool) -> None:
    line = b"X: " + b"a" * 7995 + b"\r\n"
    head = b"GET / HTTP/1.1\r\n" + HOST + line * 4
    head += b"Y: " + b"a" * (HEAD_LIMIT_BYTES - len(head) - 7 + extra) + b"\r\n\r\n"
    assert HEAD_LIMIT_BYTES + extra == len(head)

    data = before + head
    for pieces in ([data], [data[:-1], data[-1:]], [data[place : place + 999] for place in range(0, len(data), 999)]):
        assert is_read == (fed(pieces).refusal is None)


def test_what_no_further_byte_can_mend_is_refused_at_once() -> None:
    # A38: so that no peer waits for a time-out
    for start in (
        b"\x16\x03",
        b"GET / HTTP/3\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"PROXY TCP4 a b 1 2\r\n",
        b"GET /\r\n",
    ):
        assert fed([start]).refusal is not None


# -- any input, however it is cut

METHOD = st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"get", b"FOO", b"PRI", b"CONNECT"])
TARGET = st.sampled_from([b"/", b"/v1/users?a=1", b"/a%20b", b"*", b"//x", b"http://a/"])
VERSION = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""])
FIELD = st.sampled_from(
    [
        b"X: y",
        b"Accept: a/b",
        b"X:",
        b"X:\ty ",
        b"Connection: close",
        b"Connection: keep-alive",
        b"x: \xff",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Connection: upgrade",
        b"X-Y: a b\tc",
        b" folded",
        b"no colon",
        b"X : y",
        b"Host: b",
        b"X: a\x01",
    ]
)
FRAMING = st.sampled_from(
    [(b"", b"")] * 4
    + [(b"Content-Length: 5\r\n", b"hello"), (b"Content-Length: 0\r\n", b""), (b"content-length: 3\r\n", b"\r\n\r")]
    + [
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nab\r\n0\r\n\r\n"),
    ]
    + [
        (b"Transfer-Encoding: chunked\r\n", b"5;x\r\nhello\r\n0\r\nT: v\r\n\r\n"),
        (b"Content-Length: 5, 5\r\n", b"hello"),
    ]
    + [(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"hello"), (b"Transfer-Encoding: gzip\r\n", b"hello")]
)


def request_of(
    method: bytes, target: bytes, version: bytes, fields: list[bytes], framing: tuple[bytes, bytes], ends: bytes
) -> bytes:
    lines = ends.join([b" ".join((method, target, version)), b"Host: a", *fields]) + ends
    return lines + framing[0] + b"\r\n" + framing[1]


REQUEST = st.builds(
    request_of, METHOD, TARGET, VERSION, st.lists(FIELD, max_size=3), FRAMING, st.sampled_from([b"\r\n"] * 12 + [b"\n"])
)
PLAIN = st.builds(
    request_of,
    st.sampled_from([b"GET", b"POST", b"DELETE"]),
    st.sampled_from([b"/", b"/v1/users?a=1"]),
    st.just(b"HTTP/1.1"),
    st.lists(st.sampled_from([b"X: y", b"Accept: a/b", b"X:"]), max_size=3),
    FRAMING.filter(lambda framing: b"gzip" not in framing[0] and b"," not in framing[0]),
    st.just(b"\r\n"),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One request or several, in half of the cases with one byte changed, put in or taken out."""
    data = bytearray(b"".join(draw(st.lists(st.one_of(PLAIN, PLAIN, REQUEST), min_size=1, max_size=3))))
    place = draw(st.integers(0, len(data) - 1))
    how = draw(st.sampled_from(["", "", "", "change", "insert", "remove"]))
    if how == "change":
        data[place] = draw(st.integers(0, 255))
    elif how == "insert":
        data.insert(place, draw(st.integers(0, 255)))
    elif how == "remove":
        del data[place]
    return bytes(data)


INPUT = st.one_of(damaged(), damaged(), st.binary(max_size=40))


@given(INPUT, st.integers(0))
def test_however_the_bytes_come_the_same_is_heard(data: bytes, seed: int) -> None:
    whole, byte_by_byte, in_pieces = (fed(pieces) for pieces in every_way(data, seed))

    assert whole.heard == byte_by_byte.heard == in_pieces.heard
    if whole.refusal is None:
        assert whole.held_bytes == byte_by_byte.held_bytes == in_pieces.held_bytes


@given(PLAIN, st.binary(max_size=30))
def test_what_follows_a_request_never_changes_how_it_was_read(request: bytes, tail: bytes) -> None:
    alone, followed = fed([request], goes_on=False), fed([request + tail], goes_on=False)

    assert alone.heard == followed.heard
    if followed.refusal is None and ("ended",) in followed.heard:
        assert tail == followed.take_held()


def by_h11(data: bytes) -> tuple[object, ...] | None:
    """(method, target, header, body, rest) of the first request as h11 reads it, None where it refuses or waits."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT_BYTES)
    connection.receive_data(data)
    request, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    assert request is not None
    rest = connection.trailing_data[0]
    return request.method, request.target, [(bytes(n), bytes(v)) for n, v in request.headers], body, rest


@given(INPUT)
def test_where_h11_takes_a_request_too_it_is_the_same_one(data: bytes) -> None:
    door = fed([data], goes_on=False)
    other = by_h11(data)
    if other is None or door.refusal is not None or ("ended",) not in door.heard:
        return

    _, method, target, headers, _ = door.heard[0]
    assert isinstance(headers, tuple)
    body = b"".join(bytes(event[1]) for event in door.heard if event[0] == "body")  # type: ignore[call-overload]
    # White space after a value is left where it was; where it would matter (Host, framing, credential) it is refused.
    fields = [(name.lower(), value.rstrip(b" \t")) for name, value in headers]
    assert (method, target, fields, body, door.take_held()) == other


@given(PLAIN)
def test_h11_takes_what_we_take_of_plain_requests(request: bytes) -> None:
    door = fed([request], goes_on=False)

    if door.refusal is None:
        assert by_h11(request) is not None
