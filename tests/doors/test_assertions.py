"""Signed assertions, through whole gateways: who is sent one, what it says, and that it is never the client's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.assembly import CannotStart
from gateway.settings import AssertionSettings
from tests.doors.test_asgi import AsgiServer
from tests.support.assertions import claims_of, jwks_of, kids_of, signed_by, write_key
from tests.support.gateway import POLICY, Key, RunningGateway, running_gateway
from tests.support.manual_clock import ManualClock
from tests.support.raw import Response, exchange
from tests.support.recording_upstream import Recorded
from tests.support.users import accept_users, jwt_of

ASSERTION = b"x-gateway-assertion"
ASSERTED = (
    POLICY.replace("version: 1", "version: 1\ncors: {origins: [https://app.test]}")
    + """\
  - {name: orders, match: GET /orders, upstream: rest, allow: {api_key: READ, user_token: {}}, assertion: orders}
  - {name: orders.add, match: POST /orders, upstream: rest, allow: {api_key: WRITE}, assertion: orders}
  - {name: bills, match: GET /bills, upstream: rest, allow: {api_key: READ}, assertion: "https://bills.test/"}
  - {name: open, match: GET /open, upstream: rest, allow: anyone, assertion: orders}
  - {name: pages, match: GET /pages, upstream: rest, allow: {api_key: READ}, cors: pass, assertion: orders}
  - name: asked
    match: POST /asked
    upstream: rest
    assertion: orders
    graphql:
      fields:
        Query.item: {api_key: READ}
