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
    USER_JWT = "user_jwt"
    USER_OPAQUE = "user_opaque"


def digest_of(token: bytes) -> KeyDigest:
    """SHA-256 of the whole token: 32 bytes, held in memory alone. A store keeps them under a key of its own."""
    # INVARIANT: the digest covers the whole token, so a changed byte can never find a record.
    return KeyDigest(sha256(token).digest())


@final
class TokenText:
    """The text of a user token, on which its issuer's keys have yet to be tried. Nothing formats it by accident."""

    __slots__ = ("_text",)

    _text: Final[bytes]

    def __init__(self, text: bytes) -> None:
        self._text = text

    def reveal(self) -> bytes:
        """The token itself: for its verification, and for nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "TokenText([redacted])"

    def __reduce__(self) -> tuple[type[TokenText], tuple[bytes]]:
        # Facts: pickle and copy ask here; what comes back holds nothing.
        return TokenText, (b"",)


@final
class Credential:
    """A token of a known shape. `key_id` is empty for legacy keys and user tokens, which are found by digest."""

    __slots__ = ("digest", "key_id", "kind", "text")

    kind: Final[CredentialKind]
    key_id: Final[KeyId]
    digest: Final[KeyDigest]
    text: Final[TokenText | None]
    """Of user tokens alone: a digest cannot be verified. A key's text is not kept."""

    def __init__(self, kind: CredentialKind, key_id: KeyId, digest: KeyDigest, text: TokenText | None = None) -> None:
        self.kind = kind
        self.key_id = key_id
        self.digest = digest
        self.text = text

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind.value!r}, key_id={self.key_id!r})"
