"""What passes is sent once, as it was judged: byte-equal target, exact header list, framing of our own making.

And answers of every framing arrive whole, whatever pieces they come in.
"""

from __future__ import annotations

import json

import pytest

from tests.support.gateway import RunningGateway
from tests.support.raw import RawClient, Sending, exchange
from tests.support.recording_upstream import Step, answer
from tests.support.rows import Forwarded, Row, check_forwarded, get, play, post, request, with_keys

LENGTH_3 = [(b"content-length", b"3")]
CHUNKED = [(b"transfer-encoding", b"chunked")]
GQL = b'{"query":"query Q($id: ID) { it: item(id: $id) }","variables":{"id":"1"},"operationName":"Q"}'
CANONICAL = b'{"query":"query Q($id: ID) {\\n  it: item(id: $id)\\n}","operationName":"Q","variables":{"id":"1"}}'


def row(name: str, sent: bytes, target: bytes, *, closes: bool = False, **forwarded: object) -> Row:
    return Row(name, sent, 200, closes=closes, forwarded=Forwarded(target, **forwarded))  # type: ignore[arg-type]


ROWS = [
    row("get", get(b"/items"), b"/items"),
    row("get-with-query", get(b"/items?a=b&c=%2F"), b"/items?a=b&c=%2F"),
    row(
        "get-with-headers-in-their-order",
        get(b"/items", b"Accept: a", b"X-B: 1", b"Accept-Language: nl", b"X-A: 2", b"User-Agent: t", b"X-B: 3"),
        b"/items",
        client=[
            (b"accept", b"a"),
            (b"x-b", b"1"),
            (b"accept-language", b"nl"),
            (b"x-a", b"2"),
            (b"user-agent", b"t"),
            (b"x-b", b"3"),
        ],
    ),
    row("get-with-an-empty-value", get(b"/items", b"X-A:", b"X-B: "), b"/items", client=[(b"x-a", b""), (b"x-b", b"")]),
    row("get-public", get(b"/public", authorization=b""), b"/public", key=""),
    row("get-public-with-a-key", get(b"/public"), b"/public"),
    row("get-with-length-nought", get(b"/items", b"Content-Length: 0"), b"/items"),
    row("get-by-another-key", get(b"/items", authorization=b"Authorization: Bearer <key:b>\r\n"), b"/items", key="b"),
    row(
        "get-by-a-legacy-key",
        get(b"/items", authorization=b"authorization: bearer <key:legacy>\r\n"),
        b"/items",
        key="legacy",
    ),
    row(
        "get-by-an-alias",
        get(b"/items", authorization=b"Authorization: Bearer <key:alias>\r\n"),
        b"/items",
        key="alias",
    ),
    row("head", request(b"HEAD /items HTTP/1.1"), b"/items", method=b"HEAD"),
    row(
        "post-length",
        post(b"Content-Type: text/plain", b"Content-Length: 3", body=b"abc"),
        b"/items",
        method=b"POST",
        client=[(b"content-type", b"text/plain")],
        framing=LENGTH_3,
        body=b"abc",
    ),
    row(
        "post-length-with-noughts",
        post(b"Content-Length: 003", body=b"abc"),
        b"/items",
        method=b"POST",
        framing=LENGTH_3,
        body=b"abc",
    ),
    row(
        "post-length-nought", post(b"Content-Length: 0"), b"/items", method=b"POST", framing=[(b"content-length", b"0")]
    ),
    row("post-without-length", post(), b"/items", method=b"POST"),
    row(
        "post-chunked",
        post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        b"/items",
        method=b"POST",
        framing=CHUNKED,
        body=b"abc",
    ),
    row(
        "post-chunked-of-nothing",
        post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        b"/items",
        method=b"POST",
        framing=CHUNKED,
    ),
    row(
        "post-chunked-upper-case-sizes",
        post(b"Transfer-Encoding: chunked", body=b"A\r\n0123456789\r\n00\r\n\r\n"),
        b"/items",
        method=b"POST",
        framing=CHUNKED,
        body=b"0123456789",
    ),
    row(
        "post-body-that-looks-like-a-request",
        post(b"Content-Length: 24", body=b"GET /admin HTTP/1.1\r\n\r\n "),
        b"/items",
        method=b"POST",
        framing=[(b"content-length", b"24")],
        body=b"GET /admin HTTP/1.1\r\n\r\n ",
    ),
    row(
        "put",
        request(b"PUT /items/1 HTTP/1.1", b"Content-Length: 3", body=b"abc"),
        b"/items/1",
        method=b"PUT",
        framing=LENGTH_3,
        body=b"abc",
    ),
    row(
        "patch",
        request(b"PATCH /items/1 HTTP/1.1", b"Content-Length: 3", b"Content-Encoding: gzip", body=b"abc"),
        b"/items/1",
        method=b"PATCH",
        client=[(b"content-encoding", b"gzip")],
        framing=LENGTH_3,
        body=b"abc",
    ),
    row("delete", request(b"DELETE /items/1 HTTP/1.1"), b"/items/1", method=b"DELETE"),
    row(
        "graphql",
        post(b"Content-Type: application/json", b"Content-Length: %d" % len(GQL), body=GQL, target=b"/gql"),
        b"/gql",
        method=b"POST",
        client=[(b"content-type", b"application/json")],
        framing=[(b"content-length", b"%d" % len(CANONICAL))],
        body=CANONICAL,
    ),
    row(
        "graphql-chunked",
        post(
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
            body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(GQL), GQL),
            target=b"/gql",
        ),
        b"/gql",
        method=b"POST",
        client=[(b"content-type", b"application/json")],
        framing=[(b"content-length", b"%d" % len(CANONICAL))],
        body=CANONICAL,
    ),
    row("http-1.0", request(b"GET /items HTTP/1.0"), b"/items", closes=True),
    row("http-1.0-keep-alive", request(b"GET /items HTTP/1.0", b"Connection: keep-alive"), b"/items", closes=True),
    row(
        "http-1.0-post",
        request(b"POST /items HTTP/1.0", b"Content-Length: 3", body=b"abc"),
        b"/items",
        closes=True,
        method=b"POST",
        framing=LENGTH_3,
        body=b"abc",
    ),
    row("close", get(b"/items", b"Connection: close"), b"/items", closes=True),
    row("empty-line-before", b"\r\n" + get(b"/items"), b"/items"),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_allowed_request_is_sent_once_exactly(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.closes], ids=str)
