"""Opaque user tokens: their issuer is asked what they are (RFC 7662), and only its `true` is a yes.

`active: false` is an unknown token. No answer, a refusal of our own credentials, 429 and 5xx, and an answer that is no
such object, are no verdict on the token: it cannot be decided now.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final
from urllib.parse import quote_plus

from gateway.core.credential import CredentialKind, KeyDigest
from gateway.core.principal import UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.ports import Clock
from gateway.tokens.fetching import IssuerClient, IssuerUnreachable
from gateway.tokens.issuers import Issuer
from gateway.tokens.strict_json import read_object
from gateway.tokens.verify import record_of

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 32
TTL_SECONDS: Final = 60.0
"""How long an answer may be remembered: a token that its issuer has revoked since counts that long."""

_INACTIVE: Final = Refusal(Reason.TOKEN_UNKNOWN, "its issuer says that it is not active")
_OTHER_ISSUER: Final = Refusal(Reason.TOKEN_UNKNOWN, "its issuer says that it is another issuer's")
_OTHER_TYPE: Final = Refusal(Reason.TOKEN_UNKNOWN, "its issuer says that it is no access token")
_NO_OBJECT: Final = CannotDecide(
    Reason.ISSUER_UNAVAILABLE, "the issuer's answer is no strict JSON object with `active`"
)
_ACCESS_TOKENS: Final = ("bearer", "access_token")


class Introspector:
    """Asks one issuer about tokens, through a client that somebody else closes."""

    def __init__(
        self,
        issuer: Issuer,
        client: IssuerClient,
        client_id: str,
        client_secret: str,
        clock: Clock,
        *,
        ttl_seconds: float = TTL_SECONDS,
    ) -> None:
        self.issuer = issuer
        self.ttl_seconds = ttl_seconds
        self._client = client
        # RFC 6749 section 2.3.1: both are form-encoded before they become Basic.
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        self._authorization = "Basic " + b64encode(pair.encode("utf-8")).decode("ascii")
        self._now = clock.now
        self.answered = 0
        self.failed = 0

    async def ask(self, token: bytes, digest: KeyDigest) -> UserRecord | Refusal | CannotDecide:
        """What the issuer says of `token`. Never raises."""
        form = {"token": token.decode("ascii"), "token_type_hint": "access_token"}
        try:
            text = await self._client.post(form, self._authorization)
        except IssuerUnreachable as fault:
            self.failed += 1
            return CannotDecide(Reason.ISSUER_UNAVAILABLE, str(fault))

        claims = read_object(text)
        if claims is None or type(claims.get("active")) is not bool:
            self.failed += 1
            return _NO_OBJECT

        self.answered += 1
        return self._record(claims, digest) if claims["active"] else _INACTIVE

    def _record(self, claims: dict[str, object], digest: KeyDigest) -> UserRecord | Refusal:
        if claims.get("iss", self.issuer.iss) != self.issuer.iss:
            return _OTHER_ISSUER
        token_type = claims.get("token_type", "bearer")
        if not isinstance(token_type, str) or token_type.lower() not in _ACCESS_TOKENS:
            return _OTHER_TYPE

        # RFC 7662 makes `iat` and `exp` optional. Without them the token began as long ago as it may, so that every
        # not-before concerns it, and what was heard of it ends when it must be asked for again.
        now = self._now()
        expires = claims.get("exp", int(now + self.ttl_seconds) + 1)
        issued = claims.get("iat")
        if "iat" not in claims and type(expires) is int:
            issued = max(1, int(expires - self.issuer.max_lifetime_seconds))
        whole = {**claims, "exp": expires, "iat": issued}
        return record_of(whole, self.issuer, digest, CredentialKind.USER_OPAQUE, now)
