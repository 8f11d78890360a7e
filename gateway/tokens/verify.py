"""From the text of a user token to a record of what it says: structure, key, signature, and only then the claims.

Pure: issuers, keys and the instant are arguments. A refusal's detail names the check for the log, and quotes nothing
of the token; clients hear one sentence for all of them (F40).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, final

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId
from gateway.core.principal import Principal, UserRecord
from gateway.core.reasons import Reason, Refusal
from gateway.tokens.issuers import Issuer
from gateway.tokens.jws import is_name, read_compact
from gateway.tokens.key_set import VerificationKey

LATEST: Final = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch."""

_USER: Final = re.compile(r"[A-Za-z0-9_~@+=:|*!$,-][A-Za-z0-9._~@+=:|*!$,-]{0,255}")
"""What may name a user: it goes into a header and is compared with path segments, so no `/`, no `%`, no `..`."""
_APP: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@final
@dataclass(frozen=True, slots=True)
class KeyWanted:
    """The token names a key of its issuer that is not known here: the issuer may have a newer set."""

    issuer: Issuer
    kid: str


def _unknown(detail: str) -> Refusal:
    return Refusal(Reason.TOKEN_UNKNOWN, detail)


_ISSUER: Final = _unknown("`iss` is no issuer that is configured")
_ALGORITHM: Final = _unknown("`alg` is not the algorithm of the key")
_SIGNATURE: Final = _unknown("the signature is not that of the key")
_TYPE: Final = _unknown("`typ` is none of the issuer's `token_types`")
_AUDIENCE: Final = _unknown("`aud` does not name the audience")
_INSTANTS: Final = _unknown("`iat`, `nbf` or `exp` is missing, or no whole number of seconds")
_ORDER: Final = _unknown("`exp` is not after `iat` and `nbf`")
_LIFETIME: Final = _unknown("from `iat` to `exp` is longer than the issuer's `max_lifetime`")
_USER_ID: Final = _unknown("the claim with the user is missing, or no name of a user")
_APP_ID: Final = _unknown("the claim with the App is missing, or no name of an App")
_TOKEN_ID: Final = _unknown("`jti` is no short text")
_EXPIRED: Final = Refusal(Reason.TOKEN_EXPIRED, "`exp` and the leeway are over")


def verify(
    text: bytes,
    digest: KeyDigest,
    issuers: Mapping[str, Issuer],
    key_of: Callable[[Issuer, str], VerificationKey | None],
    now: float,
) -> UserRecord | Refusal | KeyWanted:
    """What the token says, once its signature was verified. Never raises.

    A record may begin later than `now`: whoever takes it looks at its instants, each time.
    """
    token = read_compact(text)
    if isinstance(token, Refusal):
        return token

    iss = token.claims.get("iss")
    issuer = issuers.get(iss) if isinstance(iss, str) else None
    if issuer is None:
        return _ISSUER

    key = key_of(issuer, token.kid)
    if key is None:
        return KeyWanted(issuer, token.kid)

    # INVARIANT: the key says by which algorithm, and the token can only agree (F2, F3).
    if token.algorithm != key.algorithm:
        return _ALGORITHM
    if not key.verifies(token.signed, token.signature):
        return _SIGNATURE

    # An ID token or a logout token of the same issuer is signed by the same keys (F15).
    if token.token_type not in issuer.token_types:
        return _TYPE
    return record_of(token.claims, issuer, digest, CredentialKind.USER_JWT, now)


def record_of(
    claims: dict[str, object], issuer: Issuer, digest: KeyDigest, kind: CredentialKind, now: float
) -> UserRecord | Refusal:
    """The record of claims that the issuer vouches for. `iss` is the caller's to compare."""
    if not _is_for(claims.get("aud"), issuer.audience):
        return _AUDIENCE

    issued, expires = claims.get("iat"), claims.get("exp")
    starts = claims.get("nbf", issued)
    if not _is_instant(issued) or not _is_instant(expires) or not _is_instant(starts):
        return _INSTANTS
    assert isinstance(issued, int)
    assert isinstance(expires, int)
    assert isinstance(starts, int)
    if expires <= issued or expires <= starts:
        return _ORDER
    if expires - issued > issuer.max_lifetime_seconds:
        return _LIFETIME
    expires_at = expires + issuer.leeway_seconds
    if now >= expires_at:
        return _EXPIRED

    user = claims.get(issuer.user_claim)
    if not isinstance(user, str) or _USER.fullmatch(user) is None or ".." in user:
        return _USER_ID
    app: object = claims.get(issuer.app_claim) if issuer.app_claim else issuer.app_id
    if not isinstance(app, str) or _APP.fullmatch(app) is None:
        return _APP_ID
    token_id = claims.get("jti", "")
    if token_id != "" and not is_name(token_id):
        return _TOKEN_ID

    return UserRecord(
        digest=digest,
        issuer=issuer.iss,
        token_id=str(token_id),
        issued_at=float(issued),
        starts_at=max(issued, starts) - issuer.leeway_seconds,
        expires_at=expires_at,
        # Scopes in a user token give nothing: what it may do follows from whose it is (F29).
        principal=Principal(kind, KeyId(""), AppId(app), frozenset(), user_id=user),
    )


def _is_for(audience: object, wanted: str) -> bool:
    """Whether `aud`, one text or a list of them, has exactly `wanted` in it."""
    if not wanted or audience == wanted:
        return True
    return isinstance(audience, list) and all(isinstance(one, str) for one in audience) and wanted in audience


def _is_instant(value: object) -> bool:
    return type(value) is int and 0 < value <= LATEST
