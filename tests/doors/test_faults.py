"""Faults of upstreams and clients: what breaks is said, nothing is sent twice, nothing is left behind.

The clock stands still until a test moves it, so a time-out happens when the test says so, and never by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import BrokenAnswer, RawClient, Response
from tests.support.recording_upstream import Flood, RecordingUpstream, Step, answer
from tests.support.rows import check_own_answer, get, post, request, with_keys

OK = b"HTTP/1.1 200 OK\r\n"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def own_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose clock may be moved, and whose upstream may go away and come back."""
    # Small buffers, so that a peer that reads nothing is noticed soon.
    upstream = RecordingUpstream(receive_buffer_bytes=32 * 1024).start()
    try:
        with running_gateway(tmp_path_factory.mktemp("faults"), upstream=upstream) as gateway:
            yield gateway
    finally:
        upstream.stop()


@pytest.fixture
def gateway(own_gateway: RunningGateway) -> Iterator[RunningGateway]:
    """No connection on either side, nothing recorded; and nothing in flight after the test."""
    own_gateway.upstream.reset_connections()
    own_gateway.settle()
    own_gateway.upstream.clear()
    for key in ("a", "b"):
        # Known keys are judged at once, so a test need not wait for the store.
        assert ask(own_gateway, key=key).status == 200
    own_gateway.upstream.reset_connections()
    own_gateway.settle()
    own_gateway.upstream.clear()
    yield own_gateway
    own_gateway.until(lambda: own_gateway.in_flight == 0, "the end of every request")


def ask(gateway: RunningGateway, sent: bytes = b"", *, key: str = "a", method: bytes = b"GET") -> Response:
    """One request on a connection of its own."""
    with RawClient(gateway.port) as client:
        authorization = b"Authorization: Bearer <key:%s>\r\n" % key.encode()
        client.send(with_keys(gateway, sent or request(method + b" /items HTTP/1.1", authorization=authorization)))
        return client.read(method)


def check_serves(gateway: RunningGateway) -> None:
    """The next request, of another key, is answered as itself."""
    response = ask(gateway, key="b")
    assert (response.status, response.json()["key_id"]) == (200, gateway.keys.b.key_id.decode())


def check_failed(response: Response, status: int, reason: str) -> None:
    check_own_answer(response)
    assert (response.status, response.reason) == (status, reason)


# -- the upstream is away


def test_a_closed_port_is_502_and_a_new_listener_is_found_at_once(gateway: RunningGateway) -> None:
    check_serves(gateway)
    gateway.upstream.stop()
    try:
        for _ in range(2):
            check_failed(ask(gateway), 502, "upstream_unreachable")
            check_failed(ask(gateway, post(b"Content-Length: 3", body=b"abc")), 502, "upstream_unreachable")
    finally:
        gateway.upstream.restart()
    check_serves(gateway)


def test_an_upstream_that_was_killed_and_restarted_costs_no_request(gateway: RunningGateway) -> None:
    check_serves(gateway)
    gateway.upstream.stop()
    gateway.upstream.restart()

    check_serves(gateway)


def test_a_502_leaves_the_clients_connection_in_order(gateway: RunningGateway) -> None:
    gateway.upstream.script((Step.CLOSE,))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items") + get(b"/items/2")))
        first, second = client.read(), client.read()

    check_failed(first, 502, "upstream_closed")
    assert (second.status, second.json()["target"]) == (200, "/items/2")


# -- the upstream is silent


def test_no_head_in_time_is_504_and_the_upstreams_connection_is_closed(gateway: RunningGateway) -> None:
    gateway.upstream.script((Step.WAIT,))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
        assert gateway.in_flight == 1
        gateway.pass_time(gateway.settings.timeouts.response_head - 1)
        assert gateway.in_flight == 1
        gateway.pass_time(2)
        response = client.read()

    check_failed(response, 504, "upstream_timeout")
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)
    check_serves(gateway)


