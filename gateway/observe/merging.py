"""`/metrics` of several processes as one: counters and histograms added up, gauges by a rule that is written down.

A counter never goes back: what a process that ended had counted when it was last read stays in the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from gateway.observe.metrics import OTHER


class Across(Enum):
    """What one number of several processes is made of."""

    SUM = "sum"
    MOST = "most"
    LEAST = "least"


GAUGES: Final[Mapping[str, Across]] = {
    "bearergate_requests_in_flight": Across.SUM,
    "bearergate_client_connections": Across.SUM,
    "bearergate_key_cache_entries": Across.SUM,
    "bearergate_key_feed_lag_seconds": Across.MOST,
    "bearergate_key_feed_last_contact_seconds": Across.MOST,
    "bearergate_token_cache_entries": Across.SUM,
    "bearergate_token_revocations": Across.MOST,
    "bearergate_issuer_keys": Across.LEAST,
    "bearergate_issuer_keys_age_seconds": Across.MOST,
    "bearergate_policy_info": Across.MOST,
    "bearergate_policy_routes": Across.MOST,
    "bearergate_policy_stale": Across.MOST,
    "bearergate_upstream_connections": Across.SUM,
    "bearergate_upstream_endpoints": Across.MOST,
    "bearergate_upstream_queue": Across.SUM,
    "bearergate_event_loop_lag_seconds": Across.MOST,
    "bearergate_memory_limit_bytes": Across.SUM,
    "bearergate_memory_short": Across.MOST,
    "bearergate_held_body_bytes": Across.SUM,
    "bearergate_build_info": Across.MOST,
    "bearergate_workers": Across.SUM,
    "process_virtual_memory_bytes": Across.SUM,
    "process_resident_memory_bytes": Across.SUM,
    "process_start_time_seconds": Across.LEAST,
    "process_open_fds": Across.MOST,
    "process_max_fds": Across.LEAST,
}
"""The rule of every gauge; counters and histograms are sums."""

OF_THE_SUPERVISOR: Final = frozenset(
    name.removesuffix("_total")
    for name in ("bearergate_workers", "bearergate_worker_restarts_total", "bearergate_policy_reloads_total")
)
"""Families that a worker cannot know: what it says of them is left out."""

_RULES: Final[Mapping[Across, Callable[[float, float], float]]] = {
    Across.SUM: lambda one, other: one + other,
    Across.MOST: max,
    Across.LEAST: min,
}
_GROWING: Final = frozenset({"counter", "histogram"})

_Key = tuple[str, tuple[tuple[str, str], ...]]


class FamilyReading(msgspec.Struct, frozen=True, array_like=True):
    """One metric of one process, as the Prometheus client library names its parts."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]
    """Name with its suffix, labels, value."""


def readings_of(registry: CollectorRegistry) -> tuple[FamilyReading, ...]:
    """What a registry shows now."""
    return tuple(
        FamilyReading(
            family.name,
            family.type,
            family.documentation,
            tuple((sample.name, tuple(sample.labels.items()), float(sample.value)) for sample in family.samples),
        )
        for family in registry.collect()
    )


class Tally:
    """The sum over processes that run and those that ended."""

    def __init__(self) -> None:
        self._ended: dict[str, dict[_Key, float]] = {}
        self._known: dict[str, tuple[str, str]] = {}

    def keep(self, reading: Sequence[FamilyReading]) -> None:
        """A process has ended: what it had counted stays."""
        for family in reading:
            if family.kind in _GROWING and family.name not in OF_THE_SUPERVISOR:
                self._known.setdefault(family.name, (family.kind, family.help))
                kept = self._ended.setdefault(family.name, {})
                for name, labels, value in family.samples:
                    kept[name, labels] = kept.get((name, labels), 0.0) + value

    def forget_routes(self, but: Iterable[str]) -> None:
        """A policy is in force with these routes: those that are gone are forgotten here as in every worker."""
        stay = {*but, "unmatched", OTHER}
        for kept in self._ended.values():
            for name, labels in [key for key in kept if dict(key[1]).get("route", OTHER) not in stay]:
                del kept[name, labels]

    def merged(
        self, workers: Iterable[Sequence[FamilyReading]], own: Sequence[FamilyReading]
    ) -> tuple[FamilyReading, ...]:
        """One reading for all; `own` is the supervisor's."""
        sums: dict[str, dict[_Key, float]] = {name: dict(kept) for name, kept in self._ended.items()}
        theirs = [[family for family in one if family.name not in OF_THE_SUPERVISOR] for one in workers]
        for reading in (*theirs, own):
            for family in reading:
                self._known.setdefault(family.name, (family.kind, family.help))
                rule = Across.SUM if family.kind in _GROWING else GAUGES.get(family.name, Across.MOST)
                together = _RULES[rule]
                into = sums.setdefault(family.name, {})
                for name, labels, value in family.samples:
                    key = (name, labels)
                    into[key] = together(into[key], value) if key in into else value
        return tuple(
            FamilyReading(name, *self._known[name], tuple((*key, value) for key, value in samples.items()))
            for name, samples in sums.items()
        )


class ReadingCollector(Collector):
    """Shows readings that were taken elsewhere."""

    def __init__(self, taken: Callable[[], Sequence[FamilyReading]]) -> None:
        self._taken = taken

    def collect(self) -> Iterator[Family]:
        for reading in self._taken():
            family = Family(reading.name, reading.help, reading.kind)
            for name, labels, value in reading.samples:
                family.add_sample(name, dict(labels), value)
            yield family
