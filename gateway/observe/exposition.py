"""The registry behind `/metrics`: reads the plain counters and the readings when somebody scrapes, not before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from gateway import DATA_PATH, __version__
from gateway.observe.counting import Histogram, RequestCounts
from gateway.observe.key_lookups import KeyLookups
from gateway.observe.metrics import METRICS, SECONDS_BOUNDS, WORKER_STATES, Metric, MetricKind
from gateway.observe.readings import Readings

_Sample = tuple[str, tuple[str, ...], "float | Histogram"]
"""Name of the metric, values of its labels in the order of the list, and the value."""

_LE: Final = (*(str(bound) for bound in SECONDS_BOUNDS), "+Inf")


def metrics_registry(counts: RequestCounts, lookups: KeyLookups, readings: Readings) -> CollectorRegistry:
    """What the admin application serves as `/metrics`, with the process's own metrics beside ours."""
    registry = CollectorRegistry()
    registry.register(_GatewayCollector(counts, lookups, readings))
    ProcessCollector(registry=registry)
    return registry


class _GatewayCollector(Collector):
    """Yields the families of `METRICS` in their order; a sample for a name that is not in the list is a bug."""

    def __init__(self, counts: RequestCounts, lookups: KeyLookups, readings: Readings) -> None:
        self._counts = counts
        self._lookups = lookups
        self._readings = readings

    def collect(self) -> Iterable[Family]:
        samples: dict[str, list[tuple[tuple[str, ...], float | Histogram]]] = {metric.name: [] for metric in METRICS}
        for name, labels, value in self._samples():
            samples[name].append((labels, value))
        for metric in METRICS:
            if samples[metric.name]:
                yield _family(metric, samples[metric.name])

    def _samples(self) -> Iterator[_Sample]:
        yield from self._requests()
        yield from self._doors()
        yield from self._keys()
        yield from self._tokens()
        yield from self._policy()
        yield from self._upstreams()
        yield from self._process()

    def _requests(self) -> Iterator[_Sample]:
        for name, route in list(self._counts.routes.items()):
            endings = route.by_labels()
            if not endings:
                continue
            for ending in endings:
                yield "bearergate_requests_total", (name, *ending.labels), ending.count
            yield "bearergate_request_duration_seconds", (name,), route.duration
            yield "bearergate_request_bytes_total", (name,), route.bytes_in
            yield "bearergate_response_bytes_total", (name,), route.bytes_out
        for reason, count in self._counts.refusals().items():
            yield "bearergate_refusals_total", (reason,), count
        yield "bearergate_overhead_seconds", (), self._counts.overhead

    def _doors(self) -> Iterator[_Sample]:
        if self._readings.doors is None:
            return
        doors = self._readings.doors()
        yield "bearergate_requests_in_flight", (), doors.requests_in_flight
        yield "bearergate_client_connections", (), doors.client_connections

    def _keys(self) -> Iterator[_Sample]:
        lookups = self._lookups
        cache = None if self._readings.key_cache is None else self._readings.key_cache()
        turned_away = 0 if cache is None else cache.turned_away
        yield "bearergate_key_store_lookups_total", ("found",), lookups.found
        yield "bearergate_key_store_lookups_total", ("unknown",), lookups.unknown
        yield "bearergate_key_store_lookups_total", ("failed",), lookups.failed + turned_away
        yield "bearergate_key_store_lookup_seconds", (), lookups.seconds
        if cache is not None:
            yield "bearergate_key_cache_lookups_total", ("hit",), cache.hits
            yield "bearergate_key_cache_lookups_total", ("unknown_hit",), cache.unknown_hits
            yield "bearergate_key_cache_lookups_total", ("miss",), cache.misses
            yield "bearergate_key_cache_entries", ("keys",), cache.keys
            yield "bearergate_key_cache_entries", ("unknown",), cache.unknown
            yield "bearergate_key_cache_evictions_total", (), cache.evictions
        if self._readings.key_feed is not None:
            feed = self._readings.key_feed()
            yield "bearergate_key_feed_lag_seconds", (), feed.lag_seconds
            yield "bearergate_key_feed_last_contact_seconds", (), feed.last_contact_seconds

    def _tokens(self) -> Iterator[_Sample]:
        if self._readings.tokens is None:
            return
        tokens = self._readings.tokens()
        yield "bearergate_token_cache_lookups_total", ("hit",), tokens.hits
        yield "bearergate_token_cache_lookups_total", ("refused_hit",), tokens.refused_hits
        yield "bearergate_token_cache_lookups_total", ("miss",), tokens.misses
        yield "bearergate_token_cache_entries", ("verified",), tokens.known
        yield "bearergate_token_cache_entries", ("refused",), tokens.refused_known
        yield "bearergate_token_verifications_total", ("verified",), tokens.verified
        yield "bearergate_token_verifications_total", ("refused",), tokens.refused
        yield "bearergate_token_verifications_total", ("cannot_decide",), tokens.cannot_decide
        yield "bearergate_token_revocations", (), tokens.revocations
        for name, issuer in tokens.issuers.items():
            yield "bearergate_issuer_requests_total", (name, "answered"), issuer.answered
            yield "bearergate_issuer_requests_total", (name, "failed"), issuer.failed
            if issuer.keys is not None:
                yield "bearergate_issuer_keys", (name,), issuer.keys
            if issuer.keys_age_seconds is not None:
                yield "bearergate_issuer_keys_age_seconds", (name,), issuer.keys_age_seconds

    def _policy(self) -> Iterator[_Sample]:
        if self._readings.policy is None:
            return
        policy = self._readings.policy()
        yield "bearergate_policy_info", (policy.revision,), 1
        yield "bearergate_policy_routes", (), policy.routes
        yield "bearergate_policy_reloads_total", ("loaded",), policy.reloads_loaded
        yield "bearergate_policy_reloads_total", ("refused",), policy.reloads_refused
        yield "bearergate_policy_stale", (), int(policy.is_stale)

    def _upstreams(self) -> Iterator[_Sample]:
        for name, upstream in list(self._counts.upstreams.items()):
            yield "bearergate_upstream_duration_seconds", (name,), upstream.duration
            for reason, count in list(upstream.failures.items()):
                yield "bearergate_upstream_failures_total", (name, reason), count
        if self._readings.upstreams is None:
            return
        for name, pool in self._readings.upstreams().items():
            yield "bearergate_upstream_connections", (name, "idle"), pool.idle
            yield "bearergate_upstream_connections", (name, "busy"), pool.busy
            yield "bearergate_upstream_connects_total", (name, "connected"), pool.connected
            yield "bearergate_upstream_connects_total", (name, "failed"), pool.connect_failures
            yield "bearergate_upstream_endpoints", (name, "in"), pool.endpoints - pool.endpoints_out
            yield "bearergate_upstream_endpoints", (name, "out"), pool.endpoints_out
            yield "bearergate_upstream_ejections_total", (name,), pool.ejections
            yield "bearergate_upstream_retries_total", (name, "made"), pool.retries
            yield "bearergate_upstream_retries_total", (name, "over_budget"), pool.retries_refused
            yield "bearergate_upstream_queue", (name,), pool.waiting
            yield "bearergate_upstream_queue_refusals_total", (name,), pool.turned_away

    def _process(self) -> Iterator[_Sample]:
        # A supervisor has its own numbers here; this is what one process says that has none.
        for state in WORKER_STATES:
            yield "bearergate_workers", (state,), int(state == "ready")
        yield "bearergate_worker_restarts_total", (), 0
        if self._readings.access_log_dropped is not None:
            yield "bearergate_access_log_dropped_total", (), self._readings.access_log_dropped()
        if self._readings.loop_lag_seconds is not None:
            yield "bearergate_event_loop_lag_seconds", (), self._readings.loop_lag_seconds()
        if self._readings.memory is not None:
            memory = self._readings.memory()
            yield "bearergate_memory_limit_bytes", (), memory.limit_bytes
            yield "bearergate_memory_short", (), int(memory.is_short)
            yield "bearergate_held_body_bytes", (), memory.held_body_bytes
        if self._readings.assertions_signed is not None:
            yield "bearergate_assertions_signed_total", (), self._readings.assertions_signed()
        yield "bearergate_build_info", (__version__, DATA_PATH), 1


def _family(metric: Metric, samples: Sequence[tuple[tuple[str, ...], float | Histogram]]) -> Family:
    if metric.kind is MetricKind.HISTOGRAM:
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, histogram in samples:
            assert isinstance(histogram, Histogram)
            cumulative = accumulate(list(histogram.counts))
            histograms.add_metric(labels, list(zip(_LE, cumulative, strict=True)), histogram.total_seconds)
        return histograms

    plain = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = plain(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family
