"""How many requests may be sent once more: a share of all, so that retries never multiply an upstream's trouble."""

from __future__ import annotations

from collections import deque
from typing import Final, final

WINDOW_SECONDS: Final = 10.0
RETRIES_PER_SECOND: Final = 3.0
"""Allowed at any load: a share of few requests would be none."""


@final
class RetryBudget:
    """Retries in a sliding window, measured against the requests in it. `now` is monotonic seconds."""

    __slots__ = ("_marks", "_retried", "_share", "made", "refused", "requests")

    def __init__(self, share: float = 0.2) -> None:
        self._share = share
        self._marks: deque[tuple[float, int]] = deque()
        self._retried: deque[float] = deque()
        self.requests = 0
        """Since the start; whoever sends one adds to it."""
        self.made = 0
        self.refused = 0

    def mark(self, now: float) -> None:
        """Remembers how many requests there were until now; called again and again, by a sweep."""
        marks = self._marks
        marks.append((now, self.requests))
        while marks[0][0] < now - WINDOW_SECONDS:
            marks.popleft()

    def allows(self, now: float) -> bool:
        """Whether one more retry is within the budget. If so, it is counted."""
        if self._share <= 0.0:
            self.refused += 1
            return False
        retried = self._retried
        while retried and retried[0] < now - WINDOW_SECONDS:
            retried.popleft()
        before = self._marks[0][1] if self._marks else 0
        allowed = max(RETRIES_PER_SECOND * WINDOW_SECONDS, self._share * (self.requests - before))
        if len(retried) >= allowed:
            self.refused += 1
            return False
        retried.append(now)
        self.made += 1
        return True
