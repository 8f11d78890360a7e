"""Group F, user tokens: what an issuer has signed for us and now is a user; all else is one and the same 401."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.assembly.keys import open_key_service
from gateway.token_settings import IssuerSettings
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.manual_clock import ManualClock
from tests.support.raw import Response, exchange
from tests.tokens.support import (
    AUDIENCE,
    EC_KEY,
    ISS,
    JWKS,
    OTHER_EC_KEY,
    encoded,
    jwk,
    jwks,
    raw_token,
    token,
)

USERS = (
    POLICY
    + """\
  - {name: me, match: GET /me, upstream: rest, allow: {user_token: {}}}
  - name: own
    match: GET /own/{user_id}
    upstream: rest
    allow: {user_token: {subject: path.user_id}, api_key: READ}
"""
)


def issuer(**changes: Any) -> IssuerSettings:
    return IssuerSettings(**{"issuer": ISS, "audience": AUDIENCE, "app_claim": "client_id", **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("users")
    folder.joinpath("jwks.json").write_bytes(JWKS)
    accounts = issuer(jwks_file=folder / "jwks.json")
    with running_gateway(folder, policy=USERS, issuers={"accounts": accounts}) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared: RunningGateway) -> RunningGateway:
    shared.forget()
    return shared


def user_token(
    gateway: RunningGateway, kid: str = "ec", header: Mapping[str, object] | None = None, **claims: Any
) -> bytes:
    """A good token of App A, by the gateway's clock, but for the changes."""
    now = int(gateway.clock.now())
    given = {"client_id": gateway.keys.a.app_id.decode(), "iat": now - 10, "exp": now + 600, **claims}
    return token(kid, header, **given)


def ask(gateway: RunningGateway, text: bytes, target: bytes = b"/me") -> Response:
    head = b"GET %b HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer %b\r\n\r\n" % (target, text)
    return exchange(gateway.running.proxy_port, head)


def later(gateway: RunningGateway, seconds: float) -> None:
    """Time passes, and the change feed is read meanwhile."""
    gateway.clock.advance(seconds)
    gateway.read_changes()


def forwarded(gateway: RunningGateway) -> int:
    gateway.settle()
    return len(gateway.upstream.requests)


def test_a_user_reaches_what_users_may_and_the_upstream_hears_who_it_is(gateway: RunningGateway) -> None:
    answer = ask(gateway, user_token(gateway, sub="user-7", scope="READ ADMIN"))

    assert 200 == answer.status
    gateway.settle()
    (request,) = gateway.upstream.requests
    assert {
        b"x-gateway-kind": b"user_jwt",
        b"x-gateway-key-id": b"",
        b"x-gateway-app-id": gateway.keys.a.app_id,
        b"x-gateway-user-id": b"user-7",
        b"x-gateway-scopes": b"",
    } == {name: value for name, value in request.headers if name.startswith(b"x-gateway-") and name[-5:] != b"st-id"}
    assert not [name for name, _ in request.headers if name == b"authorization"]


