"""Credentials: the digest covers the whole token, and the token is nowhere in them."""

from __future__ import annotations

import copy
import hashlib
import pickle

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, KeyId, TokenText, digest_of
from tests.core.samples import API_TOKEN, JWT


def test_the_digest_is_this_one_for_ever() -> None:
    # FIPS 180-4, appendix B.1
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == digest_of(b"abc").hex()
    assert hashlib.sha256(API_TOKEN).digest() == digest_of(API_TOKEN)
    assert 32 == len(digest_of(b""))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_two_tokens_share_a_digest_only_if_they_are_one(one: bytes, other: bytes) -> None:
    assert (one == other) == (digest_of(one) == digest_of(other))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_every_byte_counts_also_the_last(token: bytes, data: st.DataObject) -> None:
    # E25: a hash that stops reading after 72 bytes would let any ending through.
    place = data.draw(st.integers(0, len(token) - 1))
    changed = bytearray(token)
    changed[place] ^= data.draw(st.integers(1, 255))

    assert digest_of(token) != digest_of(bytes(changed))
    assert digest_of(token) != digest_of(token + b"x")


def test_a_stored_digest_is_not_a_key() -> None:
    # E9: pass-the-hash
    stored = digest_of(API_TOKEN)

    assert stored != digest_of(stored)
    assert stored != digest_of(stored.hex().encode())


def test_its_text_shows_kind_and_id_and_no_digest() -> None:
    credential = Credential(CredentialKind.API_KEY, KeyId("ek5Tq0aVb81LmZc"), digest_of(API_TOKEN))

    assert "Credential(kind='api_key', key_id='ek5Tq0aVb81LmZc')" == repr(credential) == str(credential)


def test_the_text_of_a_user_token_is_shown_by_nothing_but_its_own_word() -> None:
    text = TokenText(JWT)
    credential = Credential(CredentialKind.USER_JWT, KeyId(""), digest_of(JWT), text)

    shown = f"{text} {text!r} {credential} {credential!r} {[text]} {(credential,)}"
    assert JWT.decode() not in shown
    assert "TokenText([redacted])" == str(text) == repr(text)
    assert JWT == text.reveal()


def test_the_text_of_a_user_token_is_not_copied_or_stored() -> None:
    text = TokenText(JWT)

    assert JWT not in pickle.dumps(text)
    for copied in (pickle.loads(pickle.dumps(text)), copy.copy(text), copy.deepcopy(text)):
        assert b"" == copied.reveal()
