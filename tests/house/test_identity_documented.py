"""What the documentation has upstreams check is run against a gateway: it lets its callers in, and nobody else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from gateway.core.outgoing import IDENTITY_FIELDS
from gateway.settings import AssertionSettings
from tests.house.test_documentation import ROOT, blocks
from tests.support.assertions import kids_of, write_key
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.manual_clock import ManualClock
from tests.support.raw import Response, exchange

DOCUMENT = ROOT / "docs" / "identity.md"
SAFETY_SECONDS = 20.0
LANGUAGES = ("python", "js")


class Upstream(NamedTuple):
    """What the documentation shows, as a process, and the gateway before it."""

    gateway: RunningGateway
    port: int
    key: ec.EllipticCurvePrivateKey

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a good assertion but for what is `changed`; None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": "bearergate",
            "aud": "orders",
            "iat": now,
            "exp": now + 60,
            "route": "orders.list",
            "kind": "user_jwt",
            "key_id": "",
            "app_id": "app-1",
            "user_id": "u-1",
            "scopes": "",
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def signed(self, claims: dict[str, Any], *, key: Any = None, alg: str = "ES256", **header: Any) -> bytes:
        """By the gateway's key, unless another is given."""
        kid = kids_of(self.gateway.running.admin_port)[0]
        return jwt.encode(claims, key or self.key, algorithm=alg, headers={"kid": kid} | header).encode()

    def ask(self, *assertions: bytes) -> Response:
        """A request past the gateway."""
        lines = b"".join(b"X-Gateway-Assertion: %b\r\n" % assertion for assertion in assertions)
        return exchange(self.port, b"GET /orders HTTP/1.1\r\nHost: a\r\n%bConnection: close\r\n\r\n" % lines)


def block_of(language: str) -> str:
    (text,) = [block.text for block in blocks(DOCUMENT) if block.language == language]
    return text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def shown(language: str, folder: Path, port: int, admin_port: int) -> Iterator[None]:
    """The program that the documentation shows, on these ports; ended with the block."""
    text = block_of(language).replace("127.0.0.1:9090", f"127.0.0.1:{admin_port}").replace("9000", str(port))
    if language == "js":
        (folder / "orders.mjs").write_text(text, "utf-8")
        command = ["node", "orders.mjs"]
    else:
        (folder / "orders.py").write_text(text, "utf-8")
        command = [sys.executable, "-m", "uvicorn", "orders:app", "--port", str(port), "--log-level", "warning"]
    with (folder / f"{language}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
        try:
            end = time.monotonic() + SAFETY_SECONDS
            while not _listens(port):
                assert process.poll() is None, (folder / f"{language}.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait(SAFETY_SECONDS)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=LANGUAGES)
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp(request.param)
    policy, port = block_of("yaml"), free_port()
    file = write_key(folder / "key.pem")
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with (
        running_gateway(
            folder,
            policy=policy,
            clock=ManualClock(time.time()),
            upstreams={"orders": f"http://127.0.0.1:{port}"},
            assertions=AssertionSettings(keys=file),
        ) as gateway,
        shown(request.param, folder, port, gateway.running.admin_port),
    ):
        yield Upstream(gateway, port, key)


def test_who_comes_through_the_gateway_is_known(upstream: Upstream) -> None:
    gateway = upstream.gateway
    gateway.clock.step(time.time() - gateway.clock.now())
    key = gateway.new_key("ORDERS_READ")

    answer = exchange(
        gateway.port, b"GET /orders HTTP/1.1\r\nHost: a\r\nX-Gateway-Assertion: mine\r\n%b\r\n" % key.line
    )

    assert (200, {"orders of": key.app_id.decode()}) == (answer.status, json.loads(answer.body))


def test_what_the_gateway_has_signed_for_it_is_taken(upstream: Upstream) -> None:
    # So each of the next ones is refused for the one thing that is wrong with it.
    answer = upstream.ask(upstream.signed(upstream.claims()))

    assert (200, {"orders of": "u-1"}) == (answer.status, json.loads(answer.body))
    # Clocks may differ by as much.
    assert upstream.ask(upstream.signed(upstream.claims(iat=int(time.time()) + 3))).status == 200


def es256(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    return lambda signed: ECAlgorithm(ECAlgorithm.SHA256).sign(signed, key)


def by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    parts = (json.dumps(part).encode() for part in (header, claims))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")


def test_nothing_is_let_in_without_it(upstream: Upstream) -> None:
    assert upstream.ask().status == 401


def test_two_are_one_too_many(upstream: Upstream) -> None:
    good = upstream.signed(upstream.claims())

    assert upstream.ask(good, good).status == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "bills"},
        {"aud": None},
        {"aud": "orders2"},
        {"iss": "https://id.example.org"},
        {"iss": None},
        {"exp": 1_700_000_000, "iat": 1_700_000_000 - 60},
        {"exp": None},
        {"iat": None},
        {"iat": 4_000_000_000, "exp": 4_000_000_060},
        {"kind": "", "user_id": "", "app_id": ""},
    ],
    ids=str,
)
def test_what_was_signed_for_another_or_another_time_is_refused(upstream: Upstream, changed: dict[str, Any]) -> None:
    assert upstream.ask(upstream.signed(upstream.claims(**changed))).status == 401


