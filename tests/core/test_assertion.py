"""What an upstream is assured of: by whom it is called, on which route, for whom that is meant and until when."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gateway.core.assertion import ASSERTION_FIELD, Assertions
from gateway.core.credential import CredentialKind
from gateway.core.outgoing import IDENTITY_FIELDS, IdentityLines, peer_lines, request_head
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.scopes import Scope, ScopeRegistry
from tests.core.samples import SCOPES, facts, parsed_by_h11, principal, route, user

NOW = 1_900_000_000.75
ORDERS = dataclasses.replace(route("orders.list"), assertion="orders")
BILLS = dataclasses.replace(route("bills.list"), assertion="bills")
OPEN = dataclasses.replace(route("open", is_public=True), assertion="orders")
WHO = principal("read_users", "users:write", "gone")
START = b"\r\n" + ASSERTION_FIELD + b": "


def plainly(claims: bytes) -> bytes:
    """In the place of a signature."""
    return b"signed." + claims


def made(lifetime: int = 60) -> Assertions:
    return Assertions(plainly, "bearergate", lifetime)


def claims_of(line: bytes) -> dict[str, object]:
    assert line.startswith(START + b"signed.")
    claims: dict[str, object] = json.loads(line[len(START + b"signed.") :])
    return claims


def test_an_assertion_says_all_of_this() -> None:
    assert {
        "iss": "bearergate",
        "aud": "orders",
        "iat": 1_900_000_000,
        "exp": 1_900_000_060,
        "route": "orders.list",
        "kind": "api_key",
        "key_id": "ek5Tq0aVb81LmZc",
        "app_id": "app-1",
        "user_id": "",
        "scopes": "users:read users:write",
    } == claims_of(made().line(WHO, ORDERS, SCOPES, NOW))


@pytest.mark.parametrize(
    "who",
    [
        WHO,
        principal(kind=CredentialKind.LEGACY_KEY),
        user("u-1", "users:read"),
        user('u"1\\', kind=CredentialKind.USER_OPAQUE),
        None,
    ],
)
def test_it_says_of_the_caller_what_the_identity_fields_say(who: Principal | None) -> None:
    lines = IdentityLines(SCOPES).of(who).split(b"\r\n")
    told = [line.partition(b": ")[2].decode() for line in lines[:-1]]

    claims = claims_of(made().line(who, OPEN, SCOPES, NOW))

    assert told == [claims[name] for name in ("kind", "key_id", "app_id", "user_id", "scopes")]


def test_it_stands_last_in_the_head_and_what_a_client_sends_of_it_does_not_pass() -> None:
    read = facts((b"X-Gateway-Assertion", b"mine"), (b"x-gateway-assertion", b"mine"))
    line = made().line(WHO, ORDERS, SCOPES, NOW)

    head = request_head(
        read, b"a", peer_lines(b"192.0.2.7", b"https"), IdentityLines(SCOPES).of(WHO), b"ref", None, line
    )

    headers = list(parsed_by_h11(head)[0].headers)
    assert [(IDENTITY_FIELDS[-1], b"ref"), (ASSERTION_FIELD, line[len(START) :])] == headers[-2:]
    assert b"mine" not in head


@pytest.mark.parametrize(
    ("who", "on"),
    [
        (WHO, route()),
        (None, route(is_public=True)),
        # A preflight that the upstream answers: let through, without anybody having been.
        (None, ORDERS),
    ],
)
def test_where_nobody_asks_for_one_or_nobody_was_let_in_there_is_none(who: Principal | None, on: Route) -> None:
    assertions = made()

    assert assertions.line(who, on, SCOPES, NOW) == b""
    assert assertions.signed == 0


@pytest.mark.parametrize("who", [WHO, user("u-1"), None])
def test_it_is_sent_again_for_half_of_its_life_by_the_wall_clock(who: Principal | None) -> None:
    assertions = made(60)
    first = assertions.line(who, OPEN, SCOPES, NOW)

    assert first is assertions.line(who, OPEN, SCOPES, 1_900_000_029.999)
    assert assertions.signed == 1
    later = claims_of(assertions.line(who, OPEN, SCOPES, 1_900_000_030.0))
    assert (later["iat"], later["exp"]) == (1_900_000_030, 1_900_000_090)
    # A clock that was set back: it would not be good yet.
    earlier = claims_of(assertions.line(who, OPEN, SCOPES, 1_900_000_029.0))
    assert earlier["iat"] == 1_900_000_029
    assert assertions.signed == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WHO, principal(key_id="another")),
        # The same id, and another record of it: scopes, App and kind are what it says now.
        (WHO, principal("users:read")),
        (WHO, dataclasses.replace(WHO)),
        (user("u-1"), user("u-1", app_id="app-2")),
        (user("u-1"), user("u-2")),
        # A key whose id is a user's.
        (user("ek5Tq0aVb81LmZc"), WHO),
        (None, WHO),
    ],
)
def test_no_caller_is_given_what_was_written_for_another(one: Principal | None, other: Principal | None) -> None:
    # The same id is not the same caller.
    assertions = made()
    for who in (one, other, one, other):
        wanted = claims_of(made().line(who, OPEN, SCOPES, NOW))

        assert wanted == claims_of(assertions.line(who, OPEN, SCOPES, NOW))

    assert assertions.signed >= 2


def test_no_upstream_is_given_what_was_written_for_another() -> None:
    assertions = made()

    for on in (ORDERS, BILLS, ORDERS, BILLS):
        claims = claims_of(assertions.line(WHO, on, SCOPES, NOW))
        assert (on.assertion, on.name) == (claims["aud"], claims["route"])
    assert assertions.signed == 2


def test_a_route_of_another_policy_is_written_for_anew() -> None:
    assertions = made()
    renamed = ScopeRegistry((Scope("USERS_READ", "read users", aliases=("read_users",)),))
    moved = dataclasses.replace(ORDERS, assertion="orders-2")
    assertions.line(WHO, ORDERS, SCOPES, NOW)

    claims = claims_of(assertions.line(WHO, moved, renamed, NOW))

    assert ("orders-2", "USERS_READ") == (claims["aud"], claims["scopes"])


def test_another_key_signs_at_once() -> None:
    assertions = made()
    callers = (WHO, user("u-1"))
    for who in callers:
        assertions.line(who, ORDERS, SCOPES, NOW)

    assertions.sign_with(lambda claims: b"other")

    assert {START + b"other"} == {assertions.line(who, ORDERS, SCOPES, NOW) for who in callers}


@pytest.mark.parametrize(
    ("limit", "crowd"),
    [
        (Assertions.LIMIT, lambda number: principal(key_id=f"k{number}")),
        (Assertions.USERS_LIMIT, lambda number: user(f"u{number}")),
    ],
)
def test_what_is_remembered_is_bounded_and_users_take_no_place_from_keys(limit: int, crowd: object) -> None:
    assert callable(crowd)
    assertions = made()
    apart = user("apart") if limit == Assertions.LIMIT else principal(key_id="apart")
    held = [apart, *(crowd(number) for number in range(limit))]
    for who in held:
        assertions.line(who, ORDERS, SCOPES, NOW)
    assert assertions.signed == limit + 1
    assertions.line(held[1], ORDERS, SCOPES, NOW)
    assert assertions.signed == limit + 1

    assertions.line(crowd(limit), ORDERS, SCOPES, NOW)
    assertions.line(apart, ORDERS, SCOPES, NOW)
    assert assertions.signed == limit + 2
    assertions.line(held[1], ORDERS, SCOPES, NOW)
    assert assertions.signed == limit + 3
