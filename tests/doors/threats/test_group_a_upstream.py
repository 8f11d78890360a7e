"""Group A, the upstream's side (A41-A47): an upstream is trusted no more than a client.

Each test is a pair: the key A meets the misbehaviour, and then the key B must get its own answer, whole, on another
connection. The upstream's default answer names the key that it saw, so an answer that went astray shows.
"""

from __future__ import annotations

import pytest

from tests.support.gateway import RunningGateway
from tests.support.raw import BrokenAnswer, RawClient, Response
from tests.support.recording_upstream import Answer, Flood, Step, answer
from tests.support.rows import check_own_answer, get, request, with_keys

POISON = answer(b'{"key_id": "poison"}')
OK = b"HTTP/1.1 200 OK\r\n"


def ask(gateway: RunningGateway, *, key: str = "a", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> Response:
    """One request on a connection of its own. Raises: BrokenAnswer"""
    authorization = b"Authorization: Bearer <key:%s>\r\n" % key.encode()
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, request(method + b" /items " + version, authorization=authorization)))
        return client.read(method)


def check_next_is_unharmed(gateway: RunningGateway) -> None:
    """B is answered as B, whole, and on a connection that A's answer did not come on."""
    gateway.settle()
    before = len(gateway.upstream.connections)
    for _ in range(2):
        response = ask(gateway, key="b")
        assert (response.status, response.json()["key_id"]) == (200, gateway.keys.b.key_id.decode())
    gateway.settle()
    assert len(gateway.upstream.connections) == before + 1
    assert [sent.connection for sent in gateway.upstream.requests[-2:]] == [before, before]


def check_502(gateway: RunningGateway, response: Response, reason: str = "upstream_invalid") -> None:
    check_own_answer(response)
    assert (response.status, response.reason) == (502, reason)
    assert b"127.0.0.1" not in response.body
    check_next_is_unharmed(gateway)


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """The shared gateway with no upstream connection in its pool."""
    shared_gateway.upstream.reset_connections()
    shared_gateway.forget()
    return shared_gateway


# -- A41, A42: bytes that nobody asked for


@pytest.mark.parametrize(
    ("first", "method", "body"),
    [
        (answer(b"{}"), b"GET", b"{}"),
        (answer(b""), b"GET", b""),
        (answer(b"{}", framing="chunked"), b"GET", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"GET", b""),
        (OK + b"Content-Length: 2\r\n\r\n", b"HEAD", b""),
    ],
    ids=["length", "no-bytes", "chunked", "204", "304", "head"],
)
def test_a41_an_answer_after_the_answer_is_nobodys(
    gateway: RunningGateway, first: bytes, method: bytes, body: bytes
) -> None:
    gateway.upstream.script(first + POISON)

    assert ask(gateway, method=method).body == body
    check_next_is_unharmed(gateway)


@pytest.mark.parametrize("extra", [b"\r\n", b"x", b"\x00", b"HTTP/1.1 "], ids=["crlf", "x", "nul", "a beginning"])
def test_a41_one_byte_too_many_ends_the_connection(gateway: RunningGateway, extra: bytes) -> None:
    gateway.upstream.script(answer(b"{}") + extra)

    assert ask(gateway).body == b"{}"
    check_next_is_unharmed(gateway)


def test_a42_an_answer_that_comes_while_idle_is_nobodys(gateway: RunningGateway) -> None:
    assert ask(gateway).status == 200
    gateway.upstream.send_unasked(POISON)

    check_next_is_unharmed(gateway)


def test_a42_an_unasked_answer_that_is_not_yet_noticed_is_found_at_checkout(gateway: RunningGateway) -> None:
    assert ask(gateway).status == 200
    with RawClient(gateway.port) as client:

        def both_at_once() -> None:
            # The gateway's loop stands still here: when it goes on, request and poison are both there to read.
            client.send(with_keys(gateway, get(b"/items", authorization=b"Authorization: Bearer <key:b>\r\n")))
            gateway.upstream.send_unasked(POISON)

        gateway.call(both_at_once)
        response = client.read()

    assert response.json()["key_id"] == gateway.keys.b.key_id.decode()
    gateway.settle()
    assert [sent.connection for sent in gateway.upstream.requests] == [0, 1]


def test_a42_bytes_behind_the_answer_in_another_packet_are_nobodys(gateway: RunningGateway) -> None:
    gateway.upstream.script((answer(b"{}"), Step.WAIT, POISON))
    assert ask(gateway).body == b"{}"
    gateway.upstream.go_on()

    check_next_is_unharmed(gateway)


# -- A43: a head that can be read in two ways

