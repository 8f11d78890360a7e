"""User tokens in JWS form: recognised as what they are, and where no issuer is configured, refused as such."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, digest_of
from gateway.core.reasons import Reason, Refusal
from gateway.core.token_kinds import user_jwt
from tests.core.samples import API_TOKEN, JWT, LEGACY_TOKEN


def encoded(header: bytes) -> bytes:
    return base64.urlsafe_b64encode(header).rstrip(b"=")


@pytest.mark.parametrize(
    "token",
    [
        JWT,
        JWT[:-1],
        encoded(b"{}") + b"..",
        encoded(b'{"alg":"none"}') + b".e30.",
        encoded(b'{"a":"\xc3\xbf?>~"}') + b".a.b",
        encoded(b' {"alg" : "ES256"} ') + b".a.b",
    ],
)
def test_a_jwt_is_refused_as_a_kind_that_is_not_accepted(token: bytes) -> None:
    answer = user_jwt.refuse(token)

    assert isinstance(answer, Refusal)
    assert Reason.TOKEN_KIND_UNSUPPORTED is answer.reason


@pytest.mark.parametrize("token", [JWT, JWT[:-2], encoded(b"{}") + b".AA.AA", encoded(b'{"alg":"none"}') + b".e30.AAA"])
def test_a_jwt_is_a_credential_that_keeps_its_text_for_who_verifies_it(token: bytes) -> None:
    credential = user_jwt.read(token)

    assert isinstance(credential, Credential)
    assert (CredentialKind.USER_JWT, "", digest_of(token)) == (credential.kind, credential.key_id, credential.digest)
    assert credential.text is not None
    assert token == credential.text.reveal()


@pytest.mark.parametrize("rest", [b"..", b".e30.", b"..AA", b".A.AA", b".AA.A", b".AAAAA.AA", b".e30.AAAAA"])
def test_a_jwt_without_a_whole_payload_and_signature_is_malformed(rest: bytes) -> None:
    # F1, F18: and is never tried as another kind.
    answer = user_jwt.read(encoded(b'{"alg":"none"}') + rest)

    assert isinstance(answer, Refusal)
    assert Reason.TOKEN_MALFORMED is answer.reason


@pytest.mark.parametrize(
    "token",
    # F16, F17, F18, F19, F28
    [
        b"",
        b".",
        b"..",
        b"a.b",
        b"a.b.c",
        b".e30.",
        JWT + b".x",
        JWT + b".x.y",
        JWT + b"\n",
        b" " + JWT,
        JWT + b"=",
        encoded(b"[]") + b".a.b",
        encoded(b"1") + b".a.b",
        encoded(b'"a"') + b".a.b",
        encoded(b"null") + b".a.b",
        encoded(b'{"a":1') + b".a.b",
        encoded(b"{} x") + b".a.b",
        encoded(b"\xef\xbb\xbf{}") + b".a.b",
        encoded(b'{"\xff":1}') + b".a.b",
        encoded("{}".encode("utf-16")) + b".a.b",
        b"e.a.b",
        b"e3.a.b",
        b"e30=.a.b",
        b"e3+0.a.b",
        b"AAAAA.a.b",
        encoded(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}") + b".a.b",
        API_TOKEN,
        LEGACY_TOKEN,
    ],
)
def test_what_is_no_jwt_is_left_to_others(token: bytes) -> None:
    assert user_jwt.read(token) is None
    assert user_jwt.refuse(token) is None


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**53), 2**53), st.booleans(), st.none())))
def test_every_json_object_is_a_header(header: dict[str, object]) -> None:
    try:
        text = json.dumps(header, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(header).encode()

    assert isinstance(user_jwt.read(encoded(text) + b".e30.AA"), Credential)
    assert isinstance(user_jwt.refuse(encoded(text) + b".e30.AA"), Refusal)


@given(st.one_of(st.binary(), st.binary().map(lambda header: encoded(header) + b".a.b")))
def test_no_token_raises(token: bytes) -> None:
    answer = user_jwt.read(token)

    assert answer is None or isinstance(answer, Credential | Refusal)
