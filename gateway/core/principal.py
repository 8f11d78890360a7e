"""From a stored record to a principal: whose key, which App, which scopes, and is it good now."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final, final

from gateway.core.compiling import mypyc_attr
from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState, is_expired
from gateway.core.reasons import Reason, Refusal


# Compiled and acyclic, records and principals are nothing to the garbage collector: with a million of them held a full
# collection takes 30 ms, where it walks them 600, and each is 16 bytes smaller.
@final
@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. `scopes` are spelled as they were granted; the policy knows their aliases."""

    kind: CredentialKind
    key_id: KeyId
    app_id: AppId
    scopes: frozenset[str]
    app_features: frozenset[str] = frozenset()
    user_id: str = ""
    """Of user tokens: whose it is. Their `key_id` is empty."""


@final
@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the store knows of one key. Cached as it is: an identity, never a verdict."""

    digest: KeyDigest
    state: KeyState
    app_is_active: bool
    expires_at: float
    """Seconds since the epoch, UTC; the key is dead at this instant."""
    principal: Principal
    held_until: float = 0.0
    """By the monotonic clock: until when memory may answer with it. Set by who keeps it, never by a store."""

    def __repr__(self) -> str:
        return f"KeyRecord(key_id={self.principal.key_id!r}, state={self.state.value!r})"


@final
@dataclass(frozen=True, slots=True)
class UserRecord:
    """What one verified user token says. Cached as it is: an identity, never a verdict. Instants: seconds, UTC."""

    digest: KeyDigest
    issuer: str
    token_id: str
    """Its `jti`; empty where it has none."""
    issued_at: float
    """Its `iat`: what a user's or an App's not-before is compared with."""
    starts_at: float
    """Its `nbf`, or `iat`, less the leeway."""
    expires_at: float
    """Its `exp` and the leeway: dead at this instant."""
    principal: Principal

    def __repr__(self) -> str:
        return f"UserRecord(issuer={self.issuer!r})"


_NO_DIGEST: Final = bytes(32)
# Bound once: looking a member up on its enumeration is a Python call in 3.11, 0.09 us each time.
_ACTIVE: Final = KeyState.ACTIVE

_UNKNOWN: Final = Refusal(Reason.TOKEN_UNKNOWN)
_REVOKED: Final = Refusal(Reason.TOKEN_REVOKED)
_EXPIRED: Final = Refusal(Reason.TOKEN_EXPIRED)
_APP_INACTIVE: Final = Refusal(Reason.APP_INACTIVE)
_NOT_YET_VALID: Final = Refusal(Reason.TOKEN_NOT_YET_VALID)


MINTED_ID_LENGTH: Final = 15
_KEY_LETTER: Final = "k"


def region_of(key_id: KeyId) -> str:
    """The region letter of an id such as our mint makes; empty for the ids of keys from elsewhere."""
    is_ours = len(key_id) == MINTED_ID_LENGTH and key_id[1] == _KEY_LETTER and "a" <= key_id[0] <= "z"
    return key_id[0] if is_ours else ""


def admit(record: KeyRecord | None, credential: Credential, now: float) -> Principal | Refusal:
    """The principal behind `credential` at `now` (seconds since the epoch), or why there is none.

    Runs on every request, cached or not, so a key that was revoked or has expired is refused on a warm cache too.
    """
    # INVARIANT: an unknown id costs one comparison like a wrong secret does, and both answer alike (E1, E2).
    stored = _NO_DIGEST if record is None else record.digest
    if not hmac.compare_digest(stored, credential.digest) or record is None:
        region = region_of(credential.key_id)
        return Refusal(Reason.TOKEN_UNKNOWN, f"its id is of region `{region}`") if region else _UNKNOWN

    if record.state is not _ACTIVE:
        return _REVOKED

    if is_expired(record.expires_at, now):
        return _EXPIRED

    if not record.app_is_active:
        return _APP_INACTIVE

    return record.principal


def admit_user(record: UserRecord, credential: Credential, now: float) -> Principal | Refusal:
    """The user behind `credential` at `now` (seconds since the epoch), or why there is none. Runs on every request.

    Whether the token was revoked since it was verified is asked by the `UserFinder`, on every request too.
    """
    # INVARIANT: a user token is a user's, whatever its record says: no record makes a key of it (F30).
    if not hmac.compare_digest(record.digest, credential.digest) or record.principal.kind is not credential.kind:
        return _UNKNOWN

    if now < record.starts_at:
        return _NOT_YET_VALID

    if is_expired(record.expires_at, now):
        return _EXPIRED

    return record.principal
