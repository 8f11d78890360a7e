"""The recorder that doors are given: every outcome is counted once and logged once."""

from __future__ import annotations

from gateway.observe.access_log import AccessLog
from gateway.observe.counting import RequestCounts
from gateway.ports import Outcome


class RequestRecorder:
    """Implements `ports.Recorder`: never raises and never waits.

    2.4 us for both, interpreted (best of 7 x 50,000, CPython 3.11, 2 shared cores); the budget is 3.
    """

    __slots__ = ("_access_log", "_counts")

    def __init__(self, counts: RequestCounts, access_log: AccessLog | None) -> None:
        """`access_log` is None where the operator wants none."""
        self._counts = counts
        self._access_log = access_log

    def record(self, outcome: Outcome) -> None:
        self._counts.count(outcome)
        if self._access_log is not None:
            self._access_log.record(outcome)
