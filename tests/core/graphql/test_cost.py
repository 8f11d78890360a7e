"""What a document costs: one for each field, times how many items the lists around it are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.reasons import Reason, Refusal

OVER = Refusal(Reason.GRAPHQL_LIMIT_EXCEEDED, "over the limit of `cost`")


def is_within(query: str, cost: int, variables: dict[str, Any] | None = None, **limits: Any) -> bool:
    """Whether a document, with the variables of a request, costs no more."""
    selection = read_document(GraphQLRequest(query, None, b""), GraphQLLimits(cost=cost, **limits))
    if isinstance(selection, Refusal):
        assert selection == OVER
        return False
    return selection.cost is None or selection.cost.is_within(cost, variables or {})


def cost_of(query: str, variables: dict[str, Any] | None = None, **limits: Any) -> int:
    low, high = 1, 10_000_000
    while low < high:
        middle = (low + high) // 2
        if is_within(query, middle, variables, **limits):
            high = middle
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize(
    ("query", "variables", "cost"),
    [
        ("{a}", {}, 1),
        ("{a b c: d __typename}", {}, 4),
        ("{a {b {c}}}", {}, 3),
        ("{a(first: 10) {b}}", {}, 11),
        ("{a(first: 10) {b(last: 5) {c d}}}", {}, 1 + 10 * (1 + 5 * 2)),
        ("{a(first: 10, last: 20) {b}}", {}, 21),
        ("{a(first: 0) {b}}", {}, 2),
        ("{a(first: null) {b}}", {}, 2),
        ("{a(other: 100) {b}}", {}, 2),
        ("{a(first: 10) {...F} ...F} fragment F on T {b(limit: 3) {c}}", {}, 1 + 10 * 4 + 4),
        ("{a(first: 10) {... on T {b ... {c}}}}", {}, 21),
        ("query ($n: Int) {a(first: $n) {b}}", {"n": 7}, 8),
        ("query ($n: Int) {a(first: $n) {b}}", {}, 2),
        ("query ($n: Int) {a(first: $n) {b}}", {"n": None}, 2),
        ("query ($n: Int = 9) {a(first: $n) {b}}", {}, 10),
        ("query ($n: Int = 9) {a(first: $n) {b}}", {"n": 2}, 3),
        ("query ($n: Int, $m: Int) {a(first: $n, last: $m) {b}}", {"n": 2, "m": 5}, 6),
        ("query ($n: Int) {a(first: $n, last: 4) {b}}", {"n": 2}, 5),
        ("query ($n: Int) {a(first: $n) {b(first: $n) {c} d(first: 2) {e}}}", {"n": 3}, 1 + 3 * (1 + 3 + 1 + 2)),
        ("query ($n: Int) {...F a(first: $n) {...F}} fragment F on T {b(first: $n) {c}}", {"n": 3}, 4 + 1 + 3 * 4),
    ],
)  # fmt: skip
def test_what_a_document_costs(query: str, variables: dict[str, Any], cost: int) -> None:
    assert cost == cost_of(query, variables)


def test_the_arguments_that_multiply_are_the_policys_choice() -> None:
    assert cost_of("{a(count: 10, first: 5) {b}}", multipliers=("count",)) == 11


@pytest.mark.parametrize("text", ["-1", '"1000"', "1e3", "true", "[5]", "{n: 5}", "$undeclared", "ALL"])
def test_what_should_say_how_many_and_is_no_number_is_refused(text: str) -> None:
    query = f"{{a(first: {text}) {{b}}}}"

    read = read_document(GraphQLRequest(query, None, b""), GraphQLLimits(cost=1_000_000))

    assert isinstance(read, Refusal)
    assert Reason.GRAPHQL_LIMIT_EXCEEDED is read.reason
    assert isinstance(read_document(GraphQLRequest(query, None, b""), GraphQLLimits()), Selection)


@pytest.mark.parametrize("value", [-1, "1000", 1000.0, True, [5], {"n": 5}])
def test_a_variable_that_is_no_number_of_items_is_over_every_limit(value: object) -> None:
    assert not is_within("query ($n: Int) {a(first: $n) {b}}", 1_000_000, {"n": value})


def test_without_a_limit_nothing_is_counted() -> None:
    read = read_document(GraphQLRequest("query ($n: Int) {a(first: $n) {b}}", None, b""), GraphQLLimits())

    assert isinstance(read, Selection)
    assert read.cost is None


def test_a_cost_without_variables_is_known_with_the_document() -> None:
    limits = GraphQLLimits(cost=11)

    assert read_document(GraphQLRequest("{a(first: 11) {b}}", None, b""), limits) == OVER
    selection = read_document(GraphQLRequest("{a(first: 10) {b}}", None, b""), limits)
    assert isinstance(selection, Selection)
    assert selection.cost is None


TREES = st.recursive(
    st.just(()), lambda below: st.lists(st.tuples(st.sampled_from(["", "2", "$n", "$m"]), below), max_size=3)
)


@given(TREES, st.integers(0, 9), st.integers(0, 9))
def test_a_cost_is_what_a_plain_count_of_items_finds(tree: Any, n: int, m: int) -> None:
    given = {"n": n, "m": m}

    def text(nodes: Any) -> str:
        written = [f"a(first: {size or 1}) {{x {text(below)}}}" for size, below in nodes]
        return " ".join(("x", *written))

    def count(nodes: Any) -> int:
        sizes = {"": 1, "2": 2, "$n": max(n, 1), "$m": max(m, 1)}
        return 1 + sum(1 + sizes[size] * (1 + count(below)) for size, below in nodes)

    query = f"query ($n: Int, $m: Int) {{{text(tree)}}}"
    wide = {"depth": 50, "root_fields": 1000, "aliases": 1000}
    assert is_within(query, count(tree), given, **wide)
    assert not is_within(query, count(tree) - 1, given, **wide) or count(tree) == 1
