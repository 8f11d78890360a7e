"""A signed assertion of who is calling, for upstreams that should not take a header's word for it.

It is written for one principal on one route, signed, and sent again for half of its life; then it is written anew. Who
it is for, and when it ends, stand in it, so what one upstream was sent is of no use at another, or later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import orjson

from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.scopes import ScopeRegistry

ASSERTION_FIELD: Final = b"x-gateway-assertion"

Sign = Callable[[bytes], bytes]
"""From claims, as JSON, to a JWT in its compact form."""


@final
class _Written:
    """One assertion, and for whom it was written."""

    __slots__ = ("line", "principal", "route", "since", "until")

    principal: Final[Principal | None]
    route: Final[Route]
    since: Final[float]
    until: Final[float]
    line: Final[bytes]

    def __init__(self, principal: Principal | None, route: Route, since: float, until: float, line: bytes) -> None:
        self.principal = principal
        self.route = route
        self.since = since
        self.until = until
        self.line = line


@final
class Assertions:
    """The assertion lines of principals, by route, signed once for each and remembered. Bounded."""

    __slots__ = ("_issuer", "_lifetime_seconds", "_of_keys", "_of_users", "_sign", "signed")
    LIMIT: Final = 16384
    """Each takes some 700 bytes."""
    USERS_LIMIT: Final = 8192
    """Users are many, and each comes and goes: they take no place from keys."""

    def __init__(self, sign: Sign, issuer: str, lifetime_seconds: int) -> None:
        self._sign = sign
        self._issuer = issuer
        self._lifetime_seconds = lifetime_seconds
        self._of_keys: dict[tuple[str, str], _Written] = {}
        self._of_users: dict[tuple[str, str], _Written] = {}
        self.signed = 0
        """Since the start."""

    def sign_with(self, sign: Sign) -> None:
        """Signs with another key from now on; nothing is sent again that the one before has signed."""
        self._sign = sign
        self._of_keys.clear()
        self._of_users.clear()

    def line(self, principal: Principal | None, route: Route, scopes: ScopeRegistry, now: float) -> bytes:
        """CR, LF, name and value of the header line at `now`, in seconds since the epoch.

        Empty where the route does not ask for it, and for a preflight: it was let through, and nobody was.
        """
        if not route.assertion or (principal is None and not route.is_public):
            return b""

        if principal is not None and principal.user_id:
            known, name, limit = self._of_users, principal.user_id, self.USERS_LIMIT
        else:
            known, name, limit = self._of_keys, "" if principal is None else principal.key_id, self.LIMIT
        place = (name, route.name)
        written = known.get(place)
        # INVARIANT: what one principal was written is never sent for another, even of the same id: a principal that was
        # loaded anew, and a route of another policy, are written anew. A clock that was set back is noticed too.
        if (
            written is not None
            and written.principal is principal
            and written.route is route
            and written.since <= now < written.until
        ):
            return written.line

        written = self._written(principal, route, scopes, now)
        if len(known) >= limit:
            known.clear()
        known[place] = written
        return written.line

    def _written(self, principal: Principal | None, route: Route, scopes: ScopeRegistry, now: float) -> _Written:
        since = int(now)
        claims: dict[str, str | int] = {
            "iss": self._issuer,
            "aud": route.assertion,
            "iat": since,
            "exp": since + self._lifetime_seconds,
            "route": route.name,
            "kind": "" if principal is None else principal.kind.value,
            "key_id": "" if principal is None else principal.key_id,
            "app_id": "" if principal is None else principal.app_id,
            "user_id": "" if principal is None else principal.user_id,
            # As in the identity lines: a user token has none.
            "scopes": ("" if principal is None or principal.user_id else " ".join(scopes.canonical(principal.scopes))),
        }
        line = b"\r\n%s: %s" % (ASSERTION_FIELD, self._sign(orjson.dumps(claims)))
        self.signed += 1
        return _Written(principal, route, float(since), since + self._lifetime_seconds / 2, line)
