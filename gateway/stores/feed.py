"""Follows the history of keys, so that what was cached is forgotten when it changes: the poll is the truth.

Each poll asks again for the last change it knows and for what came after. If that change is no longer there, the
store is not the one that was followed (a restored backup), and everything is forgotten. So is everything on the first
contact, and after a silence longer than the TTL, because what was cached meanwhile may have changed unseen.

Where the store can say that something was written, `wake` brings the next poll forward; nothing depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from gateway.core.credential import AppId, KeyId
from gateway.ports import Clock, KeyChange, KeyStore, StoreUnavailable
from gateway.stores.cached import TTL_SECONDS

_LOG: Final = logging.getLogger("bearergate")

POLL_SECONDS: Final = 0.5
"""A revocation reaches every gateway within this and the time of one query."""

MAX_BACK_OFF_SECONDS: Final = 1.0
"""Short, because the store's return must be noticed within two seconds."""

MIN_PAUSE_SECONDS: Final = 0.02
"""Between two polls, however often the store says that something was written (H20)."""


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
        on_tokens: Callable[[], Awaitable[None]] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """`on_tokens` is awaited when Apps have changed, user tokens were revoked, or everything was forgotten; it may
        raise StoreUnavailable, and is then awaited again with the next poll.
        """
        self._store = store
        self._cache = cache
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._ttl = ttl_seconds
        self._on_tokens = on_tokens
        self._owes_tokens = False
        self._sleep = sleep or self._pause
        self._woken = asyncio.Event()
        self._last: KeyChange | None = None
        self.last_contact: float | None = None
        """When the last poll that succeeded began, on the monotonic clock; None before the first."""
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
                delay = min(delay * 2, MAX_BACK_OFF_SECONDS)
            except Exception:
                # Whatever it was, revocations are heard of nowhere else: the next poll is a new chance.
                _LOG.exception("the change feed could not be read")
                delay = MAX_BACK_OFF_SECONDS
            else:
                delay = self._poll_seconds
            await self._sleep(delay)

    def wake(self) -> None:
        """Something was written: the next poll need not wait."""
        self._woken.set()

    async def poll_once(self) -> None:
        """Applies all that has happened since the last poll. Raises: StoreUnavailable"""
        # Cleared before the store is asked: what is written from here on wakes the next poll, not this one.
        self._woken.clear()
        # The age of what is known counts from the question: a change may have been written while it was answered.
        asked_at = self._clock.monotonic()
        await self._catch_up()
        if self._owes_tokens and self._on_tokens is not None:
            await self._on_tokens()
            self._owes_tokens = False
        self.last_contact = asked_at

    async def _catch_up(self) -> None:
        if self.last_contact is None or self._clock.monotonic() - self.last_contact > self._ttl:
            await self._restart()

        while True:
            last = self._last
            changes = await self._store.changes_since(0 if last is None else last.position - 1)
            if last is not None and (not changes or changes[0] != last):
                await self._restart()
                _LOG.warning(
                    "the key store is not the one of before: change %d is not in its history, which ends with %d; "
                    "where a backup was restored, revoke again what was revoked after it was made",
                    last.position,
                    self.position,
                )
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
        self._owes_tokens = True
        self._last = changes[-1] if changes else None

    def _apply(self, change: KeyChange) -> None:
        if change.concerns_tokens:
            self._owes_tokens = True
        elif change.key_id is None:
            self._cache.forget_app(change.app_id)
            self._owes_tokens = True
        else:
            self._cache.forget_key(change.key_id)
        self._last = change
        # Two machines' clocks may differ: a change from the future has arrived at once.
        self.lag_seconds = max(0.0, self._clock.now() - change.happened_at)

    async def _pause(self, seconds: float) -> None:
        """`seconds`, or less where the feed is woken."""
        await asyncio.sleep(min(seconds, MIN_PAUSE_SECONDS))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds - MIN_PAUSE_SECONDS)):
                await self._woken.wait()
