"""Requests counted with plain integers: no lock, no label look-up and no string on the way of a request.

Written by the event loop's thread alone; `/metrics` reads from a worker thread. Each list or dict is copied by one
call (atomic in CPython), so a scrape may be one request behind itself but never sees a torn value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.core.policy.routes import UNMATCHED
from gateway.core.reasons import Reason, Verdict
from gateway.observe.metrics import MAX_ROUTES, OTHER, SECONDS_BOUNDS, UPSTREAM_FAILURES, ending_labels
from gateway.ports import Outcome

_Key = tuple[int, int, int, int]


_FAILED: Final = Verdict.UPSTREAM_FAILED
_BOUNDS: Final = [*SECONDS_BOUNDS, float("inf")]


def _bucket(seconds: float) -> int:
    """The first bound that holds `seconds`. From the left, where nearly all are: compiled, quicker than a bisection."""
    place = 0
    while seconds > _BOUNDS[place]:
        place += 1
    return place


class Histogram:
    """Seconds in buckets: `counts[i]` holds what is at most `SECONDS_BOUNDS[i]`, the last one holds the rest."""

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[_bucket(seconds)] += 1
        self.total_seconds += seconds


class Ending:
    """How many requests of one route ended in one way."""

    __slots__ = ("count", "labels")

    def __init__(self, labels: tuple[str, str, str, str]) -> None:
        self.labels = labels
        self.count = 0


class RouteCounts:
    """Everything counted for one route."""

    __slots__ = ("_by_labels", "bytes_in", "bytes_out", "duration", "endings")

    def __init__(self) -> None:
        self.endings: dict[_Key, Ending] = {}
        self._by_labels: dict[tuple[str, str, str, str], Ending] = {}
        self.duration = Histogram()
        self.bytes_in = 0
        self.bytes_out = 0

    def ending_of(self, outcome: Outcome, key: _Key) -> Ending:
        """The counter for an outcome that was not seen under `key` before."""
        labels = ending_labels(outcome.kind, outcome.verdict, outcome.reason, outcome.status)
        ending = self._by_labels.setdefault(labels, Ending(labels))
        # A status that shares its label with others is not remembered, so an upstream that makes up numbers
        # cannot grow `endings`; it only takes this longer way each time.
        if labels[3] == str(outcome.status):
            self.endings[key] = ending
        return ending

    def by_labels(self) -> list[Ending]:
        """Every ending once."""
        return list(self._by_labels.values())


class UpstreamCounts:
    """Everything counted for one upstream from the outcomes that name it."""

    __slots__ = ("duration", "failures")

    def __init__(self) -> None:
        self.duration = Histogram()
        self.failures = dict.fromkeys(UPSTREAM_FAILURES, 0)

    def count_failure(self, reason: Reason | None) -> None:
        label = OTHER if reason is None else reason.label
        self.failures[label if label in self.failures else OTHER] += 1


class RequestCounts:
    """The counters behind `bearergate_requests_total` and its neighbours."""

    __slots__ = ("_endings_of_removed", "_other_route", "_other_upstream", "overhead", "routes", "upstreams")

    def __init__(self) -> None:
        self._other_route = RouteCounts()
        self._other_upstream = UpstreamCounts()
        self.routes: dict[str, RouteCounts] = {UNMATCHED: RouteCounts(), OTHER: self._other_route}
        self.upstreams: dict[str, UpstreamCounts] = {OTHER: self._other_upstream}
        self.overhead = Histogram()
        self._endings_of_removed: dict[str, int] = {}

    def follow(self, routes: Iterable[str], upstreams: Iterable[str]) -> None:
        """Counts by the names of a new policy: names that stay go on counting, names that are gone are forgotten.

        A request that began under a replaced policy and ends later is counted under `other` if its route is gone.
        """
        names = (UNMATCHED, OTHER, *tuple(routes)[:MAX_ROUTES])
        kept = {name: self.routes.get(name) or RouteCounts() for name in names}
        for name in self.routes.keys() - kept.keys():
            for ending in self.routes[name].by_labels():
                reason = ending.labels[2]
                self._endings_of_removed[reason] = self._endings_of_removed.get(reason, 0) + ending.count

        self.routes = kept
        self.upstreams = {name: self.upstreams.get(name) or UpstreamCounts() for name in (OTHER, *upstreams)}

    def count(self, outcome: Outcome) -> None:
        """Counts one outcome. 0.7 us interpreted (best of 7 x 50,000, CPython 3.11, 2 shared cores)."""
        try:
            route = self.routes[outcome.route]
        except KeyError:
            route = self._other_route

        # Facts: members of an enumeration live as long as the process and there is one of each, so `id` tells them
        # apart. `Enum.__hash__` is a Python function in 3.11: three of them would cost more than the rest of this.
        verdict = outcome.verdict
        key = (id(outcome.kind), id(verdict), id(outcome.reason), outcome.status)
        try:
            ending = route.endings[key]
        except KeyError:
            ending = route.ending_of(outcome, key)
        ending.count += 1

        seconds = outcome.duration_seconds
        duration = route.duration
        duration.counts[_bucket(seconds)] += 1
        duration.total_seconds += seconds
        route.bytes_in += outcome.bytes_in
        route.bytes_out += outcome.bytes_out

        upstream_seconds = outcome.upstream_seconds
        own_seconds = seconds - upstream_seconds if seconds > upstream_seconds else 0.0
        overhead = self.overhead
        overhead.counts[_bucket(own_seconds)] += 1
        overhead.total_seconds += own_seconds

        name = outcome.upstream
        if name or verdict is _FAILED:
            try:
                upstream = self.upstreams[name]
            except KeyError:
                upstream = self._other_upstream
            duration = upstream.duration
            duration.counts[_bucket(upstream_seconds)] += 1
            duration.total_seconds += upstream_seconds
            if verdict is _FAILED:
                upstream.count_failure(outcome.reason)

    def refusals(self) -> dict[str, int]:
        """How many requests ended for each reason since the start, routes of replaced policies included."""
        counted = {reason.label: self._endings_of_removed.get(reason.label, 0) for reason in Reason}
        for route in list(self.routes.values()):
            for ending in route.by_labels():
                reason = ending.labels[2]
                if reason in counted:
                    counted[reason] += ending.count
        return counted