@pytest.mark.parametrize(
    "half",
    [OK + b"Content-Length: 10\r\n\r\n{}", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", OK + b"\r\n{}"],
    ids=["length", "chunked", "until-close"],
)
def test_silence_in_the_middle_of_an_answer_ends_the_clients_connection(gateway: RunningGateway, half: bytes) -> None:
    gateway.upstream.script((half, Step.WAIT))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        client.read_until(b"{}")
        gateway.pass_time(gateway.settings.timeouts.response_idle + 1)
        rest = client.read_to_end()

    assert not rest.endswith(b"0\r\n\r\n")
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)
    check_serves(gateway)


def test_half_a_head_is_silence_too(gateway: RunningGateway) -> None:
    gateway.upstream.script((OK + b"Content-Le", Step.WAIT))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
        gateway.settle()
        gateway.pass_time(max(gateway.settings.timeouts.response_head, gateway.settings.timeouts.response_idle) + 1)
        response = client.read()

    check_failed(response, 504, "upstream_timeout")
    check_serves(gateway)


def test_informational_answers_do_not_postpone_the_time_out_for_ever(gateway: RunningGateway) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    gateway.upstream.script((Step.WAIT, early, Step.WAIT, early, Step.WAIT))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
        for _ in range(2):
            gateway.upstream.go_on()
            gateway.settle()
        gateway.pass_time(max(gateway.settings.timeouts.response_head, gateway.settings.timeouts.response_idle) + 1)
        response = client.read()

    check_failed(response, 504, "upstream_timeout")


# -- what is sent again, and what never is


def make_reused_connection_die(gateway: RunningGateway, *steps: Step) -> None:
    """The pool holds one connection, and the next request on it meets `steps`."""
    assert ask(gateway).status == 200
    gateway.settle()
    gateway.upstream.script(steps)


@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_safe_request_goes_once_more_when_a_reused_connection_dies(
    gateway: RunningGateway, method: bytes, end: Step
) -> None:
    make_reused_connection_die(gateway, end)

    response = ask(gateway, method=method)
    assert response.status == 200
    gateway.settle()
    again = gateway.upstream.requests[1:]
    assert [(sent.method, sent.connection) for sent in again] == [(method, 0), (method, 1)]
    assert again[0].raw == again[1].raw


@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
def test_a_safe_request_goes_no_third_time(gateway: RunningGateway, end: Step) -> None:
    assert ask(gateway).status == 200
    gateway.settle()
    gateway.upstream.script((end,), (end,))

    check_failed(ask(gateway), 502, "upstream_closed")
    gateway.settle()
    assert len(gateway.upstream.requests) == 3


@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
def test_a_safe_request_on_a_new_connection_is_not_sent_again(gateway: RunningGateway, end: Step) -> None:
    gateway.upstream.script((end,))

    check_failed(ask(gateway), 502, "upstream_closed")
    gateway.settle()
    assert len(gateway.upstream.requests) == 1


@pytest.mark.parametrize("end", [Step.CLOSE, Step.RESET], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "sent",
    [
        post(b"Content-Length: 3", body=b"abc"),
        post(b"Content-Length: 0"),
        post(),
        post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
        request(b"PUT /items/1 HTTP/1.1", b"Content-Length: 3", body=b"abc"),
        request(b"DELETE /items/1 HTTP/1.1"),
        request(b"PATCH /items/1 HTTP/1.1", b"Content-Length: 3", body=b"abc"),
        get(b"/search", b"Content-Length: 3", body=b"abc"),
        post(b"Content-Type: application/json", b"Content-Length: 18", body=b'{"query":"{item}"}', target=b"/gql"),
    ],
    ids=["post", "post-0", "post-none", "post-chunked", "put", "delete", "patch", "get-with-body", "graphql"],
)
def test_whatever_may_change_something_is_never_sent_twice(gateway: RunningGateway, sent: bytes, end: Step) -> None:
    make_reused_connection_die(gateway, end)

    response = ask(gateway, sent)
    assert (response.status, response.reason) == (502, "upstream_closed")
    gateway.settle()
    assert len(gateway.upstream.requests) == 2