BAD_HEADS = {
    "length-and-chunked": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked-and-length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two-equal-lengths": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two-lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "list-of-lengths": OK + b"Content-Length: 2, 2\r\n\r\n{}",
    "negative-length": OK + b"Content-Length: -1\r\n\r\n",
    "plus-length": OK + b"Content-Length: +2\r\n\r\n{}",
    "hexadecimal-length": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "empty-length": OK + b"Content-Length:\r\n\r\n",
    "huge-length": OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "length-with-space": OK + b"Content-Length: 1 2\r\n\r\n{}",
    "length-name-with-space": OK + b"Content-Length : 2\r\n\r\n{}",
    "gzip-chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n{}",
    "two-codings": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-in-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "bare-lf-in-one-line": OK + b"X-A: b\nContent-Length: 2\r\n\r\n{}",
    "bare-cr": OK + b"X-A: b\rc\r\nContent-Length: 2\r\n\r\n{}",
    "nul-in-a-value": OK + b"X-A: b\x00c\r\nContent-Length: 2\r\n\r\n{}",
    "control-in-a-value": OK + b"X-A: b\x07c\r\nContent-Length: 2\r\n\r\n{}",
    "folded-line": OK + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "line-without-colon": OK + b"X-A\r\nContent-Length: 2\r\n\r\n{}",
    "empty-name": OK + b": b\r\nContent-Length: 2\r\n\r\n{}",
    "name-with-space": OK + b"X A: b\r\nContent-Length: 2\r\n\r\n{}",
    "http-2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "http-1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "lower-case": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "other-protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no-head-at-all": b"{}\r\n\r\n",
    "empty-line-first": b"\r\n" + answer(b"{}"),
    "status-99": b"HTTP/1.1 99 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "status-600": b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "status-1000": b"HTTP/1.1 1000 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "status-of-letters": b"HTTP/1.1 2xx Odd\r\nContent-Length: 2\r\n\r\n{}",
    "no-status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}",
    "two-spaces-before-status": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a43_a_head_that_can_be_read_in_two_ways_is_502(gateway: RunningGateway, name: str) -> None:
    gateway.upstream.script(BAD_HEADS[name])

    check_502(gateway, ask(gateway))


BAD_CHUNKS = {
    "0x": b"0x2\r\n{}\r\n",
    "plus": b"+2\r\n{}\r\n",
    "space-before": b" 2\r\n{}\r\n",
    "space-inside": b"2 2\r\n{}\r\n",
    "empty": b"\r\n{}\r\n",
    "letter": b"g\r\n{}\r\n",
    "minus": b"-1\r\n{}\r\n",
    "overflow": b"1" + b"0" * 16 + b"\r\n{}\r\n",
    "nul": b"2\x00\r\n{}\r\n",
    "bare-lf": b"2\n{}\r\n",
    "data-and-letters": b"2\r\n{}XX",
    "data-and-lf": b"2\r\n{}\n",
    "data-and-cr": b"2\r\n{}\r",
    "data-and-nothing": b"2\r\n{}",
    "endless-trailer": b"0\r\n" + b"X-A: b\r\n" * 4000,
    "endless-extension": b"2;" + b"x" * 20_000 + b"\r\n{}\r\n",
}


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a43_a_bad_chunk_after_the_head_is_out_ends_the_connection(
    gateway: RunningGateway, name: str, version: bytes
) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    gateway.upstream.script((head, Step.WAIT, BAD_CHUNKS[name] + b"0\r\n\r\n", Step.CLOSE))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, request(b"GET /items " + version)))
        client.read_until(b"{}")
        gateway.upstream.go_on()
        rest = client.read_to_end()

    assert b"0\r\n\r\n" not in rest
    assert version == b"HTTP/1.1" or client.was_reset, "an answer without a length that ends in order looks whole"
    check_next_is_unharmed(gateway)


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a43_a_bad_chunk_beside_the_head_is_502_or_a_broken_answer(gateway: RunningGateway, name: str) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    gateway.upstream.script(head + BAD_CHUNKS[name] + b"0\r\n\r\n")

    try:
        response = ask(gateway)
    except BrokenAnswer:
        check_next_is_unharmed(gateway)
    else:
        check_own_answer(response)
        assert response.status == 502
        check_next_is_unharmed(gateway)


def test_a43_chunk_extensions_and_trailers_of_an_upstream_are_dropped(gateway: RunningGateway) -> None:
    tail = b"2;a=b\r\n{}\r\n0;c=d\r\nX-Gateway-Key-Id: admin\r\nSet-Cookie: a=b\r\n\r\n"
    gateway.upstream.script(OK + b"Transfer-Encoding: chunked\r\n\r\n" + tail)

    response = ask(gateway)
    assert response.body == b"{}"
    assert response.values(b"x-gateway-key-id") == response.values(b"set-cookie") == []


