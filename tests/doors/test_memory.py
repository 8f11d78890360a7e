"""Memory that runs short: who is served stays served, nothing more is taken in, and it is over when memory is back.

What is resident is what a test says, so that the moment is its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.assembly.memory import HELD_SHARE, LOOK_SECONDS
from gateway.core.reasons import Reason, Verdict
from tests.doors.test_asgi import AsgiServer
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient, Response
from tests.support.recording_upstream import Step

MIB = 1024 * 1024
LIMIT_MIB = 64
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that holds nothing as yet."""
    with running_gateway(tmp_path, memory_limit=LIMIT_MIB) as gateway:
        holds(gateway, 0)
        yield gateway


def holds(gateway: RunningGateway, percent: float) -> None:
    """This much of the limit is resident, and the next look sees it."""
    guard = gateway.running.gateway.memory
    assert guard is not None
    guard._read = lambda: int(guard.limit_bytes * percent / 100)
    gateway.clock.advance(LOOK_SECONDS)
    gateway.call(guard.look_if_due)


def ask(gateway: RunningGateway) -> bytes:
    return b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + gateway.keys.a.line + b"\r\n"


def graphql_head(gateway: RunningGateway, framing: bytes) -> bytes:
    return (
        b"POST /gql HTTP/1.1\r\nHost: gateway.test\r\n%bContent-Type: application/json\r\n%b\r\n\r\n"
        % (gateway.keys.a.line, framing)
    )  # fmt: skip


def graphql(gateway: RunningGateway, *, padding: int = 0) -> bytes:
    body = json.dumps({"query": "{ item(id: 1) { name } }", "variables": {"x": "y" * padding}}).encode()
    return graphql_head(gateway, b"Content-Length: %d" % len(body)) + body


def served(client: RawClient, data: bytes) -> Response:
    client.send(data)
    return client.read()


def held(gateway: RunningGateway) -> int:
    return gateway.running.gateway.services.held_bytes


def test_new_connections_and_bodies_are_refused_and_who_is_connected_goes_on(own: RunningGateway) -> None:
    # R29
    with RawClient(own.port) as connected, RawClient(own.port) as graph:
        assert 200 == served(connected, ask(own)).status
        assert 200 == served(graph, graphql(own)).status
        holds(own, 85.1)

        with RawClient(own.port) as late:
            refused = served(late, ask(own))
            assert late.is_ended()
        assert (503, "overloaded", b"1") == (refused.status, refused.reason, refused.header(b"retry-after"))
        assert [200, 200] == [served(connected, ask(own)).status for _ in range(2)]
        refused = served(graph, graphql(own))
        assert (503, "overloaded", b"1") == (refused.status, refused.reason, refused.header(b"retry-after"))
        assert (Verdict.CANNOT_DECIDE, Reason.OVERLOADED) == (own.outcomes[-1].verdict, own.outcomes[-1].reason)
        assert "gql" == own.outcomes[-1].route
        assert own.metric("bearergate_memory_short") == 1

        holds(own, 80.1)
        assert own.metric("bearergate_memory_short") == 1
        holds(own, 79.9)

        assert own.metric("bearergate_memory_short") == 0
        assert 200 == served(connected, ask(own)).status
        with RawClient(own.port) as later:
            assert 200 == served(later, ask(own)).status
            assert 200 == served(later, graphql(own)).status
    assert 0 == held(own)


