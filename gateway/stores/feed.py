"""Follows the history of keys, so that what was cached is forgotten when it changes: the poll is the truth.

Each poll asks again for the last change it knows and for what came after. If that change is no longer there, the
store is not the one that was followed (a restored backup), and everything is forgotten. So is everything on the first
contact, and after a silence longer than the TTL, because what was cached meanwhile may have changed unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gateway.core.credential import AppId, KeyId
from gateway.ports import Clock, KeyChange, KeyStore, StoreUnavailable
from gateway.stores.cached import TTL_SECONDS

POLL_SECONDS: Final = 0.5
"""A revocation reaches every gateway within this and the time of one query."""

MAX_BACK_OFF_SECONDS: Final = 1.0
"""Short, because the store's return must be noticed within two seconds."""


class Forgetful(Protocol):
    """What the feed tells of changes: the cache."""

    def forget_key(self, key_id: KeyId) -> None: ...

    def forget_app(self, app_id: AppId) -> None: ...

    def forget_all(self) -> None: ...


class ChangeFeed:
    """Polls one store for one cache. `follow` runs in a task that somebody else owns and cancels."""

    def __init__(
        self,
        store: KeyStore,
        cache: Forgetful,
        clock: Clock,
        *,
        poll_seconds: float = POLL_SECONDS,
        ttl_seconds: float = TTL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._ttl = ttl_seconds
        self._sleep = sleep
        self._last: KeyChange | None = None
        self.last_contact: float | None = None
        """When a poll last succeeded, on the monotonic clock; None before the first."""
        self.lag_seconds = 0.0
        """From the store's writing of the newest applied change to its arrival here; 0 before the first."""

    @property
    def position(self) -> int:
        """The newest change that was applied; 0 before the first."""
        return 0 if self._last is None else self._last.position

    async def follow(self) -> None:
        """Polls for ever. Ends only when cancelled."""
        delay = self._poll_seconds
        while True:
            try:
                await self.poll_once()
            except StoreUnavailable:
                delay = min(delay * 2, max(MAX_BACK_OFF_SECONDS, self._poll_seconds))
            else:
                delay = self._poll_seconds
            await self._sleep(delay)

    async def poll_once(self) -> None:
        """Applies all that has happened since the last poll. Raises: StoreUnavailable"""
        await self._catch_up()
        self.last_contact = self._clock.monotonic()

    async def _catch_up(self) -> None:
        if self.last_contact is None or self._clock.monotonic() - self.last_contact > self._ttl:
            await self._restart()

        while True:
            last = self._last
            changes = await self._store.changes_since(0 if last is None else last.position - 1)
            if last is not None and (not changes or changes[0] != last):
                await self._restart()
                return

            news = changes if last is None else changes[1:]
            for change in news:
                self._apply(change)
            if not news:
                return

    async def _restart(self) -> None:
        newest = await self._store.position()
        changes = await self._store.changes_since(newest - 1) if newest else []
        # INVARIANT: emptied after the position was read, so what is cached from here on has seen all up to it.
        self._cache.forget_all()
        self._last = changes[-1] if changes else None

    def _apply(self, change: KeyChange) -> None:
        if change.key_id is None:
            self._cache.forget_app(change.app_id)
        else:
            self._cache.forget_key(change.key_id)
        self._last = change
        # Two machines' clocks may differ: a change from the future has arrived at once.
        self.lag_seconds = max(0.0, self._clock.now() - change.happened_at)