# -- A44: a body where there can be none


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", OK + b"Content-Length: 2\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["head", "head-chunked", "204", "204-length", "204-chunked", "304-length", "304-chunked"],
)
@pytest.mark.parametrize("split", [False, True], ids=["one-packet", "two-packets"])
def test_a44_a_body_where_there_can_be_none_is_dropped_with_its_connection(
    gateway: RunningGateway, method: bytes, head: bytes, split: bool
) -> None:
    gateway.upstream.script((head, Step.WAIT, POISON) if split else head + POISON)

    response = ask(gateway, method=method)
    gateway.upstream.go_on()

    assert response.body == b""
    assert response.values(b"transfer-encoding") == []
    assert response.status != 204 or response.values(b"content-length") == []
    check_next_is_unharmed(gateway)


# -- A45: answers before the answer


def test_a45_early_hints_are_swallowed(gateway: RunningGateway) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nSet-Cookie: a=b\r\n\r\n"
    gateway.upstream.script(hints * 10 + answer(b"{}"))

    response = ask(gateway)
    assert (response.status, response.body) == (200, b"{}")
    assert response.values(b"link") == response.values(b"set-cookie") == []


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"])
@pytest.mark.parametrize("count", [11, 1000])
def test_a45_too_many_informational_answers_are_502(gateway: RunningGateway, status: bytes, count: int) -> None:
    gateway.upstream.script((b"HTTP/1.1 " + status + b"\r\n\r\n") * count + answer())

    check_502(gateway, ask(gateway))


@pytest.mark.parametrize("fields", [b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: h2c\r\n"])
def test_a45_a_switch_that_nobody_asked_for_is_502(gateway: RunningGateway, fields: bytes) -> None:
    gateway.upstream.script(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n" + answer())

    check_502(gateway, ask(gateway))


# -- A46: heads without measure


@pytest.mark.parametrize(
    "head",
    [
        OK + b"X-A: " + b"b" * (1 << 20) + b"\r\n\r\n",
        OK + b"X-A: b\r\n" * 10_000 + b"\r\n",
        OK + b"X-A: b\r\n" * 201 + b"Content-Length: 0\r\n\r\n",
    ],
    ids=["1-mebibyte", "10000-fields", "202-fields"],
)
def test_a46_a_head_without_measure_is_502(gateway: RunningGateway, head: bytes) -> None:
    gateway.upstream.script(head)

    check_502(gateway, ask(gateway))


def test_a46_a_head_that_never_ends_is_cut_off_at_the_cap(gateway: RunningGateway) -> None:
    gateway.upstream.script((OK + b"X-A: ", Flood(1 << 26)))

    response = ask(gateway)
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0, "the end of the endless head")
    assert gateway.upstream.connections[0].flooded_bytes < 1 << 26
    check_502(gateway, response)


# -- A47: an answer that breaks off

HALVES: dict[str, bytes] = {
    "length": OK + b"Content-Length: 10\r\n\r\n{}",
    "length-nothing-of-it": OK + b"Content-Length: 10\r\n\r\n",
    "chunked-in-a-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{}",
    "chunked-between-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "chunked-in-the-last-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    "chunked-nothing-of-it": OK + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("half", HALVES)
def test_a47_an_answer_that_breaks_off_never_looks_whole(
    gateway: RunningGateway, half: str, version: bytes, end: Step
) -> None:
    """HTTP/1.0 has no last chunk: there a body without a length must end in a reset, or it would look whole."""
    failed = gateway.metric("bearergate_requests_total", outcome="upstream_failed")
    steps: Answer = (HALVES[half], Step.WAIT, end)
    gateway.upstream.script(steps)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, request(b"GET /items " + version)))
        client.read_until(b"\r\n\r\n")
        gateway.upstream.go_on()
        rest = client.read_to_end()

    length = b"10" in HALVES[half].partition(b"\r\n\r\n")[0]
    if version == b"HTTP/1.1" or length:
        assert not rest.endswith(b"0\r\n\r\n")
        assert len(rest) < 10
    else:
        assert client.was_reset
    check_next_is_unharmed(gateway)
    assert gateway.metric("bearergate_requests_total", outcome="upstream_failed") == failed + 1


def test_a47_a_reset_in_a_body_until_close_never_looks_whole(gateway: RunningGateway) -> None:
    gateway.upstream.script((OK + b"\r\n{}", Step.WAIT, Step.RESET))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        client.read_until(b"{}")
        gateway.upstream.go_on()
        rest = client.read_to_end()

    assert not rest.endswith(b"0\r\n\r\n")
    check_next_is_unharmed(gateway)


@pytest.mark.parametrize("piece", [b"", b"HTT", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"], ids=["nothing", "a-word", "lines"])
@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
def test_a47_a_close_in_the_head_is_502(gateway: RunningGateway, piece: bytes, end: Step) -> None:
    gateway.upstream.script((piece, end))

    check_502(gateway, ask(gateway), "upstream_closed")