def test_what_has_just_ended_is_refused(upstream: Upstream) -> None:
    now = int(time.time())

    assert upstream.ask(upstream.signed(upstream.claims(iat=now - 70, exp=now - 10))).status == 401


def test_another_signature_is_refused(upstream: Upstream) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    good = upstream.signed(upstream.claims())
    start, _, signature = good.rpartition(b".")
    forged = start.split(b".")[0] + b"." + upstream.signed(upstream.claims(user_id="u-2")).split(b".")[1]

    for assertion in (
        upstream.signed(upstream.claims(), key=other),
        upstream.signed(upstream.claims(), kid="another"),
        by_hand({"alg": "ES256"}, upstream.claims(), es256(upstream.key)),
        by_hand({"alg": "ES256", "kid": ["a"]}, upstream.claims(), es256(upstream.key)),
        b"MQ.MQ.MQ",
        forged + b"." + signature,
        start + b".",
        start,
        b"not a token",
        b"..",
    ):
        assert upstream.ask(assertion).status == 401, assertion


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS256", "ES384"])
def test_another_algorithm_is_refused(upstream: Upstream, alg: str) -> None:
    kid = kids_of(upstream.gateway.running.admin_port)[0]
    header = {"alg": alg, "typ": "JWT", "kid": kid}
    public = upstream.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # Nothing, a secret that everybody knows, and what ES256 signs.
    for sign in (lambda signed: b"", lambda signed: hmac.digest(public, signed, hashlib.sha256), es256(upstream.key)):
        assert upstream.ask(by_hand(header, upstream.claims(), sign)).status == 401


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_the_keys_it_cannot_say(tmp_path: Path, language: str) -> None:
    port = free_port()
    with shown(language, tmp_path, port, free_port()):
        key = ec.generate_private_key(ec.SECP256R1())
        token = jwt.encode({"aud": "orders"}, key, algorithm="ES256", headers={"kid": "a"}).encode()

        answer = exchange(
            port, b"GET /orders HTTP/1.1\r\nHost: a\r\nX-Gateway-Assertion: %b\r\nConnection: close\r\n\r\n" % token
        )

        assert answer.status == 503


def test_the_fields_and_their_claims_are_these() -> None:
    rows = re.findall(r"^\| `(x-gateway-[a-z-]+)` \| (`[a-z_]+`|none) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)

    assert [field.decode() for field in IDENTITY_FIELDS] == [field for field, _ in rows]
    assert ["none" if field.endswith("request-id") else f"`{field[10:].replace('-', '_')}`" for field, _ in rows] == [
        claim for _, claim in rows
    ]
