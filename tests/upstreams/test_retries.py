"""The budget of second attempts: a few at any load, a share of many, and none to speak of in a storm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.retries import RetryBudget


def test_a_few_are_allowed_without_any_traffic() -> None:
    budget = RetryBudget()

    assert [True] * 30 + [False] * 5 == [budget.allows(0.0) for _ in range(35)]
    assert (30, 5) == (budget.made, budget.refused)


def test_many_requests_allow_their_share() -> None:
    budget = RetryBudget(0.2)
    budget.requests = 1_000

    assert 200 == sum(budget.allows(0.0) for _ in range(1_000))


def test_what_is_past_the_window_counts_neither_way() -> None:
    budget = RetryBudget(0.2)
    budget.requests = 1_000
    budget.mark(0.0)
    assert 30 == sum(budget.allows(0.0) for _ in range(1_000))
    budget.requests = 1_500
    for second in range(1, 12):
        budget.mark(float(second))

    # The 500 before the second 1 are past, and so are the thirty attempts.
    assert 30 == sum(budget.allows(11.0) for _ in range(1_000))
    budget.requests = 2_500
    assert 200 - 30 == sum(budget.allows(11.0) for _ in range(1_000))


def test_zero_percent_allows_none() -> None:
    budget = RetryBudget(0.0)
    budget.requests = 1_000

    assert not budget.allows(0.0)
    assert 1 == budget.refused


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 50), st.integers(0, 50)), max_size=60))
def test_no_window_ever_has_more_than_its_share(steps: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget(0.2)
    now, sent, made = 0.0, list[tuple[float, int]](), list[float]()
    for seconds, requests, wanted in steps:
        now += seconds
        budget.requests += requests
        sent.append((now, requests))
        made += [now for _ in range(wanted) if budget.allows(now)]
        budget.mark(now)
        in_window = sum(count for at, count in sent if at >= now - 11.0)
        assert sum(at >= now - 10.0 for at in made) <= max(30.0, 0.2 * in_window + 1)


@pytest.mark.parametrize("marks", [1_000])
def test_marks_are_bounded_by_the_window(marks: int) -> None:
    budget = RetryBudget()
    for number in range(marks):
        budget.mark(number * 0.25)

    assert 42 > len(budget._marks)
