"""A credential as it leaves the token parser: what kind, which id, and a digest. The token's text is not in it."""

from __future__ import annotations

from enum import Enum
from hashlib import sha256
from typing import Final, NewType, final

KeyId = NewType("KeyId", str)
KeyDigest = NewType("KeyDigest", bytes)
AppId = NewType("AppId", str)


class CredentialKind(Enum):
    """The kinds of token, as policy, metrics and identity headers name them."""

    API_KEY = "api_key"
    LEGACY_KEY = "legacy_key"


DIGEST_DOMAIN: Final = b"bearergate/key/1\x00"
"""Separates our digests from any other SHA-256 of the same bytes."""


def digest_of(token: bytes) -> KeyDigest:
    """SHA-256 over the domain and the whole token: 32 bytes.

    Keys carry at least 119 bits of randomness, so no slow hash is needed, and nothing truncates the input.
    """
    # INVARIANT: the digest covers the whole token, so a changed byte can never find a record.
    return KeyDigest(sha256(DIGEST_DOMAIN + token).digest())


@final
class Credential:
    """A token of a known shape. `key_id` is empty for legacy keys, which carry none and are found by digest."""

    __slots__ = ("digest", "key_id", "kind")

    kind: Final[CredentialKind]
    key_id: Final[KeyId]
    digest: Final[KeyDigest]

    def __init__(self, kind: CredentialKind, key_id: KeyId, digest: KeyDigest) -> None:
        self.kind = kind
        self.key_id = key_id
        self.digest = digest

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind.value!r}, key_id={self.key_id!r})"
