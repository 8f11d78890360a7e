"""Legacy keys: 32 lower-case hexadecimal digits, in one spelling only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.core.token_kinds import legacy_key
from tests.core.samples import API_TOKEN, JWT, LEGACY_TOKEN
from tests.support.values import fields_of


def test_a_legacy_key_has_no_id_and_is_found_by_its_digest() -> None:
    expected = Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest_of(LEGACY_TOKEN))

    assert fields_of(expected) == fields_of(legacy_key.read(LEGACY_TOKEN))


def test_its_text_is_kept_only_where_it_may_be_a_users_token() -> None:
    key, either = legacy_key.read(LEGACY_TOKEN), legacy_key.read_with_text(LEGACY_TOKEN)

    assert isinstance(key, Credential)
    assert isinstance(either, Credential)
    assert key.text is None
    assert either.text is not None
    assert LEGACY_TOKEN == either.text.reveal()
    assert (key.kind, key.digest) == (either.kind, either.digest)


@pytest.mark.parametrize(
    "token",
    # E6, E7, D18
    [
        b"",
        LEGACY_TOKEN[:31],
        LEGACY_TOKEN + b"0",
        b"g" + LEGACY_TOKEN[1:],
        LEGACY_TOKEN.upper(),
        LEGACY_TOKEN[:31] + b"F",
        LEGACY_TOKEN + b"\n",
        b" " + LEGACY_TOKEN,
        b"0x" + LEGACY_TOKEN[2:],
        "０".encode() * 32,
        b"\xd9\xa3" * 16,
        API_TOKEN,
        JWT,
    ],
)
def test_what_has_another_shape_is_no_legacy_key(token: bytes) -> None:
    assert legacy_key.read(token) is None
    assert legacy_key.read_with_text(token) is None


@given(st.binary(min_size=16, max_size=16), st.integers(0, 31), st.integers(0, 255))
def test_one_changed_byte_never_gives_the_same_digest(key: bytes, place: int, byte: int) -> None:
    token = key.hex().encode()
    changed = token[:place] + bytes((byte,)) + token[place + 1 :]
    good, read = legacy_key.read(token), legacy_key.read(changed)

    assert isinstance(good, Credential)
    assert changed == token or not isinstance(read, Credential) or read.digest != good.digest
