"""Signatures of others: Wycheproof's, of which each with a difference is named, and those of RFC 7520."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.tokens.jws import ALGORITHMS, Jws, decoded, read_compact
from gateway.tokens.key_set import KeySetInvalid, read_key_set
from tests.support.vectors import skipped, vectors_folder
from tests.tokens.support import encoded


@dataclass(frozen=True, slots=True)
class Vector:
    """One signature, its key, and whether it is good."""

    number: int
    comment: str
    jws: str
    key: dict[str, Any]
    is_good: bool

    def __str__(self) -> str:
        return f"{self.number}: {self.comment}"


def vectors() -> list[Vector]:
    folder = vectors_folder("wycheproof-jws")
    if folder is None:
        return []
    groups = json.loads((folder / "json_web_signature_test.json").read_text("utf-8"))["testGroups"]
    return [
        Vector(
            test["tcId"],
            test["comment"],
            test["jws"],
            group.get("public") or group["private"],
            test["result"] == "valid",
        )
        for group in groups
        for test in group["tests"]
    ]


VECTORS = vectors()

# Valid in the collection, refused here; the reason of each.
SYMMETRIC = "its key is a secret (HMAC): whoever could verify such a token could make it"
OTHER_ALGORITHM = "its `alg` is not the one that its key names"
NO_ALGORITHM = "its key names `ES521`, which is no algorithm"
BAD_SPELLING = "it has a `?` in it, which base64url does not have"
NO_PAYLOAD = "it has no payload, and a token without one says nothing: refused unread (F17)"
DIFFERENCES = {
    259: NO_PAYLOAD,
    264: NO_PAYLOAD,
    268: NO_PAYLOAD,
    272: NO_PAYLOAD,
    320: NO_PAYLOAD,
    325: NO_PAYLOAD,
    346: OTHER_ALGORITHM,
    347: NO_ALGORITHM,
    350: OTHER_ALGORITHM,
    351: NO_ALGORITHM,
    372: BAD_SPELLING,
    373: BAD_SPELLING,
}


def passes(vector: Vector) -> bool:
    """Whether the header, the spelling, the key and the signature are good; what is signed is no token of ours."""
    parts = vector.jws.encode().split(b".")
    if len(parts) != 3 or not all(parts):
        return False
    header_text, payload, made = (decoded(part) for part in parts)
    if header_text is None or payload is None or made is None:
        return False
    # The payloads are no JSON objects, so the header is read the way a token's is: with another payload behind it.
    read = _header(parts[0])
    if read is None:
        return False
    entry = {**vector.key, "kid": read.kid}
    for private in ("d", "p", "q", "dp", "dq", "qi"):
        entry.pop(private, None)
    try:
        keys = read_key_set(json.dumps({"keys": [entry]}).encode(), ALGORITHMS)
    except KeySetInvalid:
        return False
    key = keys[read.kid]
    return key.algorithm == read.algorithm and key.verifies(parts[0] + b"." + parts[1], made)


def _header(part: bytes) -> Jws | None:
    read = read_compact(part + b"." + encoded(b"{}") + b".AA")
    return read if isinstance(read, Jws) else None


@skipped("wycheproof-jws")
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_wycheproof(vector: Vector) -> None:
    wanted = vector.is_good and vector.number not in DIFFERENCES and vector.key["kty"] != "oct"

    assert wanted is passes(vector), DIFFERENCES.get(vector.number, SYMMETRIC)


@skipped("wycheproof-jws")
def test_the_differences_are_all_of_signatures_that_are_valid_elsewhere() -> None:
    valid = {vector.number for vector in VECTORS if vector.is_good}

    assert DIFFERENCES.keys() <= valid
    assert 401 == len(VECTORS)


@skipped("rfc7520")
@pytest.mark.parametrize("name", ["4_1.rsa_v15_signature", "4_2.rsa-pss_signature", "4_3.ecdsa_signature"])
def test_rfc7520_signatures_verify(name: str) -> None:
    folder = vectors_folder("rfc7520")
    assert folder is not None
    example = json.loads((folder / f"{name}.json").read_text("utf-8"))
    entry = {**example["input"]["key"], "alg": example["input"]["alg"]}
    for private in ("d", "p", "q", "dp", "dq", "qi"):
        entry.pop(private, None)
    keys = read_key_set(json.dumps({"keys": [entry]}).encode(), ALGORITHMS)
    header, payload, made = example["output"]["compact"].encode().split(b".")
    signature = decoded(made)
    assert signature is not None

    (key,) = keys.values()

    assert key.verifies(header + b"." + payload, signature)
    assert not key.verifies(header + b"." + payload + b"x", signature)


@skipped("rfc7520")
@pytest.mark.parametrize("name", ["3_2.ec_private_key", "3_4.rsa_private_key", "3_5.symmetric_key_mac_computation"])
def test_rfc7520_private_and_symmetric_keys_are_refused(name: str) -> None:
    folder = vectors_folder("rfc7520")
    assert folder is not None
    entry = json.loads((folder / f"{name}.json").read_text("utf-8"))

    with pytest.raises(KeySetInvalid, match=r"it is private|it is symmetric"):
        read_key_set(json.dumps({"keys": [entry]}).encode(), ALGORITHMS)
