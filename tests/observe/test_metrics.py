"""The one list: names, labels, and how many series there can ever be."""

from __future__ import annotations

import itertools
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.reasons import Reason, Verdict
from gateway.observe.counting import RequestCounts
from gateway.observe.metrics import (
    KINDS,
    METRICS,
    NO_REASON,
    OTHER,
    STATUSES,
    Metric,
    MetricKind,
    ending_labels,
    series_bound,
    status_label,
)
from tests.observe.samples import outcome, registry_of, samples_of

OURS = re.compile(r"bearergate(_[a-z]+)+")
# Names that would be labels of unbounded cardinality, or personal.
NEVER_A_LABEL = {"path", "key", "key_id", "app", "app_id", "user", "peer", "host", "method", "ref"}


def test_each_metric_is_listed_once() -> None:
    names = [metric.name for metric in METRICS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_rules(metric: Metric) -> None:
    assert OURS.fullmatch(metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert metric.kind is not MetricKind.HISTOGRAM or metric.name.endswith("_seconds")
    assert not NEVER_A_LABEL & set(metric.labels)
    assert metric.help.endswith(".")


@given(st.integers())
def test_any_status_has_a_label_from_the_list(status: int) -> None:
    assert status_label(status) in STATUSES


@given(
    st.none() | st.sampled_from(CredentialKind),
    st.sampled_from(Verdict),
    st.none() | st.sampled_from(Reason),
    st.integers(),
)
def test_any_ending_has_labels_from_the_lists(
    kind: CredentialKind | None, verdict: Verdict, reason: Reason | None, status: int
) -> None:
    kind_label, outcome_label, reason_label, label = ending_labels(kind, verdict, reason, status)

    assert kind_label in KINDS
    assert outcome_label in {each.value for each in Verdict}
    assert reason_label in {NO_REASON, *(each.label for each in Reason)}
    assert label in {*STATUSES, OTHER}


@pytest.mark.parametrize(
    ("status", "label"),
    [(200, "200"), (404, "404"), (299, "2xx"), (599, "5xx"), (0, "none"), (99, "none"), (600, "none"), (-5, "none")],
)
def test_a_status_is_itself_or_its_class(status: int, label: str) -> None:
    assert label == status_label(status)


@pytest.mark.parametrize(("status", "label"), [(422, "422"), (200, "200"), (400, "400"), (206, "other"), (0, "none")])
def test_the_status_of_a_reason_is_its_own_or_a_profiles(status: int, label: str) -> None:
    assert label == ending_labels(None, Verdict.REFUSED, Reason.GRAPHQL_REQUEST_INVALID, status)[3]


def test_the_series_of_all_possible_outcomes_are_exactly_the_bound() -> None:
    counts = RequestCounts()
    counts.follow(["users.events"], ["rest"])
    kinds = (None, *CredentialKind)
    statuses = (*HTTPStatus, 199, 299, 399, 499, 599, 0)
    for route, kind, verdict in itertools.product(("users.events", "unmatched", "x"), kinds, Verdict):
        endings: list[tuple[Reason | None, int]] = [(None, int(status)) for status in statuses]
        endings += [(reason, status) for reason in Reason for status in (reason.status, 200, 400, 299, 0)]
        for reason, status in endings:
            counts.count(outcome(route=route, kind=kind, verdict=verdict, reason=reason, status=status))

    assert series_bound(routes=1, upstreams=1, issuers=1) == len(samples_of(registry_of(counts)))


def test_the_bound_stops_growing_with_the_policy() -> None:
    assert series_bound(1_000, 3) == series_bound(1_000_000, 3)


def test_the_code_uses_no_metric_that_is_not_listed(repository: Path) -> None:
    listed = {metric.name for metric in METRICS}
    for file in sorted((repository / "gateway" / "observe").glob("*.py")):
        used = set(re.findall(r'"(bearergate_[a-z_]+)"', file.read_text()))
        assert used <= listed, file.name
