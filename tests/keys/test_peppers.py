"""Peppers: what is stored proves a token and tells nothing of it; a pepper that is missing is told by its id."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from gateway.core.credential import KeyDigest, digest_of
from gateway.keys.peppers import NO_MATCH, KeyedDigest, Peppers, PeppersInvalid, read_peppers
from gateway.ports import StoreUnavailable

DIGEST = digest_of(b"a token")
OTHER = digest_of(b"another token")
SECRET = bytes(range(32))


def test_what_is_stored_is_this_for_ever() -> None:
    without = hmac.new(b"bearergate/key/1\x00", DIGEST, hashlib.sha256).digest()
    under = hmac.new(SECRET, DIGEST, hashlib.sha256).digest()
    peppers = Peppers({"2026": SECRET}, "2026")

    assert KeyedDigest("", without) == Peppers().keyed(DIGEST)
    assert KeyedDigest("2026", under) == peppers.keyed(DIGEST)
    assert {"": without, "2026": under} == peppers.all_keyed(DIGEST)


def test_a_stored_digest_proves_its_own_token_alone() -> None:
    peppers = Peppers({"a": SECRET, "b": SECRET[::-1]}, "b")
    for stored in (Peppers().keyed(DIGEST), Peppers({"a": SECRET}, "a").keyed(DIGEST), peppers.keyed(DIGEST)):
        assert DIGEST == peppers.proved(stored, DIGEST)
        assert NO_MATCH == peppers.proved(stored, OTHER)
        assert NO_MATCH == peppers.proved(stored, KeyDigest(stored.digest))


def test_no_digest_equals_what_stands_for_none() -> None:
    assert not hmac.compare_digest(NO_MATCH, DIGEST)
    assert len(NO_MATCH) != len(DIGEST)


def test_a_pepper_that_is_not_configured_is_told_by_its_id() -> None:
    stored = Peppers({"2026": SECRET}, "2026").keyed(DIGEST)

    with pytest.raises(StoreUnavailable, match="under the pepper `2026`, which is not configured"):
        Peppers().proved(stored, DIGEST)


def test_a_pepper_is_not_shown() -> None:
    assert SECRET.hex() not in repr(Peppers({"a": SECRET}, "a"))
    assert repr(SECRET)[2:20] not in repr(Peppers({"a": SECRET}, "a"))


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "pepper"
    file.write_bytes(SECRET + b"\n")

    assert Peppers({"a": SECRET + b"\n"}, "a") == read_peppers({"a": file})
    assert Peppers() == read_peppers({})


@pytest.mark.parametrize(
    ("files", "current", "told"),
    [
        ({"a": "good", "b": "good"}, "", "there are several, `a`, `b`; say which"),
        ({"a": "good"}, "b", "`b` is not among `peppers`"),
        ({}, "b", "`b` is not among `peppers`"),
        ({"a": "short"}, "a", "has 31 bytes and needs 32"),
        ({"a": "none"}, "a", "cannot be read: No such file"),
        ({"a b": "good"}, "a b", "is not an id"),
        ({"": "good"}, "", "is not an id"),
    ],
)
def test_what_cannot_be_a_pepper_is_refused(tmp_path: Path, files: dict[str, str], current: str, told: str) -> None:
    tmp_path.joinpath("good").write_bytes(SECRET)
    tmp_path.joinpath("short").write_bytes(SECRET[:31])

    with pytest.raises(PeppersInvalid, match=told):
        read_peppers({name: tmp_path / file for name, file in files.items()}, current)
