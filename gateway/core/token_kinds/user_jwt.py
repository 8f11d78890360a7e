"""User tokens in JWS compact form: recognised by their two dots and their JOSE header. Nothing is verified here.

Whoever has the shape is this kind and no other (E8): a JWT that is no good is never tried as something else.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

import msgspec

from gateway.core.credential import Credential, CredentialKind, KeyId, TokenText, digest_of
from gateway.core.reasons import Reason, Refusal

_KIND: Final = CredentialKind.USER_JWT
SHAPE: Final = re.compile(rb"([0-9A-Za-z_-]+)\.([0-9A-Za-z_-]*)\.([0-9A-Za-z_-]*)")

_UNSUPPORTED: Final = Refusal(Reason.TOKEN_KIND_UNSUPPORTED, "a JWT, and no issuer of user tokens is configured")
_MALFORMED: Final = Refusal(Reason.TOKEN_MALFORMED, "a JWT whose payload or signature is no base64url")


def read(token: bytes) -> Credential | Refusal | None:
    """The credential if `token` has the shape of a JWT, with its text for the one that verifies it; else None."""
    match = _jwt(token)
    if match is None:
        return None
    if not (_is_part(match.group(2)) and _is_part(match.group(3))):
        return _MALFORMED  # F18
    return Credential(_KIND, KeyId(""), digest_of(token), TokenText(token))


def refuse(token: bytes) -> Credential | Refusal | None:
    """In the place of `read` where no issuer is configured: a refusal if `token` is a JWT, else None."""
    return None if _jwt(token) is None else _UNSUPPORTED


def _jwt(token: bytes) -> re.Match[bytes] | None:
    """The three parts, if the first is a JSON object: what is not a JWT may still be another kind."""
    match = SHAPE.fullmatch(token)
    if match is None:
        return None
    encoded = match.group(1)
    try:
        header = binascii.a2b_base64(encoded.translate(_URL_SAFE) + b"=" * (-len(encoded) % 4), strict_mode=True)
        msgspec.json.decode(header, type=dict[str, object])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return match


def _is_part(encoded: bytes) -> bool:
    """Not empty, and of a length that whole bytes have."""
    return bool(encoded) and len(encoded) % 4 != 1


_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
