"""Requests counted with plain integers: what goes where, and that nothing is lost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.reasons import Reason, Verdict
from gateway.observe.counting import Histogram, RequestCounts
from gateway.observe.metrics import MAX_ROUTES, SECONDS_BOUNDS
from tests.observe.samples import outcome, registry_of, samples_of, value_of

OUTCOMES = st.builds(
    outcome,
    verdict=st.sampled_from(Verdict),
    reason=st.none() | st.sampled_from(Reason),
    kind=st.none() | st.sampled_from(CredentialKind),
    status=st.integers(min_value=-1, max_value=1200),
    route=st.sampled_from(["users.events", "users.me", "unmatched", "gone", ""]),
    upstream=st.sampled_from(["rest", "graphql", "gone", ""]),
    duration_seconds=st.floats(min_value=0, max_value=100),
    upstream_seconds=st.floats(min_value=0, max_value=100),
    bytes_in=st.integers(min_value=0, max_value=1 << 40),
    bytes_out=st.integers(min_value=0, max_value=1 << 40),
)


def counts_for(*routes: str) -> RequestCounts:
    counts = RequestCounts()
    counts.follow(routes, ["rest"])
    return counts


@given(st.lists(OUTCOMES, max_size=40))
def test_every_outcome_is_counted_exactly_once(outcomes: list[object]) -> None:
    counts = counts_for("users.events", "users.me")
    for each in outcomes:
        counts.count(each)  # type: ignore[arg-type]

    samples = samples_of(registry_of(counts))
    totals = {
        name: sum(value for (sample, _), value in samples.items() if sample == name)
        for name in (
            "bearergate_requests_total",
            "bearergate_request_duration_seconds_count",
            "bearergate_overhead_seconds_count",
        )
    }
    assert dict.fromkeys(totals, float(len(outcomes))) == totals


@given(st.lists(OUTCOMES, max_size=40))
def test_refusals_are_the_requests_that_have_a_reason(outcomes: list[object]) -> None:
    counts = counts_for("users.events", "users.me")
    for each in outcomes:
        counts.count(each)  # type: ignore[arg-type]

    samples = samples_of(registry_of(counts))
    with_reason = sum(
        value
        for (name, labels), value in samples.items()
        if name == "bearergate_requests_total" and ("reason", "none") not in labels
    )
    refusals = sum(value for (name, _), value in samples.items() if name == "bearergate_refusals_total")
    assert with_reason == refusals


def test_an_allowed_request_is_counted_under_its_labels() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(bytes_in=10, bytes_out=459))

    registry = registry_of(counts)
    labels = {"route": "users.events", "kind": "api_key", "outcome": "allowed", "reason": "none", "status": "200"}
    assert value_of(registry, "bearergate_requests_total", **labels) == 1
    assert value_of(registry, "bearergate_request_bytes_total", route="users.events") == 10
    assert value_of(registry, "bearergate_response_bytes_total", route="users.events") == 459


def test_the_overhead_is_what_the_upstream_did_not_take() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(duration_seconds=0.0015, upstream_seconds=0.001))

    registry = registry_of(counts)
    overhead = value_of(registry, "bearergate_overhead_seconds_sum")
    assert overhead is not None
    assert math.isclose(0.0005, overhead)
    assert value_of(registry, "bearergate_request_duration_seconds_sum", route="users.events") == 0.0015
    assert value_of(registry, "bearergate_upstream_duration_seconds_sum", upstream="rest") == 0.001


def test_the_overhead_never_goes_back_when_the_upstream_clock_read_later() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(duration_seconds=0.001, upstream_seconds=0.002))

    assert value_of(registry_of(counts), "bearergate_overhead_seconds_sum") == 0.0


def test_a_request_that_was_not_forwarded_is_in_no_upstream() -> None:
    counts = counts_for("users.events")
    counts.count(
        outcome(verdict=Verdict.REFUSED, reason=Reason.TOKEN_UNKNOWN, status=401, upstream="", upstream_seconds=0.0)
    )

    assert value_of(registry_of(counts), "bearergate_upstream_duration_seconds_count", upstream="rest") == 0


def test_an_upstream_failure_is_counted_for_its_upstream() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(verdict=Verdict.UPSTREAM_FAILED, reason=Reason.UPSTREAM_TIMEOUT, status=504))

    registry = registry_of(counts)
    assert value_of(registry, "bearergate_upstream_failures_total", upstream="rest", reason="upstream_timeout") == 1
    assert value_of(registry, "bearergate_refusals_total", reason="upstream_timeout") == 1


def test_an_upstream_failure_of_another_sort_or_place_is_counted_under_other() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(verdict=Verdict.UPSTREAM_FAILED, reason=None, status=502))
    counts.count(outcome(verdict=Verdict.UPSTREAM_FAILED, reason=Reason.UPSTREAM_CLOSED, status=502, upstream=""))

    registry = registry_of(counts)
    assert value_of(registry, "bearergate_upstream_failures_total", upstream="rest", reason="other") == 1
    assert value_of(registry, "bearergate_upstream_failures_total", upstream="other", reason="upstream_closed") == 1


def test_a_client_that_went_away_was_not_refused() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(verdict=Verdict.CLIENT_GONE, reason=Reason.BODY_TIMEOUT, status=0))

    registry = registry_of(counts)
    labels = {"route": "users.events", "kind": "api_key", "outcome": "client_gone", "reason": "none", "status": "none"}
    assert value_of(registry, "bearergate_requests_total", **labels) == 1
    assert value_of(registry, "bearergate_refusals_total", reason="body_timeout") == 0


def test_a_status_that_nobody_registered_is_counted_in_its_class_and_remembered_by_nothing() -> None:
    counts = counts_for("users.events")
    for status in range(560, 600):
        counts.count(outcome(status=status))

    labels = {"route": "users.events", "kind": "api_key", "outcome": "allowed", "reason": "none", "status": "5xx"}
    assert value_of(registry_of(counts), "bearergate_requests_total", **labels) == 40
    assert counts.routes["users.events"].endings == {}


def test_a_route_that_the_policy_does_not_name_is_counted_under_other() -> None:
    counts = counts_for("users.events")
    counts.count(outcome(route="/v2/users/4711"))

    registry = registry_of(counts)
    assert value_of(registry, "bearergate_request_duration_seconds_count", route="other") == 1
    assert value_of(registry, "bearergate_request_duration_seconds_count", route="/v2/users/4711") is None


def test_routes_past_the_bound_share_one_label() -> None:
    counts = counts_for(*(f"route.{number}" for number in range(MAX_ROUTES + 5)))
    counts.count(outcome(route=f"route.{MAX_ROUTES - 1}"))
    counts.count(outcome(route=f"route.{MAX_ROUTES}"))

    registry = registry_of(counts)
    apart = value_of(registry, "bearergate_request_duration_seconds_count", route=f"route.{MAX_ROUTES - 1}")
    shared = value_of(registry, "bearergate_request_duration_seconds_count", route="other")
    assert (apart, shared) == (1, 1)


def test_routes_that_a_reload_keeps_go_on_counting() -> None:
    counts = counts_for("users.events", "users.me")
    counts.count(outcome(route="users.events"))
    counts.count(outcome(route="users.me"))

    counts.follow(["users.events", "users.link"], ["rest"])
    counts.count(outcome(route="users.events"))

    registry = registry_of(counts)
    assert value_of(registry, "bearergate_request_duration_seconds_count", route="users.events") == 2
    assert value_of(registry, "bearergate_request_duration_seconds_count", route="users.me") is None


def test_refusals_never_go_back_when_a_reload_removes_their_route() -> None:
    counts = counts_for("users.me")
    counts.count(outcome(route="users.me", verdict=Verdict.REFUSED, reason=Reason.SCOPE_MISSING, status=403))

    counts.follow([], [])
    counts.follow(["users.me"], [])
    counts.count(outcome(route="users.me", verdict=Verdict.REFUSED, reason=Reason.SCOPE_MISSING, status=403))

    assert value_of(registry_of(counts), "bearergate_refusals_total", reason="scope_missing") == 2


def test_a_thousand_reloads_hold_no_more_than_one() -> None:
    counts = counts_for()
    for number in range(1000):
        counts.follow([f"route.{number}"], [f"upstream.{number}"])

    assert set(counts.routes) == {"unmatched", "other", "route.999"}
    assert set(counts.upstreams) == {"other", "upstream.999"}


@pytest.mark.parametrize("index", range(len(SECONDS_BOUNDS)))
def test_a_bound_belongs_to_its_own_bucket(index: int) -> None:
    histogram = Histogram()
    histogram.observe(SECONDS_BOUNDS[index])
    histogram.observe(math.nextafter(SECONDS_BOUNDS[index], math.inf))

    assert (histogram.counts[index], histogram.counts[index + 1]) == (1, 1)
