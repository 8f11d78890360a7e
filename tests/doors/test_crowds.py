"""Many clients, slow clients and clients that are gone: places are bounded, and who is served stays served."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.reasons import Reason, Verdict
from gateway.settings import TimeoutSettings
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.recording_upstream import Step

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("crowds"), max_connections=10) as gateway:
        yield gateway


def ask(gateway: RunningGateway, *, path: bytes = b"/items", method: bytes = b"GET", fields: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n" % (method, path, gateway.keys.a.line, fields)


def served(gateway: RunningGateway, client: RawClient) -> int:
    client.send(ask(gateway))
    return client.read().status


def test_as_many_as_there_are_places_are_served_and_the_next_is_told_to_come_back(own: RunningGateway) -> None:
    # K4, R21
    clients = [RawClient(own.port) for _ in range(11)]
    try:
        own.until(lambda: own.client_connections == 11, "the connections")
        for client in clients[:10]:
            assert served(own, client) == 200
        clients[10].send(ask(own))
        turned_away = clients[10].read()

        assert (turned_away.status, turned_away.reason, turned_away.says_close) == (503, "overloaded", True)
        assert turned_away.header(b"retry-after") == b"1"
        assert clients[10].is_ended()
        assert len(own.upstream.settled().requests) == 10
        # Who had a place goes on as if nothing had been.
        assert served(own, clients[0]) == 200

        clients[1].close()
        own.until(lambda: own.client_connections == 9, "the free place")
        with RawClient(own.port) as next_one:
            assert served(own, next_one) == 200
    finally:
        for client in clients:
            client.close()


def test_far_beyond_its_places_a_gateway_only_closes(own: RunningGateway) -> None:
    clients = [RawClient(own.port) for _ in range(40)]
    try:
        own.until(lambda: own.client_connections <= 27, "the closing")
        assert served(own, clients[0]) == 200
        assert clients[39].is_ended()
    finally:
        for client in clients:
            client.close()


def test_who_is_turned_away_and_says_nothing_is_let_go_soon(own: RunningGateway) -> None:
    clients = [RawClient(own.port) for _ in range(11)]
    try:
        own.until(lambda: own.client_connections == 11, "the connections")
        for client in clients[:10]:
            client.send(b"G")
        own.settle()
        own.pass_time(own.settings.timeouts.linger + 0.1)

        own.until(lambda: own.client_connections == 10, "the end of the last")
        clients[0].send(ask(own)[1:])
        assert clients[0].read().status == 200
    finally:
        for client in clients:
            client.close()


def test_where_places_are_few_the_idle_make_room_and_the_busy_stay(own: RunningGateway) -> None:
    own.upstream.script((Step.WAIT, OK))
    clients = [RawClient(own.port) for _ in range(9)]
    try:
        clients[0].send(ask(own))
        own.until(lambda: own.in_flight == 1, "the request")
        for client in clients[1:]:
            assert served(own, client) == 200

        own.pass_time(own.settings.timeouts.crowded_keep_alive + 0.1)

        own.until(lambda: own.client_connections <= 8, "room")
        assert own.in_flight == 1
        own.upstream.go_on()
        assert clients[0].read().status == 200
    finally:
        for client in clients:
            client.close()


def test_who_has_not_taken_its_answer_yet_is_not_idle(tmp_path: Path) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n" + b"x" * 65000
    with running_gateway(tmp_path, max_connections=1) as gateway:
        gateway.upstream.script(*[large] * 1000)
        connections = gateway.running.gateway.services.connections
        with RawClient(gateway.port, receive_buffer_bytes=4096) as client:
            count = 0
            while not any(each._write_paused for each in connections):  # type: ignore[attr-defined]
                client.send(ask(gateway))
                count += 1
                gateway.until(lambda: len(gateway.outcomes) == count, "the answer")  # noqa: B023
            gateway.pass_time(gateway.settings.timeouts.crowded_keep_alive + 0.1)

            assert [65000] * count == [len(client.read().body) for _ in range(count)]


def test_one_address_takes_no_more_places_than_it_may(tmp_path: Path) -> None:
    with running_gateway(tmp_path, max_connections_per_peer=2) as gateway:
        clients = [RawClient(gateway.port) for _ in range(3)]
        try:
            gateway.until(lambda: gateway.client_connections == 3, "the connections")
            assert [served(gateway, client) for client in clients] == [200, 200, 503]
            for client in clients:
                client.close()
            gateway.until(lambda: gateway.client_connections == 0, "the end")

            assert gateway.running.gateway.services.peers == {}
        finally:
            for client in clients:
                client.close()


# -- slow bodies


def test_a_byte_now_and_then_is_no_body(own: RunningGateway) -> None:
    # K2
    with RawClient(own.port) as client:
        client.send(ask(own, method=b"POST", fields=b"Content-Length: 100000\r\n"))
        own.until(lambda: own.in_flight == 1, "the request")
        for number in range(4):
            client.send(b"x")
            own.until(lambda count=number: received(own) > count, "the byte")  # type: ignore[misc]
            own.pass_time(own.settings.timeouts.body_idle / 3)
        answer = client.read()

    assert (answer.status, answer.reason) == (408, "body_timeout")
    own.until(lambda: own.in_flight == 0, "the end")


def test_a_body_at_the_slowest_rate_is_taken_however_long_it_takes(own: RunningGateway) -> None:
    rate = int(own.settings.timeouts.body_rate)
    with RawClient(own.port) as client:
        client.send(ask(own, method=b"POST", fields=b"Content-Length: %d\r\n" % (60 * rate)))
        own.until(lambda: own.in_flight == 1, "the request")
        for second in range(60):
            client.send(b"x" * rate)
            own.until(lambda seconds=second: received(own) >= (seconds + 1) * rate, "its bytes")  # type: ignore[misc]
            own.pass_time(1.0)

        assert client.read().status == 200


def received(gateway: RunningGateway) -> int:
    """Body bytes of the one request under way that have reached the gateway."""
    return max((each._body_bytes for each in gateway.running.gateway.services.connections), default=0)  # type: ignore[attr-defined]


def test_any_rate_will_do_where_the_operator_says_so(tmp_path: Path) -> None:
    with (
        running_gateway(tmp_path, timeouts=TimeoutSettings(body_rate=0.0)) as gateway,
        RawClient(gateway.port) as client,
    ):
        client.send(ask(gateway, method=b"POST", fields=b"Content-Length: 9\r\n"))
        gateway.until(lambda: gateway.in_flight == 1, "the request")
        for number in range(9):
            client.send(b"x")
            gateway.until(lambda count=number: received(gateway) > count, "the byte")  # type: ignore[misc]
            gateway.pass_time(gateway.settings.timeouts.body_idle - 1)

        assert client.read().status == 200


# -- clients that are gone


def test_a_client_that_left_while_it_waited_is_noticed_and_its_upstream_let_go(own: RunningGateway) -> None:
    # R13
    own.upstream.script((Step.WAIT, OK))
    client = RawClient(own.port)
    client.send(ask(own))
    own.until(lambda: len(own.upstream.settled().requests) == 1, "the request")

    client.close()
    for _ in range(3):
        own.settle()
        own.pass_time(0.3)

    own.until(lambda: own.in_flight == 0, "the end of the request")
    own.until(lambda: not own.upstream.connections[0].is_open, "the end of the upstream's connection")
    assert [outcome.verdict for outcome in own.outcomes] == [Verdict.CLIENT_GONE]


def test_a_client_that_said_all_it_had_to_say_gets_its_answer_however_late(own: RunningGateway) -> None:
    own.upstream.script((Step.WAIT, OK))
    with RawClient(own.port) as client:
        client.send(ask(own))
        own.until(lambda: len(own.upstream.settled().requests) == 1, "the request")
        client.finish()
        own.settle()
        own.pass_time(0.3)
        own.pass_time(0.3)
        own.upstream.go_on()

        answer = client.read_to_end()

    assert answer.startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"ok")


def test_a_client_that_said_all_it_had_to_say_is_not_asked_when_its_answer_is_there(own: RunningGateway) -> None:
    with RawClient(own.port) as client:
        client.send(ask(own))
        client.finish()

        assert client.read_to_end().startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_reset_is_noticed_while_nothing_is_read_from_the_client(own: RunningGateway) -> None:
    # R13: the upstream takes no more of the body, so the client's socket is not read.
    own.upstream.script((Step.STOP_READING, Step.WAIT, OK), early=True)
    client = RawClient(own.port)
    client.send(ask(own, method=b"POST", fields=b"Transfer-Encoding: chunked\r\n"))
    client.send_as_much_as_goes(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    own.until(lambda: any(not each._reads for each in own.running.gateway.services.connections), "the pause")  # type: ignore[attr-defined]

    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    own.pass_time(0.3)

    own.until(lambda: own.in_flight == 0, "the end of the request")
    assert [outcome.verdict for outcome in own.outcomes] == [Verdict.CLIENT_GONE]


def test_a_thousand_clients_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    # R13, R39
    with running_gateway(tmp_path) as gateway:
        for _ in range(1000):
            client = RawClient(gateway.port)
            client.send(ask(gateway))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        gateway.until(lambda: gateway.in_flight == 0 and gateway.client_connections == 0, "the end of all")
        with RawClient(gateway.port) as client:
            assert served(gateway, client) == 200
        assert gateway.metric("bearergate_requests_in_flight") == 0
        assert {outcome.reason for outcome in gateway.outcomes} <= {None, Reason.HEAD_TIMEOUT}


def test_a_client_that_has_said_all_gets_every_answer_also_behind_a_refusal(own: RunningGateway) -> None:
    refused = b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
    with RawClient(own.port) as client:
        client.send(ask(own) + refused + ask(own))
        client.finish()

        assert [client.read().status for _ in range(3)] == [200, 401, 200]
        assert client.is_ended()
