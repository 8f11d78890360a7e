"""The keys that sign assertions for upstreams: P-256, in PEM files that nobody else may read.

The first one signs, and all of them are published, so that a key is known before it signs and after it has signed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm

MAKE_ONE: Final = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
_MAX_BYTES: Final = 64 * 1024
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256)


class AssertionKeysInvalid(Exception):
    """Files that cannot be used; the text says which, why, and what to do."""


class AssertionKeys:
    """Keys of which the first signs."""

    __slots__ = ("_head", "_key", "jwks")

    def __init__(self, keys: Sequence[ec.EllipticCurvePrivateKey]) -> None:
        public = {str(entry["kid"]): entry for entry in map(_public_entry, keys)}
        self._key = keys[0]
        self._head = _base64url(_json({"alg": "ES256", "kid": next(iter(public)), "typ": "JWT"})) + b"."
        self.jwks: Final = _json({"keys": list(public.values())})
        """The public halves, as RFC 7517 has them; a key that is there twice is published once."""

    def sign(self, claims: bytes) -> bytes:
        """The JWT with these claims, in its compact form. Some 70 us, nearly all of them OpenSSL's."""
        signed = self._head + _base64url(claims)
        return signed + b"." + _base64url(_ES256.sign(signed, self._key))


def read_assertion_keys(path: Path) -> AssertionKeys:
    """The key in the file `path`, or those in the `*.pem` of a folder, in the order of their names.

    Raises: AssertionKeysInvalid
    """
    try:
        names = sorted(os.listdir(path)) if path.is_dir() else None
    except OSError as fault:
        raise AssertionKeysInvalid(f"the folder `{path}` cannot be read: {fault.strerror}") from fault
    if names is None:
        return AssertionKeys([_read(path)])

    files = [path / name for name in names if name.endswith(".pem") and not name.startswith(".")]
    if not files:
        raise AssertionKeysInvalid(f"there is no `*.pem` in `{path}`; make a key with `{MAKE_ONE} -out {path}/1.pem`")
    return AssertionKeys([_read(file) for file in files])


def _read(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(_MAX_BYTES)
    except OSError as fault:
        raise AssertionKeysInvalid(f"`{file}` cannot be read: {fault.strerror}") from fault
    if mode & stat.S_IRWXO:
        # Who can read it can be anybody, to every upstream.
        raise AssertionKeysInvalid(f"`{file}` is open to every user of the machine; run `chmod o= {file}`")

    try:
        key = load_pem_private_key(text, password=None)
    except TypeError as fault:
        raise AssertionKeysInvalid(f"`{file}` has a password; store the key without one") from fault
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise AssertionKeysInvalid(f"`{file}` holds no private key in PEM; make one with `{MAKE_ONE}`") from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AssertionKeysInvalid(f"`{file}` is a key of another kind than P-256; make one with `{MAKE_ONE}`")
    return key


def _public_entry(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    needed = {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(32, "big")).decode(),
        "y": _base64url(numbers.y.to_bytes(32, "big")).decode(),
    }
    # RFC 7638: the needed members alone, in this order.
    kid = _base64url(hashlib.sha256(_json(needed)).digest()).decode()
    return {**needed, "kid": kid, "alg": "ES256", "use": "sig"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _base64url(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")
