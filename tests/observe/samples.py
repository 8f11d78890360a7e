"""Outcomes, clocks and sinks for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from gateway.core.credential import CredentialKind
from gateway.core.reasons import Verdict
from gateway.observe.counting import RequestCounts
from gateway.observe.exposition import metrics_registry
from gateway.observe.key_lookups import KeyLookups
from gateway.observe.metrics import METRICS
from gateway.observe.readings import (
    DoorReading,
    IssuerReading,
    KeyCacheReading,
    KeyFeedReading,
    MemoryReading,
    PolicyReading,
    Readings,
    TokenReading,
    UpstreamReading,
)
from gateway.ports import Outcome
from tests.support.values import changed

NOW = 1_795_283_202.125
"""2026-11-21T17:46:42.125Z, exact in binary."""

ALLOWED = Outcome(
    ref="9f3c2a7b1d4e4f60a1b2c3d4e5f60718",
    verdict=Verdict.ALLOWED,
    reason=None,
    status=200,
    method="GET",
    path="/v2/users/u1/events",
    route="users.events",
    upstream="rest",
    kind=CredentialKind.API_KEY,
    key_id="e5c3b842231543f",
    app_id="app_1",
    peer="10.0.0.7",
    duration_seconds=0.0015,
    upstream_seconds=0.001,
    bytes_in=0,
    bytes_out=459,
)


def outcome(**changes: object) -> Outcome:
    """The allowed outcome with some fields changed."""
    return changed(ALLOWED, **changes)


class MemorySink:
    """A sink that takes as much per call as it is told to."""

    def __init__(self, chunk_bytes: int = 65_536, on_write: Callable[[], None] = lambda: None) -> None:
        self.chunk_bytes = chunk_bytes
        self.accepts_bytes = 1 << 30
        self.written = b""
        self.is_closed = False
        self._on_write = on_write

    def write(self, data: bytes) -> int:
        self._on_write()
        taken = data[: self.accepts_bytes]
        self.written += taken
        return len(taken)

    def close(self) -> None:
        self.is_closed = True

    def lines(self) -> list[bytes]:
        return self.written.splitlines()


EVERY_READING = Readings(
    doors=lambda: DoorReading(requests_in_flight=3, client_connections=7),
    key_cache=lambda: KeyCacheReading(
        hits=90, unknown_hits=5, misses=6, evictions=1, keys=40, unknown=4, turned_away=2
    ),
    key_feed=lambda: KeyFeedReading(lag_seconds=0.25, last_contact_seconds=0.5),
    tokens=lambda: TokenReading(
        hits=70,
        refused_hits=8,
        misses=9,
        verified=50,
        refused=10,
        cannot_decide=12,
        known=41,
        refused_known=13,
        revocations=14,
        issuers={"accounts": IssuerReading(answered=15, failed=16, keys=17, keys_age_seconds=18.5)},
    ),
    policy=lambda: PolicyReading(
        revision="0123456789abcdef", routes=12, is_stale=True, reloads_loaded=2, reloads_refused=1
    ),
    upstreams=lambda: {"rest": UpstreamReading(idle=2, busy=1, connected=9, connect_failures=3)},
    access_log_dropped=lambda: 11,
    loop_lag_seconds=lambda: 0.004,
    memory=lambda: MemoryReading(limit_bytes=512 << 20, is_short=True, held_body_bytes=1 << 20),
    assertions_signed=lambda: 19,
)


def registry_of(
    counts: RequestCounts, lookups: KeyLookups | None = None, readings: Readings = EVERY_READING
) -> CollectorRegistry:
    return metrics_registry(counts, lookups or KeyLookups(), readings)


def samples_of(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of ours in a scrape, by name and labels."""
    names = {metric.name for metric in METRICS}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        if {family.name, f"{family.name}_total"} & names
        for sample in family.samples
    }


def value_of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)
