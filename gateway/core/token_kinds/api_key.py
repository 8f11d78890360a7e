"""API keys: `id.secret`, with exactly one dot. The id finds the record, the digest proves the secret."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.core.reasons import Refusal

# ASCII classes spelled out and fullmatch: `\d`, `\w` and `$` would take Arabic digits and a trailing newline (E5).
_KIND: Final = CredentialKind.API_KEY
SHAPE: Final = re.compile(rb"([0-9A-Za-z]{8,40})\.[0-9A-Za-z]{20,128}")


def read(token: bytes) -> Credential | Refusal | None:
    """The credential if `token` has the shape of an API key, else None."""
    match = SHAPE.fullmatch(token)
    if match is None:
        return None
    return Credential(_KIND, KeyId(match.group(1).decode("ascii")), digest_of(token))
