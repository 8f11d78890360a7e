"""Upstreams that fail behind a whole gateway: what its client is told, and what the upstreams have seen.

The clock stands still until a test moves it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import TimeoutSettings, UpstreamSettings
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import BrokenAnswer, RawClient, Response
from tests.support.recording_upstream import RecordingUpstream, Step
from tests.support.rows import request, with_keys

OK = b"HTTP/1.1 200 OK\r\n"
NO_BODY = (b"GET", b"HEAD", b"DELETE", b"OPTIONS")

Ready = Callable[..., tuple[RunningGateway, list[RecordingUpstream]]]


@pytest.fixture
def gateway_with(tmp_path: Path) -> Iterator[Ready]:
    """Starts a gateway with so many endpoints, its keys in memory."""
    with ExitStack() as stack:

        def make(
            count: int, *, also: dict[str, str] | None = None, **overrides: Any
        ) -> tuple[RunningGateway, list[RecordingUpstream]]:
            upstreams = [stack.enter_context(recording()) for _ in range(count)]
            urls = ",".join(f"http://127.0.0.1:{upstream.port}" for upstream in upstreams)
            gateway = stack.enter_context(
                running_gateway(
                    tmp_path, upstream=upstreams[0], **{"upstreams": {"rest": urls, **(also or {})}, **overrides}
                )
            )
            # The key is known from here on; the connections that this needed are not.
            for _ in upstreams:
                assert ask(gateway).status == 200
            for upstream in upstreams:
                upstream.reset_connections()
                upstream.clear()
            gateway.settle()
            return gateway, upstreams

        yield make


@contextmanager
def recording() -> Iterator[RecordingUpstream]:
    upstream = RecordingUpstream().start()
    try:
        yield upstream
    finally:
        upstream.stop()


def sent(gateway: RunningGateway, method: bytes) -> bytes:
    """A request of the key A with this method, with a body where the method has one."""
    framing, body = (b"", b"") if method in NO_BODY else (b"Content-Length: 3\r\n", b"abc")
    target = b"/items" if method in (b"GET", b"HEAD", b"POST") else b"/items/1"
    head = request(method + b" " + target + b" HTTP/1.1", framing, authorization=b"Authorization: Bearer <key:a>\r\n")
    return with_keys(gateway, head + body)


def ask(gateway: RunningGateway, method: bytes = b"GET") -> Response:
    """One request on a connection of its own."""
    with RawClient(gateway.port) as client:
        client.send(sent(gateway, method))
        return client.read(method)


def seen(upstreams: list[RecordingUpstream]) -> int:
    """How many requests have reached any of them."""
    return sum(len(upstream.settled().requests) for upstream in upstreams)


# -- nobody there


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_any_request_goes_to_another_endpoint_while_nothing_was_sent(gateway_with: Ready, method: bytes) -> None:
    # R8
    gateway, upstreams = gateway_with(2, upstream_defaults=UpstreamSettings(eject_after=0))
    upstreams[0].stop()

    answers = [ask(gateway, method).status for _ in range(4)]

    assert [200] * 4 == answers
    assert 4 == seen(upstreams[1:])
    assert gateway.metric("bearergate_upstream_retries_total", result="made") >= 1


def test_nobody_at_all_is_502_after_two_connects(gateway_with: Ready) -> None:
    # R8
    gateway, upstreams = gateway_with(3)
    before = gateway.metric("bearergate_upstream_connects_total", result="failed")
    for upstream in upstreams:
        upstream.stop()

    answer = ask(gateway, b"POST")

    assert (502, "upstream_unreachable") == (answer.status, answer.reason)
    assert 2 == gateway.metric("bearergate_upstream_connects_total", result="failed") - before


def test_a_peer_without_tls_is_502_and_its_reason_is_for_operators_alone(gateway_with: Ready) -> None:
    # R31
    def greet() -> None:
        with plain.accept()[0] as accepted:
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as plain:
        greeter = threading.Thread(target=greet)
        greeter.start()
        policy = POLICY + "  - {name: tls, match: GET /tls, upstream: tls, allow: anyone}\n"
        gateway, _ = gateway_with(1, policy=policy, also={"tls": f"https://127.0.0.1:{plain.getsockname()[1]}"})
        with RawClient(gateway.port) as client:
            client.send(request(b"GET /tls HTTP/1.1", authorization=b""))
            answer = client.read()

        assert (502, "upstream_unreachable") == (answer.status, answer.reason)
        assert b"TLS" not in answer.body
        assert "does the endpoint speak TLS" in gateway.outcomes[-1].detail
        greeter.join()


# -- closed before the answer


def prepare_stale(gateway: RunningGateway, upstreams: list[RecordingUpstream]) -> None:
    """Every endpoint has one kept connection, and will close it on the next request."""
    for _ in upstreams:
        assert ask(gateway).status == 200
    for upstream in upstreams:
        upstream.settled().clear()
        upstream.script((Step.CLOSE,))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_safe_request_on_a_kept_connection_goes_once_more(gateway_with: Ready, method: bytes, count: int) -> None:
    # R9
    gateway, upstreams = gateway_with(count)
    prepare_stale(gateway, upstreams[:1])
    if count == 2:
        # The other one has no connection, and so none that is stale.
        upstreams[1].reset_connections()

    answer = ask(gateway, method)

    assert 200 == answer.status
    assert 2 >= seen(upstreams) >= 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_a_mutation_is_never_sent_twice(gateway_with: Ready, method: bytes, count: int) -> None:
    # R9
    gateway, upstreams = gateway_with(count)
    prepare_stale(gateway, upstreams)

    answer = ask(gateway, method)

    assert (502, "upstream_closed") == (answer.status, answer.reason)
    assert 1 == seen(upstreams)
    assert 0 == gateway.metric("bearergate_upstream_retries_total", result="made")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("step", [Step.CLOSE, Step.RESET])
def test_nothing_goes_once_more_after_a_new_connection_broke(gateway_with: Ready, method: bytes, step: Step) -> None:
    # R9
    gateway, upstreams = gateway_with(2)
    for upstream in upstreams:
        upstream.script((step,))

    answer = ask(gateway, method)

    assert (502, "upstream_closed") == (answer.status, answer.reason)
    assert 1 == seen(upstreams)


def test_a_request_goes_at_most_twice(gateway_with: Ready) -> None:
    # R9
    gateway, (upstream,) = gateway_with(1)
    prepare_stale(gateway, [upstream])
    upstream.script((Step.CLOSE,), (Step.CLOSE,), (Step.CLOSE,))

    answer = ask(gateway)

    assert (502, "upstream_closed") == (answer.status, answer.reason)
    assert 2 == seen([upstream])


def test_without_a_budget_a_safe_request_goes_once(gateway_with: Ready) -> None:
    gateway, (upstream,) = gateway_with(1, upstream_defaults=UpstreamSettings(retry_percent=0))
    prepare_stale(gateway, [upstream])

    assert "upstream_closed" == ask(gateway).reason
    assert 1 == seen([upstream])
    assert 1 == gateway.metric("bearergate_upstream_retries_total", result="over_budget")


# -- broken off, hanging, early


@pytest.mark.parametrize(
    "answer",
    [(OK + b"Content-Length: 10\r\n\r\nhello",), (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",)],
)
@pytest.mark.parametrize("step", [Step.CLOSE, Step.RESET])
def test_an_answer_that_breaks_off_is_not_tried_elsewhere(gateway_with: Ready, answer: Any, step: Step) -> None:
    # R10
    gateway, upstreams = gateway_with(2)
    for upstream in upstreams:
        upstream.script((*answer, step))

    with pytest.raises(BrokenAnswer):
        ask(gateway)

    assert 1 == seen(upstreams)
    gateway.until(lambda: gateway.metric("bearergate_upstream_failures_total", reason="upstream_truncated") == 1)


def test_an_endpoint_that_hangs_is_504_and_then_left_out(gateway_with: Ready) -> None:
    # K15, R11
    gateway, upstreams = gateway_with(2, upstream_defaults=UpstreamSettings(eject_after=2))
    upstreams[0].script((Step.WAIT,), (Step.WAIT,), (Step.WAIT,))
    upstreams[1].script((Step.WAIT,), (Step.WAIT,))
    clients = [RawClient(gateway.port) for _ in range(4)]
    for client in clients:
        client.send(sent(gateway, b"GET"))
    gateway.until(lambda: seen(upstreams) == 4)

    gateway.pass_time(gateway.settings.timeouts.response_head + 1)

    assert {(504, "upstream_timeout")} == {(answer.status, answer.reason) for answer in (c.read() for c in clients)}
    for client in clients:
        client.close()
    gateway.until(lambda: sum(upstream.open_count for upstream in upstreams) == 0, "the end of their connections")
    assert 2 == gateway.metric("bearergate_upstream_ejections_total")
    assert (0, 2) == tuple(gateway.metric("bearergate_upstream_endpoints", state=state) for state in ("in", "out"))
    # Both are left out, so both are used, and the one that answers is back.
    upstreams[0].clear()
    upstreams[1].clear()
    assert [200, 200] == [ask(gateway).status for _ in range(2)]
    assert 0 == gateway.in_flight


def test_the_whole_of_a_request_has_a_deadline_of_its_own(gateway_with: Ready) -> None:
    # R38: shorter than what each part may take.
    gateway, (upstream,) = gateway_with(1, timeouts=TimeoutSettings(request=4.0))
    upstream.script((OK + b"Content-Length: 100\r\n\r\nhello", Step.WAIT, b"hello", Step.WAIT))
    with RawClient(gateway.port) as client:
        client.send(sent(gateway, b"GET"))
        assert client.read_until(b"hello")
        gateway.pass_time(3.0)
        upstream.go_on()
        assert client.read_until(b"hello")
        gateway.pass_time(1.5)
        with pytest.raises(BrokenAnswer):
            client.read_until(b"hello")


# -- the time-outs of a route


TIMED = POLICY.replace("match: GET /items,", "match: GET /items, timeout: 4,").replace(
    'match: "GET /items/{id}",', 'match: "GET /items/{id}", timeout: {response_head: 2, response_idle: 3},'
)
assert TIMED.count("timeout:") == 2


def asking(gateway: RunningGateway, target: bytes, method: bytes = b"GET", framing: bytes = b"") -> RawClient:
    """A client whose request for `target` has been sent."""
    client = RawClient(gateway.port)
    head = request(b"%b %b HTTP/1.1" % (method, target), framing, authorization=b"Authorization: Bearer <key:a>\r\n")
    client.send(with_keys(gateway, head))
    return client


def test_a_route_with_a_time_out_ends_its_requests_and_no_others(gateway_with: Ready) -> None:
    # R38
    gateway, (upstream,) = gateway_with(1, policy=TIMED)
    upstream.script((Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok"), (Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok"))
    with asking(gateway, b"/items") as timed, asking(gateway, b"/public") as other:
        gateway.until(lambda: seen([upstream]) == 2)
        gateway.pass_time(3.9)
        assert 2 == gateway.in_flight
        gateway.pass_time(0.2)
        answer = timed.read()

        assert (504, "upstream_timeout") == (answer.status, answer.reason)
        gateway.pass_time(5.0)
        upstream.go_on()
        assert 200 == other.read().status


def test_an_answer_of_a_route_with_a_time_out_breaks_off_whatever_bytes_come(gateway_with: Ready) -> None:
    # R38
    gateway, (upstream,) = gateway_with(1, policy=TIMED)
    upstream.script((OK + b"Content-Length: 100\r\n\r\nhello", Step.WAIT, b"hello", Step.WAIT))
    with asking(gateway, b"/items") as client:
        assert client.read_until(b"hello")
        gateway.pass_time(3.0)
        upstream.go_on()
        assert client.read_until(b"hello")
        gateway.pass_time(1.5)
        with pytest.raises(BrokenAnswer):
            client.read_until(b"hello")


def test_a_route_can_wait_less_for_an_answer_to_begin_and_to_go_on(gateway_with: Ready) -> None:
    # R38
    gateway, (upstream,) = gateway_with(1, policy=TIMED)
    upstream.script((Step.WAIT,), (OK + b"Content-Length: 100\r\n\r\nhello", Step.WAIT, b"hello", Step.WAIT))
    with asking(gateway, b"/items/1") as client:
        gateway.until(lambda: seen([upstream]) == 1)
        gateway.pass_time(2.1)
        assert 504 == client.read().status

    with asking(gateway, b"/items/2") as client:
        assert client.read_until(b"hello")
        gateway.pass_time(2.9)
        upstream.go_on()
        assert client.read_until(b"hello")
        gateway.pass_time(2.9)
        assert 1 == gateway.in_flight
        gateway.pass_time(0.2)
        with pytest.raises(BrokenAnswer):
            client.read_until(b"hello")


def test_what_one_route_allows_is_forgotten_when_another_uses_the_connection(gateway_with: Ready) -> None:
    gateway, (upstream,) = gateway_with(1, policy=TIMED)
    upstream.script(OK + b"Content-Length: 2\r\n\r\nok", (Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok"))
    with asking(gateway, b"/items") as client:
        assert 200 == client.read().status
    with asking(gateway, b"/public") as client:
        gateway.until(lambda: seen([upstream]) == 2)
        gateway.pass_time(10.0)
        upstream.go_on()

        assert 200 == client.read().status
        assert 1 == len(upstream.connections)


def test_the_time_out_of_a_request_covers_both_of_its_attempts(gateway_with: Ready) -> None:
    # R38: the second attempt has what the first one left of it.
    gateway, (upstream,) = gateway_with(1, policy=TIMED)
    assert 200 == ask(gateway).status
    upstream.script((Step.WAIT, Step.RESET), (Step.WAIT,))
    with asking(gateway, b"/items") as client:
        gateway.until(lambda: seen([upstream]) == 2)
        gateway.pass_time(3.0)
        upstream.go_on()
        gateway.until(lambda: seen([upstream]) == 3)
        gateway.pass_time(1.5)
        answer = client.read()

    assert (504, "upstream_timeout") == (answer.status, answer.reason)


def test_a_client_that_is_still_sending_when_the_time_is_over_is_408_and_the_endpoint_stays(
    gateway_with: Ready,
) -> None:
    policy = POLICY.replace("match: POST /items,", "match: POST /items, timeout: 4,")
    gateway, _ = gateway_with(2, policy=policy, upstream_defaults=UpstreamSettings(eject_after=1))
    with asking(gateway, b"/items", b"POST", b"Content-Length: 10\r\n") as client:
        gateway.until(lambda: gateway.in_flight == 1)
        gateway.settle()
        gateway.pass_time(4.1)
        answer = client.read()

    assert (408, "body_timeout", True) == (answer.status, answer.reason, answer.says_close)
    assert 0 == gateway.metric("bearergate_upstream_ejections_total")
    assert ["refused"] == [outcome.verdict.value for outcome in gateway.outcomes[-1:]]


def test_who_waits_in_line_waits_no_longer_than_its_route_allows(gateway_with: Ready) -> None:
    # R38: the wait for a connection is a part of the request. It is not measured by the clock that the test moves.
    policy = POLICY.replace("match: GET /items,", "match: GET /items, timeout: 0.2,")
    gateway, (upstream,) = gateway_with(
        1, policy=policy, upstream_max_connections=1, upstream_defaults=UpstreamSettings(queue_timeout=60.0)
    )
    upstream.script((Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok"))
    with asking(gateway, b"/public") as busy:
        gateway.until(lambda: seen([upstream]) == 1)
        with asking(gateway, b"/items") as waiting:
            answer = waiting.read()
        upstream.go_on()

        assert (504, "upstream_timeout") == (answer.status, answer.reason)
        assert 200 == busy.read().status
        assert 0 == gateway.metric("bearergate_upstream_queue")


def test_an_early_answer_costs_the_connection_and_not_the_endpoint(gateway_with: Ready) -> None:
    # R12
    gateway, (upstream, _) = gateway_with(2, upstream_defaults=UpstreamSettings(eject_after=1))
    upstream.script((b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",), early=True)
    head = request(
        b"POST /items HTTP/1.1", b"Content-Length: 1000\r\n", authorization=b"Authorization: Bearer <key:a>\r\n"
    )
    statuses = []
    for _ in range(2):
        with RawClient(gateway.port) as client:
            client.send(with_keys(gateway, head))
            gateway.settle()
            client.send(b"x" * 1000)
            statuses.append(client.read().status)

    assert {413, 200} == set(statuses)
    assert 0 == gateway.metric("bearergate_upstream_ejections_total")


# -- the line


def test_a_burst_waits_in_line_and_is_served(gateway_with: Ready) -> None:
    # K14
    gateway, (upstream,) = gateway_with(1, upstream_max_connections=2)
    upstream.script(*[(Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok")] * 2)
    clients = [RawClient(gateway.port) for _ in range(12)]
    for client in clients:
        client.send(sent(gateway, b"POST"))
    gateway.until(lambda: gateway.metric("bearergate_upstream_queue") == 10)
    assert 2 == upstream.open_count

    upstream.go_on()

    assert {200} == {client.read().status for client in clients}
    assert 2 == upstream.open_count
    for client in clients:
        client.close()
    assert 12 == seen([upstream])


def test_who_finds_the_line_full_is_503_at_once_and_who_waits_too_long_a_second_later(gateway_with: Ready) -> None:
    gateway, (upstream,) = gateway_with(
        1, upstream_max_connections=1, upstream_options={"rest": UpstreamSettings(queue=1)}
    )
    upstream.script((Step.WAIT,))
    with RawClient(gateway.port) as held, RawClient(gateway.port) as waits:
        held.send(sent(gateway, b"GET"))
        gateway.until(lambda: seen([upstream]) == 1)
        waits.send(sent(gateway, b"GET"))
        gateway.until(lambda: gateway.metric("bearergate_upstream_queue") == 1)
        refused = ask(gateway)
        gateway.pass_time(1.1)
        too_late = waits.read()

    for answer in (refused, too_late):
        assert (503, "overloaded", b"1") == (answer.status, answer.reason, answer.header(b"retry-after"))
    assert 2 == gateway.metric("bearergate_upstream_queue_refusals_total")


def test_a_client_that_leaves_gives_up_its_place_in_the_line(gateway_with: Ready) -> None:
    # R39
    gateway, (upstream,) = gateway_with(1, upstream_max_connections=1)
    upstream.script((Step.WAIT, OK + b"Content-Length: 2\r\n\r\nok"))
    with RawClient(gateway.port) as held:
        held.send(sent(gateway, b"GET"))
        gateway.until(lambda: seen([upstream]) == 1)
        leaving = [RawClient(gateway.port) for _ in range(20)]
        for client in leaving:
            client.send(sent(gateway, b"GET"))
        gateway.until(lambda: gateway.metric("bearergate_upstream_queue") == 20)
        for client in leaving:
            client.reset()
        gateway.until(lambda: gateway.metric("bearergate_upstream_queue") == 0)
        upstream.go_on()
        assert 200 == held.read().status

    gateway.until(lambda: gateway.in_flight == 0)
    assert 1 == seen([upstream])
    assert 200 == ask(gateway).status


def test_a_storm_of_clients_that_leave_leaves_nothing_behind(gateway_with: Ready) -> None:
    # R39
    gateway, _ = gateway_with(2, upstream_max_connections=3)
    for round_ in range(15):
        clients = [RawClient(gateway.port) for _ in range(20)]
        for client in clients:
            client.send(sent(gateway, b"POST" if round_ % 2 else b"GET"))
        for client in clients:
            client.reset()

    gateway.until(lambda: gateway.client_connections == 0 and gateway.in_flight == 0, "the end of all")
    pools = gateway.running.gateway.upstreams["rest"].pools
    gateway.until(lambda: all(gateway.call(lambda: [pool.load() == 0 for pool in pools])), "free places")
    assert [200] * 6 == [ask(gateway).status for _ in range(6)]


def test_a_name_that_no_upstream_has_is_no_option(tmp_path: Path) -> None:
    from gateway.assembly import CannotStart

    with (
        pytest.raises(CannotStart, match="upstream_options: there is no upstream `rset`"),
        running_gateway(tmp_path, upstream_options={"rset": UpstreamSettings()}),
    ):
        pass