@pytest.mark.parametrize("sending", list(Sending), ids=lambda sending: sending.name.lower())
def test_an_allowed_request_with_a_tail_is_sent_once_exactly(
    gateway: RunningGateway, row: Row, sending: Sending
) -> None:
    """What follows in the same bytes is the next request, and no part of this one."""
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, row.sent + get(b"/items", authorization=b"")), sending)
        response = client.read(row.sent.lstrip().partition(b" ")[0])
        following = client.read()

    gateway.settle()
    assert (response.status, following.status) == (200, 401)
    check_forwarded(gateway, row.forwarded, response)


def test_every_shape_on_one_connection_arrives_in_order(gateway: RunningGateway) -> None:
    rows = [row for row in ROWS if not row.closes]
    responses = []
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, b"".join(row.sent for row in rows)))
        responses = [client.read(row.sent.lstrip().partition(b" ")[0]) for row in rows]

    gateway.settle()
    wanted = [row.forwarded for row in rows if isinstance(row.forwarded, Forwarded)]
    assert [response.status for response in responses] == [200] * len(rows)
    assert [(sent.method, sent.target, sent.body) for sent in gateway.upstream.requests] == [
        (forwarded.method, forwarded.target, forwarded.body) for forwarded in wanted
    ]
    assert [sent.values(b"x-gateway-request-id") for sent in gateway.upstream.requests] == [
        [response.ref] for response in responses
    ]
    assert gateway.upstream.faults == []


def test_a_body_limit_holds_to_the_byte(gateway: RunningGateway) -> None:
    limit = 64 * 1024
    for size, status in ((limit - 1, 200), (limit, 200), (limit + 1, 413)):
        gateway.forget()
        response = exchange(
            gateway.port,
            with_keys(gateway, post(b"Content-Length: %d" % size, body=b"x" * size, target=b"/uploads")),
        )
        assert response.status == status
        assert len(gateway.upstream.settled().requests) == (status == 200)


def test_a_chunked_body_beyond_the_limit_is_never_completed(gateway: RunningGateway) -> None:
    body = b"%x\r\n%s\r\n" % (1024, b"x" * 1024) * 65 + b"0\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Transfer-Encoding: chunked", body=body, target=b"/uploads")))
        response = client.read()

        assert (response.status, response.reason) == (413, "body_too_large")
        assert client.is_ended()
    gateway.settle()
    assert gateway.upstream.requests == []


def test_a_graphql_body_beyond_its_limit_is_not_read(gateway: RunningGateway) -> None:
    sent = post(b"Content-Type: application/json", b"Content-Length: %d" % (1024**2 + 1), target=b"/gql")
    response = exchange(gateway.port, with_keys(gateway, sent))

    assert (response.status, response.reason) == (413, "body_too_large")
    assert gateway.upstream.settled().received_bytes == 0


