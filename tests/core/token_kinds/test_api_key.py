"""API keys: `id.secret`, one dot, ASCII letters and digits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.core.token_kinds import api_key
from tests.core.samples import API_TOKEN, JWT, LEGACY_TOKEN
from tests.support.values import fields_of

LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def key_of(id_length: int, secret_length: int, seed: int) -> bytes:
    letters = random.Random(seed)
    return bytes(letters.choices(LETTERS, k=id_length)) + b"." + bytes(letters.choices(LETTERS, k=secret_length))


KEYS = st.builds(key_of, st.integers(8, 40), st.integers(20, 128), st.integers(0))


def test_a_key_is_its_id_and_a_digest_of_all_of_it() -> None:
    expected = Credential(CredentialKind.API_KEY, KeyId("ek5Tq0aVb81LmZc"), digest_of(API_TOKEN))

    assert fields_of(expected) == fields_of(api_key.read(API_TOKEN))


@pytest.mark.parametrize("token", [b"a" * 8 + b"." + b"b" * 20, b"a" * 40 + b"." + b"b" * 128])
def test_the_shortest_and_the_longest_key_are_read(token: bytes) -> None:
    assert isinstance(api_key.read(token), Credential)


@pytest.mark.parametrize(
    "token",
    # E3, E4, E5, E26, D10, D13
    [
        b"",
        b".",
        b"..",
        b"id.",
        b".secret",
        b"a" * 15,
        b"a" * 7 + b"." + b"b" * 20,
        b"a" * 8 + b"." + b"b" * 19,
        b"a" * 41 + b"." + b"b" * 20,
        b"a" * 8 + b"." + b"b" * 129,
        b"a" * 8 + b".." + b"b" * 20,
        API_TOKEN + b"\n",
        API_TOKEN + b".x",
        b" " + API_TOKEN,
        API_TOKEN + b" ",
        API_TOKEN + b"\x00",
        API_TOKEN + b"=",
        b"a" * 7 + b"'." + b"b" * 20,
        b"a" * 7 + b"%." + b"b" * 20,
        b"a" * 7 + b"_." + b"b" * 20,
        b"a" * 8 + b"%2E" + b"b" * 20,
        "٣".encode() * 8 + b"." + b"b" * 20,
        b"a" * 8 + b"." + "ａ".encode() * 20,
        b"a" * 8 + b"\xff." + b"b" * 20,
        LEGACY_TOKEN,
        JWT,
    ],
)
def test_what_has_another_shape_is_no_api_key(token: bytes) -> None:
    assert api_key.read(token) is None


@given(KEYS, st.data())
def test_one_changed_byte_never_gives_the_same_digest(token: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))
    good, changed = api_key.read(token), api_key.read(token[:place] + bytes((byte,)) + token[place + 1 :])

    assert isinstance(good, Credential)
    assert not isinstance(changed, Credential) or changed.digest != good.digest


@given(KEYS)
def test_the_id_is_what_stands_before_the_dot(token: bytes) -> None:
    read = api_key.read(token)

    assert isinstance(read, Credential)
    assert token.split(b".")[0].decode() == read.key_id
    assert f"Credential(kind='api_key', key_id={read.key_id!r})" == repr(read)
