"""Hosts and CORS through the ASGI door: the same answers as through the proxy door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doors.test_asgi import AsgiServer, seen_through
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import exchange
from tests.support.recording_upstream import answer

POLICY_OF_PAGES = POLICY.replace(
    "errors: problem\n", "hosts: [gateway.test]\ncors: {origins: [https://app.test], credentials: true}\n"
)
ORIGIN = b"Origin: https://app.test\r\n"
ASKS = b"Access-Control-Request-Method: PUT\r\n"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, AsgiServer]]:
    folder = tmp_path_factory.mktemp("asgi-cors")
    with running_gateway(folder, policy=POLICY_OF_PAGES) as gateway:
        server = AsgiServer(gateway.settings.model_copy(update={"access_log": str(folder / "asgi.log")})).start()
        yield gateway, server
        server.stop()


def request(line: bytes, *fields: bytes, host: bytes = b"gateway.test") -> bytes:
    return line + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + b"".join(fields) + b"\r\n"


SENT = {
    "preflight": (b"OPTIONS", request(b"OPTIONS /items/1", ORIGIN, ASKS)),
    "preflight of another": (b"OPTIONS", request(b"OPTIONS /items/1", b"Origin: https://evil.test\r\n", ASKS)),
    "answer": (b"GET", request(b"GET /public", ORIGIN)),
    "answer to another": (b"GET", request(b"GET /public", b"Origin: https://evil.test\r\n")),
    "refusal": (b"GET", request(b"GET /items", ORIGIN)),
    "host": (b"GET", request(b"GET /public", host=b"evil.test")),
}


@pytest.mark.parametrize("name", SENT)
def test_both_doors_give_the_same_answer(both: tuple[RunningGateway, AsgiServer], name: str) -> None:
    gateway, server = both
    method, data = SENT[name]

    by_proxy = seen_through(gateway.port, gateway, method, data)
    by_asgi = seen_through(server.port, gateway, method, data)

    assert by_proxy == by_asgi


@pytest.mark.parametrize(
    ("name", "status", "origin"),
    [
        ("preflight", 204, [b"https://app.test"]),
        ("preflight of another", 403, []),
        ("answer", 200, [b"https://app.test"]),
        ("answer to another", 200, []),
        ("refusal", 401, [b"https://app.test"]),
        ("host", 421, []),
    ],
)
def test_the_asgi_door_writes_the_lines_itself(
    both: tuple[RunningGateway, AsgiServer], name: str, status: int, origin: list[bytes]
) -> None:
    method, data = SENT[name]

    response = exchange(both[1].port, data, method=method)

    assert response.status == status
    assert response.values(b"access-control-allow-origin") == origin


def test_an_upstream_has_no_say_through_either_door(both: tuple[RunningGateway, AsgiServer]) -> None:
    gateway, server = both
    for port in (gateway.port, server.port):
        gateway.upstream.script(answer(fields=((b"Access-Control-Allow-Origin", b"*"),)))

        response = exchange(port, SENT["answer to another"][1])

        assert response.status == 200
        assert response.values(b"access-control-allow-origin") == []


def test_the_asgi_door_opens_no_websocket(both: tuple[RunningGateway, AsgiServer]) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"

    response = exchange(both[1].port, request(b"GET /public", upgrade))

    assert response.status == 403
