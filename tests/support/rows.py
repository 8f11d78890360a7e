"""One row of a threat table: the bytes that are sent, and everything that must follow from them.

`<key:a>` in the bytes stands for the token of the key of that name, `<id:a>` and `<secret:a>` for its parts. A row is
played whole, in two parts and byte by byte, and must end alike each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from gateway.core.answers import public_code
from tests.support.gateway import Key, RunningGateway
from tests.support.raw import RawClient, Response, Sending

HOST: Final = b"Host: gateway.test\r\n"
AUTHORIZATION: Final = b"Authorization: Bearer <key:a>\r\n"

NO_ANSWER: Final = 0
"""The connection is closed without a word."""

_SLOW_BYTES: Final = 2048
"""Longer rows are not played byte by byte."""

_KEY: Final = re.compile(rb"<key:([a-z]+)>")
_SECRET: Final = re.compile(rb"<secret:([a-z]+)>")
_KEY_ID: Final = re.compile(rb"<id:([a-z]+)>")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The one request that the upstream must be sent, but for what the gateway adds to every one."""

    target: bytes
    client: Sequence[tuple[bytes, bytes]] = ()
    """The header fields that are passed on of the client's own, in order."""
    framing: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    method: bytes = b"GET"
    key: str = "a"
    """Whose identity it has; empty for nobody's."""
    host: bytes = b"gateway.test"


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The upstream may have been sent the beginning of one request, and never its end."""


INCOMPLETE: Final = Incomplete()


@dataclass(frozen=True, slots=True)
class Row:
    """`id` begins with the number of the threat that it belongs to."""

    id: str
    sent: bytes
    status: int
    reason: str = ""
    """The label of the reason, as it is logged; empty to leave it open."""
    asks_keys: bool = True
    """Whether the key cache may be asked at all."""
    closes: bool = True
    forwarded: Forwarded | Incomplete | None = None
    """None: nothing at all."""
    finishes: bool = False
    """The client closes its side after it has sent."""
    allow: bytes = b""
    """What `Allow` must say."""

    def __str__(self) -> str:
        return self.id


def request(
    line: bytes, *fields: bytes, body: bytes = b"", host: bytes = HOST, authorization: bytes = AUTHORIZATION
) -> bytes:
    """A request with a good `Host` and credential, unless told otherwise; `fields` are lines without CRLF."""
    return line + b"\r\n" + host + authorization + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def get(target: bytes, *fields: bytes, **overrides: bytes) -> bytes:
    """A GET of `target`."""
    return request(b"GET " + target + b" HTTP/1.1", *fields, **overrides)


def post(*fields: bytes, body: bytes = b"", target: bytes = b"/items", **overrides: bytes) -> bytes:
    """A POST to `target`; its framing is among the fields."""
    return request(b"POST " + target + b" HTTP/1.1", *fields, body=body, **overrides)


def with_keys(gateway: RunningGateway, data: bytes) -> bytes:
    """`data` with tokens and key ids in place of their names."""
    data = _KEY.sub(lambda match: key_named(gateway, match.group(1).decode()).token, data)
    data = _SECRET.sub(lambda match: key_named(gateway, match.group(1).decode()).token.partition(b".")[2], data)
    return _KEY_ID.sub(lambda match: key_named(gateway, match.group(1).decode()).key_id, data)


def key_named(gateway: RunningGateway, name: str) -> Key:
    key = getattr(gateway.keys, name)
    assert isinstance(key, Key)
    return key


def play(gateway: RunningGateway, row: Row) -> None:
    """Plays the row in every way of sending, and checks everything each time."""
    for sending in Sending:
        if sending is Sending.BYTE_BY_BYTE and len(row.sent) > _SLOW_BYTES:
            continue
        try:
            _play(gateway, row, sending)
        except AssertionError as fault:
            message = f"{row.id}, sent {sending.value}: {with_keys(gateway, row.sent)[:300]!r}: {fault}"
            raise AssertionError(message) from fault


def _play(gateway: RunningGateway, row: Row, sending: Sending) -> None:
    gateway.forget()
    lookups = gateway.key_lookups
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, row.sent), sending)
        if row.finishes:
            client.finish()
        response = None
        if row.status == NO_ANSWER:
            assert client.read_to_end() == b""
        else:
            response = client.read(row.sent.partition(b" ")[0])
            check_answer(response, row)
            if row.closes:
                assert client.is_ended(), "more came after the answer that should have been the last"
            else:
                check_goes_on(client)
    gateway.settle()
    check_forwarded(gateway, row.forwarded, response)
    check_outcome(gateway, row, response)
    assert row.asks_keys or gateway.key_lookups == lookups


def check_outcome(gateway: RunningGateway, row: Row, response: Response | None) -> None:
    """Each request is counted and logged once, with what the client was told and the whole reason."""
    if response is None:
        return
    outcome = gateway.outcomes[0]
    assert (outcome.ref.encode(), outcome.status) == (response.ref, response.status)
    assert len(gateway.outcomes) == (1 if row.closes else 2)
    if row.reason:
        assert outcome.reason is not None
        assert outcome.reason.label == row.reason
    if not isinstance(row.forwarded, Forwarded) and response.body:
        assert outcome.reason is not None
        assert response.reason == public_code(outcome.reason)


def check_answer(response: Response, row: Row) -> None:
    assert response.status == row.status, (response.status, response.body)
    assert response.says_close == row.closes, response.head
    if not isinstance(row.forwarded, Forwarded):
        check_own_answer(response)
    if row.status == 405:
        assert response.header(b"allow"), response.head
    if row.allow:
        assert response.header(b"allow") == row.allow


def check_own_answer(response: Response) -> None:
    """What holds of every answer that the gateway makes itself."""
    assert response.status >= 400
    assert response.header(b"cache-control") == b"no-store"
    assert response.values(b"vary")[0] == b"authorization"
    assert response.header(b"server") is None
    if response.body:  # HEAD has none
        assert response.reason, response.body
        assert response.ref in response.body
    if response.status == 401:
        challenge = response.header(b"www-authenticate")
        assert challenge is not None, response.head
        assert challenge.startswith(b'Bearer realm="')


def check_goes_on(client: RawClient) -> None:
    """The connection is in step: the next request on it is answered as itself."""
    client.send(get(b"/items", authorization=b""))
    following = client.read()
    assert (following.status, following.reason) == (401, "credential_missing")


def check_forwarded(
    gateway: RunningGateway, forwarded: Forwarded | Incomplete | None, response: Response | None
) -> None:
    upstream = gateway.upstream
    assert upstream.faults == []
    if forwarded is None:
        assert upstream.received_bytes == 0, [bytes(connection.received) for connection in upstream.connections]
        return
    if isinstance(forwarded, Incomplete):
        upstream.wait_until(
            lambda: not any(connection.is_open for connection in upstream.connections if connection.received),
            "the end of the unfinished request's connection",
        )
        assert upstream.requests == []
        return

    assert len(upstream.requests) == 1, upstream.requests
    assert response is not None
    sent = upstream.requests[0]
    key = key_named(gateway, forwarded.key) if forwarded.key else None
    expected = gateway.head_fields(
        key,
        client=[(name, with_keys(gateway, value)) for name, value in forwarded.client],
        framing=list(forwarded.framing),
        host=forwarded.host,
        ref=response.ref,
    )
    assert (sent.method, sent.target) == (forwarded.method, forwarded.target)
    assert sent.headers == expected
    assert sent.body == forwarded.body
    assert upstream.received_bytes == len(sent.raw), "bytes beyond the request"


def numbers_covered(module: ModuleType, rows: Iterable[Row], group: str) -> set[str]:
    """Which threats of `group` have a row, or a test function whose name begins with their numbers."""
    covered = {row.id.partition("-")[0] for row in rows}
    for name in vars(module):
        if name.startswith("test_"):
            for part in name.removeprefix("test_").split("_"):
                if not re.fullmatch(rf"{group.lower()}[0-9]+", part):
                    break
                covered.add(part.upper())
    return covered
