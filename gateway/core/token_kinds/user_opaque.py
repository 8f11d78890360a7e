"""Opaque user tokens: text that only its issuer can read, and is asked about (RFC 7662). Read last of all kinds."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.credential import Credential, CredentialKind, KeyId, TokenText, digest_of
from gateway.core.reasons import Refusal

_KIND: Final = CredentialKind.USER_OPAQUE
# RFC 6750 section 2.1, `b64token`. Every placeholder is shorter, and no issuer makes tokens so short (RFC 6749 10.10).
SHAPE: Final = re.compile(rb"(?=.{20,512}\Z)[0-9A-Za-z._~+/-]+=*")


def read(token: bytes) -> Credential | Refusal | None:
    """The credential if `token` has the shape of a Bearer token, with its text for its issuer; else None."""
    if SHAPE.fullmatch(token) is None:
        return None
    return Credential(_KIND, KeyId(""), digest_of(token), TokenText(token))


def as_opaque(credential: Credential) -> Credential:
    """What a token with the shape of a legacy key is, once the store has said that it is no key."""
    return Credential(_KIND, KeyId(""), credential.digest, credential.text)
