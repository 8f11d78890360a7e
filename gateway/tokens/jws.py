"""A user token as one strict JWS in compact form, before anything of it is believed.

Three parts in the one spelling that base64url has; a header from a closed list of members, none of which brings or
locates a key; a payload that is one strict JSON object. What several readers could read differently is refused.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final, final

from gateway.core.reasons import Reason, Refusal
from gateway.tokens.strict_json import read_object

TOKEN_LIMIT_BYTES: Final = 8192
NAME_LIMIT: Final = 256
"""Characters of a `kid` or a `jti`."""

ALGORITHMS: Final = ("ES256", "RS256", "ES384", "ES512", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
"""With a public key, all of them: whoever can verify a token must not be able to make one."""

_PASSED_OVER: Final = frozenset(("x5t", "x5t#S256", "cat"))
"""Fingerprints of certificates, and one vendor's category of a token: they change nothing, and nobody reads them."""
_HEADER: Final = frozenset(("alg", "kid", "typ")) | _PASSED_OVER

_SHAPE: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _malformed(detail: str) -> Refusal:
    return Refusal(Reason.TOKEN_MALFORMED, detail)


_TOO_LONG: Final = _malformed("a user token that is too long")
_NOT_COMPACT: Final = _malformed("not three parts of base64url")
_SPELLING: Final = _malformed("a part that is not spelled as base64url spells its bytes")
_HEADER_JSON: Final = _malformed("the header is no strict JSON object")
_HEADER_MEMBER: Final = _malformed("a header member other than `alg`, `kid`, `typ`")
_ALGORITHM: Final = _malformed("`alg` is no algorithm with a public key")
_KID: Final = _malformed("`kid` is missing, or no name")
_TYPE: Final = _malformed("`typ` is no text")
_PAYLOAD: Final = _malformed("the payload is no strict JSON object")


@final
@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart. Nothing in it is believed until `signature` was verified over `signed`."""

    algorithm: str
    kid: str
    token_type: str
    """Its `typ`, small letters, without `application/`; empty where it has none."""
    signed: bytes
    """The bytes that the signature covers."""
    signature: bytes
    claims: dict[str, object]
    """Read from `signed`, once: there is no second reading (F38)."""

    def __repr__(self) -> str:
        return f"Jws(algorithm={self.algorithm!r})"


def read_compact(token: bytes) -> Jws | Refusal:
    """The parts of `token`, or why it is no strict JWS. Never raises."""
    if len(token) > TOKEN_LIMIT_BYTES:
        return _TOO_LONG

    parts = _SHAPE.fullmatch(token)
    if parts is None:
        return _NOT_COMPACT
    header_text, payload = decoded(parts.group(1)), decoded(parts.group(2))
    signature = decoded(parts.group(3))
    if header_text is None or payload is None or signature is None:
        return _SPELLING

    header = read_object(header_text)
    if header is None:
        return _HEADER_JSON
    if not _HEADER.issuperset(header):
        return _HEADER_MEMBER

    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return _ALGORITHM
    if not is_name(kid):
        return _KID
    token_type = header.get("typ", "")
    if not isinstance(token_type, str):
        return _TYPE

    claims = read_object(payload)
    if claims is None:
        return _PAYLOAD

    return Jws(algorithm, str(kid), bare_type(token_type), token[: parts.end(2)], signature, claims)


def bare_type(token_type: str) -> str:
    """`at+jwt` of `at+jwt`, `AT+JWT` and `application/at+jwt`: they are one (RFC 7515 section 4.1.9)."""
    return token_type.lower().removeprefix("application/")


def is_name(value: object) -> bool:
    """Whether it may name a key or a token: a short text of printable ASCII."""
    return isinstance(value, str) and 0 < len(value) <= NAME_LIMIT and value.isascii() and value.isprintable()


def decoded(part: bytes) -> bytes | None:
    """The bytes that `part` spells, or None where base64url spells them in another way.

    Facts: decoders pass over padding, foreign characters and bits that nobody needs, so one signature would have many
    spellings, and each of them a digest of its own.
    """
    try:
        found = binascii.a2b_base64(part.translate(_TO_STANDARD) + b"=" * (-len(part) % 4), strict_mode=True)
    except binascii.Error:
        return None
    again = binascii.b2a_base64(found, newline=False).rstrip(b"=").translate(_TO_URL_SAFE)
    return found if again == part else None