@pytest.mark.parametrize("coding", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_continue_is_said_before_a_graphql_body_is_read(gateway: RunningGateway, coding: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(
            with_keys(gateway, post(b"Content-Type: application/json", b"Expect: 100-continue", coding, target=b"/gql"))
        )
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_an_old_client_is_not_told_to_continue(gateway: RunningGateway) -> None:
    """HTTP/1.0 has no 100."""
    with RawClient(gateway.port) as client:
        sent = request(b"POST /items HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 3", body=b"abc")
        client.send(with_keys(gateway, sent))

        assert client.read().status == 200


# -- answers

BODIES = {"nothing": b"", "little": b'{"a": 1}', "much": bytes(range(256)) * 4096}


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", BODIES)
def test_an_answer_of_any_framing_arrives_whole(
    gateway: RunningGateway, size: str, framing: str, version: bytes
) -> None:
    body = BODIES[size]
    sent = answer(body, framing=framing)
    gateway.upstream.script((sent, Step.CLOSE) if framing == "close" else sent)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, request(b"GET /items " + version)))
        response = client.read()

    assert (response.status, response.body) == (200, body)
    if framing == "length":
        assert response.header(b"content-length") == b"%d" % len(body)
    elif version == b"HTTP/1.1":
        assert response.header(b"transfer-encoding") == b"chunked"
    else:
        assert response.ended_with_close
        assert response.values(b"transfer-encoding") == []


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_answer_that_comes_byte_by_byte_arrives_whole(gateway: RunningGateway, framing: str) -> None:
    sent = answer(b'{"a": 1}', framing=framing)
    steps: list[bytes | Step] = []
    for place in range(len(sent)):
        steps += (sent[place : place + 1], Step.WAIT)
    gateway.upstream.script((*steps, Step.CLOSE) if framing == "close" else tuple(steps))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
        for _ in range(len(sent)):
            gateway.settle()
            gateway.upstream.go_on()
        response = client.read()

    assert (response.status, response.body) == (200, b'{"a": 1}')


@pytest.mark.parametrize("framing", ["length", "chunked", "none"])
def test_an_answer_to_head_has_its_length_and_no_body(gateway: RunningGateway, framing: str) -> None:
    fields = {"length": b"Content-Length: 12\r\n", "chunked": b"Transfer-Encoding: chunked\r\n", "none": b""}[framing]
    gateway.upstream.script(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, request(b"HEAD /items HTTP/1.1") + get(b"/items")))
        head, following = client.read(b"HEAD"), client.read()

    assert head.values(b"content-length") == ([b"12"] if framing == "length" else [])
    assert (following.status, following.json()["target"]) == (200, "/items")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_a_body_leaves_both_connections_in_order(gateway: RunningGateway, status: bytes) -> None:
    gateway.upstream.script(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items") * 2))
        first, second = client.read(), client.read()

    gateway.settle()
    assert (first.status, first.header(b"etag"), second.status) == (int(status[:3]), b"x", 200)
    assert first.values(b"transfer-encoding") == []
    assert [sent.connection for sent in gateway.upstream.requests] == [gateway.upstream.requests[0].connection] * 2


def test_a_not_modified_answer_keeps_the_length_that_it_speaks_of(gateway: RunningGateway) -> None:
    gateway.upstream.script(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n")

    assert exchange(gateway.port, with_keys(gateway, get(b"/items"))).header(b"content-length") == b"12"


@pytest.mark.parametrize(
    "status", [b"200", b"201", b"206", b"299", b"400", b"404", b"418", b"429", b"500", b"503", b"599"]
)
def test_any_final_status_is_passed_on(gateway: RunningGateway, status: bytes) -> None:
    gateway.upstream.script(answer(b"x", status=status + b" Whatever"))

    response = exchange(gateway.port, with_keys(gateway, get(b"/items")))
    assert (response.status, response.body) == (int(status), b"x")


def test_a_deprecated_route_says_so_in_each_of_its_answers(gateway: RunningGateway) -> None:
    response = exchange(gateway.port, with_keys(gateway, get(b"/old")))

    assert response.status == 200
    assert response.header(b"sunset") == b"Tue, 01 Jan 2030 00:00:00 GMT"


def test_fields_of_an_answer_keep_their_order_and_spelling(gateway: RunningGateway) -> None:
    fields = ((b"X-B", b"1"), (b"ETag", b'"a"'), (b"x-a", b"2"), (b"X-B", b"3"), (b"X-Empty", b""))
    gateway.upstream.script(answer(fields=fields))

    response = exchange(gateway.port, with_keys(gateway, get(b"/items")))
    assert tuple(response.headers[: len(fields)]) == fields


def test_one_connection_serves_the_upstream_for_many_clients(gateway: RunningGateway) -> None:
    for key in ("a", "b") * 10:
        response = exchange(
            gateway.port,
            with_keys(gateway, get(b"/items", authorization=b"Authorization: Bearer <key:%s>\r\n" % key.encode())),
        )
        assert json.loads(response.body)["key_id"] == getattr(gateway.keys, key).key_id.decode()

    gateway.settle()
    assert len({sent.connection for sent in gateway.upstream.requests}) == 1
