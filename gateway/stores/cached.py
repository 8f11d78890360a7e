"""Key records in memory, for the data plane: bounded, short-lived, and forgotten when the change feed says so.

What it guarantees: an answer is never older than the TTL; an answer that began before a change is not kept after it;
however many ask for one token at once, the store is asked once; a flood of unknown tokens evicts no known key; and an
error is never remembered. Records are kept, never verdicts: the judge asks each record again whether it is good now.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from dataclasses import replace
from itertools import islice
from typing import Final

from gateway.core.credential import AppId, Credential, KeyDigest, KeyId
from gateway.core.principal import KeyRecord
from gateway.ports import MISSING, Clock, KeyStore, Missing, StoreUnavailable

MAX_ENTRIES: Final = 100_000
"""Some 390 bytes each, the record included: 37 MiB when full, and 373 MiB with a million (interpreted: 434)."""

_EVICTED_PART: Final = 256
"""A cache that is full drops this part of itself at once: finding the oldest is a walk over the holes before them."""

_MOST_HOLES: Final = 1_000
"""How many entries that are gone a cache of any size may keep room for, beside a quarter of those that it holds."""

MAX_UNKNOWN: Final = 100_000

LEAST_ENTRIES: Final = 1_000
"""What is kept however short memory is: half a megabyte that spares the store a storm."""

TTL_SECONDS: Final = 30.0
"""The hard bound of a revocation whose news never arrives. The change feed usually brings it within a second."""

UNKNOWN_TTL_SECONDS: Final = 5.0
"""The bound for a new key that was tried before it was made, should the news of it never arrive."""

LOOKUP_TIMEOUT_SECONDS: Final = 0.5

MAX_LOOKUPS: Final = 256
"""SQLite answers 1,200 to 1,800 look-ups a second on one busy core, so the last of 256 waits some 0.2 s."""


class KeyCacheCounters:
    """What the cache did since the start. Plain integers, read by the metrics whenever they like."""

    __slots__ = (
        "evictions",
        "hits",
        "misses",
        "turned_away",
        "unknown_evictions",
        "unknown_hits",
    )

    def __init__(self) -> None:
        self.hits = 0
        """Answered with a record."""
        self.unknown_hits = 0
        """Answered with the knowledge that the token is unknown."""
        self.misses = 0
        self.turned_away = 0
        """Refused because too many look-ups were under way."""
        self.evictions = 0
        self.unknown_evictions = 0


class _Failed:
    """The store did not answer. A value, so a look-up that nobody waits for any more leaves no unread exception."""

    __slots__ = ("cause",)

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _Flight:
    """One look-up under way, and the generation in which it began."""

    __slots__ = ("generation", "task")

    def __init__(self, generation: int, task: asyncio.Task[KeyRecord | _Failed | None]) -> None:
        self.generation = generation
        self.task = task


class CachedKeyFinder:
    """`KeyFinder` before a `KeyStore`. It owns the tasks that ask the store: close it with `aclose`."""

    def __init__(
        self,
        store: KeyStore,
        clock: Clock,
        *,
        max_entries: int = MAX_ENTRIES,
        max_unknown: int = MAX_UNKNOWN,
        ttl_seconds: float = TTL_SECONDS,
        unknown_ttl_seconds: float = UNKNOWN_TTL_SECONDS,
        lookup_timeout_seconds: float = LOOKUP_TIMEOUT_SECONDS,
        max_lookups: int = MAX_LOOKUPS,
        counters: KeyCacheCounters | None = None,
    ) -> None:
        self.counters = counters or KeyCacheCounters()
        self._store = store
        self._monotonic = clock.monotonic
        self._max_entries = max_entries
        self._max_unknown = max_unknown
        self._ttl = ttl_seconds
        self._unknown_ttl = unknown_ttl_seconds
        self._lookup_timeout = lookup_timeout_seconds
        self._max_lookups = max_lookups
        # Each TTL is one figure for all, so the order of insertion is the order of expiry, and the first is evicted.
        # Plain dicts of few objects each: a node of an OrderedDict and a tuple would take 170 bytes more of each key.
        self._known: dict[KeyDigest, KeyRecord] = {}
        self._digests: dict[KeyId, KeyDigest] = {}
        self._holes = 0
        self._unknown: OrderedDict[KeyDigest, float] = OrderedDict()
        self._flights: dict[KeyDigest, _Flight] = {}
        self._tasks: set[asyncio.Task[KeyRecord | _Failed | None]] = set()
        self._generation = 0

    @property
    def known_count(self) -> int:
        """Records held now, those past their TTL included until they are replaced."""
        return len(self._known)

    @property
    def unknown_count(self) -> int:
        """Tokens known to be unknown held now, likewise."""
        return len(self._unknown)

    @property
    def lookups_in_progress(self) -> int:
        """Questions that the store has not answered yet."""
        return len(self._tasks)

    def cached(self, digest: KeyDigest) -> KeyRecord | Missing | None:
        """The record (None: known to be unknown) if memory may still answer, else `MISSING`."""
        # Measured with timeit, CPython 3.11, one shared core: 0.23 us for a hit, 0.17 unknown, 0.11 missing.
        record = self._known.get(digest)
        if record is not None and self._monotonic() < record.held_until:
            self.counters.hits += 1
            return record

        good_until = self._unknown.get(digest)
        if good_until is not None and self._monotonic() < good_until:
            self.counters.unknown_hits += 1
            return None

        self.counters.misses += 1
        return MISSING

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record from the store; None also where the store's record has another digest. Raises: StoreUnavailable"""
        flight = self._flights.get(credential.digest)
        # INVARIANT: who asks after a change does not get the answer to a question put before it.
        if flight is None or flight.generation != self._generation:
            flight = self._take_off(credential)

        # The task is nobody's in particular: a caller that is cancelled leaves, and the others get their answer.
        answer = await asyncio.shield(flight.task)
        if isinstance(answer, _Failed):
            # A new exception for each caller: they would share one traceback otherwise.
            raise StoreUnavailable(str(answer.cause)) from answer.cause

        return answer

    def forget_key(self, key_id: KeyId) -> None:
        """The key has changed, or has just been made."""
        self._generation += 1
        if key_id in self._digests:
            self._forget_digest(self._digests[key_id])
        else:
            # Perhaps it is new, and its token was tried before. Unknown tokens have no key id to tell: forget them all.
            self._unknown.clear()

    def forget_app(self, app_id: AppId) -> None:
        """The App has changed, and so has every key of it."""
        self._generation += 1
        # A walk over everything: 14 ms with 100,000 keys held, and Apps are disabled and enabled by hand.
        gone = [digest for digest, record in self._known.items() if record.principal.app_id == app_id]
        for digest in gone:
            self._forget_digest(digest)

    def forget_all(self) -> None:
        """The news may have gaps: trust nothing that is held."""
        self._generation += 1
        self._known.clear()
        self._unknown.clear()
        self._digests.clear()
        self._holes = 0

    def shrink(self) -> None:
        """Memory is short: lets go of the older half of what is held, but for the last thousand of each."""
        counters = self.counters
        for digest in list(islice(self._known, _part_to_forget(len(self._known)))):
            self._forget_digest(digest)
            counters.evictions += 1
        self._close_holes()
        for _ in range(_part_to_forget(len(self._unknown))):
            self._unknown.popitem(last=False)
            counters.unknown_evictions += 1

    async def aclose(self) -> None:
        """Ends the look-ups under way; who waits for one gets `CancelledError`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take_off(self, credential: Credential) -> _Flight:
        # Look-ups left behind by a change count too: the bound is on what the store is asked at once.
        # A quarter of the places is for keys that were good within memory's reach, so that a flood of made-up tokens
        # does not turn away a key in use whose time in memory has just run out (E28).
        was_known = credential.digest in self._known
        limit = self._max_lookups if was_known else self._max_lookups - self._max_lookups // 4
        if len(self._tasks) >= limit:
            self.counters.turned_away += 1
            raise StoreUnavailable(f"{limit} look-ups are waiting for the key store already")

        task = asyncio.create_task(self._look_up(credential, self._generation))
        flight = _Flight(self._generation, task)
        self._flights[credential.digest] = flight
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._land(credential.digest, flight))
        return flight

    def _land(self, digest: KeyDigest, flight: _Flight) -> None:
        if self._flights.get(digest) is flight:
            del self._flights[digest]

    async def _look_up(self, credential: Credential, generation: int) -> KeyRecord | _Failed | None:
        # The age of an answer counts from the question: what the store said is at least as old as its saying it.
        asked_at = self._monotonic()
        found = await self._ask(credential)
        if isinstance(found, _Failed):
            return found

        # A right id with a wrong secret is an unknown token: kept as one, so guesses never take the key's place.
        record = found if found is not None and hmac.compare_digest(found.digest, credential.digest) else None
        if generation != self._generation:
            return record
        if record is None:
            self._keep_unknown(credential.digest, asked_at + self._unknown_ttl)
            return None

        held = replace(record, held_until=asked_at + self._ttl)
        self._keep(held)
        return held

    async def _ask(self, credential: Credential) -> KeyRecord | _Failed | None:
        try:
            async with asyncio.timeout(self._lookup_timeout):
                return await self._store.find(credential)
        except TimeoutError:
            return _Failed(StoreUnavailable(f"the key store did not answer within {self._lookup_timeout} s"))
        # Also what a store should never raise: the question has no answer, and the followers need to hear so.
        except Exception as error:
            return _failed(error)

    def _keep_unknown(self, digest: KeyDigest, good_until: float) -> None:
        # Taken out first: what is put in again must become the youngest, and a digest is known or unknown, not both.
        self._forget_digest(digest)
        self._unknown.pop(digest, None)
        self._unknown[digest] = good_until
        while len(self._unknown) > self._max_unknown:
            self._unknown.popitem(last=False)
            self.counters.unknown_evictions += 1

    def _keep(self, record: KeyRecord) -> None:
        # Taken out first, likewise.
        self._forget_digest(record.digest)
        self._unknown.pop(record.digest, None)
        # One digest per key: an older one would be out of reach of `forget_key`.
        self._forget_digest(self._digests.get(record.principal.key_id))
        # The record's own bytes serve as the dict's key: one object of 65 bytes less for each entry.
        self._known[record.digest] = record
        self._digests[record.principal.key_id] = record.digest
        if len(self._known) > self._max_entries:
            for digest in list(islice(self._known, self._max_entries // _EVICTED_PART + 1)):
                self._forget_digest(digest)
                self.counters.evictions += 1
        if self._holes > len(self._known) // 4 + _MOST_HOLES:
            self._close_holes()

    def _close_holes(self) -> None:
        # Facts: a dict never uses the place of an entry that is gone again, and when it has no more it grows to three
        # times of what it holds. `dict()` leaves the holes out; `copy()` may keep them. 50 ms with a million keys.
        self._known = dict(self._known)
        self._digests = dict(self._digests)
        self._holes = 0

    def _forget_digest(self, digest: KeyDigest | None) -> None:
        record = None if digest is None else self._known.pop(digest, None)
        if record is not None:
            del self._digests[record.principal.key_id]
            self._holes += 1


def _part_to_forget(count: int) -> int:
    return max(0, min(count // 2, count - LEAST_ENTRIES))


def _failed(error: Exception) -> _Failed:
    if isinstance(error, StoreUnavailable):
        return _Failed(error)
    return _Failed(StoreUnavailable(f"the key store failed ({type(error).__name__})"))