def test_a_request_is_not_sent_again_once_a_byte_of_an_answer_has_come(gateway: RunningGateway) -> None:
    assert ask(gateway).status == 200
    gateway.settle()
    gateway.upstream.script((b"HTTP/1.1 2", Step.WAIT, Step.CLOSE))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 2)
        gateway.settle()
        gateway.upstream.go_on()
        response = client.read()

    check_failed(response, 502, "upstream_closed")
    gateway.settle()
    assert len(gateway.upstream.requests) == 2


def test_a_connection_that_died_while_idle_is_not_used(gateway: RunningGateway) -> None:
    assert ask(gateway).status == 200
    gateway.upstream.close_connections()

    response = ask(gateway, post(b"Content-Length: 3", body=b"abc"))
    assert response.status == 200
    gateway.settle()
    assert [sent.connection for sent in gateway.upstream.requests] == [0, 1]


def test_an_upstream_that_says_close_is_not_asked_again_on_that_connection(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(fields=((b"Connection", b"close"),)))
    assert ask(gateway).status == 200
    check_serves(gateway)

    gateway.settle()
    assert [sent.connection for sent in gateway.upstream.requests] == [0, 1]


def test_an_upstream_of_http_1_0_is_asked_once_per_connection(gateway: RunningGateway) -> None:
    gateway.upstream.script((b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", Step.WAIT))
    assert ask(gateway).body == b"{}"
    check_serves(gateway)

    gateway.settle()
    assert [sent.connection for sent in gateway.upstream.requests] == [0, 1]


def test_an_idle_upstream_connection_is_closed_in_time(gateway: RunningGateway) -> None:
    assert ask(gateway).status == 200
    gateway.settle()
    gateway.pass_time(gateway.settings.timeouts.upstream_keep_alive + 1)

    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)


# -- the client goes away


@pytest.mark.parametrize(
    ("sent", "goes"),
    [
        (get(b"/items"), RawClient.reset),
        (post(b"Content-Length: 10", body=b"abc"), RawClient.reset),
        (post(b"Content-Length: 10", body=b"abc"), RawClient.close),
        (post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"), RawClient.close),
    ],
    ids=["waiting-resets", "sending-resets", "sending-closes", "sending-chunks-closes"],
)
def test_a_client_that_vanishes_takes_its_upstream_request_with_it(
    gateway: RunningGateway, sent: bytes, goes: Callable[[RawClient], None]
) -> None:
    gateway.upstream.script((Step.WAIT,))
    client = RawClient(gateway.port)
    client.send(with_keys(gateway, sent))
    gateway.upstream.wait_until(lambda: gateway.upstream.received_bytes > 0)
    gateway.until(lambda: gateway.in_flight == 1)
    goes(client)

    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0, "the end of the upstream's connection")
    gateway.until(lambda: gateway.in_flight == 0 and gateway.client_connections == 0)
    gateway.upstream.script()
    check_serves(gateway)


def test_a_client_that_has_closed_while_it_waited_is_found_out_by_the_answer(gateway: RunningGateway) -> None:
    """Its end looks like that of a client that only has nothing more to say, so the answer is waited for."""
    gateway.upstream.script((Step.WAIT, answer()))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
    gateway.settle()
    gateway.upstream.go_on()

    gateway.until(lambda: gateway.in_flight == 0 and gateway.client_connections == 0)
    check_serves(gateway)


def test_a_client_that_vanishes_in_its_answer_takes_its_upstream_request_with_it(gateway: RunningGateway) -> None:
    gateway.upstream.script((OK + b"Content-Length: 10\r\n\r\n{}", Step.WAIT))
    client = RawClient(gateway.port)
    client.send(with_keys(gateway, get(b"/items")))
    client.read_until(b"{}")
    client.reset()

    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0, "the end of the upstream's connection")
    gateway.until(lambda: gateway.in_flight == 0)
    check_serves(gateway)


