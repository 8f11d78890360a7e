"""From the `Authorization` value to a credential. The text of a key ends here; a user token's goes on to its verifier.

One classifier by shape, tried in the order of `kinds_of`; the first shape that fits is the kind, and nothing is tried
twice. What has no known shape is refused without a look at the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gateway.core.credential import Credential
from gateway.core.reasons import Reason, Refusal
from gateway.core.token_kinds import api_key, legacy_key, user_jwt, user_opaque

TOKEN_LIMIT_BYTES: Final = 8192

Kinds = tuple[Callable[[bytes], Credential | Refusal | None], ...]

KINDS: Final[Kinds] = (api_key.read, legacy_key.read, user_jwt.refuse)
"""What is read where no user tokens are accepted."""


def kinds_of(*, jwt: bool, opaque: bool) -> Kinds:
    """What is read where user tokens are accepted: those that are verified here, and those whose issuer is asked."""
    return (
        api_key.read,
        legacy_key.read_with_text if opaque else legacy_key.read,
        user_jwt.read if jwt else user_jwt.refuse,
        *((user_opaque.read,) if opaque else ()),
    )


# What scripts send when a variable was not filled in (D12). Said apart, because the remedy is another one.
PLACEHOLDERS: Final = frozenset(
    (
        b"undefined",
        b"null",
        b"none",
        b"nil",
        b"nan",
        b"true",
        b"false",
        b"token",
        b"<token>",
        b"$token",
        b"${token}",
        b"{token}",
        b"{{token}}",
        b"%token%",
        b"[object object]",
        b"your_api_key",
        b"your-api-key",
        b"<your_api_key>",
        b"your_token",
        b"<your_token>",
        b"api_key",
        b"<api_key>",
        b"$api_key",
        b"${api_key}",
        b"{{api_key}}",
        b"xxx",
        b"changeme",
        b"test",
    )
)

_MISSING: Final = Refusal(Reason.CREDENTIAL_MISSING)
_SCHEME: Final = Refusal(Reason.CREDENTIAL_SCHEME)
_EMPTY: Final = Refusal(Reason.CREDENTIAL_EMPTY)
_JOINED: Final = Refusal(Reason.CREDENTIAL_REPEATED, "an `Authorization` that was joined from several")
_MALFORMED: Final = Refusal(Reason.TOKEN_MALFORMED)
_PLACEHOLDER: Final = Refusal(Reason.TOKEN_PLACEHOLDER)


def read_authorization(value: bytes | None, kinds: Kinds = KINDS) -> Credential | Refusal:
    """The credential in an `Authorization` value (None: the request has no such header), or why there is none.

    RFC 6750 section 2.1, narrowed: scheme in any case, exactly one space, one token, nothing after it.
    """
    if value is None:
        return _MISSING

    if value[:7].lower() != b"bearer ":
        stripped = value.strip(b" \t").lower()
        if stripped in (b"", b"bearer"):
            return _EMPTY
        return _MALFORMED if stripped.startswith(b"bearer") else _SCHEME

    token = value[7:]
    if len(token) > TOKEN_LIMIT_BYTES:
        return _MALFORMED

    for read in kinds:
        credential = read(token)
        if credential is not None:
            return credential

    if not token.strip(b" \t"):
        return _EMPTY
    if b", " in token:
        # RFC 9110 section 5.3: an intermediary joins repeated fields with a comma and a space (D9).
        return _JOINED
    return _PLACEHOLDER if token.strip().lower() in PLACEHOLDERS else _MALFORMED


# Begun only where a run of such bytes begins, and possessive, so that the time is linear in the path (K8).
_TOKEN_SHAPED: Final = re.compile(
    rb"(?<![0-9A-Za-z_-])[0-9A-Za-z_-]{8,}+\.[0-9A-Za-z_.-]{20,}+"
    rb"|(?<![0-9A-Fa-f])[0-9A-Fa-f]{32,}+"
    rb"|(?<![0-9A-Za-z])[0-9A-Za-z]{40,}+"
)
_SHORTEST_RUN: Final = 32
_DOT: Final = 0x2E


def has_token(value: bytes) -> bool:
    """Whether a part of a header value looks like a token."""
    return _TOKEN_SHAPED.search(value) is not None


def masked(path: bytes) -> str:
    """A canonical path for the log, with every part that looks like a token masked: some clients put them there."""
    # A cheap look first, 0.1 us: without a dot and without a long segment there is nothing to find.
    if _DOT in path or _has_long_segment(path):
        path = _TOKEN_SHAPED.sub(b"***", path)
    return path.decode("ascii")


def _has_long_segment(path: bytes) -> bool:
    """Whether 32 bytes of the path stand without a slash between them."""
    start = 0
    while len(path) - start >= _SHORTEST_RUN:
        slash = path.rfind(b"/", start, start + _SHORTEST_RUN)
        if slash < 0:
            return True
        start = slash + 1
    return False