def bad_tokens(gateway: RunningGateway) -> dict[str, bytes]:
    """One for each way to be bad."""
    good = user_token(gateway)
    header, payload, made = good.split(b".")
    now = int(gateway.clock.now())
    claims = {"iss": ISS, "aud": AUDIENCE, "sub": "u", "client_id": "a", "iat": now, "exp": now + 60}
    body = json.dumps(claims).encode()
    return {
        "F1 none": encoded(b'{"alg":"none","kid":"ec","typ":"JWT"}') + b"." + payload + b"." + made,
        "F2 hmac": encoded(b'{"alg":"HS256","kid":"ec","typ":"JWT"}') + b"." + payload + b"." + made,
        "F3 algorithm": raw_token(b'{"alg":"ES512","kid":"ec","typ":"JWT"}', body),
        "F4 jwk": user_token(gateway, header={"jwk": jwk(OTHER_EC_KEY, "ec")}),
        "F5 jku": user_token(gateway, header={"jku": "http://127.0.0.1:9/"}),
        "F6 x5c": user_token(gateway, header={"x5c": ["MIIB"]}),
        "F7 kid": user_token(gateway, header={"kid": "../../dev/null"}),
        "F14 crit": user_token(gateway, header={"crit": ["b64"], "b64": False}),
        "F15 typ": user_token(gateway, header={"typ": "logout+jwt"}),
        "F16 zip": user_token(gateway, header={"zip": "DEF"}),
        "F19 spelling": good[:-1] + bytes((good[-1] ^ 1,)),
        "F20 zeros": header + b"." + payload + b"." + encoded(bytes(64)),
        "F21 expired": user_token(gateway, iat=now - 100, exp=now - 30),
        "F22 exp": user_token(gateway, exp=str(now + 60)),
        "F23 early": user_token(gateway, nbf=now + 100),
        "F23 lifetime": user_token(gateway, exp=now + 8 * 86_400),
        "F24 audience": user_token(gateway, aud=[AUDIENCE + "/"]),
        "F25 issuer": user_token(gateway, iss=ISS + "/"),
        "F26 subject": user_token(gateway, sub="../admin"),
        "F27 twice": raw_token(b'{"alg":"ES256","kid":"ec","typ":"JWT"}', body[:-1] + b',"sub":"admin"}'),
        "F28 array": raw_token(b'{"alg":"ES256","kid":"ec","typ":"JWT"}', b"[" + body + b"]"),
        "F33 unknown App": user_token(gateway, client_id="no-such-app"),
        "F38 swapped": header + b"." + user_token(gateway, sub="admin").split(b".")[1] + b"." + made,
        "another key": raw_token(b'{"alg":"ES256","kid":"ec","typ":"JWT"}', body, OTHER_EC_KEY),
    }


def test_f1_f2_f3_f4_f5_f6_f40_every_bad_token_is_one_and_the_same_401_and_nothing_is_sent(
    gateway: RunningGateway,
) -> None:
    heard = set()
    for name, text in bad_tokens(gateway).items():
        answer = ask(gateway, text)
        body = answer.json()
        assert 401 == answer.status, name
        assert b'error="invalid_token"' in (answer.header(b"www-authenticate") or b""), name
        heard.add((body["title"], body.get("detail"), answer.header(b"www-authenticate")))
        assert not any(part in answer.head + answer.body for part in text.split(b".") if len(part) > 8), name

    assert 1 == len(heard)
    assert 0 == forwarded(gateway)


def test_f37_a_token_of_more_than_8_kib_is_refused(gateway: RunningGateway) -> None:
    answer = ask(gateway, user_token(gateway, filler="x" * 6_200))

    # A field of that size ends the request before anybody looks for a token in it.
    assert 431 == answer.status
    assert 0 == forwarded(gateway)


def test_f30_a_user_token_reaches_no_route_for_keys_and_a_key_none_for_users(gateway: RunningGateway) -> None:
    assert (403, "kind_not_allowed") == _told(ask(gateway, user_token(gateway, scope="READ"), b"/items"))
    assert (403, "kind_not_allowed") == _told(ask(gateway, gateway.keys.a.token))
    assert 0 == forwarded(gateway)


@pytest.mark.parametrize("target", [b"/own/user-2", b"/own/USER-1", b"/own/user-1%20", b"/own/me", b"/own/0user-1"])
def test_f31_f32_a_user_reaches_nobody_else(gateway: RunningGateway, target: bytes) -> None:
    assert (404, "route_unknown") == _told(ask(gateway, user_token(gateway), target))
    assert 0 == forwarded(gateway)


def test_f31_a_user_reaches_what_is_their_own(gateway: RunningGateway) -> None:
    assert 200 == ask(gateway, user_token(gateway), b"/own/user-1").status
    assert 200 == ask(gateway, gateway.keys.a.token, b"/own/anybody").status


