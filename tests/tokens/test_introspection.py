"""What an issuer says of an opaque token, and what it is when it says nothing (RFC 7662)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest

from gateway.core.credential import CredentialKind, digest_of
from gateway.core.principal import UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.tokens.fetching import IssuerClient
from gateway.tokens.introspection import MAX_ANSWER_BYTES, Introspector
from tests.support.manual_clock import ManualClock
from tests.support.values import changed
from tests.tokens.serving import LoopbackIssuer, answer, loopback_issuer
from tests.tokens.support import CLAIMS, ISSUER, NOW

TOKEN = b"0123456789abcdef-opaque+/~."
SECRET = "s3cret:with space"

Told = UserRecord | Refusal | CannotDecide


@asynccontextmanager
async def asking(
    said: bytes | None, audience: str = ISSUER.audience
) -> AsyncIterator[tuple[Introspector, LoopbackIssuer]]:
    async with loopback_issuer(lambda _: said) as issuer:
        client = IssuerClient(issuer.url, timeout_seconds=0.5, max_answer_bytes=MAX_ANSWER_BYTES)
        asker = Introspector(changed(ISSUER, audience=audience), client, "gateway id", SECRET, ManualClock())
        try:
            yield asker, issuer
        finally:
            await client.aclose()


async def told(said: object, audience: str = ISSUER.audience) -> Told:
    text = said if isinstance(said, bytes) else answer(json.dumps(said).encode())
    async with asking(text, audience) as (asker, _):
        return await asker.ask(TOKEN, digest_of(TOKEN))


def active(**changes: object) -> dict[str, object]:
    return {
        name: value
        for name, value in {"active": True, "token_type": "Bearer", **CLAIMS, **changes}.items()
        if value is not ...
    }


async def test_an_active_token_becomes_a_record() -> None:
    record = await told(active())

    assert isinstance(record, UserRecord)
    assert digest_of(TOKEN) == record.digest
    assert ("user-1", "app-1", CredentialKind.USER_OPAQUE) == (
        record.principal.user_id,
        record.principal.app_id,
        record.principal.kind,
    )
    assert (NOW - 10, NOW + 630) == (record.issued_at, record.expires_at)


async def test_the_question_is_a_form_with_our_credentials() -> None:
    async with asking(answer(b'{"active":false}')) as (asker, issuer):
        await asker.ask(TOKEN, digest_of(TOKEN))

    head, _, body = issuer.asked[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"POST /keys HTTP/1.1" == lines[0]
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
    assert b"application/x-www-form-urlencoded" == fields[b"content-type"]
    pair = next(line for line in lines if line.lower().startswith(b"authorization: basic ")).split(b" ")[2]
    assert b"gateway+id:s3cret%3Awith+space" == b64decode(pair)
    assert {b"token": [TOKEN], b"token_type_hint": [b"access_token"]} == parse_qs(body)


@pytest.mark.parametrize(
    "said",
    [{"active": False}, {"active": False, **CLAIMS}],
)
async def test_an_inactive_token_is_unknown(said: object) -> None:
    answered = await told(said)

    assert isinstance(answered, Refusal)
    assert Reason.TOKEN_UNKNOWN is answered.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example.org"},
        {"iss": [ISSUER.iss]},
        {"token_type": "refresh_token"},
        {"token_type": 1},
        {"aud": "other"},
        {"aud": ...},
        {"sub": ...},
        {"sub": "a\r\nb"},
        {"client_id": ...},
        {"exp": str(NOW + 600)},
        {"exp": NOW - 31},
        {"exp": NOW + 8 * 86_400},
        {"iat": "1"},
        {"iat": None},
        {"jti": 1},
    ],
)
async def test_an_active_token_has_to_be_for_us_all_the_same(changes: dict[str, object]) -> None:
    assert isinstance(await told(active(**changes)), Refusal)


@pytest.mark.parametrize("changes", [{"iss": ...}, {"token_type": ...}, {"token_type": "access_token"}, {"jti": ...}])
async def test_what_the_protocol_makes_optional_may_be_missing(changes: dict[str, object]) -> None:
    assert isinstance(await told(active(**changes)), UserRecord)


async def test_without_iat_every_not_before_concerns_it_and_without_exp_it_is_soon_asked_for_again() -> None:
    record = await told(active(iat=..., exp=...))

    assert isinstance(record, UserRecord)
    assert NOW - 6 * 86_400 > record.issued_at
    assert NOW + 61 + 30 == record.expires_at


async def test_the_audience_is_the_issuer_s_to_know_where_none_is_configured() -> None:
    assert isinstance(await told(active(aud=...), audience=""), UserRecord)


@pytest.mark.parametrize(
    "said",
    [
        # protocols: 429 and 5xx are no verdict, and neither is a refusal of our own credentials
        answer(b"", "500 Internal Server Error"),
        answer(b"", "503 Service Unavailable"),
        answer(b"", "429 Too Many Requests"),
        answer(b'{"active":false}', "401 Unauthorized"),
        answer(b"", "302 Found", b"location: http://127.0.0.1:9/"),
        answer(b"<html>"),
        answer(b"[]"),
        answer(b"{}"),
        answer(b'{"active":"true"}'),
        answer(b'{"active":1}'),
        answer(b'{"active":null}'),
        answer(b'{"active":false,"active":true}'),
        answer(b'{"active":true' + b" " * MAX_ANSWER_BYTES + b"}"),
        answer(b'{"active":true}')[:-3],
    ],
)
async def test_what_is_no_answer_is_no_verdict(said: bytes) -> None:
    answered = await told(said)

    assert isinstance(answered, CannotDecide)
    assert Reason.ISSUER_UNAVAILABLE is answered.reason
    assert TOKEN.decode() not in answered.detail
    assert SECRET not in answered.detail


async def test_silence_is_no_verdict() -> None:
    async with asking(None) as (asker, _):
        answered = await asker.ask(TOKEN, digest_of(TOKEN))

        assert isinstance(answered, CannotDecide)
        assert (0, 1) == (asker.answered, asker.failed)


async def test_the_secret_is_in_nothing_that_is_shown() -> None:
    async with asking(answer(b"{}")) as (asker, _):
        assert SECRET not in repr(asker)
        assert SECRET not in repr(vars(asker)["_client"])
