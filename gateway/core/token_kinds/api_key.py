"""API keys: `id.secret`, with exactly one dot. The id finds the record, the digest proves the secret."""

from __future__ import annotations

from typing import Final

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.core.reasons import Refusal

_KIND: Final = CredentialKind.API_KEY


def read(token: bytes) -> Credential | Refusal | None:
    """The credential if `token` has the shape of an API key, else None."""
    key_id, _, secret = token.partition(b".")
    # Facts: of bytes, `isalnum` takes ASCII letters and digits and nothing else, and at least one of them (E5).
    if not (8 <= len(key_id) <= 40 and 20 <= len(secret) <= 128 and key_id.isalnum() and secret.isalnum()):
        return None
    return Credential(_KIND, KeyId(key_id.decode("ascii")), digest_of(token))
