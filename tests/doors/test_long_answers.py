"""An answer that lasts, and a body that is long in coming, end with the key or the token that began them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import pytest

from gateway.assembly.keys import open_key_service
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.doors.asgi import AnswerBrokeOff, AsgiDoor
from gateway.doors.proxy import ClientConnection
from gateway.judge import Judge
from tests.conftest import COMPILED
from tests.support.gateway import POLICY, SAFETY_SECONDS, Key, RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.recording_upstream import Answer, Step
from tests.support.users import MadeUpUsers, accept_users, jwt_of
from tests.support.websocket import LIVE, Upstream, close_of, ending, opened_gateway, tunnel

STREAMS = POLICY + "  - {name: me, match: GET /me, upstream: rest, allow: {user_token: {}}}\n"
TOKEN = jwt_of("u-a")
EVENT = b"data: x\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ENDLESS: dict[str, Answer] = {
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n" + EVENT + b"\r\n", Step.WAIT, b"0\r\n\r\n"),
    "length": (HEAD + b"Content-Length: 900\r\n\r\n" + EVENT, Step.WAIT, b"x" * 891),
    "close": (HEAD + b"\r\n" + EVENT, Step.WAIT, Step.CLOSE),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, MadeUpUsers]]:
    with running_gateway(tmp_path_factory.mktemp("streams"), policy=STREAMS) as gateway:
        yield gateway, accept_users(gateway)


@pytest.fixture
def gateway(served: tuple[RunningGateway, MadeUpUsers]) -> RunningGateway:
    served[0].forget()
    return served[0]


@pytest.fixture
def users(served: tuple[RunningGateway, MadeUpUsers]) -> MadeUpUsers:
    served[1].said.clear()
    served[1].remembers = True
    return served[1]


def ask(target: bytes, token: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\nHost: gateway.test\r\nAuthorization: Bearer %b\r\n\r\n" % (target, version, token)


def revoke(gateway: RunningGateway, key: Key) -> None:
    with open_key_service(gateway.settings.store) as service:
        service.revoke_key(key.key_id.decode())
    gateway.read_changes()


def is_cut(gateway: RunningGateway, client: RawClient, reason: Reason, verdict: Verdict = Verdict.REFUSED) -> None:
    """The answer broke off, and nothing made it look whole: the connection was reset on both sides."""
    rest = client.read_to_end()
    assert client.was_reset
    assert not rest.endswith(b"0\r\n\r\n")
    gateway.until(lambda: gateway.in_flight == 0, "the end of it")
    gateway.until(lambda: gateway.upstream.open_count == 0, "the end of the upstream's connection")
    (outcome,) = gateway.outcomes
    assert (verdict, reason, 200) == (outcome.verdict, outcome.reason, outcome.status)


@pytest.mark.parametrize("framing", ENDLESS)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_stream_of_a_revoked_key_ends_within_two_seconds(
    gateway: RunningGateway, framing: str, version: bytes
) -> None:
    # E11
    key = gateway.new_key("READ")
    gateway.upstream.script(ENDLESS[framing])
    with RawClient(gateway.port) as client:
        client.send(ask(b"/items", key.token, version))
        client.read_until(EVENT)
        gateway.pass_time(1.5)
        assert gateway.in_flight == 1
        revoke(gateway, key)
        gateway.pass_time(1.5)

        is_cut(gateway, client, Reason.TOKEN_REVOKED)


def test_the_stream_of_a_key_ends_with_it(gateway: RunningGateway) -> None:
    # E12
    key = gateway.new_key("READ", expires_at=gateway.clock.now() + 5.0)
    gateway.upstream.script(ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        client.send(ask(b"/items", key.token))
        client.read_until(EVENT)
        gateway.pass_time(3.0)
        assert gateway.in_flight == 1
        gateway.pass_time(3.0)

        is_cut(gateway, client, Reason.TOKEN_EXPIRED)


@pytest.mark.parametrize("remembers", [True, False])
def test_the_stream_of_a_user_ends_with_the_token(gateway: RunningGateway, users: MadeUpUsers, remembers: bool) -> None:
    # F21
    users.let_in(TOKEN, "u-a", expires_at=gateway.clock.now() + 5.0)
    users.remembers = remembers
    gateway.upstream.script(ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        client.send(ask(b"/me", TOKEN))
        client.read_until(EVENT)
        gateway.pass_time(4.0)
        assert gateway.in_flight == 1
        gateway.pass_time(1.0)

        is_cut(gateway, client, Reason.TOKEN_EXPIRED)


@pytest.mark.parametrize(
    ("because", "verdict"),
    [
        (Refusal(Reason.TOKEN_REVOKED), Verdict.REFUSED),
        (CannotDecide(Reason.STORE_UNAVAILABLE), Verdict.CANNOT_DECIDE),
    ],
)
def test_the_stream_of_a_user_whose_token_is_revoked_ends_within_two_seconds(
    gateway: RunningGateway, users: MadeUpUsers, because: Refusal | CannotDecide, verdict: Verdict
) -> None:
    # F33
    users.let_in(TOKEN, "u-a")
    gateway.upstream.script(ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        client.send(ask(b"/me", TOKEN))
        client.read_until(EVENT)
        users.say(TOKEN, because)
        gateway.pass_time(1.5)

        is_cut(gateway, client, because.reason, verdict)


def test_a_user_token_that_memory_has_forgotten_is_looked_up_again(gateway: RunningGateway, users: MadeUpUsers) -> None:
    users.let_in(TOKEN, "u-a")
    users.remembers = False
    gateway.upstream.script(ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        client.send(ask(b"/me", TOKEN))
        client.read_until(EVENT)
        found = users.found
        gateway.pass_time(1.5)
        gateway.until(lambda: users.found == found + 1, "a second look")
        gateway.pass_time(0.5)
        assert users.found == found + 1
        gateway.upstream.go_on()

        assert client.read_until(b"0\r\n\r\n")
    gateway.settle()
    assert [Verdict.ALLOWED] == [outcome.verdict for outcome in gateway.outcomes]


def test_a_short_request_is_judged_once(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        lookups = gateway.key_lookups
        for _ in range(3):
            client.send(ask(b"/items", gateway.keys.a.token))
            assert client.read().status == 200
            gateway.pass_time(0.5)
        assert gateway.key_lookups == lookups + 3


def test_what_lasts_on_a_kept_connection_is_timed_by_its_own_beginning(gateway: RunningGateway) -> None:
    gateway.upstream.script(ENDLESS["chunked"], ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        for _ in range(2):
            lookups = gateway.key_lookups
            client.send(ask(b"/items", gateway.keys.a.token))
            client.read_until(EVENT)
            gateway.pass_time(0.75)
            assert gateway.key_lookups == lookups + 1
            gateway.pass_time(0.75)
            assert gateway.key_lookups == lookups + 2
            gateway.upstream.go_on()
            client.read_until(b"0\r\n\r\n")
            gateway.settle()


def test_a_request_that_waits_for_its_answer_is_not_cut(gateway: RunningGateway) -> None:
    """Its upstream may have acted on it: a 401 would say that it has not."""
    key = gateway.new_key("READ")
    gateway.upstream.script((Step.WAIT, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    with RawClient(gateway.port) as client:
        client.send(ask(b"/items", key.token))
        gateway.until(lambda: bool(gateway.upstream.requests), "the request")
        revoke(gateway, key)
        gateway.pass_time(1.5)
        gateway.upstream.go_on()

        assert client.read().status == 200


def test_a_body_that_is_long_in_coming_ends_with_its_key(gateway: RunningGateway) -> None:
    # E11
    key = gateway.new_key("WRITE")
    with RawClient(gateway.port) as client:
        client.send(
            b"POST /items HTTP/1.1\r\nHost: gateway.test\r\n%bTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" % key.line
        )
        gateway.until(lambda: gateway.upstream.received_bytes > 0, "the head")
        revoke(gateway, key)
        gateway.pass_time(1.5)

        answer = client.read()
    assert (401, "token_invalid") == (answer.status, answer.reason)
    assert not gateway.upstream.settled().requests
    (outcome,) = gateway.outcomes
    assert (Verdict.REFUSED, Reason.TOKEN_REVOKED) == (outcome.verdict, outcome.reason)


def test_a_public_answer_is_nobodys_and_lasts(gateway: RunningGateway) -> None:
    gateway.upstream.script(ENDLESS["chunked"])
    with RawClient(gateway.port) as client:
        lookups = gateway.key_lookups
        client.send(b"GET /public HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        client.read_until(EVENT)
        gateway.pass_time(5.0)
        gateway.upstream.go_on()

        assert client.read_until(b"0\r\n\r\n").endswith(b"0\r\n\r\n")
    assert gateway.key_lookups == lookups


@pytest.mark.parametrize("remembers", [True, False])
def test_the_websocket_of_a_user_ends_with_the_token(tmp_path_factory: pytest.TempPathFactory, remembers: bool) -> None:
    # A36, F21
    upstream = Upstream()
    policy = POLICY + LIVE.replace("{api_key: READ}", "{user_token: {}}")
    upstreams = dict.fromkeys(("live", "rest"), f"http://127.0.0.1:{upstream.port}")
    folder = tmp_path_factory.mktemp("websocket")
    with closing(upstream.listener), running_gateway(folder, policy=policy, upstreams=upstreams) as gateway:
        users = accept_users(gateway)
        users.let_in(TOKEN, "u-a", expires_at=gateway.clock.now() + 5.0)
        users.remembers = remembers
        with tunnel(gateway, upstream, Key(TOKEN, b"", b"")) as (client, leg):
            gateway.pass_time(4.0)
            assert gateway.in_flight == 1
            gateway.pass_time(1.5)

            assert client.read_to_end() == close_of(1008, b"credential expired")
            assert leg.ended()
        assert ending(gateway) == (Verdict.REFUSED, Reason.TOKEN_EXPIRED, 101)
        upstream.close_legs()


def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, the judge has a bug."""

    def on_head(judge: Judge, facts: object) -> object:
        raise ValueError

    monkeypatch.setattr(Judge, "on_head", on_head)


