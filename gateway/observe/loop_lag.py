"""How late the event loop runs its timers: what every client feels when something blocks it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.ports import Clock

INTERVAL_SECONDS: Final = 0.5
WINDOW_SECONDS: Final = 30.0
"""Twice the usual scrape interval, so that no block falls between two scrapes."""


class LoopLag:
    """Sleeps, looks how much longer it took, and remembers the window. Assembly owns the task that runs `watch`."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lags: deque[float] = deque(maxlen=int(WINDOW_SECONDS / INTERVAL_SECONDS))

    def longest_seconds(self) -> float:
        """The longest lag of the last 30 seconds; 0 before the first sample."""
        return max(tuple(self._lags), default=0.0)

    async def watch(self) -> None:
        """Samples until it is cancelled."""
        while True:
            due = self._clock.monotonic() + INTERVAL_SECONDS
            await self._sleep(INTERVAL_SECONDS)
            self._lags.append(max(0.0, self._clock.monotonic() - due))
