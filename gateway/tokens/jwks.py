"""The key set of one issuer, kept fresh: read at the start, every so often, and when a token names an unknown key.

What it guarantees: a new set replaces the old one whole; a set that cannot be used replaces nothing; the last good set
serves for a stated time while the issuer is silent, and then none does; however many tokens name unknown keys, the
issuer is asked at most once in a stated time, and by one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from gateway.ports import Clock
from gateway.tokens.fetching import MAX_ANSWER_BYTES, IssuerUnreachable
from gateway.tokens.key_set import KeySet, KeySetInvalid, VerificationKey, read_key_set

_LOG: Final = logging.getLogger("bearergate")

REFRESH_SECONDS: Final = 300.0
"""How long a key that its issuer has withdrawn may still count."""
FILE_REFRESH_SECONDS: Final = 2.0
KEEP_SECONDS: Final = 3600.0
MIN_INTERVAL_SECONDS: Final = 10.0
"""Between two questions to an issuer, whatever tokens say (F9)."""
MAX_BACK_OFF_SECONDS: Final = 30.0


class KeyRing:
    """The keys of one issuer as they are known now. `follow` runs in a task that somebody else owns and cancels."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Awaitable[bytes]],
        clock: Clock,
        *,
        algorithms: Collection[str],
        refresh_seconds: float = REFRESH_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        min_interval_seconds: float = MIN_INTERVAL_SECONDS,
        on_change: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._read = read
        self._monotonic = clock.monotonic
        self._algorithms = algorithms
        self._refresh_seconds = refresh_seconds
        self._keep_seconds = keep_seconds
        self._min_interval = min_interval_seconds
        self.on_change = on_change
        """Called when the keys are others than before: what was verified by the old ones is to be verified anew."""
        self._sleep = sleep
        self._keys: KeySet = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._failures = 0
        self._flight: asyncio.Task[None] | None = None
        self.loaded = 0
        self.failed = 0
        self.fault = ""
        """What was wrong with the last attempt; empty when it succeeded."""

    @property
    def good_until(self) -> float:
        """Until when, on the monotonic clock, its keys may be used; 0 where there are none."""
        return 0.0 if self._read_at is None else self._read_at + self._keep_seconds

    @property
    def age_seconds(self) -> float | None:
        """Since the keys were last read from the issuer; None before the first time."""
        return None if self._read_at is None else max(0.0, self._monotonic() - self._read_at)

    @property
    def size(self) -> int:
        """Keys that are known now."""
        return len(self._keys)

    def key(self, kid: str) -> VerificationKey | None:
        """The key of that name, unless it has been too long since the issuer vouched for it."""
        found = self._keys.get(kid)
        return found if found is not None and self._monotonic() < self.good_until else None

    async def seek(self, kid: str) -> VerificationKey | None:
        """The key of that name, after a look at the issuer's newest set where one is due. None: it has none such.

        Raises: IssuerUnreachable where that cannot be said
        """
        if self._flight is not None or self._is_due():
            await self.refresh()
        found = self.key(kid)
        if found is None and (self.fault or self._monotonic() >= self.good_until):
            raise IssuerUnreachable(self.fault or "its keys were read too long ago")
        return found

    async def refresh(self) -> None:
        """Reads the set now; who comes while it is being read waits for the same answer. Never raises."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._load())
            self._flight.add_done_callback(self._land)
        # The task is nobody's in particular: who is cancelled leaves, and the others get their answer.
        await asyncio.shield(self._flight)

    async def follow(self) -> None:
        """Reads the set again and again. Ends only when cancelled."""
        while True:
            await self.refresh()
            await self._sleep(self._back_off() if self._failures else self._refresh_seconds)

    async def aclose(self) -> None:
        """Ends a reading under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _land(self, flight: asyncio.Task[None]) -> None:
        self._flight = None

    def _is_due(self) -> bool:
        return self._tried_at is None or self._monotonic() - self._tried_at >= self._back_off()

    def _back_off(self) -> float:
        doubled = self._min_interval * 2.0 ** min(self._failures - 1, 10) if self._failures else self._min_interval
        return min(doubled, max(MAX_BACK_OFF_SECONDS, self._min_interval))

    async def _load(self) -> None:
        # The age of a set counts from the question.
        asked_at = self._tried_at = self._monotonic()
        try:
            keys = read_key_set(await self._read(), self._algorithms)
        except KeySetInvalid as fault:
            self._failed(f"its key set is not used: {fault}")
        except IssuerUnreachable as fault:
            self._failed(str(fault))
        except Exception as fault:
            # Whatever it was: the last good set goes on, and the next look is a new chance.
            self._failed(f"its key set cannot be read ({type(fault).__name__})")
        else:
            self._take(keys, asked_at)

    def _take(self, keys: KeySet, asked_at: float) -> None:
        if self.fault:
            _LOG.info("issuer `%s` answers again", self.name)
        self.loaded += 1
        self._failures = 0
        self.fault = ""
        before = {kid: key.identity for kid, key in self._keys.items()}
        # INVARIANT: replaced whole, so a key that the issuer has withdrawn is gone with the next set (F10).
        self._keys = keys
        self._read_at = asked_at
        if before != {kid: key.identity for kid, key in keys.items()}:
            self.on_change()

    def _failed(self, fault: str) -> None:
        self.failed += 1
        self._failures += 1
        if fault != self.fault:
            left = max(0.0, self.good_until - self._monotonic())
            serve = (
                f"the last good keys serve for {left:.0f} s" if left else "there are no good keys: its tokens are 503"
            )
            _LOG.error("issuer `%s`: %s; %s", self.name, fault, serve)
        self.fault = fault


def file_reader(path: Path) -> Callable[[], Awaitable[bytes]]:
    """Reads the file, as `KeyRing` wants it."""

    async def read() -> bytes:
        try:
            return await asyncio.to_thread(read_file, path)
        except OSError as fault:
            raise IssuerUnreachable(f"`{path}` cannot be read: {fault.strerror}") from fault

    return read


def read_file(path: Path) -> bytes:
    """Raises: OSError"""
    with path.open("rb") as file:
        found = file.read(MAX_ANSWER_BYTES + 1)
    if len(found) > MAX_ANSWER_BYTES:
        raise OSError(0, f"it has more than {MAX_ANSWER_BYTES} bytes")
    return found