def test_a_client_that_has_said_all_still_gets_its_answer(gateway: RunningGateway) -> None:
    gateway.upstream.script((Step.WAIT, answer(b'{"late": true}')))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        client.finish()
        gateway.upstream.wait_until(lambda: len(gateway.upstream.requests) == 1)
        gateway.settle()
        gateway.upstream.go_on()
        response = client.read()

        assert (response.status, response.body) == (200, b'{"late": true}')
        assert client.is_ended()


@pytest.mark.parametrize(
    "sent",
    [
        post(b"Content-Length: 3", body=b"abc"),
        post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
        post(b"Content-Type: application/json", b"Content-Length: 18", body=b'{"query":"{item}"}', target=b"/gql"),
    ],
    ids=["length", "chunked", "graphql"],
)
@pytest.mark.parametrize("is_known", [True, False], ids=["known-key", "new-key"])
def test_a_client_that_has_sent_its_body_and_all_still_gets_its_answer(
    gateway: RunningGateway, sent: bytes, is_known: bool
) -> None:
    """Also while its key is looked up and an upstream connection opened: its body is here, and only not yet read."""
    token = gateway.keys.a.token if is_known else gateway.new_key("READ", "WRITE").token
    with RawClient(gateway.port) as client:
        client.send(sent.replace(b"<key:a>", token))
        client.finish()
        response = client.read()

        assert response.status == 200
        assert client.is_ended()


def test_a_thousand_clients_that_vanish_leave_nothing_behind(gateway: RunningGateway) -> None:
    sent = with_keys(gateway, get(b"/items"))
    for _ in range(1000):
        client = RawClient(gateway.port)
        client.send(sent)
        client.reset()

    # Some of them may not even have been accepted yet, so the end is looked for until it stays.
    gateway.until(
        lambda: (
            gateway.client_connections == 0
            and gateway.metric("bearergate_requests_in_flight") == 0
            and gateway.in_flight == 0
        )
    )
    check_serves(gateway)


# -- the client is slow


@pytest.mark.parametrize(
    "piece", [b"G", b"GET /items HTTP/1.1\r\n", get(b"/items")[:-2]], ids=["a byte", "a line", "most"]
)
def test_a_slow_head_is_408(gateway: RunningGateway, piece: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, piece))
        gateway.until(lambda: gateway.client_connections == 1)
        gateway.settle()
        gateway.pass_time(gateway.settings.timeouts.head + 1)
        response = client.read()

        check_failed(response, 408, "head_timeout")
        assert client.is_ended()
    assert gateway.upstream.received_bytes == 0


