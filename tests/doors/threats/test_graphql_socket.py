"""G39, G40, A36, K27 and D22: GraphQL over a WebSocket, each operation judged before anything of it is sent on.

The test is the client and the upstream too: what each of them is sent is looked at frame by frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from gateway.assembly.keys import open_key_service
from gateway.core.reasons import Reason, Verdict
from gateway.wire.limits import GRAPHQL_OPERATIONS_PER_WEBSOCKET, HEAD_LIMIT_BYTES
from gateway.wire.websocket_messages import CLOSE, PING, PONG, TEXT, frame
from tests.support import frames
from tests.support.gateway import POLICY, RunningGateway
from tests.support.graphql_socket import (
    ACK,
    GRAPHQL,
    INIT,
    MASK,
    NEW,
    OLD,
    End,
    accept,
    client_of,
    close_of,
    conversation,
    offer,
    opened_gateway,
    opening,
    switching,
)
from tests.support.raw import RawClient, read_head
from tests.support.rows import Row, get, play
from tests.support.websocket import HANDSHAKE, IDLE_SECONDS, Upstream, ending

ADDED = {"id": "1", "type": "subscribe", "payload": {"query": "subscription {added {id}}"}}
SENT = {"id": "1", "type": "subscribe", "payload": {"query": "subscription {\n  added {\n    id\n  }\n}"}}
ANSWER = {"id": "1", "type": "next", "payload": {"data": {"added": {"id": 7}}}}
DONE = {"id": "1", "type": "complete"}


@pytest.fixture(scope="module")
def listening() -> Iterator[Upstream]:
    made = Upstream()
    with closing(made.listener):
        yield made


@pytest.fixture
def upstream(listening: Upstream) -> Iterator[Upstream]:
    yield listening
    listening.close_legs()


@pytest.fixture(scope="module")
def live_gateway(tmp_path_factory: pytest.TempPathFactory, listening: Upstream) -> Iterator[RunningGateway]:
    with opened_gateway(tmp_path_factory, listening) as gateway:
        yield gateway


@pytest.fixture
def gateway(live_gateway: RunningGateway) -> RunningGateway:
    live_gateway.forget()
    return live_gateway


# -- the opening


def refused(name: str, sent: bytes, status: int, reason: str, *, closes: bool = True) -> Row:
    return Row(name, sent, status, reason, asks_keys=False, closes=closes)


TOKEN = b"Authorization: Bearer <key:%b>\r\n"
ROWS = [
    refused("A36-no-websocket-here", get(b"/gql", *HANDSHAKE, offer(NEW)), 403, "upgrade_refused"),
    refused("A36-no-protocol", get(b"/live", *HANDSHAKE), 400, "header_refused"),
    refused("A36-another-protocol", opening(protocol=b"graphql, chat"), 400, "header_refused"),
    refused("A36-without-version", opening().replace(b"Sec-WebSocket-Version: 13\r\n", b""), 400, "header_refused"),
    refused("D22-a-token-among-the-protocols", opening(protocol=NEW + b", <key:a>"), 400, "credential_repeated"),
    refused(
        "G22-a-query-in-the-url",
        opening(b"/live?query={item{id}}".replace(b"{", b"%7B").replace(b"}", b"%7D")),
        422,
        "graphql_request_invalid",
        closes=False,
    ),
    refused(
        "B32-a-token-in-the-url", opening(b"/live?access_token=x", NEW, b""), 401, "credential_in_query", closes=False
    ),
    refused("G40-nobody", opening(authorization=b""), 401, "credential_missing", closes=False),
    refused(
        "C29-a-page-that-is-not-listed",
        opening(b"/pages", NEW, b"", b"Origin: https://evil.test"),
        403,
        "cors_refused",
        closes=False,
    ),
    Row("G40-a-revoked-key", opening(authorization=TOKEN % b"revoked"), 401, "token_revoked", closes=False),
    Row("G40-an-unknown-key", opening(authorization=TOKEN % b"unknown"), 401, "token_unknown", closes=False),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_websocket_that_may_not_be_opened_reaches_nobody(
    gateway: RunningGateway, upstream: Upstream, row: Row
) -> None:
    play(gateway, row)

    assert upstream.is_left_alone()


def test_a36_the_handshake_is_answered_here_without_compression(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(
            opening(
                b"/live",
                b"chat, graphql-ws, graphql-transport-ws",
                gateway.keys.a.line,
                b"Sec-WebSocket-Extensions: permessage-deflate",
            )
        )
        status, fields = read_head(client.read_until(b"\r\n\r\n"))

    assert status == 101
    assert fields[:4] == [
        (b"connection", b"upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"graphql-ws"),
    ]
    assert [name for name, _ in fields[4:]] == [b"x-gateway-request-id"]
    assert upstream.is_left_alone()


def test_g40_the_upstream_is_opened_by_a_head_of_ours_once_the_init_has_come(
    gateway: RunningGateway, upstream: Upstream
) -> None:
    with RawClient(gateway.port) as client:
        fields = (b"Sec-WebSocket-Extensions: permessage-deflate", b"Cookie: c=1", b"X-Gateway-User-Id: me")
        client.send(opening(b"/live?room=1", b"graphql-ws,graphql-transport-ws", gateway.keys.a.line, *fields))
        client.read_until(b"\r\n\r\n")
        assert upstream.is_left_alone()
        End(client, is_client=True).tell(INIT)
        leg = upstream.accept()
        head = leg.read_until(b"\r\n\r\n")
        client.close()
    gateway.until(lambda: bool(gateway.outcomes), "an outcome")

    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    sent = read_head(b"HTTP/1.1 200 x\r\n" + b"\r\n".join(lines[1:]) + b"\r\n\r\n")[1]
    key = dict(sent)[b"sec-websocket-key"]
    assert lines[0] == b"GET /live?room=1 HTTP/1.1"
    assert key != b"dGhlIHNhbXBsZSBub25jZQ=="
    assert len(key) == 24
    expected = gateway.head_fields(
        gateway.keys.a,
        client=[
            (b"cookie", b"c=1"),
            (b"sec-websocket-key", key),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-protocol", b"graphql-ws"),
        ],
        framing=[(b"connection", b"upgrade"), (b"upgrade", b"websocket")],
        ref=gateway.outcomes[0].ref.encode(),
    )
    assert sent == [(b"host", b"127.0.0.1:%d" % upstream.port), *expected[1:]]


# -- operations


def test_g39_an_operation_goes_on_as_it_was_judged_and_its_answers_come_back(
    gateway: RunningGateway, upstream: Upstream
) -> None:
    with conversation(gateway, upstream) as (client, server):
        said = json.dumps({**ADDED, "payload": {"query": "# hidden\nsubscription {added {id}} query B {item}"}})
        client.say(TEXT, said.replace("{added", "S {added").encode())
        assert client.hears()["payload"][0]["extensions"]["code"] == "GRAPHQL_OPERATION_UNKNOWN"
        client.tell({**ADDED, "payload": {"query": "# hidden\nsubscription {added {id}}", "extensions": {"a": 1}}})

        assert server.hears() == SENT
        server.tell(ANSWER)
        assert client.hears() == ANSWER
        server.tell(DONE)
        assert client.hears() == DONE


def test_g39_the_older_protocol_is_judged_alike(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway, protocol=OLD) as client:
        client.tell(INIT)
        client.tell({"id": "1", "type": "start", "payload": {"query": "subscription {removed}"}})
        client.tell({"id": "2", "type": "start", "payload": {"query": "subscription {secret}"}})
        client.tell({"id": "3", "type": "start", "payload": {"query": "{item}"}})
        server = End(accept(upstream, OLD)[0], is_client=False)

        assert server.hears() == INIT
        assert server.hears()["payload"] == {"query": "subscription {\n  removed\n}"}
        assert server.hears() == {"id": "3", "type": "start", "payload": {"query": "{\n  item\n}"}}
        error = client.hears()
        assert (error["id"], error["type"]) == ("2", "error")
        assert error["payload"]["extensions"]["code"] == "FIELD_NOT_ALLOWED"
        server.tell(ACK)
        assert client.hears() == ACK
        client.tell({"id": "1", "type": "stop"})
        assert server.hears() == {"id": "1", "type": "stop"}
        client.tell({"type": "connection_terminate"})
        assert server.next() == close_of(1000)
        server.say(CLOSE, close_of(1000)[1])
        assert client.next() == close_of(1000)


FORBIDDEN = [
    ("subscription {secret}", "FIELD_NOT_ALLOWED", 403),
    ("subscription {removed}", "SCOPE_MISSING", 403),
    ("mutation {add}", "SCOPE_MISSING", 403),
    ("subscription {added {a {b {c {d}}}}}", "GRAPHQL_LIMIT_EXCEEDED", 400),
    ("subscription {", "GRAPHQL_DOCUMENT_INVALID", 400),
    ("{__schema {types {name}}}", "FIELD_NOT_ALLOWED", 403),
    ("subscription {x: secret ...F} fragment F on Subscription {added}", "GRAPHQL_DOCUMENT_INVALID", 422),
]


@pytest.mark.parametrize(("query", "code", "status"), FORBIDDEN)
def test_g39_a_forbidden_operation_is_told_so_and_never_sent(
    gateway: RunningGateway, upstream: Upstream, query: str, code: str, status: int
) -> None:
    reader = gateway.new_key("READ").line
    with conversation(gateway, upstream, authorization=reader) as (client, server):
        client.tell({"id": "x", "type": "subscribe", "payload": {"query": query}})
        error = client.hears()
        client.tell(ADDED)

        assert (error["id"], error["type"]) == ("x", "error")
        assert error["payload"][0]["extensions"]["code"].startswith(code.removesuffix("_INVALID"))
        assert server.hears() == SENT
        (outcome,) = gateway.outcomes
        assert outcome.verdict is Verdict.REFUSED
        assert outcome.ref == error["payload"][0]["extensions"]["ref"]
        assert outcome.route == "live"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "GRAPHQL_REQUEST_INVALID"),
        ({"query": 1}, "GRAPHQL_REQUEST_INVALID"),
        ({"query": "{item}", "id": 1}, "GRAPHQL_REQUEST_INVALID"),
        ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "GRAPHQL_REQUEST_INVALID"),
        ({"documentId": "x"}, "GRAPHQL_REQUEST_INVALID"),
    ],
)
def test_g39_a_payload_that_is_no_request_is_told_so(
    gateway: RunningGateway, upstream: Upstream, payload: dict[str, Any], code: str
) -> None:
    with conversation(gateway, upstream) as (client, server):
        client.tell({"id": "x", "type": "subscribe", "payload": payload})
        error = client.hears()
        client.tell(ADDED)

        assert error["payload"][0]["extensions"]["code"] == code
        assert server.hears() == SENT


def test_g39_a_subscription_by_post_is_still_refused(gateway: RunningGateway, upstream: Upstream) -> None:
    body = b'{"query":"subscription {added}"}'
    head = b"POST /live HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n"
    with RawClient(gateway.port) as client:
        client.send(head + gateway.keys.a.line + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = client.read(b"POST")

    assert answer.status == 422
    assert upstream.is_left_alone()


def test_g39_only_answers_to_what_was_let_through_come_back(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        client.tell(ADDED)
        assert server.hears() == SENT
        server.tell({**ANSWER, "id": "2"})
        server.tell(ANSWER)
        assert client.hears() == ANSWER
        client.tell(DONE)
        assert server.hears() == DONE
        server.tell(ANSWER)
        server.tell({"type": "ping"})
        assert client.hears() == {"type": "ping"}


def test_g39_a_socket_has_so_many_operations_and_no_more(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        for number in range(GRAPHQL_OPERATIONS_PER_WEBSOCKET):
            client.tell({**ADDED, "id": str(number)})
            assert server.hears()["id"] == str(number)
        client.tell({**ADDED, "id": "more"})
        assert client.hears()["payload"][0]["extensions"]["code"] == "OVERLOADED"
        server.tell(DONE)
        assert client.hears() == DONE
        client.tell({**ADDED, "id": "more"})
        assert server.hears()["id"] == "more"


def test_r29_operations_are_held_only_while_there_is_room(gateway: RunningGateway, upstream: Upstream) -> None:
    services = gateway.running.gateway.services
    with conversation(gateway, upstream) as (client, server):
        client.tell(ADDED)
        assert server.hears() == SENT
        held = services.held_bytes
        services.most_held_bytes = held
        try:
            client.tell({**ADDED, "id": "2"})
            assert client.hears()["payload"][0]["extensions"]["code"] == "OVERLOADED"
        finally:
            services.most_held_bytes = services.room_bytes
        client.tell(DONE)
        assert server.hears() == DONE
        assert held > 0
    gateway.until(lambda: gateway.in_flight == 0, "the end")
    assert services.held_bytes == 0


# -- messages that end it

ENDING: list[tuple[str, Callable[[End], None], int, Reason]] = [
    ("no JSON", lambda client: client.say(TEXT, b"{"), 4400, Reason.GRAPHQL_MESSAGE_INVALID),
    (
        "a member twice",
        lambda client: client.say(TEXT, b'{"id":"1","id":"2","type":"complete"}'),
        4400,
        Reason.GRAPHQL_MESSAGE_INVALID,
    ),
    (
        "a type of the other",
        lambda client: client.tell({**ADDED, "type": "start"}),
        4400,
        Reason.GRAPHQL_MESSAGE_INVALID,
    ),
    ("no id", lambda client: client.tell({**ADDED, "id": 1}), 4400, Reason.GRAPHQL_MESSAGE_INVALID),
    ("a second init", lambda client: client.tell(INIT), 4429, Reason.GRAPHQL_MESSAGE_INVALID),
    ("no UTF-8", lambda client: client.say(TEXT, b'{"type":"\xff"}'), 1007, Reason.WEBSOCKET_MALFORMED),
    ("binary", lambda client: client.say(2, b'{"type":"ping"}'), 1003, Reason.WEBSOCKET_MALFORMED),
    ("no mask", lambda client: client.send(frame(TEXT, b'{"type":"ping"}')), 1002, Reason.WEBSOCKET_MALFORMED),
    (
        "compressed",
        lambda client: client.send(frames.frame(b"xx", frames.TEXT, masked=True, reserved=0x40)),
        1002,
        Reason.WEBSOCKET_MALFORMED,
    ),
    (
        "too large",
        lambda client: client.send(frames.frame(b"", frames.TEXT, masked=True, length=1024 * 1024 + 1)),
        1009,
        Reason.WEBSOCKET_TOO_LARGE,
    ),
    ("half a code", lambda client: client.say(CLOSE, b"\x03"), 1002, Reason.WEBSOCKET_MALFORMED),
    ("no code", lambda client: client.say(CLOSE, (1005).to_bytes(2, "big")), 1002, Reason.WEBSOCKET_MALFORMED),
]


@pytest.mark.parametrize(("acts", "code", "reason"), [row[1:] for row in ENDING], ids=[row[0] for row in ENDING])
def test_k27_what_has_two_readings_ends_it(
    gateway: RunningGateway, upstream: Upstream, acts: Callable[[End], None], code: int, reason: Reason
) -> None:
    with conversation(gateway, upstream) as (client, server):
        acts(client)
        kind, said = client.next()

        assert (kind, int.from_bytes(said[:2], "big")) == (CLOSE, code)
        assert server.ended()
    gateway.until(lambda: gateway.in_flight == 0, "the end")
    assert ending(gateway) == (Verdict.REFUSED, reason, 101)


def test_an_id_that_is_in_use_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        client.tell(ADDED)
        assert server.hears() == SENT
        client.tell(ADDED)

        assert client.next() == close_of(4409, "an id that is in use")


def test_g40_a_subscription_before_the_acknowledgement_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway) as client:
        client.tell(ADDED)

        assert client.next()[1][:2] == (4401).to_bytes(2, "big")
    assert upstream.is_left_alone()


def test_g40_a_start_without_an_init_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway, protocol=OLD) as client:
        client.tell({"id": "1", "type": "start", "payload": {"query": "{item}"}})

        assert client.next()[1][:2] == (4401).to_bytes(2, "big")
    assert upstream.is_left_alone()


def test_g40_an_init_that_does_not_come_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway) as client:
        client.say(PING, b"x")
        assert client.next() == (PONG, b"x")
        gateway.pass_time(gateway.settings.timeouts.head + 1)

        assert client.next() == close_of(4408, "no connection_init in time")
    assert ending(gateway) == (Verdict.REFUSED, Reason.HEAD_TIMEOUT, 101)
    assert upstream.is_left_alone()


def test_k27_nothing_large_is_read_before_the_init(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway) as client:
        client.send(frames.frame(b"", frames.TEXT, masked=True, length=HEAD_LIMIT_BYTES + 1))

        assert client.next()[1][:2] == (1009).to_bytes(2, "big")


def test_k27_a_flood_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, _):
        client.send(frame(PONG, b"", MASK) * 10_001)

        assert client.next()[1][:2] == (1008).to_bytes(2, "big")
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_FLOOD, 101)


def test_fragments_are_joined_around_a_ping(gateway: RunningGateway, upstream: Upstream) -> None:
    said = json.dumps(ADDED).encode()
    with conversation(gateway, upstream) as (client, server):
        masked = [frame(TEXT, piece, MASK) for piece in (said[:10], said[10:30], said[30:])]
        first, middle, last = (bytearray(piece) for piece in masked)
        first[0] = TEXT
        middle[0] = 0
        last[0] = 0x80
        for byte in bytes(first) + frame(PING, b"p", MASK) + bytes(middle + last):
            client.send(bytes((byte,)))

        assert client.next() == (PONG, b"p")
        assert server.hears() == SENT


# -- the credential in the init


def init_of(token: bytes, **members: Any) -> dict[str, Any]:
    return {"type": "connection_init", "payload": {"Authorization": f"Bearer {token.decode()}", **members}}


def test_g40_the_token_of_the_init_is_judged_and_goes_no_further(gateway: RunningGateway, upstream: Upstream) -> None:
    key = gateway.keys.a
    with client_of(gateway, b"/pages", authorization=b"") as client:
        assert upstream.is_left_alone()
        client.tell(init_of(key.token, app="x", x_gateway_app_id="mine"))
        leg, head = accept(upstream)
        server = End(leg, is_client=False)

        assert server.hears() == {"type": "connection_init", "payload": {"app": "x"}}
        assert b"\r\nx-gateway-key-id: " + key.key_id + b"\r\n" in head
        assert key.token not in head
        server.tell(ACK)
        assert client.hears() == ACK
        client.tell(ADDED)
        assert server.hears() == SENT


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("revoked", 4401, Reason.TOKEN_REVOKED),
        ("expired", 4401, Reason.TOKEN_EXPIRED),
        ("unknown", 4401, Reason.TOKEN_UNKNOWN),
        ("orphan", 4401, Reason.APP_INACTIVE),
    ],
)
def test_g40_a_bad_token_of_the_init_reaches_nobody(
    gateway: RunningGateway, upstream: Upstream, name: str, code: int, reason: Reason
) -> None:
    with client_of(gateway, b"/pages", authorization=b"") as client:
        client.tell(init_of(getattr(gateway.keys, name).token))

        assert client.next() == close_of(code, "the token is not valid")
    assert ending(gateway) == (Verdict.REFUSED, reason, 101)
    assert upstream.is_left_alone()


def test_g40_an_init_without_a_token_reaches_nobody(gateway: RunningGateway, upstream: Upstream) -> None:
    with client_of(gateway, b"/pages", authorization=b"") as client:
        client.tell(INIT)

        assert client.next() == close_of(4401, "a Bearer token is needed")
    assert upstream.is_left_alone()


@pytest.mark.parametrize("path", [b"/live", b"/pages"])
def test_g40_a_credential_beside_that_of_the_opening_ends_it(
    gateway: RunningGateway, upstream: Upstream, path: bytes
) -> None:
    with client_of(gateway, path) as client:
        client.tell(init_of(gateway.keys.a.token))

        assert client.next()[1][:2] == (4400).to_bytes(2, "big")
    assert upstream.is_left_alone()


# -- what lasts


def revoke(gateway: RunningGateway, key_id: bytes) -> None:
    with open_key_service(gateway.settings.store) as service:
        service.revoke_key(key_id.decode())
    gateway.read_changes()


@pytest.mark.parametrize("path", [b"/live", b"/pages"])
def test_g39_a_key_that_is_revoked_ends_it(gateway: RunningGateway, upstream: Upstream, path: bytes) -> None:
    key = gateway.new_key("READ")
    is_init = path == b"/pages"
    with client_of(gateway, path, authorization=b"" if is_init else key.line) as client:
        client.tell(init_of(key.token) if is_init else INIT)
        leg, _ = accept(upstream)
        server = End(leg, is_client=False)
        server.hears()
        server.tell(ACK)
        client.hears()
        client.tell(ADDED)
        server.hears()
        revoke(gateway, key.key_id)
        gateway.pass_time(1.1)

        assert client.next() == close_of(4403, "credential revoked")
        assert leg.ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.TOKEN_REVOKED, 101)


def test_g39_an_operation_is_judged_by_the_key_as_it_is_then(gateway: RunningGateway, upstream: Upstream) -> None:
    key = gateway.new_key("READ")
    with conversation(gateway, upstream, authorization=key.line) as (client, server):
        revoke(gateway, key.key_id)
        client.tell(ADDED)

        assert client.next() == close_of(4403, "credential revoked")
        assert server.ended()


def test_g39_a_new_policy_ends_the_operations_that_it_forbids(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    with opened_gateway(tmp_path_factory, upstream) as gateway, conversation(gateway, upstream) as (client, server):
        client.tell(ADDED)
        assert server.hears() == SENT
        client.tell({**ADDED, "id": "2", "payload": {"query": "subscription {removed}"}})
        assert server.hears()["id"] == "2"
        stricter = GRAPHQL.replace("Subscription.added: {api_key: READ}", "Subscription.added: {api_key: ADMIN}")
        gateway.folder.joinpath("policy.yaml").write_text(POLICY + stricter)
        gateway.await_(gateway.running.reload_policy())
        gateway.pass_time(1.1)

        error = client.hears()
        assert (error["id"], error["type"]) == ("1", "error")
        assert error["payload"][0]["extensions"]["missingScopes"] == ["ADMIN"]
        assert server.hears() == DONE
        server.tell({**ANSWER, "id": "2"})
        assert client.hears()["id"] == "2"


def test_g39_a_new_operation_does_not_stand_for_those_before_it(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    with opened_gateway(tmp_path_factory, upstream) as gateway, conversation(gateway, upstream) as (client, server):
        client.tell(ADDED)
        assert server.hears() == SENT
        stricter = GRAPHQL.replace("Subscription.added: {api_key: READ}", "Subscription.added: {api_key: ADMIN}")
        gateway.folder.joinpath("policy.yaml").write_text(POLICY + stricter)
        gateway.await_(gateway.running.reload_policy())
        client.tell({**ADDED, "id": "2", "payload": {"query": "{item}"}})
        assert server.hears()["id"] == "2"
        gateway.pass_time(1.1)

        assert client.hears()["id"] == "1"
        assert server.hears() == DONE


def test_g29_a_document_by_its_hash_goes_on_as_its_text(gateway: RunningGateway, upstream: Upstream) -> None:
    text = "subscription {added}"
    named = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(text.encode()).hexdigest()}}
    with conversation(gateway, upstream, path=b"/pages") as (client, server):
        client.tell({**ADDED, "payload": {"extensions": named}})
        assert client.hears()["payload"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        client.tell({**ADDED, "payload": {"query": text, "extensions": named}})
        assert server.hears()["payload"] == {"query": "subscription {\n  added\n}"}
        client.tell({**ADDED, "id": "2", "payload": {"extensions": named}})
        assert server.hears()["payload"] == {"query": "subscription {\n  added\n}"}


def test_an_operation_has_the_limit_of_a_body(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream, path=b"/pages") as (client, server):
        client.tell({**ADDED, "payload": {"query": "subscription {added}", "variables": {"a": "x" * 1024}}})
        assert client.hears()["payload"][0]["extensions"]["code"] == "BODY_TOO_LARGE"
        client.tell(ADDED)
        assert server.hears() == SENT


def test_a36_a_policy_without_websockets_ends_it(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with opened_gateway(tmp_path_factory, upstream) as gateway, conversation(gateway, upstream) as (client, _):
        none = GRAPHQL.replace("      websocket: header\n", "").replace("Subscription.", "Query.")
        gateway.folder.joinpath("policy.yaml").write_text(POLICY + none)
        gateway.await_(gateway.running.reload_policy())
        gateway.pass_time(1.1)

        assert client.next()[1][:2] == (4403).to_bytes(2, "big")
        assert ending(gateway) == (Verdict.REFUSED, Reason.UPGRADE_REFUSED, 101)


def test_silence_ends_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, _):
        gateway.pass_time(IDLE_SECONDS + 1)

        assert client.next() == close_of(1001, "no byte either way for too long")


def test_a_stop_of_the_gateway_ends_it(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with opened_gateway(tmp_path_factory, upstream) as gateway, conversation(gateway, upstream) as (client, _):
        gateway.stop()

        assert client.next() == close_of(1001)


# -- the ends


def test_a_client_that_closes_is_closed_once_the_upstream_knows(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        client.say(CLOSE, (4999).to_bytes(2, "big") + "grüß dich".encode())
        assert server.next() == close_of(4999, "grüß dich")
        server.say(CLOSE, (4999).to_bytes(2, "big"))

        assert client.next() == close_of(4999)
        assert server.ended()
    assert ending(gateway) == (Verdict.ALLOWED, None, 101)


def test_an_upstream_that_closes_closes_the_client(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        server.say(PING, b"x")
        assert server.next() == (PONG, b"x")
        server.say(CLOSE, (4500).to_bytes(2, "big") + b"broken")

        assert client.next() == close_of(4500, "broken")
    assert ending(gateway) == (Verdict.ALLOWED, None, 101)


def test_a_client_that_leaves_takes_the_upstream_along(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        client.over.socket.close()

        assert server.ended()
    assert ending(gateway) == (Verdict.CLIENT_GONE, None, 101)
    assert gateway.running.gateway.services.tunnels["live"] == 0


UPSTREAMS: list[tuple[str, bytes | Callable[[bytes], bytes]]] = [
    ("no answer", b""),
    ("not found", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    ("the other protocol", lambda head: switching(head, OLD)),
    ("no protocol", lambda head: switching(head, b"")),
    ("an extension", lambda head: switching(head, NEW, b"Sec-WebSocket-Extensions: permessage-deflate")),
    ("an answer to another key", lambda _: switching(b"sec-websocket-key: x", NEW)),
    ("binary", lambda head: switching(head, NEW) + frame(2, b"x")),
    ("with a mask", lambda head: switching(head, NEW) + frame(TEXT, b'{"type":"connection_ack"}', MASK)),
    ("another message", lambda head: switching(head, NEW) + frame(TEXT, b'{"type":"ka"}')),
    ("half a code", lambda head: switching(head, NEW) + frame(CLOSE, b"\x03\xed")),
]


@pytest.mark.parametrize("answers", [row[1] for row in UPSTREAMS], ids=[row[0] for row in UPSTREAMS])
def test_an_upstream_that_does_not_speak_it_ends_it(
    gateway: RunningGateway, upstream: Upstream, answers: bytes | Callable[[bytes], bytes]
) -> None:
    with client_of(gateway) as client:
        client.tell(INIT)
        leg = upstream.accept()
        head = leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(answers if isinstance(answers, bytes) else answers(head))
        if answers == b"":
            leg.socket.close()

        assert client.next()[1][:2] == (1014).to_bytes(2, "big")
    verdict, _, status = ending(gateway)
    assert (verdict, status) == (Verdict.UPSTREAM_FAILED, 101)


def test_each_frame_to_the_upstream_has_a_mask_of_its_own(gateway: RunningGateway, upstream: Upstream) -> None:
    with conversation(gateway, upstream) as (client, server):
        masks = set()
        for _ in range(20):
            client.tell({"type": "ping"})
            raw = server.over.socket.recv(65536) if not server.over.buffer else server.over.buffer
            masks.add(raw[2:6])

    assert len(masks) == 20


# -- places


def test_k16_websockets_have_so_many_places(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with (
        opened_gateway(tmp_path_factory, upstream, max_websockets=1) as gateway,
        client_of(gateway) as late,
        conversation(gateway, upstream),
    ):
        late.tell(INIT)
        with RawClient(gateway.port) as third:
            third.send(opening(authorization=gateway.keys.a.line))
            assert third.read().status == 503

        assert late.next() == close_of(1013, "too many requests are in progress")
        assert upstream.is_left_alone()


def test_k16_a_caller_has_so_many_streams(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with (
        opened_gateway(tmp_path_factory, upstream, max_streams_per_caller=1) as gateway,
        conversation(gateway, upstream) as (first, _),
    ):
        with conversation(gateway, upstream) as (second, _):
            gateway.pass_time(1.1)
            gateway.until(lambda: len(gateway.outcomes) == 1, "one of the two ends")
            ended = [client for client in (first, second) if client.is_told()]
            assert [client.next()[1][:2] for client in ended] == [(1013).to_bytes(2, "big")]
        with client_of(gateway) as third:
            third.tell(INIT)

            assert third.next() == close_of(1013, "too many requests are in progress")


@pytest.mark.parametrize("is_read_first", [True, False])
def test_a36_a_path_that_changes_its_kind_of_websocket_ends_those_that_are_open(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, is_read_first: bool
) -> None:
    passed_on = "  - {name: live, match: GET /live, upstream: live, allow: {api_key: READ}, websocket: true}\n"
    before, after, code = (GRAPHQL, passed_on, 4403) if is_read_first else (passed_on, GRAPHQL, 1008)
    with opened_gateway(tmp_path_factory, upstream, routes=before) as gateway, RawClient(gateway.port) as raw:
        raw.send(opening(authorization=gateway.keys.a.line))
        client = End(raw, is_client=True)
        if is_read_first:
            raw.read_until(b"\r\n\r\n")
            client.tell(INIT)
            accept(upstream)
        else:
            accept(upstream)
            raw.read_until(b"\r\n\r\n")
        gateway.settle()
        gateway.folder.joinpath("policy.yaml").write_text(POLICY + after)
        gateway.await_(gateway.running.reload_policy())
        gateway.pass_time(1.1)

        assert client.next()[1][:2] == code.to_bytes(2, "big")
        assert ending(gateway) == (Verdict.REFUSED, Reason.UPGRADE_REFUSED, 101)
