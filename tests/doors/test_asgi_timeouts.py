"""The time-outs of a route through the ASGI door, by the machine's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import UpstreamSettings
from tests.doors.test_asgi import AsgiServer, request
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.recording_upstream import Step

TIMED = POLICY.replace("match: GET /items,", "match: GET /items, timeout: 0.3,").replace(
    "match: POST /items,", "match: POST /items, timeout: 0.3,"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[tuple[RunningGateway, AsgiServer]]:
    """The ASGI door with one connection to its upstream, and the gateway whose keys and upstream it uses."""
    with running_gateway(tmp_path, policy=TIMED) as gateway:
        server = AsgiServer(
            gateway.settings.model_copy(
                update={
                    "access_log": "none",
                    "upstream_max_connections": 1,
                    "upstream_defaults": UpstreamSettings(queue_timeout=30.0),
                }
            )
        ).start()
        yield gateway, server
        server.stop()


def test_a_route_with_a_time_out_ends_its_requests(timed: tuple[RunningGateway, AsgiServer]) -> None:
    # R38
    gateway, server = timed
    gateway.upstream.script((Step.WAIT,))
    with RawClient(server.port) as client:
        client.send(request(b"GET /items", gateway.keys.a.line))

        answer = client.read()

    assert (504, "upstream_timeout") == (answer.status, answer.reason)


def test_who_waits_in_line_waits_no_longer_than_its_route_allows(timed: tuple[RunningGateway, AsgiServer]) -> None:
    # R38
    gateway, server = timed
    gateway.upstream.script((Step.WAIT, OK))
    with RawClient(server.port) as busy, RawClient(server.port) as waiting:
        busy.send(request(b"GET /public"))
        gateway.until(lambda: len(gateway.upstream.settled().requests) == 1, "the request")
        waiting.send(request(b"GET /items", gateway.keys.a.line))
        answer = waiting.read()
        gateway.upstream.go_on()

        assert (504, "upstream_timeout") == (answer.status, answer.reason)
        assert 200 == busy.read().status


def test_a_client_that_is_still_sending_when_the_time_is_over_is_408(
    timed: tuple[RunningGateway, AsgiServer],
) -> None:
    gateway, server = timed
    with RawClient(server.port) as client:
        client.send(request(b"POST /items", gateway.keys.a.line, b"Content-Length: 10\r\n"))
        answer = client.read()

    assert (408, "body_timeout") == (answer.status, answer.reason)
