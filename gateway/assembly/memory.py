"""What is done when memory runs short: no new connections and no more held bodies, and caches let go of the half (R29).

Looked at once a second by the sweep. Between two looks the bodies that are held are bounded by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.doors.services import Services
from gateway.judge import Judge
from gateway.observe.memory import give_back, limit_of_group_bytes, resident_bytes
from gateway.ports import Clock
from gateway.settings import Settings
from gateway.stores.cached import CachedKeyFinder

_LOG: Final = logging.getLogger("bearergate")
MIB: Final = 1024 * 1024

SHORT: Final = 0.85
"""From this share of the limit on. What is left is for the requests under way."""
ENOUGH: Final = 0.80
LOOK_SECONDS: Final = 1.0
HELD_SHARE: Final = 8
"""Bodies that are held take an eighth at most: each is there up to three times while it is judged and sent."""


def memory_limit_bytes(settings: Settings) -> int:
    """What one process may hold: the setting, or else the limit of its control group, shared by the workers; 0: any."""
    whole = limit_of_group_bytes() if settings.memory_limit is None else settings.memory_limit * MIB
    return whole // settings.workers


class MemoryGuard:
    """Looks how much memory is left, and tells the parts that hold some."""

    def __init__(
        self,
        limit_bytes: int,
        services: Services,
        keys: CachedKeyFinder,
        judge: Judge,
        clock: Clock,
        read: Callable[[], int] = resident_bytes,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.resident_bytes = 0
        """At the last look."""
        self.is_short = False
        self._services = services
        self._keys = keys
        self._judge = judge
        self._monotonic = clock.monotonic
        self._read = read
        self._next_look = clock.monotonic()
        services.room_for_bodies(limit_bytes // HELD_SHARE)

    def look_if_due(self) -> None:
        """Called again and again, by a sweep."""
        now = self._monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        self.resident_bytes = self._read()
        if self.resident_bytes > self.limit_bytes * (ENOUGH if self.is_short else SHORT):
            self._keys.shrink()
            self._judge.shrink()
            give_back()
            if not self.is_short:
                self.is_short = True
                self._services.memory_is_short()
                _LOG.error("memory is short, new connections and bodies are refused: %s in use", str(self))
        elif self.is_short:
            self.is_short = False
            self._services.memory_is_back()
            _LOG.info("memory is no longer short: %s in use", str(self))

    def __str__(self) -> str:
        return f"{self.resident_bytes // MIB} of {self.limit_bytes // MIB} MiB"
