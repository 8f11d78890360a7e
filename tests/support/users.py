"""A `UserFinder` over made-up users, in the place of the one that verifies tokens."""

from __future__ import annotations

import base64
import json

from gateway.core.credential import AppId, Credential, CredentialKind, KeyId, digest_of
from gateway.core.principal import Principal, UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.core.token_kinds import kinds_of
from gateway.judge import Judge
from gateway.ports import MISSING, Missing
from tests.support.gateway import RunningGateway


def jwt_of(user_id: str) -> bytes:
    """The shape of a user token; nobody signed it, and nobody here asks."""
    parts = (json.dumps(part).encode() for part in ({"alg": "ES256"}, {"sub": user_id}, "signature"))
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


class MadeUpUsers:
    """Knows the tokens that it was told of. What is said of one may change at any time."""

    def __init__(self) -> None:
        self.said: dict[bytes, UserRecord | Refusal | CannotDecide] = {}
        self.remembers = True
        self.found = 0

    def let_in(
        self,
        token: bytes,
        user_id: str,
        *,
        kind: CredentialKind = CredentialKind.USER_JWT,
        app_id: str = "app-1",
        expires_at: float = 4e9,
    ) -> None:
        """From now on `token` is the token of `user_id`."""
        who = Principal(kind, KeyId(""), AppId(app_id), frozenset(("READ",)), frozenset(), user_id)
        self.said[digest_of(token)] = UserRecord(digest_of(token), "https://issuer.test", "", 0, 0, expires_at, who)

    def say(self, token: bytes, because: Refusal | CannotDecide) -> None:
        """From now on `token` is refused."""
        self.said[digest_of(token)] = because

    def cached(self, credential: Credential) -> UserRecord | Refusal | CannotDecide | Missing:
        return self._of(credential) if self.remembers else MISSING

    async def find(self, credential: Credential) -> UserRecord | Refusal | CannotDecide:
        self.found += 1
        return self._of(credential)

    def _of(self, credential: Credential) -> UserRecord | Refusal | CannotDecide:
        return self.said.get(credential.digest, Refusal(Reason.TOKEN_UNKNOWN))


def accept_users(gateway: RunningGateway) -> MadeUpUsers:
    """Lets `gateway` take user tokens, on the word of what is returned."""
    users, running = MadeUpUsers(), gateway.running.gateway
    judge = Judge(
        running.judge.snapshot.policy,
        running.keys,
        gateway.clock,
        users=users,
        kinds=kinds_of(jwt=True, opaque=True),
    )
    running.services.judge = judge
    return users
