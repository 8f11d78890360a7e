"""The conversation of a GraphQL WebSocket: what may be said, in which order, and what goes on (G39, G40)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.graphql.socket import (
    MAX_ID_CHARACTERS,
    Action,
    Ask,
    Begin,
    Conversation,
    End,
    SocketProtocol,
    ToClient,
    ToUpstream,
    chosen_protocol,
)

NEW, OLD = SocketProtocol.TRANSPORT_WS, SocketProtocol.LEGACY
QUERY = {"query": "{a}"}
ACK = b'{"type":"connection_ack"}'


def text(**members: Any) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


INIT = text(type="connection_init")


def begun(protocol: SocketProtocol = NEW) -> Conversation:
    conversation = Conversation(protocol, takes_token=False)
    assert isinstance(conversation.from_client(INIT), Begin)
    return conversation


def opened(protocol: SocketProtocol = NEW) -> Conversation:
    conversation = begun(protocol)
    assert conversation.from_upstream(ACK) == ToClient(ACK)
    return conversation


def live(protocol: SocketProtocol = NEW, operation_id: str = "1") -> Conversation:
    """With one operation that was let through."""
    conversation = opened(protocol)
    kind = "subscribe" if protocol is NEW else "start"
    ask = conversation.from_client(text(id=operation_id, type=kind, payload=QUERY))
    assert isinstance(ask, Ask)
    conversation.let_through(ask, b'{"query":"{a}"}')
    return conversation


def code_of(action: Action | None) -> int:
    assert isinstance(action, End)
    return action.code


@pytest.mark.parametrize(
    ("offered", "protocol"),
    [
        (b"graphql-transport-ws", NEW),
        (b"graphql-ws", OLD),
        (b"chat , graphql-ws,graphql-transport-ws", OLD),
        (b"graphql-transport-ws\t,graphql-ws", NEW),
        (b"GraphQL-WS", None),
        (b"graphql", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_first_offer_that_is_known_is_spoken(offered: bytes | None, protocol: SocketProtocol | None) -> None:
    assert chosen_protocol(offered) is protocol


@pytest.mark.parametrize("protocol", SocketProtocol)
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'"connection_init"',
        b"{",
        b"\xff",
        b"{}",
        b'{"type":1}',
        b'{"type":"subscribed"}',
        b'{"type":"connection_init","type":"connection_init"}',
        b'{"type":"connection_init","payload":{"a":1,"a":2}}',
        b'{"type":"connection_init","payload":[]}',
        b'{"type":"connection_init","payload":"x"}',
        b'{"type":"connection_init","id":"1"}',
        b'{"type":"connection_init","extra":1}',
        b'{"type":"connection_ack"}',
        b'{"type":"connection_init","payload":' + b'{"a":' * 70 + b"1" + b"}" * 71,
    ],
)
def test_a_message_that_is_not_of_the_protocol_ends_it(protocol: SocketProtocol, said: bytes) -> None:
    assert code_of(Conversation(protocol, takes_token=True).from_client(said)) == 4400


@pytest.mark.parametrize(
    ("protocol", "members"),
    [
        (NEW, {"type": "subscribe", "payload": QUERY}),
        (NEW, {"type": "subscribe", "id": "", "payload": QUERY}),
        (NEW, {"type": "subscribe", "id": 1, "payload": QUERY}),
        (NEW, {"type": "subscribe", "id": "x" * (MAX_ID_CHARACTERS + 1), "payload": QUERY}),
        (NEW, {"type": "subscribe", "id": "1"}),
        (NEW, {"type": "subscribe", "id": "1", "payload": [QUERY]}),
        (NEW, {"type": "complete"}),
        (NEW, {"type": "complete", "id": "1", "payload": {}}),
        (NEW, {"type": "start", "id": "1", "payload": QUERY}),
        (NEW, {"type": "stop", "id": "1"}),
        (NEW, {"type": "connection_terminate"}),
        (NEW, {"type": "ping", "id": "1"}),
        (OLD, {"type": "subscribe", "id": "1", "payload": QUERY}),
        (OLD, {"type": "complete", "id": "1"}),
        (OLD, {"type": "ping"}),
        (OLD, {"type": "connection_terminate", "payload": {}}),
    ],
)
def test_a_message_of_the_other_protocol_or_of_another_shape_ends_it(
    protocol: SocketProtocol, members: dict[str, Any]
) -> None:
    assert code_of(opened(protocol).from_client(text(**members))) == 4400


@pytest.mark.parametrize(("protocol", "kind"), [(NEW, "subscribe"), (OLD, "start")])
def test_g40_nothing_is_asked_before_the_init(protocol: SocketProtocol, kind: str) -> None:
    conversation = Conversation(protocol, takes_token=True)

    assert code_of(conversation.from_client(text(id="1", type=kind, payload=QUERY))) == 4401


def test_g40_nothing_is_subscribed_before_the_init_is_acknowledged() -> None:
    assert code_of(begun().from_client(text(id="1", type="subscribe", payload=QUERY))) == 4401


def test_clients_of_the_older_protocol_start_without_waiting() -> None:
    assert begun(OLD).from_client(text(id="1", type="start", payload=QUERY)) == Ask("1", b'{"query":"{a}"}')


@pytest.mark.parametrize("protocol", SocketProtocol)
def test_a_second_init_ends_it(protocol: SocketProtocol) -> None:
    assert code_of(begun(protocol).from_client(INIT)) == 4429
    assert code_of(opened(protocol).from_client(INIT)) == 4429


@pytest.mark.parametrize(("protocol", "kind"), [(NEW, "subscribe"), (OLD, "start")])
def test_an_id_that_is_in_use_ends_it(protocol: SocketProtocol, kind: str) -> None:
    assert code_of(live(protocol).from_client(text(id="1", type=kind, payload=QUERY))) == 4409


@pytest.mark.parametrize(
    ("payload", "sent", "authorization"),
    [
        (None, b'{"type":"connection_init"}', None),
        ({}, b'{"type":"connection_init","payload":{}}', None),
        ({"app": "x", "n": 1}, b'{"type":"connection_init","payload":{"app":"x","n":1}}', None),
        ({"Authorization": "Bearer t"}, b'{"type":"connection_init","payload":{}}', b"Bearer t"),
        ({"authorization": "Bearer t", "a": 1}, b'{"type":"connection_init","payload":{"a":1}}', b"Bearer t"),
        (
            {"headers": {"Authorization": "Bearer t", "b": 2}},
            b'{"type":"connection_init","payload":{"headers":{"b":2}}}',
            b"Bearer t",
        ),
        ({"headers": "x"}, b'{"type":"connection_init","payload":{"headers":"x"}}', None),
    ],
)
def test_the_token_of_an_init_goes_no_further(
    payload: dict[str, Any] | None, sent: bytes, authorization: bytes | None
) -> None:
    init = text(type="connection_init", payload=payload)

    assert Conversation(NEW, takes_token=True).from_client(init) == Begin(sent, authorization)


@pytest.mark.parametrize(
    "name",
    [
        "x-gateway-user-id",
        "X_Gateway_User_Id",
        "X-API-Key",
        "x-forwarded-for",
        "X_FORWARDED_FOR",
        "Host",
        "Connection",
        "x-http-method-override",
        "authorization!",
        "a b",
        "",
    ],
)
def test_what_no_header_may_say_no_init_says_either(name: str) -> None:
    init = text(type="connection_init", payload={name: "x", "headers": {name: "x", "ok": "y"}})

    expected = Begin(b'{"type":"connection_init","payload":{"headers":{"ok":"y"}}}', None)
    assert Conversation(NEW, takes_token=True).from_client(init) == expected


@pytest.mark.parametrize(
    "payload",
    [
        {"Authorization": "Bearer a", "authorization": "Bearer a"},
        {"Authorization": "Bearer a", "headers": {"authorization": "Bearer b"}},
        {"Authorization": ["Bearer a"]},
        {"Authorization": None, "headers": {"Authorization": "Bearer b"}},
    ],
)
def test_an_init_with_more_than_one_credential_or_none_of_a_kind_ends_it(payload: dict[str, Any]) -> None:
    init = text(type="connection_init", payload=payload)

    assert code_of(Conversation(NEW, takes_token=True).from_client(init)) == 4400


def test_a_credential_where_none_is_taken_ends_it() -> None:
    init = text(type="connection_init", payload={"Authorization": "Bearer a"})

    assert code_of(Conversation(NEW, takes_token=False).from_client(init)) == 4400


def test_what_begins_a_conversation_shows_no_token() -> None:
    assert "secret" not in repr(Begin(b"", b"Bearer secret"))


def test_an_operation_is_sent_as_it_was_judged() -> None:
    conversation = opened()
    ask = conversation.from_client(b'{"id": "\\u0031\\"", "type": "subscribe", "payload": {"query": "{a b}"}}')

    assert ask == Ask('1"', b'{"query":"{a b}"}')
    sent = conversation.let_through(ask, b'{"query":"{a}"}')
    assert sent == b'{"id":"1\\"","type":"subscribe","payload":{"query":"{a}"}}'
    assert conversation.live == {'1"': ask}


def test_an_operation_of_the_older_protocol_is_started() -> None:
    conversation = opened(OLD)
    ask = conversation.from_client(text(id="1", type="start", payload=QUERY))
    assert isinstance(ask, Ask)

    assert conversation.let_through(ask, b"{}") == b'{"id":"1","type":"start","payload":{}}'


@pytest.mark.parametrize(("protocol", "kind"), [(NEW, "complete"), (OLD, "stop")])
def test_a_client_ends_only_what_is_open(protocol: SocketProtocol, kind: str) -> None:
    conversation = live(protocol)
    end = text(id="1", type=kind)

    assert conversation.from_client(end) == ToUpstream(end)
    assert conversation.live == {}
    assert conversation.from_client(end) is None
    assert conversation.from_upstream(text(id="1", type="next" if protocol is NEW else "data")) is None


def test_pings_before_the_upstream_is_there_are_answered_here() -> None:
    for conversation in (Conversation(NEW, takes_token=True), begun()):
        assert conversation.from_client(text(type="ping", payload={"a": 1})) == ToClient(b'{"type":"pong"}')
        assert conversation.from_client(text(type="pong")) is None


def test_pings_and_pongs_go_both_ways_once_it_is() -> None:
    conversation = opened()

    ping = text(type="ping", payload={"a": 1})
    assert conversation.from_client(ping) == ToUpstream(ping)
    assert conversation.from_client(b'{"payload":null,"type":"pong"}') == ToUpstream(b'{"type":"pong"}')
    assert conversation.from_upstream(ping) == ToClient(ping)


def test_the_older_protocol_has_an_end_of_its_own() -> None:
    assert code_of(opened(OLD).from_client(text(type="connection_terminate"))) == 1000


@pytest.mark.parametrize(
    ("protocol", "members"), [(OLD, {"type": "ka"}), (OLD, {"type": "connection_error", "payload": {"a": 1}})]
)
def test_what_is_said_of_no_operation_passes(protocol: SocketProtocol, members: dict[str, Any]) -> None:
    assert begun(protocol).from_upstream(text(**members)) == ToClient(text(**members))


@pytest.mark.parametrize(("protocol", "kind"), [(NEW, "next"), (OLD, "data")])
def test_only_answers_to_what_was_let_through_pass(protocol: SocketProtocol, kind: str) -> None:
    conversation = live(protocol)
    answer = text(id="1", type=kind, payload={"data": {"a": 1}})

    assert conversation.from_upstream(answer) == ToClient(answer)
    assert conversation.from_upstream(text(id="2", type=kind, payload={})) is None
    assert conversation.from_upstream(text(type=kind, payload={})) is None
    assert conversation.live.keys() == {"1"}


@pytest.mark.parametrize("protocol", SocketProtocol)
@pytest.mark.parametrize("kind", ["error", "complete"])
def test_an_operation_ends_with_its_last_answer(protocol: SocketProtocol, kind: str) -> None:
    conversation = live(protocol)
    last = text(id="1", type=kind, payload=[{"message": "x"}])

    assert conversation.from_upstream(last) == ToClient(last)
    assert conversation.live == {}
    assert conversation.from_upstream(last) is None


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"type":1}', b'{"type":"data","id":"1"}', b'{"type":"new"}', b'{"id":"1"}', ACK]
)
def test_an_upstream_that_says_something_else_ends_it(said: bytes) -> None:
    assert opened().from_upstream(said) == End(0, "a message that is not of the protocol", is_upstreams=True)


def test_nothing_is_acknowledged_before_it_was_asked() -> None:
    said = Conversation(NEW, takes_token=False).from_upstream(ACK)

    assert isinstance(said, End)
    assert said.is_upstreams


def test_a_refusal_is_told_as_each_protocol_has_it() -> None:
    errors: list[object] = [{"message": "no"}]

    told = [json.loads(opened(protocol).refused("1", errors)) for protocol in (NEW, OLD)]
    assert told == [
        {"id": "1", "type": "error", "payload": [{"message": "no"}]},
        {"id": "1", "type": "error", "payload": {"message": "no"}},
    ]


@pytest.mark.parametrize(("protocol", "kind"), [(NEW, "complete"), (OLD, "stop")])
def test_what_is_no_longer_allowed_is_ended_at_the_upstream(protocol: SocketProtocol, kind: str) -> None:
    conversation = live(protocol)

    assert json.loads(conversation.taken_back("1")) == {"id": "1", "type": kind}
    assert conversation.live == {}
