"""The public keys of one issuer, from a JWKS: read whole or refused whole.

Each key has exactly one algorithm, so no token can choose another for it. A set with a weak, a private or a symmetric
key, or with one name twice, is refused. Keys for other jobs or algorithms than the issuer's are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from gateway.tokens.jws import decoded, is_name
from gateway.tokens.strict_json import read_object

MAX_KEYS: Final = 100
RSA_BITS: Final = (2048, 8192)
"""Below: within reach of those who factor. Above: a verification takes a millisecond."""
RSA_EXPONENT_BITS: Final = 33

_VERIFIERS: Final[Mapping[str, Algorithm]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    "EdDSA": OKPAlgorithm(),
}
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve, int]]] = {
    "P-256": ("ES256", ec.SECP256R1(), 32),
    "P-384": ("ES384", ec.SECP384R1(), 48),
    "P-521": ("ES512", ec.SECP521R1(), 66),
}
"""Algorithm, curve, bytes of a coordinate."""
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))


class KeySetInvalid(Exception):
    """The set cannot be used. The text says which key, what about it, and what to do; it quotes no key."""


@final
@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the one algorithm that it is for."""

    kid: str
    algorithm: str
    key: Any
    identity: tuple[object, ...]
    """The numbers that make it this key, to be compared."""

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signed`."""
        return _VERIFIERS[self.algorithm].verify(signed, self.key, signature)

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, algorithm={self.algorithm!r})"


KeySet = dict[str, VerificationKey]
"""By `kid`."""


def read_key_set(text: bytes, algorithms: Collection[str]) -> KeySet:
    """The keys for `algorithms` in the JWKS `text`. Raises: KeySetInvalid"""
    found = read_object(text)
    if found is None:
        raise KeySetInvalid(
            'this is no strict JSON object, as `{"keys": [...]}` is; look for a member that comes twice'
        )
    entries = found.get("keys")
    if not isinstance(entries, list):
        raise KeySetInvalid("there is no list `keys` in it")
    if len(entries) > MAX_KEYS:
        raise KeySetInvalid(f"there are {len(entries)} keys in it; at most {MAX_KEYS} are read")

    keys: KeySet = {}
    names: set[str] = set()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise KeySetInvalid(f"key {number} is no object")
        kid = entry.get("kid")
        if not isinstance(kid, str) or not is_name(kid):
            raise KeySetInvalid(f"key {number} has no `kid`, or one that is no short text; give each key a name")
        where = f"key {number}, `{kid}`"
        # Two keys of one name: which of them verifies would hang on their order (F8).
        if kid in names:
            raise KeySetInvalid(f"{where}: another key has the same `kid`; give each key a name of its own")
        names.add(kid)
        key = _key(entry, kid, where, algorithms)
        if key is not None:
            keys[kid] = key

    if not keys:
        raise KeySetInvalid(
            f"no key in it is for {' or '.join(sorted(algorithms))}; set `algorithms` to what the keys are for"
        )
    return keys


def _key(entry: dict[str, object], kid: str, where: str, algorithms: Collection[str]) -> VerificationKey | None:
    kind = entry.get("kty")
    if kind == "oct":
        raise KeySetInvalid(f"{where}: it is symmetric, so whoever reads it can make tokens; take it out of the set")
    if not _PRIVATE.isdisjoint(entry):
        raise KeySetInvalid(
            f"{where}: it is private; publish its public half alone, and replace it, for it is known now"
        )
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops", ["verify"])):
        return None

    if kind == "RSA":
        return _rsa(entry, kid, where, algorithms)
    if kind == "EC":
        return _elliptic(entry, kid, where, algorithms)
    if kind == "OKP" and entry.get("crv") == "Ed25519":
        return _edwards(entry, kid, where, algorithms)
    return None


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _algorithm(entry: dict[str, object], usual: str, possible: Collection[str], where: str) -> str:
    algorithm = entry.get("alg", usual)
    if not isinstance(algorithm, str) or (algorithm in _VERIFIERS and algorithm not in possible):
        raise KeySetInvalid(f"{where}: `alg` does not fit `kty` and `crv`; it could be {' or '.join(possible)}")
    return algorithm


def _rsa(entry: dict[str, object], kid: str, where: str, algorithms: Collection[str]) -> VerificationKey | None:
    algorithm = _algorithm(entry, "RS256", _RSA_ALGORITHMS, where)
    modulus, exponent = _number(entry, "n", where), _number(entry, "e", where)
    least, most = RSA_BITS
    if not least <= modulus.bit_length() <= most:
        raise KeySetInvalid(f"{where}: {modulus.bit_length()} bits of RSA; use {least} to {most}")
    if exponent < 3 or not exponent & 1 or exponent.bit_length() > RSA_EXPONENT_BITS or not modulus & 1:
        raise KeySetInvalid(f"{where}: no RSA key has such numbers; use the exponent 65537")
    if _is_roca(modulus):
        raise KeySetInvalid(
            f"{where}: it was made by a library whose keys can be factored (CVE-2017-15361); replace it"
        )
    if algorithm not in algorithms:
        return None
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as fault:
        raise KeySetInvalid(f"{where}: this is no RSA key") from fault
    return VerificationKey(kid, algorithm, key, (algorithm, modulus, exponent))


def _elliptic(entry: dict[str, object], kid: str, where: str, algorithms: Collection[str]) -> VerificationKey | None:
    curve_name = entry.get("crv")
    if not isinstance(curve_name, str) or curve_name not in _CURVES:
        return None
    usual, curve, size = _CURVES[curve_name]
    algorithm = _algorithm(entry, usual, (usual,), where)
    x, y = _number(entry, "x", where, size), _number(entry, "y", where, size)
    try:
        # Looks whether the point is on the curve.
        key = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError as fault:
        raise KeySetInvalid(f"{where}: `x` and `y` are no point of {curve_name}; publish the key anew") from fault
    return VerificationKey(kid, algorithm, key, (algorithm, x, y)) if algorithm in algorithms else None


def _edwards(entry: dict[str, object], kid: str, where: str, algorithms: Collection[str]) -> VerificationKey | None:
    algorithm = _algorithm(entry, "EdDSA", ("EdDSA",), where)
    x = _bytes(entry, "x", where)
    # Points of small order verify signatures that nobody made.
    if (int.from_bytes(x, "little") & ~(1 << 255)) in _SMALL_ORDER:
        raise KeySetInvalid(f"{where}: everybody could sign for it; replace it")
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(x)
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise KeySetInvalid(f"{where}: `x` is no key of Ed25519") from fault
    return VerificationKey(kid, algorithm, key, (algorithm, x)) if algorithm in algorithms else None


def _number(entry: dict[str, object], member: str, where: str, size: int = 0) -> int:
    found = _bytes(entry, member, where)
    if size and len(found) != size:
        raise KeySetInvalid(f"{where}: `{member}` has {len(found)} bytes; {size} are needed")
    return int.from_bytes(found, "big")


def _bytes(entry: dict[str, object], member: str, where: str) -> bytes:
    text = entry.get(member)
    found = decoded(text.encode("ascii")) if isinstance(text, str) and text.isascii() else None
    if not found:
        raise KeySetInvalid(f"{where}: `{member}` is missing, or no base64url")
    return found


_P25519: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = frozenset((0, 1, _P25519 - 1, _P25519, _P25519 + 1, _ORDER_8, _P25519 - _ORDER_8))
"""The heights of the points of order 1, 2, 4 and 8 on Ed25519, in every spelling."""

_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


def _powers(prime: int) -> frozenset[int]:
    power, powers = 1, set()
    while power not in powers:
        powers.add(power)
        power = power * 65537 % prime
    return frozenset(powers)


_ROCA: Final = tuple((prime, _powers(prime)) for prime in _ROCA_PRIMES)


def _is_roca(modulus: int) -> bool:
    """Whether the modulus is a power of 65537 by each of these primes, as all of those keys are and few others."""
    return all(modulus % prime in powers for prime, powers in _ROCA)
