"""What has happened to Apps and tokens since the tokens were issued: revocations and disabled Apps, in memory.

It holds all that is live, so a token in use is looked at without a question to the store. The change feed says when to
read more (`refresh`). While the feed is silent for longer than a key may stay in memory, nothing here counts as
current, and user tokens cannot be decided: a revocation might have happened unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.credential import AppId
from gateway.core.principal import UserRecord
from gateway.core.reasons import Reason
from gateway.ports import REVOCATION_GRACE_SECONDS, Clock, StoreUnavailable, TokenRevocation, TokenStore

TTL_SECONDS: Final = 30.0
PAGE: Final = 1_000
"""Rows that the store gives at once."""
_FORGET_EVERY: Final = 60.0
_SET_BACK_SECONDS: Final = REVOCATION_GRACE_SECONDS / 2
"""By which a wall clock has to go back before revocations can be missing that are live by the new time."""


class Standing:
    """Apps and revocations as the store last told them."""

    def __init__(
        self,
        store: TokenStore,
        clock: Clock,
        *,
        silence_seconds: Callable[[], float],
        ttl_seconds: float = TTL_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._ttl = ttl_seconds
        self._apps: dict[AppId, bool] = {}
        self._tokens: dict[tuple[str, str], float] = {}
        """Until when it matters, by issuer and `jti`."""
        self._not_before: dict[tuple[str, AppId, str], tuple[float, float]] = {}
        """(not before, until when it matters), by issuer, App and user."""
        self._last: TokenRevocation | None = None
        self._is_loaded = False
        self._wanted = 0
        self._done = 0
        """How often a reading was asked for, and up to which of these it has been done."""
        self._behind_since = 0.0
        self._forgotten_at = 0.0
        self._latest = 0.0
        """The latest instant, on the wall clock, by which revocations were left out as past."""
        self._reading = asyncio.Lock()

    @property
    def is_current(self) -> bool:
        """Whether all that the store knew `ttl_seconds` ago is known here."""
        if not self._is_loaded or self._silence_seconds() > self._ttl or self._was_set_back(self._clock.now()):
            return False
        return self._done == self._wanted or self._clock.monotonic() - self._behind_since <= self._ttl

    @property
    def size(self) -> int:
        """Revocations held now."""
        return len(self._tokens) + len(self._not_before)

    async def refresh(self) -> None:
        """Reads what is new; everything, where the store may not be the one of before. Raises: StoreUnavailable"""
        if self._done == self._wanted:
            self._behind_since = self._clock.monotonic()
        self._wanted += 1
        # One after the other: an older reading must not replace a newer one.
        async with self._reading:
            wanted = self._wanted
            await self._read()
            self._done = wanted

    async def catch_up(self) -> None:
        """Reads again what could not be read, and forgets what is past. Never raises; call it every second or so."""
        now = self._clock.now()
        if self._done < self._wanted or not self._is_loaded or self._was_set_back(now):
            try:
                await self.refresh()
            except StoreUnavailable:
                return
        elif self._clock.monotonic() - self._forgotten_at >= _FORGET_EVERY:
            self._forget(now)

    async def _read(self) -> None:
        now = self._clock.now()
        last = self._last
        has_gaps = self._silence_seconds() > self._ttl or self._was_set_back(now)
        if last is None or _is_past(last.expires_at, now) or has_gaps:
            last = None
        apps = await self._store.app_states()
        found = await self._revocations(0 if last is None else last.position - 1, now)
        # As the feed does it: where the last one that is known here is no more, the store is another one.
        if last is not None and (not found or found[0] != last):
            last = None
            found = await self._revocations(0, now)

        # From here on without a wait: nobody sees half of it.
        if last is None:
            self._tokens = {}
            self._not_before = {}
            self._latest = now
        for revocation in found:
            self._take(revocation)
        self._apps = apps
        self._last = found[-1] if found else None
        self._is_loaded = True
        self._forget(now)

    async def _revocations(self, position: int, now: float) -> list[TokenRevocation]:
        found: list[TokenRevocation] = []
        while page := await self._store.token_revocations(position, now - REVOCATION_GRACE_SECONDS):
            found += page
            position = page[-1].position
            if len(page) < PAGE:
                break
        return found

    def refuses(self, record: UserRecord) -> Reason | None:
        """Why a verified token counts no more, or None where nothing is against it."""
        is_active = self._apps.get(record.principal.app_id)
        if is_active is not True:
            return Reason.APP_INACTIVE

        if self._tokens and record.token_id:
            token = record.token_id
            if (record.issuer, token) in self._tokens or ("", token) in self._tokens:
                return Reason.TOKEN_REVOKED
        if self._not_before and self._is_too_early(record):
            return Reason.TOKEN_REVOKED
        return None

    def _is_too_early(self, record: UserRecord) -> bool:
        app, user, issued_at = record.principal.app_id, record.principal.user_id, record.issued_at
        for issuer in (record.issuer, ""):
            for of_app in (app, AppId("")):
                for of_user in (user, ""):
                    found = self._not_before.get((issuer, of_app, of_user))
                    if found is not None and issued_at < found[0]:
                        return True
        return False

    def _take(self, revocation: TokenRevocation) -> None:
        if revocation.token_id:
            name = (revocation.issuer, revocation.token_id)
            self._tokens[name] = max(revocation.expires_at, self._tokens.get(name, 0.0))
            return
        whose = (revocation.issuer, revocation.app_id, revocation.user_id)
        before = self._not_before.get(whose, (0.0, 0.0))
        # The later of two is the stricter, and neither ends before both have.
        self._not_before[whose] = (
            max(revocation.not_before, before[0]),
            max(revocation.expires_at, before[1]),
        )

    def _forget(self, now: float) -> None:
        self._forgotten_at = self._clock.monotonic()
        self._latest = max(self._latest, now)
        self._tokens = {name: until for name, until in self._tokens.items() if not _is_past(until, now)}
        self._not_before = {whose: kept for whose, kept in self._not_before.items() if not _is_past(kept[1], now)}

    def _was_set_back(self, now: float) -> bool:
        """Whether the wall clock was far ahead for a while: what was left out by it may concern tokens that are good.

        Then all is read again (F36).
        """
        return now < self._latest - _SET_BACK_SECONDS


def _is_past(expires_at: float, now: float) -> bool:
    return expires_at <= now - REVOCATION_GRACE_SECONDS
