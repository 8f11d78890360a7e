"""Opaque user tokens: any Bearer token of some length that has no other shape, where an issuer can be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, digest_of
from gateway.core.token_kinds import PLACEHOLDERS, legacy_key, user_opaque
from tests.core.samples import LEGACY_TOKEN


@pytest.mark.parametrize(
    "token",
    [b"a" * 20, b"a" * 512, b"0123456789-._~+/azAZ", b"0123456789-._~+/azAZ==", b"." * 20, b"v1.a.b.c.d.0123456789"],
)
def test_a_bearer_token_is_a_credential_that_keeps_its_text_for_its_issuer(token: bytes) -> None:
    credential = user_opaque.read(token)

    assert isinstance(credential, Credential)
    assert (CredentialKind.USER_OPAQUE, "", digest_of(token)) == (credential.kind, credential.key_id, credential.digest)
    assert credential.text is not None
    assert token == credential.text.reveal()


@pytest.mark.parametrize(
    "token",
    # E4, E5
    [
        b"",
        b"a" * 19,
        b"a" * 513,
        b"=" * 20,
        b"a" * 20 + b"=a",
        b"a" * 20 + b"\n",
        b" " + b"a" * 20,
        b"a" * 20 + b" b",
        b"a" * 20 + b",",
        b"a" * 20 + b"\x00",
        b"\xd9\xa3" * 10,
        b"a" * 20 + b"%2E",
        b"a" * 20 + b'"',
    ],
)
def test_what_no_bearer_token_can_be_is_left_alone(token: bytes) -> None:
    assert user_opaque.read(token) is None


@pytest.mark.parametrize("placeholder", sorted(PLACEHOLDERS))
def test_a_placeholder_is_no_token(placeholder: bytes) -> None:
    # D12
    assert user_opaque.read(placeholder) is None


def test_what_the_store_does_not_know_as_a_legacy_key_is_the_same_token_of_another_kind() -> None:
    legacy = legacy_key.read_with_text(LEGACY_TOKEN)
    assert isinstance(legacy, Credential)

    opaque = user_opaque.as_opaque(legacy)

    assert (CredentialKind.LEGACY_KEY, CredentialKind.USER_OPAQUE) == (legacy.kind, opaque.kind)
    assert (legacy.digest, legacy.text) == (opaque.digest, opaque.text)
    assert opaque.text is not None
    assert LEGACY_TOKEN == opaque.text.reveal()


@given(st.binary(max_size=40))
def test_no_token_raises(token: bytes) -> None:
    answer = user_opaque.read(token)

    assert answer is None or isinstance(answer, Credential)
