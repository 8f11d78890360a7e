"""A key set is read whole or refused whole, and each key in it has one algorithm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.tokens.key_set import KeySetInvalid, read_key_set
from tests.tokens.support import EC_KEY, ED_KEY, JWKS, RSA_KEY, encoded, jwk, jwks, signature

ALL = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")


def fault(*entries: dict[str, object], algorithms: tuple[str, ...] = ALL) -> str:
    with pytest.raises(KeySetInvalid) as refused:
        read_key_set(jwks(*entries), algorithms)
    return str(refused.value)


def rsa_entry(modulus: int, exponent: int = 65537, **members: object) -> dict[str, object]:
    def number(value: int) -> str:
        return encoded(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")).decode()

    return {"kty": "RSA", "kid": "weak", "n": number(modulus), "e": number(exponent), **members}


def test_each_key_has_the_algorithm_that_it_names_or_the_usual_one_of_its_kind() -> None:
    keys = read_key_set(JWKS, ALL)

    assert {"ec": "ES256", "rsa": "RS256", "pss": "PS256", "ed": "EdDSA"} == {
        kid: key.algorithm for kid, key in keys.items()
    }
    assert "VerificationKey(kid='ec', algorithm='ES256')" == repr(keys["ec"])


@pytest.mark.parametrize(("curve", "algorithm"), [(ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512")])
def test_the_larger_curves_verify_their_own_signatures(curve: ec.EllipticCurve, algorithm: str) -> None:
    key = ec.generate_private_key(curve)
    found = read_key_set(jwks(jwk(key, "k")), ALL)["k"]

    made = signature(b"signed", key, algorithm)

    assert algorithm == found.algorithm
    assert found.verifies(b"signed", made)
    assert not found.verifies(b"signeD", made)


def test_keys_for_other_jobs_and_other_algorithms_are_passed_over() -> None:
    secp256k1 = jwk(EC_KEY, "k1", crv="secp256k1")
    keys = read_key_set(
        jwks(
            jwk(RSA_KEY, "enc", use="enc"),
            jwk(EC_KEY, "ec-enc", use="enc"),
            jwk(EC_KEY, "ec-odd", use=None, key_ops=["sign"]),
            jwk(RSA_KEY, "oaep", alg="RSA-OAEP"),
            jwk(RSA_KEY, "wrap", key_ops=["wrapKey"]),
            jwk(RSA_KEY, "ops", key_ops="verify"),
            jwk(RSA_KEY, "rsa"),
            secp256k1,
            {"kty": "AKP", "kid": "ml", "alg": "ML-DSA-44"},
            {"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA"},
            jwk(EC_KEY, "ec", use="sig", key_ops=["verify"]),
        ),
        ("ES256",),
    )

    assert ["ec"] == list(keys)


def test_f8_one_name_for_two_keys_is_refused() -> None:
    told = fault(jwk(EC_KEY, "k"), jwk(RSA_KEY, "k"))

    assert "key 2, `k`: another key has the same `kid`; give each key a name of its own" == told


def test_f8_a_key_that_is_passed_over_has_a_name_too() -> None:
    assert "another key has the same `kid`" in fault(jwk(RSA_KEY, "k", use="enc"), jwk(EC_KEY, "k"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        # F11, F13: what is secret has no place among public keys
        ({"kty": "oct", "k": "c2VjcmV0"}, "it is symmetric"),
        ({"kty": "oct", "k": "c2VjcmV0", "use": "enc"}, "it is symmetric"),
        ({"d": "AQAB"}, "it is private"),
        ({"k": "AQAB"}, "it is private"),
        ({"p": "AQAB", "use": "enc"}, "it is private"),
        # F12
        ({"x": "AQAB"}, "`x` has 3 bytes; 32 are needed"),
        ({"x": None}, "`x` is missing, or no base64url"),
        ({"x": 1}, "`x` is missing, or no base64url"),
        ({"x": "="}, "`x` is missing, or no base64url"),
        ({"y": encoded(bytes(32)).decode()}, "`x` and `y` are no point of P-256"),
        # F2, F3: the algorithm of another kind of key
        ({"alg": "RS256"}, "`alg` does not fit `kty` and `crv`; it could be ES256"),
        ({"alg": "ES512"}, "`alg` does not fit `kty` and `crv`; it could be ES256"),
        ({"alg": 1}, "`alg` does not fit `kty` and `crv`"),
        ({"kid": None}, "key 1 has no `kid`"),
        ({"kid": ""}, "key 1 has no `kid`"),
        ({"kid": 1}, "key 1 has no `kid`"),
        ({"kid": "k" * 257}, "key 1 has no `kid`"),
    ],
)
def test_a_set_with_a_bad_key_is_refused_whole(changes: dict[str, object], told: str) -> None:
    assert told in fault(jwk(EC_KEY, "k", **changes), jwk(ED_KEY, "good"))


def test_f12_a_short_key_of_rsa_is_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)

    assert "key 1, `k`: 1024 bits of RSA; use 2048 to 8192" == fault(jwk(key, "k"))


@pytest.mark.parametrize(
    ("bits", "exponent", "told"),
    [
        (8193, 65537, "8193 bits of RSA"),
        (16_384, 65537, "16384 bits of RSA"),
        (2048, 1, "no RSA key has such numbers"),
        (2048, 0, "no RSA key has such numbers"),
        (2048, 2, "no RSA key has such numbers"),
        (2048, 65536, "no RSA key has such numbers"),
        (2048, (1 << 40) + 1, "no RSA key has such numbers"),
    ],
)
def test_f12_f37_numbers_that_make_no_safe_key_of_rsa_are_refused(bits: int, exponent: int, told: str) -> None:
    assert told in fault(rsa_entry((1 << (bits - 1)) | 1, exponent))


def test_f12_an_even_modulus_is_refused() -> None:
    assert "no RSA key has such numbers" in fault(rsa_entry(1 << 2047))


def test_f12_a_key_of_the_roca_kind_is_refused() -> None:
    # Such keys have primes k * M + 65537 ** a mod M, M the product of the first 126 primes; and so has their product.
    primorial, candidate, found = 1, 2, 0
    while found < 126:
        if all(candidate % divisor for divisor in range(2, int(candidate**0.5) + 1)):
            primorial, found = primorial * candidate, found + 1
        candidate += 1
    modulus = pow(65537, 4242, primorial) + ((1 << 2047) // primorial + 1) // 2 * 2 * primorial
    modulus += 0 if modulus.bit_length() == 2048 else 2 * primorial
    assert modulus & 1

    assert "can be factored (CVE-2017-15361)" in fault(rsa_entry(modulus))


@pytest.mark.parametrize("height", [0, 1, 2**255 - 20, 2**255 - 19, 1 << 255])
def test_f12_a_key_of_small_order_is_refused(height: int) -> None:
    entry = jwk(ED_KEY, "k", x=encoded(height.to_bytes(32, "little")).decode())

    assert "everybody could sign for it" in fault(entry)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # F11: what is no key set at all
        (b"<html>Sign in</html>", "no strict JSON object"),
        (b"", "no strict JSON object"),
        (b'{"keys":[],"keys":[]}', "no strict JSON object"),
        (b"[]", "no strict JSON object"),
        (b"{}", "no list `keys`"),
        (b'{"keys":{}}', "no list `keys`"),
        (b'{"keys":[1]}', "key 1 is no object"),
        (b'{"keys":[]}', "no key in it is for"),
        (json.dumps({"keys": [{}] * 101}).encode(), "there are 101 keys in it"),
    ],
)
def test_what_is_no_key_set_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(KeySetInvalid, match=told.replace("(", r"\(")):
        read_key_set(text, ALL)


def test_a_set_without_a_key_for_the_issuer_says_what_to_do() -> None:
    told = fault(jwk(RSA_KEY, "rsa"), algorithms=("ES256", "EdDSA"))

    assert "no key in it is for ES256 or EdDSA; set `algorithms` to what the keys are for" == told


def test_no_fault_quotes_a_key() -> None:
    private: dict[str, Any] = {**jwk(EC_KEY, "k"), "d": "c2VjcmV0LXNlY3JldA"}

    assert "c2VjcmV0LXNlY3JldA" not in fault(private)