def test_a_body_that_was_begun_before_memory_ran_short_is_not_held_on_to(own: RunningGateway) -> None:
    # R29
    with RawClient(own.port) as client:
        client.send(graphql_head(own, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        own.until(lambda: held(own) == 5, "the beginning of the body")
        holds(own, 90)
        client.send(b"5\r\nhello\r\n")
        answer = client.read()

        assert (503, "overloaded", True) == (answer.status, answer.reason, answer.says_close)
        own.until(lambda: held(own) == 0, "the end of it")


def test_bodies_that_are_held_take_an_eighth_of_the_limit_at_most_between_two_looks(own: RunningGateway) -> None:
    # R29: a flood is faster than a look each second.
    room = LIMIT_MIB * MIB // HELD_SHARE
    piece = 1_000_000
    count = room // piece
    clients = [RawClient(own.port) for _ in range(count + 2)]
    try:
        for number, client in enumerate(clients[:count]):
            client.send(graphql_head(own, b"Content-Length: %d" % (piece + 1)) + b"x" * piece)
            own.until(lambda most=number: held(own) == (most + 1) * piece, "its body")  # type: ignore[misc]

        by_length = served(clients[count], graphql_head(own, b"Content-Length: %d" % piece))
        by_pieces = served(
            clients[count + 1],
            graphql_head(own, b"Transfer-Encoding: chunked") + b"%x\r\n%b" % (piece, b"x" * (room - held(own) + 1)),
        )

        assert [(503, "overloaded")] * 2 == [(each.status, each.reason) for each in (by_length, by_pieces)]
        assert own.metric("bearergate_held_body_bytes") == count * piece
        for client in clients:
            client.close()
        own.until(lambda: own.client_connections == 0, "the end of all")
        assert 0 == held(own)
    finally:
        for client in clients:
            client.close()


def test_a_body_counts_until_its_request_has_ended_however_it_ends(own: RunningGateway) -> None:
    # While the upstream has it, it is there once more, as what was sent.
    own.upstream.script((Step.WAIT, OK), (OK[:-1], Step.WAIT, Step.RESET), (Step.WAIT,))
    data = graphql(own, padding=1000)
    with RawClient(own.port) as client:
        client.send(data)
        own.until(lambda: len(own.upstream.settled().requests) == 1, "the request")
        assert held(own) > 1000
        own.upstream.go_on()
        assert 200 == client.read().status
        assert 0 == held(own)

        client.send(data)
        client.read_until(b"\r\n\r\n")
        assert held(own) > 1000
        own.upstream.go_on()
        own.until(lambda: own.in_flight == 0, "the end of a broken answer")
        assert 0 == held(own)
    client = RawClient(own.port)
    client.send(data)
    own.until(lambda: len(own.upstream.settled().requests) == 3, "the request")
    assert held(own) > 1000
    client.reset()
    own.until(lambda: own.in_flight == 0 or sweep(own), "the end of a request whose client left")
    assert 0 == held(own)


def sweep(gateway: RunningGateway) -> bool:
    gateway.pass_time(0.3)
    return False


def test_while_memory_is_short_idle_connections_make_room_for_others(own: RunningGateway) -> None:
    clients = [RawClient(own.port) for _ in range(5)]
    try:
        for client in clients:
            assert 200 == served(client, ask(own)).status
        holds(own, 90)
        own.pass_time(own.settings.timeouts.crowded_keep_alive + 0.1)
        own.until(lambda: own.client_connections == 0, "the end of the idle")

        with RawClient(own.port) as client:
            assert 200 == served(client, ask(own)).status
    finally:
        for client in clients:
            client.close()


def test_the_caches_let_go_of_the_half_at_each_look_while_memory_is_short(
    own: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R29
    monkeypatch.setattr("gateway.stores.cached.LEAST_ENTRIES", 4)
    for number in range(20):
        with RawClient(own.port) as client:
            token = b"e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48%02d" % number
            assert 401 == served(client, ask(own).replace(own.keys.a.token, token)).status
    keys = own.running.gateway.keys
    assert 20 == keys.unknown_count

    holds(own, 90)
    assert 10 == keys.unknown_count
    holds(own, 90)
    assert 5 == keys.unknown_count
    holds(own, 90)
    assert 4 == keys.unknown_count
    holds(own, 10)
    assert 4 == keys.unknown_count


def test_operators_are_told(own: RunningGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bearergate")
    gateway = own.running.gateway

    holds(own, 90)
    short = {check.name: check for check in gateway.readiness().checks}["memory"]
    holds(own, 91)
    holds(own, 20)

    assert (False, "57 of 64 MiB in use") == (short.is_good, short.detail)
    assert {check.name: check.is_good for check in gateway.readiness().checks}["memory"]
    assert [
        "memory is short, new connections and bodies are refused: 57 of 64 MiB in use",
        "memory is no longer short: 12 of 64 MiB in use",
    ] == [record.getMessage() for record in caplog.records if "memory" in record.getMessage()]
    assert own.metric("bearergate_memory_limit_bytes") == LIMIT_MIB * MIB


def test_memory_is_not_looked_at_where_nothing_limits_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path, memory_limit=0) as gateway, RawClient(gateway.port) as client:
        assert gateway.running.gateway.memory is None
        assert 200 == served(client, graphql(gateway)).status
        assert "bearergate_memory" not in gateway.scrape()


def test_bodies_through_the_asgi_door_are_counted_and_refused_likewise(own: RunningGateway) -> None:
    # R29
    server = AsgiServer(own.settings.model_copy(update={"access_log": "none"})).start()
    try:
        application = server.application._gateway
        assert application is not None
        guard = application.memory
        assert guard is not None
        guard._read = lambda: 0
        own.until(lambda: not guard.is_short and guard.resident_bytes == 0, "a look")
        own.upstream.script((Step.WAIT, OK))
        with RawClient(server.port) as client:
            client.send(graphql(own, padding=1000))
            own.until(lambda: len(own.upstream.settled().requests) == 1, "the request")
            assert application.services.held_bytes > 1000
            own.upstream.go_on()
            assert 200 == client.read().status
            own.until(lambda: application.services.held_bytes == 0, "the end of it")

            guard._read = lambda: guard.limit_bytes
            own.until(lambda: guard.is_short, "a look")
            assert 200 == served(client, ask(own)).status
            by_length = served(client, graphql(own))
        with RawClient(server.port) as client:
            by_pieces = served(client, graphql_head(own, b"Transfer-Encoding: chunked") + b"1\r\nx\r\n")

        assert [(503, "overloaded")] * 2 == [(each.status, each.reason) for each in (by_length, by_pieces)]
        own.until(lambda: application.services.held_bytes == 0, "the end of all")
    finally:
        server.stop()
