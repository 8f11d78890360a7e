"""Issuers put together from the settings: a fault of theirs is told before anything is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.assembly import CannotStart
from gateway.assembly.users import Users, open_users
from gateway.core.token_kinds import kinds_of
from gateway.settings import Settings
from tests.support.manual_clock import ManualClock
from tests.tokens.support import AUDIENCE, EC_KEY, ISS, JWKS, MemoryTokens, jwk, jwks

GOOD: dict[str, Any] = {"issuer": ISS, "audience": AUDIENCE, "app": "app-1"}
ASKED: dict[str, Any] = {
    "issuer": ISS,
    "introspection_url": "http://127.0.0.1:9/introspect",
    "client_id": "gateway",
    "app": "app-1",
}


async def opened(**issuers: dict[str, Any]) -> Users:
    given: dict[str, Any] = {"policy": Path("p"), "upstreams": {"rest": "http://127.0.0.1:1"}, "issuers": issuers}
    settings = Settings(**given)
    return open_users(settings, MemoryTokens(), ManualClock(), lambda: 0.0)


async def fault(**issuers: dict[str, Any]) -> str:
    with pytest.raises(CannotStart) as refused:
        await opened(**issuers)
    return str(refused.value)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(JWKS)
    return path


async def test_what_is_read_of_tokens_is_what_issuers_are_for(keys: Path) -> None:
    accounts = {**GOOD, "jwks_file": keys}
    sessions = {**ASKED, "issuer": "https://other", "client_secret": "hush"}
    for issuers, kinds in (
        ({"accounts": accounts}, kinds_of(jwt=True, opaque=False)),
        ({"sessions": sessions}, kinds_of(jwt=False, opaque=True)),
        ({"accounts": accounts, "sessions": sessions}, kinds_of(jwt=True, opaque=True)),
    ):
        users = await opened(**issuers)

        assert kinds == users.kinds
        assert set(issuers) == set(users.reading().issuers)
        await users.aclose()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "issuers.accounts.jwks_file: `KEYS` cannot be read: No such file or directory"),
        (b"<html>", "issuers.accounts.jwks_file: `KEYS`: this is no strict JSON object"),
        (jwks(jwk(EC_KEY, "a"), jwk(EC_KEY, "a")), "issuers.accounts.jwks_file: `KEYS`: key 2, `a`: another key has"),
        (
            jwks({"kty": "oct", "kid": "a", "k": "AAAA"}),
            "issuers.accounts.jwks_file: `KEYS`: key 1, `a`: it is symmetric",
        ),
    ],
)
async def test_a_file_without_usable_keys_is_a_fault(tmp_path: Path, text: bytes | None, told: str) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_bytes(text)

    assert (await fault(accounts={**GOOD, "jwks_file": path})).startswith(told.replace("KEYS", str(path)))


async def test_two_tables_cannot_describe_one_issuer(keys: Path) -> None:
    told = await fault(a={**GOOD, "jwks_file": keys}, b={**GOOD, "jwks_file": keys})

    assert "issuers.b: `issuer` is that of issuers.a; one table has to describe both" == told


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), (b"", "has no secret"), (b"a\nb\n", "has no secret"), (b"\xff", "no UTF-8")],
)
async def test_a_secret_that_cannot_be_read_is_a_fault(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    said = await fault(sessions={**ASKED, "client_secret_file": path})

    assert said.startswith(f"issuers.sessions.client_secret_file: `{path}` ")
    assert told in said


async def test_a_secret_from_a_file_has_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hush\n")

    users = await opened(sessions={**ASKED, "client_secret_file": path})

    assert users.finder.introspector is not None
    assert "Basic Z2F0ZXdheTpodXNo" == users.finder.introspector._authorization
    await users.aclose()


async def test_certificates_that_cannot_be_read_are_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    given = {**GOOD, "jwks_url": "https://127.0.0.1:9/", "ca_file": path}
    assert (await fault(accounts=given)).startswith(f"issuers.accounts.ca_file: `{path}` cannot be used")

    path.write_text("nonsense")
    assert (await fault(accounts=given)).startswith(f"issuers.accounts.ca_file: `{path}` cannot be used")