def test_a_head_that_drips_gets_no_more_time_than_any_other(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /items HTTP/1.1\r\n")
        for byte in b"X-A: bc":
            gateway.settle()
            gateway.pass_time(gateway.settings.timeouts.head / 6)
            client.send(bytes((byte,)))
        response = client.read()

    check_failed(response, 408, "head_timeout")


def test_the_second_head_of_a_connection_is_timed_from_its_own_first_byte(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        assert client.read().status == 200
        gateway.pass_time(gateway.settings.timeouts.head + 1)
        client.send(b"GET ")
        gateway.settle()
        gateway.pass_time(gateway.settings.timeouts.head - 1)
        gateway.settle()
        assert gateway.client_connections == 1
        gateway.pass_time(2)

        check_failed(client.read(), 408, "head_timeout")


def test_an_idle_connection_is_closed_without_a_word(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        assert client.read().status == 200
        gateway.settle()
        gateway.pass_time(gateway.settings.timeouts.keep_alive + 1)

        assert client.is_ended()


def test_a_connection_that_says_nothing_at_all_is_closed(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        gateway.until(lambda: gateway.client_connections == 1)
        gateway.pass_time(gateway.settings.timeouts.head + 1)

        assert client.is_ended()


@pytest.mark.parametrize(
    ("sent", "is_forwarded"),
    [
        (post(b"Content-Length: 10", body=b"abc"), True),
        (post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"), True),
        (post(b"Content-Type: application/json", b"Content-Length: 99", body=b"{", target=b"/gql"), False),
    ],
    ids=["length", "chunked", "graphql"],
)
def test_a_slow_body_is_408_and_never_completed(gateway: RunningGateway, sent: bytes, is_forwarded: bool) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, sent))
        if is_forwarded:
            gateway.upstream.wait_until(lambda: gateway.upstream.received_bytes > 0)
        gateway.until(lambda: gateway.in_flight == 1)
        gateway.settle()
        gateway.pass_time(gateway.settings.timeouts.body_idle + 1)
        response = client.read()

        check_failed(response, 408, "body_timeout")
        assert client.is_ended()
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)
    assert gateway.upstream.requests == []


def test_a_body_that_goes_on_is_not_slow(gateway: RunningGateway) -> None:
    timeouts = gateway.settings.timeouts
    pieces = [letter * int(timeouts.body_rate * timeouts.body_idle) for letter in (b"a", b"b", b"c", b"d")]
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: %d" % len(b"".join(pieces)))))
        for piece in pieces:
            gateway.settle()
            gateway.pass_time(timeouts.body_idle - 1)
            client.send(piece)

        assert client.read().status == 200
    assert gateway.upstream.requests[0].body == b"".join(pieces)


def test_a_client_that_reads_nothing_is_let_go(gateway: RunningGateway) -> None:
    gateway.upstream.script((OK + b"Content-Length: %d\r\n\r\n" % (64 * MEBIBYTE), Flood(64 * MEBIBYTE)))
    with RawClient(gateway.port, receive_buffer_bytes=4096) as client:
        client.send(with_keys(gateway, get(b"/items")))
        wait_for_standstill(gateway)
        gateway.pass_time(gateway.settings.timeouts.write_idle + 1)

        gateway.until(lambda: gateway.in_flight == 0 and gateway.client_connections == 0)
        gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)
    check_serves(gateway)


@pytest.mark.parametrize("fields", [(), (b"Connection: close",)], ids=["keep-alive", "close"])
def test_a_client_that_never_takes_the_end_of_its_answer_is_let_go(
    gateway: RunningGateway, fields: tuple[bytes, ...]
) -> None:
    """The answer has ended for the upstream, and its last bytes wait here for a client that takes none."""
    with answered_and_not_taken(gateway, *fields):
        for seconds in (gateway.settings.timeouts.write_idle, gateway.settings.timeouts.keep_alive, 60.0):
            gateway.pass_time(seconds + 1)

        gateway.until(lambda: gateway.client_connections == 0, "the end of the connection")


# -- both sides send at once


def test_an_early_answer_arrives_and_ends_the_connection_in_order(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(b'{"early": true}', status=b"413 Content Too Large"), early=True)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: 1000", body=b"abc")))
        response = client.read()
        client.send(b"d" * 997 + get(b"/admin"))

        assert (response.status, response.body, response.says_close) == (413, b'{"early": true}', True)
        assert client.is_ended()
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0, "the end of the unfinished exchange")
    assert gateway.upstream.requests == []
    check_serves(gateway)


def test_an_early_answer_to_a_chunked_body_ends_the_connection_in_order(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(b"{}", status=b"401 Unauthorized"), early=True)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")))
        response = client.read()

        assert (response.status, response.says_close) == (401, True)
        assert client.is_ended()
    check_serves(gateway)


def test_an_upstream_that_dies_while_the_body_is_being_sent_is_502(gateway: RunningGateway) -> None:
    gateway.upstream.script((Step.RESET,), early=True)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: 1000", body=b"abc")))
        response = client.read()

        check_failed(response, 502, "upstream_closed")
        assert client.is_ended()
    check_serves(gateway)


# -- back-pressure: a slow side stops the fast one


def wait_for_standstill(gateway: RunningGateway) -> int:
    """Bytes of a flood that were taken before nobody took more, however long we go on asking."""
    still, last = 0, -1
    while still < 50:
        gateway.settle()
        taken = sum(connection.flooded_bytes for connection in gateway.upstream.connections)
        still = still + 1 if taken == last and taken else 0
        last = taken
    return last


