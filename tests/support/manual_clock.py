"""A clock that stands still until a test moves it."""

from __future__ import annotations

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z."""


class ManualClock:
    """Both clocks of `ports.Clock`, moved by hand. They differ, so that one taken for the other shows."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Time passes on both clocks."""
        self._now += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self._now += seconds
