"""What `/metrics` says, judged by the Prometheus tool itself."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from gateway import DATA_PATH, __version__
from gateway.core.reasons import Reason, Verdict
from gateway.observe.counting import RequestCounts
from gateway.observe.key_lookups import KeyLookups
from gateway.observe.metrics import METRICS
from gateway.observe.readings import Readings
from tests.observe.samples import outcome, registry_of, value_of


def busy_counts(*routes: str) -> RequestCounts:
    counts = RequestCounts()
    counts.follow(routes or ["users.events"], ["rest", "graphql"])
    for route in (*routes, "users.events", "unmatched"):
        counts.count(outcome(route=route))
        counts.count(outcome(route=route, verdict=Verdict.REFUSED, reason=Reason.SCOPE_MISSING, status=403))
        counts.count(outcome(route=route, verdict=Verdict.UPSTREAM_FAILED, reason=Reason.UPSTREAM_CLOSED, status=502))
    return counts


def test_every_listed_metric_is_exposed_with_its_kind_labels_and_help() -> None:
    families = {family.name: family for family in registry_of(busy_counts()).collect()}

    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert (metric.kind.value, metric.help) == (family.type, family.documentation), metric.name
        assert set(metric.labels) == labels, metric.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_say() -> None:
    scrape = generate_latest(registry_of(busy_counts('a"quoted\\route\nname')))

    checked = subprocess.run(["promtool", "check", "metrics"], input=scrape, capture_output=True, check=False)

    assert (checked.stdout, checked.stderr, checked.returncode) == (b"", b"", 0)


def test_a_strict_reader_reads_the_openmetrics_form() -> None:
    text = generate_openmetrics(registry_of(busy_counts())).decode()  # type: ignore[no-untyped-call]

    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert {metric.name.removesuffix("_total") for metric in METRICS} <= names


def test_the_process_speaks_for_itself() -> None:
    assert value_of(registry_of(RequestCounts()), "process_resident_memory_bytes")
    assert value_of(registry_of(RequestCounts()), "process_open_fds")


def test_a_look_up_that_was_turned_away_has_failed_and_took_no_time() -> None:
    lookups = KeyLookups()
    lookups.failed = 3

    registry = registry_of(RequestCounts(), lookups)

    assert value_of(registry, "bearergate_key_store_lookups_total", result="failed") == 5
    assert value_of(registry, "bearergate_key_store_lookup_seconds_count") == 0


def test_readings_become_samples() -> None:
    registry = registry_of(RequestCounts())

    assert [
        value_of(registry, "bearergate_requests_in_flight"),
        value_of(registry, "bearergate_client_connections"),
        value_of(registry, "bearergate_key_cache_lookups_total", result="hit"),
        value_of(registry, "bearergate_key_cache_lookups_total", result="unknown_hit"),
        value_of(registry, "bearergate_key_cache_lookups_total", result="miss"),
        value_of(registry, "bearergate_key_cache_entries", content="keys"),
        value_of(registry, "bearergate_key_cache_entries", content="unknown"),
        value_of(registry, "bearergate_key_cache_evictions_total"),
        value_of(registry, "bearergate_key_feed_lag_seconds"),
        value_of(registry, "bearergate_key_feed_last_contact_seconds"),
        value_of(registry, "bearergate_policy_info", revision="0123456789abcdef"),
        value_of(registry, "bearergate_policy_routes"),
        value_of(registry, "bearergate_policy_reloads_total", result="loaded"),
        value_of(registry, "bearergate_policy_reloads_total", result="refused"),
        value_of(registry, "bearergate_policy_stale"),
        value_of(registry, "bearergate_upstream_connections", upstream="rest", state="idle"),
        value_of(registry, "bearergate_upstream_connections", upstream="rest", state="busy"),
        value_of(registry, "bearergate_upstream_connects_total", upstream="rest", result="connected"),
        value_of(registry, "bearergate_upstream_connects_total", upstream="rest", result="failed"),
        value_of(registry, "bearergate_access_log_dropped_total"),
        value_of(registry, "bearergate_event_loop_lag_seconds"),
        value_of(registry, "bearergate_build_info", version=__version__, data_path=DATA_PATH),
    ] == [3, 7, 90, 5, 6, 40, 4, 1, 0.25, 0.5, 1, 12, 2, 1, 1, 2, 1, 9, 3, 11, 0.004, 1]


def test_a_part_that_the_process_does_not_have_is_absent_and_not_zero() -> None:
    registry = registry_of(RequestCounts(), KeyLookups(), Readings())

    for name in ("bearergate_key_feed_lag_seconds", "bearergate_policy_stale", "bearergate_requests_in_flight"):
        assert value_of(registry, name) is None


def test_every_reason_is_there_before_its_first_refusal() -> None:
    registry = registry_of(RequestCounts())

    assert [0.0] * len(Reason) == [
        value_of(registry, "bearergate_refusals_total", reason=reason.label) for reason in Reason
    ]


def test_a_route_without_traffic_has_no_series() -> None:
    counts = RequestCounts()
    counts.follow(["users.events"], [])

    assert value_of(registry_of(counts), "bearergate_request_bytes_total", route="users.events") is None


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    counts = RequestCounts()
    for seconds in (0.0001, 0.003, 0.004, 99.0):
        counts.count(outcome(duration_seconds=seconds))

    registry = registry_of(counts)
    name = "bearergate_request_duration_seconds"
    assert [
        value_of(registry, f"{name}_bucket", route="other", le="0.00025"),
        value_of(registry, f"{name}_bucket", route="other", le="0.0025"),
        value_of(registry, f"{name}_bucket", route="other", le="0.005"),
        value_of(registry, f"{name}_bucket", route="other", le="30.0"),
        value_of(registry, f"{name}_bucket", route="other", le="+Inf"),
        value_of(registry, f"{name}_count", route="other"),
    ] == [1, 1, 3, 3, 4, 4]
