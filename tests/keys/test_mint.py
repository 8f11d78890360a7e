"""Minting: the shape of keys, their checksum, and the evenness of their letters."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, digest_of
from gateway.core.token_kinds import api_key
from gateway.keys.mint import BASE62, checksum_holds, checksum_of, mint, mint_app_id, mint_id
from tests.support.values import fields_of

PUBLISHED_SHAPE = re.compile(r"[A-Za-z0-9]{8,40}\.[A-Za-z0-9]{20,128}")


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


@given(st.integers())
def test_a_minted_key_has_the_published_shape_and_its_id_before_the_dot(seed: int) -> None:
    key_id, secret = mint(seeded(seed))

    token = secret.reveal()
    assert PUBLISHED_SHAPE.fullmatch(token)
    assert [key_id] == token.split(".")[:1]
    assert tuple(len(part) for part in token.split(".")) == (15, 48)
    assert checksum_holds(token)


@given(st.integers())
def test_the_token_parser_reads_what_was_minted(seed: int) -> None:
    key_id, secret = mint(seeded(seed))
    token = secret.reveal().encode()

    expected = Credential(CredentialKind.API_KEY, key_id, digest_of(token))
    assert fields_of(expected) == fields_of(api_key.read(token))


@given(st.integers(), st.integers(0, 63), st.sampled_from(BASE62))
def test_one_changed_character_breaks_the_checksum(seed: int, place: int, letter: str) -> None:
    token = mint(seeded(seed))[1].reveal()
    changed = token[:place] + letter + token[place + 1 :]

    assert (changed == token) == checksum_holds(changed)


@given(st.text())
def test_the_checksum_of_any_text_is_an_answer_and_not_an_exception(text: str) -> None:
    assert checksum_holds(text) in {True, False}


def test_the_checksum_is_this_one_for_ever() -> None:
    assert checksum_of("xk5Tq0aVb81LmZc." + "0" * 42) == "2sSNMw"


def test_the_region_and_the_type_stand_first_in_the_id() -> None:
    assert mint(seeded(1), region="e")[0].startswith("ek")
    assert mint_id(seeded(1), region="e", letter="l").startswith("el")


def test_an_app_id_is_24_hex_characters() -> None:
    assert re.fullmatch(r"[0-9a-f]{24}", mint_app_id(seeded(1)))


def test_every_letter_is_equally_likely() -> None:
    # All byte values equally often: bytes above 247 must not favour the first letters.
    all_bytes = itertools.cycle(range(256))
    counted = Counter(
        "".join(mint_id(lambda n: bytes(itertools.islice(all_bytes, n)), region="", letter="") for _ in range(1_240))
    )

    assert set(BASE62) == set(counted)
    assert max(counted.values()) - min(counted.values()) <= 1


def test_two_keys_never_share_a_digest() -> None:
    tokens = [mint(seeded(seed))[1].reveal().encode() for seed in range(500)]

    assert len({digest_of(token) for token in tokens}) == 500
