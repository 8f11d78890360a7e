"""Legacy keys: 32 lower-case hexadecimal digits. They carry no id and are found by their digest."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.credential import Credential, CredentialKind, KeyId, TokenText, digest_of
from gateway.core.reasons import Refusal

# Lower case only, so that one key has one spelling (D18, E7).
SHAPE: Final = re.compile(rb"[0-9a-f]{32}")


def read(token: bytes) -> Credential | Refusal | None:
    """The credential if `token` has the shape of a legacy key, else None."""
    if SHAPE.fullmatch(token) is None:
        return None
    return Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest_of(token))


def read_with_text(token: bytes) -> Credential | Refusal | None:
    """As `read`, where a token that the store does not know may be a user's: then its issuer is asked about it."""
    if SHAPE.fullmatch(token) is None:
        return None
    return Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest_of(token), TokenText(token))
