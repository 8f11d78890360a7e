"""The ASGI door under a real server: the same scenarios as through the proxy door give the same judgement, the same
upstream request and the same answer; and what only an ASGI server can do wrong is met.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gateway.assembly import CannotStart
from gateway.assembly.asgi import AsgiApplication
from gateway.doors.asgi import AsgiDoor
from gateway.settings import Settings
from tests.support.gateway import POLICY, SAFETY_SECONDS, Key, RunningGateway, running_gateway
from tests.support.raw import BrokenAnswer, Response, connected, exchange
from tests.support.recording_upstream import Step

HOST = b"Host: gateway.test\r\n"


class AsgiServer:
    """uvicorn with its own HTTP reader in a thread, running `AsgiApplication` over the store of another gateway."""

    def __init__(self, settings: Settings) -> None:
        self.application = AsgiApplication(settings)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.application,
                port=0,
                http="httptools",
                ws="none",
                log_config=None,
                lifespan="on",
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()

    def start(self) -> AsgiServer:
        self._thread.start()
        while not self._server.started:
            assert not self._ended.wait(0.01), "the server did not start"
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        assert self._ended.wait(SAFETY_SECONDS)

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve())
        finally:
            self._ended.set()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, AsgiServer]]:
    """A gateway with the proxy door, and the ASGI door on the same policy, store and upstream."""
    folder = tmp_path_factory.mktemp("asgi")
    with running_gateway(folder) as gateway:
        settings = gateway.settings.model_copy(update={"access_log": str(folder / "asgi.log")})
        server = AsgiServer(settings).start()
        yield gateway, server
        server.stop()


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"%b HTTP/1.1\r\n%b%b\r\n%b" % (line, HOST, b"".join(fields), body)


def graphql(key: Key, document: str, **members: Any) -> bytes:
    body = json.dumps({"query": document, **members}).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    return request(b"POST /gql", key.line, b"Content-Type: application/json\r\n", length, body=body)


def scenarios(gateway: RunningGateway) -> dict[str, tuple[bytes, bytes]]:
    """(method, bytes) by name."""
    keys = gateway.keys
    chunked = b"Transfer-Encoding: chunked\r\n"
    return {
        "public without a token": (b"GET", request(b"GET /public")),
        "public with a bad token": (b"GET", request(b"GET /public", keys.unknown.line)),
        "a good key": (b"GET", request(b"GET /items/1?x=%20y", keys.a.line, b"X-One: 1\r\nX-Two: 2\r\nX-One: 3\r\n")),
        "HEAD": (b"HEAD", request(b"HEAD /items/1", keys.a.line)),
        "an alias": (b"GET", request(b"GET /items", keys.alias.line)),
        "a legacy key": (b"GET", request(b"GET /items", keys.legacy.line)),
        "DELETE": (b"DELETE", request(b"DELETE /items/1", keys.a.line)),
        "POST with a length": (b"POST", request(b"POST /items", keys.a.line, b"Content-Length: 4\r\n", body=b"body")),
        "POST in chunks": (
            b"POST",
            request(b"POST /items", keys.a.line, chunked, body=b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
        ),
        "no token": (b"GET", request(b"GET /items")),
        "an unknown key": (b"GET", request(b"GET /items", keys.unknown.line)),
        "a revoked key": (b"GET", request(b"GET /items", keys.revoked.line)),
        "a disabled App": (b"GET", request(b"GET /items", keys.orphan.line)),
        "a missing scope": (b"GET", request(b"GET /items", keys.writer.line)),
        "two tokens": (b"GET", request(b"GET /items", keys.a.line, keys.a.line)),
        "a token in the query": (b"GET", request(b"GET /items?access_token=x")),
        "another scheme": (b"GET", request(b"GET /items", b"Authorization: Basic eDp5\r\n")),
        "no such path": (b"GET", request(b"GET /nothing", keys.a.line)),
        "no such method": (b"PUT", request(b"PUT /items", keys.a.line, b"Content-Length: 0\r\n")),
        "a path with dots": (b"GET", request(b"GET /items/../admin", keys.a.line)),
        "an encoded slash": (b"GET", request(b"GET /items/a%2Fb", keys.a.line)),
        "an encoded letter": (b"GET", request(b"GET /%69tems", keys.a.line)),
        "an identity of the client's": (b"GET", request(b"GET /items", keys.a.line, b"X-Gateway-Key-Id: admin\r\n")),
        "an underscore": (b"GET", request(b"GET /items", keys.a.line, b"X_Gateway_Key_Id: admin\r\n")),
        "a body too large": (b"POST", request(b"POST /uploads", keys.a.line, b"Content-Length: 65537\r\n")),
        "GraphQL": (b"POST", graphql(keys.a, "query Q($i: ID) { item(id: $i) { name } }", variables={"i": 1})),
        "GraphQL without the scope": (b"POST", graphql(keys.writer, "{ item { name } }")),
        "GraphQL that does not parse": (b"POST", graphql(keys.a, "{ item")),
        "GraphQL, another media type": (
            b"POST",
            request(b"POST /gql", keys.a.line, b"Content-Type: text/plain\r\nContent-Length: 2\r\n", body=b"{}"),
        ),
    }


NAMES = (
    *("public without a token", "public with a bad token", "a good key", "HEAD", "an alias", "a legacy key", "DELETE"),
    *("POST with a length", "POST in chunks", "no token", "an unknown key", "a revoked key", "a disabled App"),
    *("a missing scope", "two tokens", "a token in the query", "another scheme", "no such path", "no such method"),
    *("a path with dots", "an encoded slash", "an encoded letter", "an identity of the client's", "an underscore"),
    *("a body too large", "GraphQL", "GraphQL without the scope", "GraphQL that does not parse"),
    "GraphQL, another media type",
)


def seen_through(port: int, gateway: RunningGateway, method: bytes, data: bytes) -> tuple[Any, Any]:
    """(answer, upstream requests), both without the reference id, which no two requests share."""
    gateway.upstream.clear()
    answer = exchange(port, data, method=method)
    gateway.upstream.settled()
    ref = answer.ref
    hop_by_hop = (b"connection", b"keep-alive", b"transfer-encoding")
    headers = sorted((n.lower(), v.replace(ref, b"REF")) for n, v in answer.headers if n.lower() not in hop_by_hop)
    sent = [
        (one.method, one.target, [(n, v.replace(ref, b"REF")) for n, v in one.headers], one.body)
        for one in gateway.upstream.requests
    ]
    return (answer.status, headers, answer.body.replace(ref, b"REF")), sent


@pytest.mark.parametrize("name", NAMES)
def test_both_doors_judge_forward_and_answer_alike(name: str, both: tuple[RunningGateway, AsgiServer]) -> None:
    gateway, server = both
    method, data = scenarios(gateway)[name]

    proxy = seen_through(gateway.port, gateway, method, data)
    asgi = seen_through(server.port, gateway, method, data)

    assert proxy == asgi


def test_every_scenario_has_a_name_in_the_table(both: tuple[RunningGateway, AsgiServer]) -> None:
    assert set(scenarios(both[0])) == set(NAMES)


def test_an_answer_that_breaks_off_never_looks_complete(both: tuple[RunningGateway, AsgiServer]) -> None:
    gateway, server = both
    for half in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ):
        gateway.upstream.clear()
        gateway.upstream.script((half, Step.CLOSE))
        with connected(server.port) as client:
            client.send(request(b"GET /items", gateway.keys.a.line))
            with pytest.raises(BrokenAnswer):
                client.read()


def test_a_large_answer_arrives_whole_through_a_slow_reader(both: tuple[RunningGateway, AsgiServer]) -> None:
    gateway, server = both
    gateway.upstream.clear()
    body = bytes(range(256)) * 16384
    gateway.upstream.script((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body))

    with connected(server.port) as client:
        client.send(request(b"GET /items", gateway.keys.a.line))
        answer: Response = client.read()

    assert body == answer.body
    assert 200 == exchange(server.port, request(b"GET /items", gateway.keys.a.line)).status


def test_a_body_that_breaks_off_is_never_completed_upstream(both: tuple[RunningGateway, AsgiServer]) -> None:
    gateway, server = both
    gateway.upstream.clear()
    with connected(server.port) as client:
        client.send(request(b"POST /items", gateway.keys.a.line, b"Content-Length: 10\r\n", body=b"abc"))
        gateway.upstream.wait_until(lambda: any(b"abc" in c.received for c in gateway.upstream.connections), "the part")
        client.reset()
    gateway.upstream.wait_until(lambda: any(not c.is_open for c in gateway.upstream.connections), "the end of it")

    assert gateway.upstream.requests == []


async def test_headers_that_a_server_adds_after_the_start_are_not_seen(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        door = AsgiDoor(gateway.running.gateway.services)
        scope = scope_of(gateway, "POST", b"/gql")

        async def serve() -> list[dict[str, Any]]:
            async def receive() -> dict[str, Any]:
                scope["headers"].append((b"x-gateway-key-id", b"admin"))
                scope["headers"].append((b"host", b"evil.test"))
                return {"type": "http.request", "body": b'{"query":"{ item { name } }"}', "more_body": False}

            return await answered(door, scope, receive)

        messages = gateway.await_(serve())

        assert messages[0]["status"] == 200
        (sent,) = gateway.upstream.settled().requests
        assert sent.values(b"x-gateway-key-id") == [gateway.keys.a.key_id]
        assert sent.values(b"x-forwarded-host") == [b"gateway.test"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"raw_path": None}, 500),
        ({"root_path": "/mounted"}, 500),
        ({"http_version": "2"}, 505),
        ({"headers": [(b"host", b"gateway.test"), (b"x-one", b"a\r\nx-gateway-key-id: admin")]}, 400),
        ({"headers": [(b"host", b"gateway.test"), (b"x one", b"a")]}, 400),
        ({"headers": []}, 400),
    ],
)
def test_a_scope_that_does_not_tell_enough_is_refused_and_nothing_is_forwarded(
    change: dict[str, Any], status: int, shared_gateway: RunningGateway
) -> None:
    gateway = shared_gateway
    gateway.upstream.clear()
    door = AsgiDoor(gateway.running.gateway.services)
    scope = scope_of(gateway, "GET", b"/items") | change

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    messages = gateway.await_(answered(door, scope, receive))

    assert status == messages[0]["status"]
    assert gateway.upstream.settled().requests == []


def test_a_websocket_is_closed_before_it_is_accepted(shared_gateway: RunningGateway) -> None:
    door = AsgiDoor(shared_gateway.running.gateway.services)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    messages = shared_gateway.await_(answered(door, {"type": "websocket"}, receive))

    assert [{"type": "websocket.close", "code": 4403}] == messages


async def test_a_server_without_lifespan_events_is_told_so(tmp_path: Path) -> None:
    application = AsgiApplication(settings_in(tmp_path, POLICY))

    with pytest.raises(RuntimeError, match="turn its lifespan on"):
        await answered(application, {"type": "http"}, asyncio.Future)


async def test_what_cannot_start_fails_the_lifespan_with_the_reason(tmp_path: Path) -> None:
    application = AsgiApplication(settings_in(tmp_path, POLICY.replace("allow", "alow")))

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    (message,) = await answered(application, {"type": "lifespan"}, receive)

    assert message["type"] == "lifespan.startup.failed"
    assert "alow" in message["message"]
    with pytest.raises(CannotStart):
        raise CannotStart(message["message"])


def settings_in(folder: Path, policy: str) -> Settings:
    (folder / "policy.yaml").write_text(policy, "utf-8")
    return Settings(
        policy=folder / "policy.yaml",
        upstreams={"rest": "http://127.0.0.1:9"},
        store=f"sqlite:///{folder / 'keys.sqlite3'}",
        access_log="none",
        admin_listen="127.0.0.1:0",
    )


def scope_of(gateway: RunningGateway, method: str, path: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"gateway.test"),
            (b"authorization", b"Bearer " + gateway.keys.a.token),
            *([(b"content-type", b"application/json"), (b"content-length", b"29")] if method == "POST" else []),
        ],
    }


async def answered(application: Any, scope: dict[str, Any], receive: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await application(scope, receive, send)
    return messages


def test_a_bug_of_ours_is_a_500_that_is_counted_and_nothing_is_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_gateway(tmp_path) as gateway:
        door = AsgiDoor(gateway.running.gateway.services)
        scope = scope_of(gateway, "GET", b"/items")

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a secret of the client's")

        monkeypatch.setattr(gateway.running.gateway.services.judge, "_now", broken)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        messages = gateway.await_(answered(door, scope, receive))

        assert messages[0]["status"] == 500
        assert gateway.metric("bearergate_requests_total", reason="internal_fault") == 1
        assert "internal fault: ZeroDivisionError" in caplog.text
        assert "a secret of the client's" not in caplog.text
        assert gateway.upstream.settled().requests == []


def test_the_proxy_door_answers_a_bug_of_ours_likewise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_gateway(tmp_path) as gateway:

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a secret of the client's")

        monkeypatch.setattr(gateway.running.gateway.services.judge, "_now", broken)

        for _ in ("the key is looked up", "the key is in memory"):
            answer = exchange(gateway.port, request(b"GET /items", gateway.keys.a.line))

            assert (answer.status, answer.says_close) == (500, True)
        assert gateway.in_flight == 0
        assert gateway.metric("bearergate_requests_total", reason="internal_fault") == 2
        assert "a secret of the client's" not in caplog.text
        assert gateway.upstream.settled().requests == []