def test_what_cannot_be_judged_anew_ends_and_so_do_all_others(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.upstream.script(*[ENDLESS["chunked"]] * 3)
    clients = [RawClient(gateway.port) for _ in range(3)]
    for client in clients:
        client.send(ask(b"/items", gateway.keys.a.token))
        client.read_until(EVENT)
    breaks(monkeypatch)
    gateway.pass_time(1.5)

    gateway.until(lambda: gateway.in_flight == 0, "the end of all")
    for client in clients:
        client.read_to_end()
        assert client.was_reset
        client.close()
    assert {Reason.INTERNAL_FAULT} == {outcome.reason for outcome in gateway.outcomes}


def test_a_websocket_that_cannot_be_judged_anew_ends(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    with closing(upstream.listener), opened_gateway(tmp_path_factory, upstream) as gateway:
        with tunnel(gateway, upstream) as (client, leg):
            breaks(monkeypatch)
            gateway.pass_time(1.5)

            assert client.read_to_end() == close_of(1013)
            assert leg.ended()
        assert ending(gateway) == (Verdict.CANNOT_DECIDE, Reason.INTERNAL_FAULT, 101)
        upstream.close_legs()


def test_a_connection_with_a_bug_does_not_keep_the_others_from_their_time_outs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: object, now: float, crowded: bool) -> None:
        raise ValueError

    folder = tmp_path_factory.mktemp("bug")
    with running_gateway(folder) as gateway, RawClient(gateway.port) as first, RawClient(gateway.port) as second:
        for client in (first, second):
            client.send(b"GET")
        connections = gateway.running.gateway.services.connections
        gateway.until(lambda: sum(each.reads_head for each in connections) == 2, "both heads")  # type: ignore[attr-defined]
        monkeypatch.setattr(ClientConnection, "swept", broken)
        gateway.pass_time(1.0)
        gateway.pass_time(gateway.settings.timeouts.head)

        assert (408, 408) == (first.read().status, second.read().status)


# -- the same through the ASGI door


@pytest.mark.parametrize("remembers", [True, False])
def test_an_answer_through_asgi_ends_with_the_token_that_began_it(
    gateway: RunningGateway, users: MadeUpUsers, remembers: bool
) -> None:
    users.let_in(TOKEN, "u-a", expires_at=gateway.clock.now() + 5.0)
    users.remembers = remembers
    gateway.upstream.script(ENDLESS["chunked"])
    door = AsgiDoor(gateway.running.gateway.services)
    events: list[Any] = []
    running = gateway.begin(door(asgi_scope(gateway, b"/me", TOKEN), never_ends, noted_in(events)))

    gateway.until(lambda: EVENT in [event.get("body") for event in events], "the first event")
    gateway.clock.advance(4.0)
    assert not running.done()
    gateway.clock.advance(1.0)

    with pytest.raises(AnswerBrokeOff):
        running.result(SAFETY_SECONDS)
    assert all(event.get("more_body", True) for event in events)
    (outcome,) = gateway.outcomes
    assert (Verdict.REFUSED, Reason.TOKEN_EXPIRED, 200) == (outcome.verdict, outcome.reason, outcome.status)
    assert gateway.in_flight == 0


def test_a_body_through_asgi_that_is_long_in_coming_ends_with_its_key(gateway: RunningGateway) -> None:
    # E11
    key = gateway.new_key("WRITE")
    door = AsgiDoor(gateway.running.gateway.services)
    scope = asgi_scope(gateway, b"/items", key.token)
    scope["method"] = "POST"
    scope["headers"].append((b"transfer-encoding", b"chunked"))
    pieces = [{"type": "http.request", "body": b"a", "more_body": True}]
    events: list[Any] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop() if pieces else await never_ends()

    running = gateway.begin(door(scope, receive, noted_in(events)))
    gateway.until(lambda: gateway.upstream.received_bytes > 0, "the head")
    revoke(gateway, key)
    gateway.clock.advance(1.5)

    running.result(SAFETY_SECONDS)
    assert 401 == events[0]["status"]
    assert not gateway.upstream.settled().requests
    (outcome,) = gateway.outcomes
    assert (Verdict.REFUSED, Reason.TOKEN_REVOKED) == (outcome.verdict, outcome.reason)


@pytest.mark.parametrize("path", [b"/items", b"/gql"])
@pytest.mark.parametrize("pieces", [1, 4])
def test_a_body_through_asgi_that_does_not_come_in_time_is_408(
    gateway: RunningGateway, path: bytes, pieces: int
) -> None:
    # K2
    services = gateway.running.gateway.services
    scope = asgi_scope(gateway, path, gateway.keys.a.token)
    scope["method"] = "POST"
    scope["headers"] += [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    events: list[Any] = []
    running = gateway.begin(AsgiDoor(services)(scope, coming.get, noted_in(events)))
    for _ in range(pieces):
        gateway.call(lambda: coming.put_nowait({"type": "http.request", "body": b"{", "more_body": True}))
        gateway.until(coming.empty, "the piece being read")
        assert not running.done()
        gateway.clock.advance(5.0)
    if pieces == 1:
        gateway.clock.advance(10.5)  # the others come, and come to too little

    running.result(SAFETY_SECONDS)
    assert 408 == events[0]["status"]
    (outcome,) = gateway.outcomes
    assert (Verdict.REFUSED, Reason.BODY_TIMEOUT) == (outcome.verdict, outcome.reason)
    assert (0, 0) == (services.held_bytes, gateway.in_flight)


def test_a_caller_has_no_more_streams_through_asgi_than_it_may(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # K16
    services = gateway.running.gateway.services
    monkeypatch.setattr(services, "max_streams_per_caller", 2)
    gateway.upstream.script(*[ENDLESS["chunked"]] * 3)
    door = AsgiDoor(services)
    events: list[Any] = []

    def begin(token: bytes, said: list[Any]) -> Future[None]:
        return gateway.begin(door(asgi_scope(gateway, b"/items", token), never_ends, noted_in(said)))

    running = [begin(gateway.keys.a.token, events) for _ in range(3)]
    gateway.until(lambda: [event.get("body") for event in events].count(EVENT) == 3, "the first events")
    gateway.clock.advance(1.5)
    gateway.until(lambda: gateway.in_flight == 2, "the end of one")
    assert [Reason.OVERLOADED] == [outcome.reason for outcome in gateway.outcomes]
    said: list[Any] = []
    begin(gateway.keys.a.token, said).result(SAFETY_SECONDS)
    assert 503 == said[0]["status"]
    begin(gateway.keys.b.token, said).result(SAFETY_SECONDS)
    assert 200 == said[2]["status"]

    gateway.upstream.go_on()
    gateway.until(lambda: all(each.done() for each in running), "the end of all")
    gateway.until(lambda: not door.full_callers, "the next look")
    begin(gateway.keys.a.token, said).result(SAFETY_SECONDS)
    assert 200 == said[4]["status"]
    # Other tests count the connections that are left.
    gateway.upstream.close_connections()
    gateway.until(lambda: gateway.running.gateway.upstreams["rest"].open_count == 0, "the end of them")


def test_what_cannot_be_judged_anew_through_asgi_ends_and_so_do_all_others(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.upstream.script(*[ENDLESS["chunked"]] * 2)
    door = AsgiDoor(gateway.running.gateway.services)
    events: list[Any] = []
    running = [
        gateway.begin(door(asgi_scope(gateway, b"/items", gateway.keys.a.token), never_ends, noted_in(events)))
        for _ in range(2)
    ]
    gateway.until(lambda: [event.get("body") for event in events].count(EVENT) == 2, "the first events")
    breaks(monkeypatch)
    gateway.clock.advance(1.5)

    for each in running:
        with pytest.raises(AnswerBrokeOff):
            each.result(SAFETY_SECONDS)
    assert {Reason.INTERNAL_FAULT} == {outcome.reason for outcome in gateway.outcomes}


def asgi_scope(gateway: RunningGateway, path: bytes, token: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"",
        "headers": [(b"host", b"gateway.test"), (b"authorization", b"Bearer " + token)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", gateway.port),
    }


async def never_ends() -> dict[str, Any]:
    """A client that stays and says nothing more."""
    await asyncio.Event().wait()
    raise AssertionError


def noted_in(events: list[Any]) -> Callable[[Any], Awaitable[None]]:
    async def send(event: Any) -> None:
        events.append(event)

    return send


if COMPILED:
    # What is compiled calls its own functions without looking them up, so they cannot be replaced.
    del test_what_cannot_be_judged_anew_ends_and_so_do_all_others
    del test_a_websocket_that_cannot_be_judged_anew_ends
    del test_a_connection_with_a_bug_does_not_keep_the_others_from_their_time_outs
    del test_what_cannot_be_judged_anew_through_asgi_ends_and_so_do_all_others
