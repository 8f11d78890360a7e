"""User tokens in JWS compact form: recognised by their two dots and their JOSE header, and not accepted yet."""

from __future__ import annotations

import binascii
import re
from typing import Final

import msgspec

from gateway.core.credential import Credential
from gateway.core.reasons import Reason, Refusal

SHAPE: Final = re.compile(rb"([0-9A-Za-z_-]+)\.[0-9A-Za-z_-]*\.[0-9A-Za-z_-]*")

_UNSUPPORTED: Final = Refusal(Reason.TOKEN_KIND_UNSUPPORTED, "a JWT, and no issuer of user tokens is configured")


def read(token: bytes) -> Credential | Refusal | None:
    """A refusal if `token` is a JWT, else None: what is not a JWT may still be another kind."""
    match = SHAPE.fullmatch(token)
    if match is None:
        return None
    encoded = match.group(1)
    try:
        header = binascii.a2b_base64(encoded.translate(_URL_SAFE) + b"=" * (-len(encoded) % 4), strict_mode=True)
        msgspec.json.decode(header, type=dict[str, object])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _UNSUPPORTED


_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