def held_by_kernels(gateway: RunningGateway) -> int:
    """Bytes of an answer that leave the gateway though its client reads none: what the kernel holds between them."""
    gateway.upstream.script((OK + b"Content-Length: %d\r\n\r\n" % (64 * MEBIBYTE), Flood(64 * MEBIBYTE)))
    connections = gateway.running.gateway.services.connections
    with RawClient(gateway.port, receive_buffer_bytes=4096) as client:
        client.send(with_keys(gateway, get(b"/items")))
        wait_for_standstill(gateway)
        written, waiting = gateway.call(
            lambda: next(
                (connection._bytes_out, connection._transport.get_write_buffer_size())  # type: ignore[attr-defined]
                for connection in connections
            )
        )
    gateway.until(lambda: gateway.client_connections == 0)
    gateway.upstream.wait_until(lambda: gateway.upstream.open_count == 0)
    return int(written - waiting)


@contextmanager
def answered_and_not_taken(gateway: RunningGateway, *fields: bytes) -> Iterator[RawClient]:
    """A client whose answer has ended for the upstream, while its last bytes still wait in the gateway.

    What the kernels hold differs from one connection to the next, so sizes are tried until one lies between.
    """
    kernel = held_by_kernels(gateway)
    connections = gateway.running.gateway.services.connections

    def waiting() -> int:
        return sum(each._transport.get_write_buffer_size() for each in connections)  # type: ignore[attr-defined]

    for beyond in range(-64 * 1024, 512 * 1024, 24 * 1024):
        gateway.upstream.clear()
        gateway.upstream.script(answer(b"x" * (kernel + beyond)))
        with RawClient(gateway.port, receive_buffer_bytes=4096) as client:
            client.send(with_keys(gateway, get(b"/items", *fields)))
            gateway.upstream.wait_until(lambda: bool(gateway.upstream.requests), "the request")
            for _ in range(50):
                gateway.settle()
            if gateway.in_flight == 0 and gateway.call(waiting):
                yield client
                return
        gateway.until(lambda: gateway.client_connections == 0, "the end of a size that did not fit")
    pytest.fail("no size left bytes waiting here after the end of the answer")


def test_a_client_that_does_not_read_stops_the_upstream(gateway: RunningGateway) -> None:
    """What is neither with the client nor with a kernel is held by the gateway: less than 2 MiB."""
    gateway.upstream.script((OK + b"Content-Length: %d\r\n\r\n" % (64 * MEBIBYTE), Flood(64 * MEBIBYTE)))
    with RawClient(gateway.port, receive_buffer_bytes=4096) as client:
        client.send(with_keys(gateway, get(b"/items")))
        taken = wait_for_standstill(gateway)
        held = gateway.call(
            lambda: sum(
                connection._transport.get_write_buffer_size()  # type: ignore[attr-defined]
                for connection in gateway.running.gateway.services.connections
            )
        )

    assert held < 2 * MEBIBYTE
    # Loopback kernels hold up to 4 + 6 MiB on each of the two hops when they grow their buffers.
    assert taken < 24 * MEBIBYTE
    check_serves(gateway)


