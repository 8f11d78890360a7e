"""How late the event loop runs its timers: what every client feels when something blocks it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.ports import Clock

INTERVAL_SECONDS: Final = 0.1
"""Every block that is longer is noticed, and seems shorter by this much at most."""
WINDOW_SECONDS: Final = 30.0
"""Twice the usual scrape interval, so that no block falls between two scrapes."""


class LoopLag:
    """Sleeps, looks how much longer it took, and remembers the window. Assembly owns the task that runs `watch`."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lags: deque[tuple[float, float]] = deque()
        """When a timer ran, and how late."""
        self._due = float("inf")

    def longest_seconds(self, within_seconds: float = WINDOW_SECONDS) -> float:
        """The longest lag of the last 30 seconds, or of fewer; 0 before the first sample."""
        now = self._clock.monotonic()
        # The timer that is due may be late already, and this be asked before it runs.
        late_now = max(0.0, now - self._due)
        return max(late_now, max((lag for at, lag in tuple(self._lags) if at > now - within_seconds), default=0.0))

    async def watch(self) -> None:
        """Samples until it is cancelled."""
        lags = self._lags
        while True:
            self._due = self._clock.monotonic() + INTERVAL_SECONDS
            await self._sleep(INTERVAL_SECONDS)
            now = self._clock.monotonic()
            lags.append((now, max(0.0, now - self._due)))
            while lags[0][0] < now - WINDOW_SECONDS:
                lags.popleft()