def test_f21_f39_a_token_in_memory_ends_with_its_exp(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        text = user_token(gateway, exp=int(gateway.clock.now()) + 20)
        assert 200 == ask(gateway, text).status
        later(gateway, 49)
        assert 200 == ask(gateway, text).status
        later(gateway, 2)
        assert 401 == ask(gateway, text).status


def test_f23_a_token_that_begins_later_is_good_once_it_has_begun(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        text = user_token(gateway, nbf=int(gateway.clock.now()) + 100)
        assert 401 == ask(gateway, text).status
        later(gateway, 71)
        assert 200 == ask(gateway, text).status


def test_f36_a_clock_within_the_leeway_is_believed_and_one_beyond_it_is_not(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        now = int(gateway.clock.now())
        assert 200 == ask(gateway, user_token(gateway, iat=now + 29)).status
        assert 401 == ask(gateway, user_token(gateway, iat=now + 300)).status


def test_f33_tokens_of_a_user_who_was_logged_out_everywhere_are_dead_and_new_ones_are_not(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        before = user_token(gateway)
        assert 200 == ask(gateway, before).status
        with open_key_service(gateway.settings.store) as service:
            service.revoke_tokens(user_id="user-1")
        gateway.read_changes()

        assert 401 == ask(gateway, before).status
        assert 401 == ask(gateway, user_token(gateway, jti="never seen")).status
        assert 200 == ask(gateway, user_token(gateway, sub="user-2")).status
        later(gateway, 60)
        assert 200 == ask(gateway, user_token(gateway, jti="new")).status


def test_f20_f33_one_revoked_token_is_dead_in_every_spelling(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        text = user_token(gateway, jti="stolen")
        with open_key_service(gateway.settings.store) as service:
            service.revoke_tokens(issuer=ISS, token_id="stolen")
        gateway.read_changes()

        assert 401 == ask(gateway, text).status
        assert 401 == ask(gateway, user_token(gateway, jti="stolen", kid_unused=1)).status
        assert 200 == ask(gateway, user_token(gateway, jti="other")).status


def test_f34_users_of_a_disabled_app_are_refused_and_those_of_others_are_not(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        text, other = user_token(gateway), user_token(gateway, client_id=gateway.keys.b.app_id.decode())
        assert [200, 200] == [ask(gateway, text).status, ask(gateway, other).status]
        with open_key_service(gateway.settings.store) as service:
            service.disable_app(gateway.keys.a.app_id.decode())
        gateway.read_changes()

        assert [401, 200] == [ask(gateway, text).status, ask(gateway, other).status]


def test_nothing_of_a_user_token_is_in_the_log_or_the_metrics(tmp_path: Path) -> None:
    with _users(tmp_path) as gateway:
        texts = [user_token(gateway), *bad_tokens(gateway).values()]
        for text in texts:
            ask(gateway, text)
        shown = gateway.scrape().encode()
        gateway.stop()
        shown += gateway.log_bytes()

    assert not any(part in shown for text in texts for part in text.split(b".") if len(part) > 12)
    assert b'"kind":"user_jwt"' in shown


@contextmanager
def _users(folder: Path, **changes: Any) -> Iterator[RunningGateway]:
    folder.joinpath("jwks.json").write_bytes(JWKS)
    given = changes or {"jwks_file": folder / "jwks.json"}
    # By the clock that the key service writes revocations by.
    clock = ManualClock(time.time())
    with running_gateway(folder, policy=USERS, clock=clock, issuers={"accounts": issuer(**given)}) as gateway:
        yield gateway


def _told(answer: Response) -> tuple[int, str]:
    return answer.status, answer.reason


# -- the issuer's endpoint


class KeyServer:
    """A JWKS endpoint in a thread, that can end and come back on the same port."""

    def __init__(self) -> None:
        self.says = JWKS
        self.asked = 0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.says)))
                self.end_headers()
                self.wfile.write(outer.says)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    server.start()
    yield server
    server.stop()


def test_r34_with_the_issuer_away_known_keys_go_on_and_unknown_ones_are_503_until_it_is_back(
    tmp_path: Path, key_server: KeyServer
) -> None:
    # R34
    with _users(tmp_path, jwks_url=f"http://127.0.0.1:{key_server.port}/jwks") as gateway:
        assert 200 == ask(gateway, user_token(gateway)).status
        key_server.stop()
        later(gateway, 10)
        new = {"kid": "next"}

        unknown = ask(gateway, user_token(gateway, header=new))
        assert (503, "issuer_unavailable") == _told(unknown)
        assert unknown.header(b"retry-after")
        assert 200 == ask(gateway, user_token(gateway, jti="known key")).status
        assert 200 == ask(gateway, gateway.keys.a.token, b"/items").status

        later(gateway, 3_601)
        assert (503, "issuer_unavailable") == _told(ask(gateway, user_token(gateway)))
        assert 200 == ask(gateway, gateway.keys.a.token, b"/items").status

        key_server.says = jwks(jwk(EC_KEY, "next"))
        key_server.start()
        later(gateway, 31)
        assert 200 == ask(gateway, user_token(gateway, header=new)).status
        # F10: the new set replaced the old one whole.
        assert 401 == ask(gateway, user_token(gateway)).status


def test_f5_an_address_inside_a_token_is_not_asked(gateway: RunningGateway, key_server: KeyServer) -> None:
    url = f"http://127.0.0.1:{key_server.port}/jwks"
    for header in ({"jku": url}, {"x5u": url}, {"kid": url}, {"jku": url, "kid": "unknown"}):
        assert 401 == ask(gateway, user_token(gateway, header=header)).status
    assert 401 == ask(gateway, user_token(gateway, iss=url)).status

    assert 0 == key_server.asked


def test_f9_a_flood_of_unknown_kids_is_one_question_in_ten_seconds(tmp_path: Path, key_server: KeyServer) -> None:
    with _users(tmp_path, jwks_url=f"http://127.0.0.1:{key_server.port}/jwks") as gateway:
        assert 200 == ask(gateway, user_token(gateway)).status
        for number in range(50):
            assert 401 == ask(gateway, user_token(gateway, header={"kid": f"k{number}"})).status
        assert 1 == key_server.asked

        later(gateway, 10)
        for number in range(50):
            assert 401 == ask(gateway, user_token(gateway, header={"kid": f"l{number}"})).status
        assert 2 == key_server.asked


def test_f11_an_issuer_that_was_never_there_leaves_keys_working(tmp_path: Path, key_server: KeyServer) -> None:
    key_server.stop()
    with _users(tmp_path, jwks_url=f"http://127.0.0.1:{key_server.port}/jwks") as gateway:
        assert (503, "issuer_unavailable") == _told(ask(gateway, user_token(gateway)))
        assert 200 == ask(gateway, gateway.keys.a.token, b"/items").status


def test_r34_an_opaque_token_is_what_its_issuer_says_and_503_while_it_says_nothing(
    tmp_path: Path, key_server: KeyServer
) -> None:
    opaque = b"an-opaque-token-0123456789"
    asked = {
        "introspection_url": f"http://127.0.0.1:{key_server.port}/introspect",
        "client_id": "gateway",
        "client_secret": "hush",
    }
    with _users(tmp_path, **asked) as gateway:
        active = {"active": True, "sub": "user-1", "client_id": gateway.keys.a.app_id.decode(), "aud": AUDIENCE}
        key_server.says = json.dumps(active).encode()

        assert [200, 200, 404] == [ask(gateway, opaque, to).status for to in (b"/me", b"/own/user-1", b"/own/user-2")]
        assert 1 == key_server.asked
        assert b"user_opaque" in gateway.upstream.requests[-1].values(b"x-gateway-kind")
        # A legacy key has the shape of an opaque token, and is looked up as a key.
        assert 200 == ask(gateway, gateway.keys.legacy.token, b"/items").status
        assert 1 == key_server.asked

        key_server.says = b'{"active":false}'
        later(gateway, 60)
        assert 401 == ask(gateway, opaque).status

        key_server.stop()
        later(gateway, 5)
        assert (503, "issuer_unavailable") == _told(ask(gateway, opaque))
        assert 200 == ask(gateway, gateway.keys.a.token, b"/items").status
        # Nobody is asked about JWTs.
        assert 401 == ask(gateway, user_token(gateway)).status
