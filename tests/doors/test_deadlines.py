"""A connection is let go in time, whatever the client sends in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.recording_upstream import Flood

MEBIBYTE = 1024 * 1024


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("deadlines")) as gateway:
        yield gateway


def post(gateway: RunningGateway, path: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"POST %b HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n" % (path, gateway.keys.a.line, lines)


def test_the_end_of_a_body_does_not_undo_the_deadline_of_an_answer_that_nobody_takes(own: RunningGateway) -> None:
    own.upstream.script(
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEBIBYTE), Flood(64 * MEBIBYTE)), early=True
    )
    with RawClient(own.port, receive_buffer_bytes=4096) as client:
        client.send(post(own, b"/items", b"Transfer-Encoding: chunked") + b"1\r\na\r\n")
        connections = own.running.gateway.services.connections
        own.until(lambda: any(each._write_paused for each in connections), "the pause")  # type: ignore[attr-defined]
        client.send(b"0\r\n\r\n")
        own.settle()

        own.pass_time(own.settings.timeouts.write_idle + 1)

        own.until(lambda: own.client_connections == 0 and own.in_flight == 0, "the end of it")


def test_the_rest_of_a_refused_body_in_the_same_packet_does_not_undo_the_deadline(own: RunningGateway) -> None:
    with RawClient(own.port) as client:
        head = post(own, b"/uploads", b"Transfer-Encoding: chunked")
        client.send(head + b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n")
        assert client.read().status == 413
        own.settle()

        own.pass_time(own.settings.timeouts.linger + 1)

        own.until(lambda: own.client_connections == 0, "the end of it")


def test_a_client_that_resets_while_its_upstream_is_connected_takes_no_place_in_the_pool(own: RunningGateway) -> None:
    request = b"GET /public HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
    pool = own.running.gateway.upstreams["rest"]
    for _ in range(300):
        client = RawClient(own.port)
        client.send(request)
        client.reset()

    own.until(lambda: own.client_connections == 0 and own.in_flight == 0, "the end of all")
    own.until(lambda: pool.open_count == pool.idle_count, "every place being free")


def test_many_small_chunks_in_one_packet_are_sent_on_as_one(own: RunningGateway) -> None:
    with RawClient(own.port) as client:
        client.send(post(own, b"/items", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n")
        assert client.read().status == 200

    (sent,) = own.upstream.settled().requests
    assert sent.body == b"x" * 500
    assert sent.raw.count(b"1\r\nx\r\n") < 250