def test_a_slow_client_gets_the_whole_answer_and_the_next_one_its_own(gateway: RunningGateway) -> None:
    """The last byte of an answer may come while its client takes none: the upstream's connection must go on."""
    for size in range(2 * MEBIBYTE, 8 * MEBIBYTE, 5 * MEBIBYTE // 16):
        gateway.upstream.clear()
        gateway.upstream.script((OK + b"Content-Length: %d\r\n\r\n" % size, Flood(size)))
        with RawClient(gateway.port, receive_buffer_bytes=65536) as client:
            client.send(with_keys(gateway, get(b"/items")))
            wait_for_standstill(gateway)
            response = client.read()
        assert len(response.body) == size
        check_serves(gateway)


def test_an_answer_whose_end_meets_a_full_client_leaves_a_usable_upstream_connection(gateway: RunningGateway) -> None:
    with answered_and_not_taken(gateway):
        check_serves(gateway)


def test_an_upstream_that_does_not_read_stops_the_client(gateway: RunningGateway) -> None:
    gateway.upstream.script((Step.STOP_READING, Step.WAIT), early=True)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: %d" % (64 * MEBIBYTE))))
        gateway.upstream.wait_until(lambda: gateway.upstream.received_bytes > 0)
        taken = client.send_as_much_as_goes(b"x" * 65536)
        assert taken < 24 * MEBIBYTE
        held = gateway.call(
            lambda: sum(
                connection._transport.get_write_buffer_size()
                for connection in gateway.running.gateway.upstreams["rest"].pools[0]._open
            )
        )
        assert held < 2 * MEBIBYTE
        gateway.pass_time(gateway.settings.timeouts.response_head + 1)
        response = client.read()

    check_failed(response, 504, "upstream_timeout")
    check_serves(gateway)


def taken_by_the_kernel(gateway: RunningGateway) -> int:
    """Bytes of a body that leave the gateway though its upstream reads none."""
    pool = gateway.running.gateway.upstreams["rest"].pools[0]
    gateway.upstream.script((Step.STOP_READING, Step.WAIT), early=True)
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: %d" % (64 * MEBIBYTE))))
        gateway.upstream.wait_until(lambda: gateway.upstream.received_bytes > 0)
        client.send_as_much_as_goes(b"x" * 65536)
        read, waiting = gateway.call(
            lambda: (
                sum(c._body_bytes for c in gateway.running.gateway.services.connections),  # type: ignore[attr-defined]
                sum(c._transport.get_write_buffer_size() for c in pool._open),
            )
        )
        # Nobody reads from a client that is held back, so its end is not seen before the upstream's time is up.
        gateway.pass_time(gateway.settings.timeouts.response_head + 1)
        client.read_to_end()
    gateway.until(lambda: gateway.client_connections == 0)
    return int(read - waiting)


def test_an_early_answer_beside_a_body_that_still_waits_here_leaves_the_client_heard(gateway: RunningGateway) -> None:
    """The whole body is read, part of it waits for an upstream that reads nothing, and that one answers anyway."""
    pool = gateway.running.gateway.upstreams["rest"].pools[0]
    kernel = taken_by_the_kernel(gateway)
    waited = 0
    for beyond in range(-32 * 1024, 256 * 1024, 16 * 1024):
        gateway.upstream.reset_connections()
        gateway.settle()
        gateway.upstream.clear()
        gateway.upstream.script((Step.STOP_READING, Step.WAIT, answer(b"{}")), early=True)
        with RawClient(gateway.port) as client:
            client.send(with_keys(gateway, post(b"Content-Length: %d" % (kernel + beyond))))
            gateway.upstream.wait_until(lambda: gateway.upstream.received_bytes > 0)
            client.send(b"x" * (kernel + beyond))
            gateway.settle()
            waited += any(gateway.call(lambda: [c._transport.get_write_buffer_size() for c in pool._open]))
            gateway.upstream.go_on()
            response = client.read()
            assert response.status == 200
            # R12: what is not yet sent of one request would stand before the next one.
            waiting = gateway.call(lambda: [idle._transport.get_write_buffer_size() for idle in pool._idle])
            assert not any(waiting), f"{waiting} bytes of a request wait on an idle connection"
            if response.says_close:
                assert client.is_ended()
                continue
            client.send(get(b"/items", authorization=b""))
            assert client.read().status == 401, f"{beyond} bytes beyond what the kernel takes"
    assert waited, "nothing ever waited here: the test has shown nothing"


def test_a_body_of_many_mebibytes_arrives_whole_at_a_slow_upstream(gateway: RunningGateway) -> None:
    body = bytes(range(256)) * 4096 * 8
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Content-Length: %d" % len(body), body=body)))
        response = client.read()

    assert response.status == 200
    assert gateway.upstream.requests[0].body == body


def test_broken_answers_are_told_from_whole_ones_by_this_very_reader(gateway: RunningGateway) -> None:
    """The oracle itself: what breaks off is not read as an answer."""
    gateway.upstream.script((OK + b"Content-Length: 10\r\n\r\n{}", Step.CLOSE))

    with pytest.raises(BrokenAnswer):
        ask(gateway)
