"""Counts and times what the key store is asked, without the store knowing."""

from __future__ import annotations

from gateway.core.credential import Credential
from gateway.core.principal import KeyRecord
from gateway.observe.counting import Histogram
from gateway.ports import Clock, KeyChange, KeyStore


class KeyLookups:
    """How the look-ups in the key store ended, and how long they took."""

    __slots__ = ("failed", "found", "seconds", "unknown")

    def __init__(self) -> None:
        self.found = 0
        self.unknown = 0
        self.failed = 0
        self.seconds = Histogram()


class CountedKeyStore:
    """A key store that answers exactly as the one inside it does, and counts."""

    def __init__(self, store: KeyStore, lookups: KeyLookups, clock: Clock) -> None:
        self._store = store
        self._lookups = lookups
        self._clock = clock

    async def find(self, credential: Credential) -> KeyRecord | None:
        """Raises: StoreUnavailable"""
        started = self._clock.monotonic()
        try:
            record = await self._store.find(credential)
        except BaseException:
            # A time-out of the caller arrives here as a cancellation: it is a failed look-up like any other.
            self._lookups.failed += 1
            raise
        else:
            if record is None:
                self._lookups.unknown += 1
            else:
                self._lookups.found += 1
            return record
        finally:
            self._lookups.seconds.observe(self._clock.monotonic() - started)

    async def position(self) -> int:
        """Raises: StoreUnavailable"""
        return await self._store.position()

    async def changes_since(self, position: int) -> list[KeyChange]:
        """Raises: StoreUnavailable"""
        return await self._store.changes_since(position)