"""
)
TOLD = ("kind", "key_id", "app_id", "user_id", "scopes")
DOORS = ("proxy", "asgi")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, AsgiServer]]:
    folder = tmp_path_factory.mktemp("assertions")
    assertions = AssertionSettings(keys=write_key(folder / "key.pem"))
    clock = ManualClock(time.time())
    with running_gateway(folder, policy=ASSERTED, clock=clock, assertions=assertions) as gateway:
        server = AsgiServer(gateway.settings.model_copy(update={"access_log": str(folder / "asgi.log")})).start()
        yield gateway, server
        server.stop()


@pytest.fixture
def gateway(both: tuple[RunningGateway, AsgiServer]) -> RunningGateway:
    both[0].forget()
    return both[0]


@pytest.fixture
def ports(both: tuple[RunningGateway, AsgiServer]) -> dict[str, int]:
    return {"proxy": both[0].port, "asgi": both[1].port}


def ask(port: int, line: bytes, *fields: bytes, body: bytes = b"") -> Response:
    return exchange(port, b"%b HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n%b" % (line, b"".join(fields), body))


def sent(gateway: RunningGateway) -> Recorded:
    (request,) = gateway.upstream.settled().requests
    gateway.upstream.clear()
    return request


def assertion_of(gateway: RunningGateway) -> bytes:
    (token,) = sent(gateway).values(ASSERTION)
    return token


def asked_of(gateway: RunningGateway, target: bytes, key: Key | None = None) -> bytes:
    """The assertion with one more request of `key`, by default A's."""
    assert ask(gateway.port, b"GET " + target, (key or gateway.keys.a).line).status == 200
    return assertion_of(gateway)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("line", "audience", "route", "body"),
    [
        (b"GET /orders", "orders", "orders", b""),
        (b"HEAD /orders", "orders", "orders", b""),
        (b"GET /bills", "https://bills.test/", "bills", b""),
        (b"POST /orders", "orders", "orders.add", b"Content-Length: 2\r\n\r\nok"),
        (
            b"POST /asked",
            "orders",
            "asked",
            b'Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"query":"{item}"  }',
        ),
    ],
)
def test_the_upstream_is_assured_of_what_the_identity_fields_say(
    gateway: RunningGateway, ports: dict[str, int], door: str, line: bytes, audience: str, route: str, body: bytes
) -> None:
    fields, _, rest = body.partition(b"\r\n\r\n")
    request = b"%b HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n%b" % (
        line,
        gateway.keys.a.line,
        fields + b"\r\n" if fields else b"",
        rest,
    )
    assert exchange(ports[door], request, method=line.split()[0]).status == 200

    request_sent = sent(gateway)
    assert ASSERTION == request_sent.headers[-1][0]
    (token,) = request_sent.values(ASSERTION)
    now = gateway.clock.now() if door == "proxy" else time.time()
    claims = claims_of(token, jwks_of(gateway.running.admin_port), audience, now)
    told = [request_sent.values(b"x-gateway-" + name.replace("_", "-").encode()) for name in TOLD]
    assert told == [[claims[name].encode()] for name in TOLD]
    assert (route, 60, "READ WRITE") == (claims["route"], claims["exp"] - claims["iat"], claims["scopes"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "name", [b"X-Gateway-Assertion", b"x-gateway-assertion", b"X-GATEWAY-ASSERTION", b"x-gateway~assertion"]
)
@pytest.mark.parametrize(("target", "count"), [(b"/orders", 1), (b"/items", 0), (b"/public", 0)])
def test_what_a_client_says_of_it_does_not_pass(
    gateway: RunningGateway, ports: dict[str, int], door: str, name: bytes, target: bytes, count: int
) -> None:
    # C4, C5: neither beside ours nor where there is none of ours.
    mine = name + b": eyJhbGciOiJub25lIn0.e30.\r\n"

    assert ask(ports[door], b"GET " + target, gateway.keys.a.line, mine, mine).status == 200

    request = sent(gateway)
    assert count == len(request.values(ASSERTION)) == request.raw.lower().count(b"assertion")
    assert b"eyJhbGciOiJub25lIn0.e30." not in request.raw


@pytest.mark.parametrize("name", [b"X_Gateway_Assertion", b"x-gateway_assertion"])
def test_with_an_underscore_it_refuses_the_request(gateway: RunningGateway, name: bytes) -> None:
    # C5
    assert ask(gateway.port, b"GET /orders", gateway.keys.a.line, name + b": mine\r\n").status == 400
    assert not gateway.upstream.settled().requests


@pytest.mark.parametrize("door", DOORS)
def test_of_nobody_it_says_nobody(gateway: RunningGateway, ports: dict[str, int], door: str) -> None:
    assert ask(ports[door], b"GET /open").status == 200
    token = assertion_of(gateway)
    now = gateway.clock.now() if door == "proxy" else time.time()
    claims = claims_of(token, jwks_of(gateway.running.admin_port), "orders", now)
    assert [""] * len(TOLD) == [claims[name] for name in TOLD]

    assert ask(ports[door], b"GET /open", gateway.keys.a.line).status == 200
    assert token != assertion_of(gateway)


def test_a_preflight_for_the_upstream_has_none(gateway: RunningGateway) -> None:
    preflight = b"Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n"

    assert ask(gateway.port, b"OPTIONS /pages", preflight).status == 200

    assert [] == sent(gateway).values(ASSERTION)


def test_users_are_told_apart(tmp_path: Path) -> None:
    assertions = AssertionSettings(keys=write_key(tmp_path / "key.pem"))
    with running_gateway(tmp_path, policy=ASSERTED, assertions=assertions) as gateway:
        users = accept_users(gateway)
        said = {}
        for name in ("u-a", "u-b", "u-a"):
            users.let_in(jwt_of(name), name)
            assert ask(gateway.port, b"GET /orders", b"Authorization: Bearer " + jwt_of(name) + b"\r\n").status == 200
            token = assertion_of(gateway)
            claims = claims_of(token, jwks_of(gateway.running.admin_port), "orders", gateway.clock.now())
            assert (name, "user_jwt", "app-1", "", "") == tuple(
                claims[claim] for claim in ("user_id", "kind", "app_id", "key_id", "scopes")
            )
            said[name] = token
        assert said["u-a"] != said["u-b"]


def test_one_signature_serves_half_of_a_minute(gateway: RunningGateway) -> None:
    signed = "bearergate_assertions_signed_total"
    key = gateway.new_key("READ")
    before = gateway.metric(signed)

    first = asked_of(gateway, b"/orders", key)
    gateway.clock.advance(28.0)
    assert first == asked_of(gateway, b"/orders", key)
    assert gateway.metric(signed) == before + 1

    gateway.clock.advance(3.0)
    later = asked_of(gateway, b"/orders", key)
    assert later != first
    claims_of(later, jwks_of(gateway.running.admin_port), "orders", gateway.clock.now() + 28.0)
    assert gateway.metric(signed) == before + 2


def test_neither_the_log_nor_the_client_sees_it(tmp_path: Path) -> None:
    assertions = AssertionSettings(keys=write_key(tmp_path / "key.pem"))
    with running_gateway(tmp_path, policy=ASSERTED, assertions=assertions) as gateway:
        gateway.upstream.script(b"HTTP/1.1 200 OK\r\nX-Gateway-Assertion: echoed\r\nContent-Length: 0\r\n\r\n")
        answer = ask(gateway.port, b"GET /orders", gateway.keys.a.line)
        token = assertion_of(gateway)
        gateway.stop()

        assert answer.status == 200
        assert answer.header(ASSERTION) is None
        assert token.split(b".")[2] not in gateway.log_bytes()


# -- the keys, while it serves


@pytest.fixture
def turning(tmp_path: Path) -> Iterator[tuple[RunningGateway, Path]]:
    """A gateway of the test's own, and the folder of its keys."""
    folder = tmp_path / "keys"
    folder.mkdir()
    write_key(folder / "1.pem")
    with running_gateway(tmp_path, policy=ASSERTED, assertions=AssertionSettings(keys=folder)) as gateway:
        yield gateway, folder


def reload(gateway: RunningGateway) -> tuple[str, ...]:
    return gateway.await_(gateway.running.reload_policy())


def test_a_key_is_published_before_it_signs_and_after_it_has_signed(turning: tuple[RunningGateway, Path]) -> None:
    gateway, folder = turning
    admin = gateway.running.admin_port
    (old,) = kids_of(admin)
    assert old == signed_by(asked_of(gateway, b"/orders"))

    write_key(folder / "2.pem")
    assert reload(gateway) == ()
    first, new = kids_of(admin)
    assert (old, old) == (first, signed_by(asked_of(gateway, b"/orders")))

    (folder / "1.pem").rename(folder / "3.pem")
    assert reload(gateway) == ()
    assert [new, old] == kids_of(admin)
    assert new == signed_by(asked_of(gateway, b"/orders"))

    (folder / "3.pem").unlink()
    assert reload(gateway) == ()
    assert [new] == kids_of(admin)


def test_keys_that_cannot_be_used_change_nothing(
    turning: tuple[RunningGateway, Path], caplog: pytest.LogCaptureFixture
) -> None:
    gateway, folder = turning
    before = jwks_of(gateway.running.admin_port)
    (folder / "1.pem").chmod(0o644)

    assert reload(gateway) == ()

    assert before == jwks_of(gateway.running.admin_port)
    assert before["keys"][0]["kid"] == signed_by(asked_of(gateway, b"/orders"))
    assert "keys of assertions not read again, the old ones stay in use" in caplog.text
    assert "1.pem` is open to every user of the machine; run `chmod o= " in caplog.text


def test_what_is_published_may_be_kept_for_a_while(turning: tuple[RunningGateway, Path]) -> None:
    gateway, _ = turning
    answer = ask(gateway.running.admin_port, b"GET /.well-known/jwks.json")

    assert answer.status == 200
    assert answer.header(b"cache-control") == b"max-age=300"
    assert answer.header(b"content-type") == b"application/jwk-set+json"
    assert answer.header(b"x-content-type-options") == b"nosniff"
    assert all("d" not in entry for entry in json.loads(answer.body)["keys"])


def test_a_policy_that_asks_for_what_nobody_can_sign_is_not_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.settings.policy.write_text(ASSERTED, "utf-8")
        told = (
            "policy: route `orders` (and 5 more) has an `assertion`, and the settings have no key to sign it with; "
            "set `assertions.keys` to a PEM file or a folder of them, or take `assertion` out",
        )

        assert told == reload(gateway)

        assert told[0] in caplog.text
        assert ask(gateway.port, b"GET /orders", gateway.keys.a.line).status == 404
        assert ask(gateway.running.admin_port, b"GET /.well-known/jwks.json").status == 404


@pytest.mark.parametrize("keys", [None, "none.pem"])
def test_nor_does_a_gateway_start_with_it(tmp_path: Path, keys: str | None) -> None:
    settings: dict[str, Any] = {} if keys is None else {"assertions": AssertionSettings(keys=tmp_path / keys)}
    said = "the settings have no key to sign it with" if keys is None else "none.pem` cannot be read"

    with pytest.raises(CannotStart, match=said), running_gateway(tmp_path, policy=ASSERTED, **settings):
        pass
