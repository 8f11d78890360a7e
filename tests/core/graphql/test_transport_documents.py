"""What a document may have only on routes that say so: parts that come later, subscriptions, and nothing unused."""

from __future__ import annotations

import pytest

from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.reasons import Reason

INCREMENTAL = GraphQLLimits(incremental=True, directives=2)
SUBSCRIPTIONS = GraphQLLimits(subscriptions=True)
ONE = GraphQLLimits(one_operation=True)


def outcome(query: str, limits: GraphQLLimits, name: str | None = None) -> Selection | Reason:
    read = read_document(GraphQLRequest(query, name, b""), limits)
    return read if isinstance(read, Selection) else read.reason


@pytest.mark.parametrize(
    "query",
    [
        "{a ... @defer {b}}",
        "{a @stream(initialCount: 1) {b}}",
        '{a ...F @defer(label: "x")} fragment F on Q {b}',
        "{a ...F} fragment F on Q {b @stream}",
    ],
)
def test_defer_and_stream_are_known_where_the_route_says_so(query: str) -> None:
    read = outcome(query, INCREMENTAL)
    assert isinstance(read, Selection)

    assert {"Query.a", "Query.b"} >= read.coordinates
    assert Reason.GRAPHQL_DOCUMENT_INVALID is outcome(query, GraphQLLimits())


@pytest.mark.parametrize(
    "query",
    ["query @defer {a}", "query A($a: I @stream) {a}", "{...F} fragment F on Q @defer {a}", "{a @live}", "{a @Defer}"],
)
def test_they_stand_at_fields_and_spreads_alone(query: str) -> None:
    assert Reason.GRAPHQL_DOCUMENT_INVALID is outcome(query, INCREMENTAL)


def test_they_count_as_directives() -> None:
    assert isinstance(outcome("{a @stream ... @defer {b}}", INCREMENTAL), Selection)
    assert Reason.GRAPHQL_LIMIT_EXCEEDED is outcome("{a @stream ... @defer {b @stream}}", INCREMENTAL)


def test_a_subscription_has_one_root_field() -> None:
    read = outcome("subscription S {a {b} ...F} fragment F on S {a {c}}", SUBSCRIPTIONS)
    assert isinstance(read, Selection)

    assert ("subscription", frozenset(("Subscription.a",))) == (read.operation, read.coordinates)
    assert Reason.GRAPHQL_DOCUMENT_INVALID is outcome("subscription {a b}", SUBSCRIPTIONS)
    assert Reason.GRAPHQL_DOCUMENT_INVALID is outcome("subscription {a ...F} fragment F on S {b}", SUBSCRIPTIONS)
    assert Reason.GRAPHQL_DOCUMENT_INVALID is outcome("subscription {a @live}", SUBSCRIPTIONS)
    assert Reason.GRAPHQL_OPERATION_UNKNOWN is outcome("subscription {a}", GraphQLLimits())


@pytest.mark.parametrize(
    ("query", "name", "is_refused"),
    [
        ("{a}", None, False),
        ("{...F} fragment F on Q {...G} fragment G on Q {a}", None, False),
        ("{...F} fragment F on Q {a} fragment G on Q {a}", None, True),
        ("query A {a} query B {b}", "A", True),
    ],
)
def test_what_goes_on_as_it_is_has_nothing_unused(query: str, name: str | None, is_refused: bool) -> None:
    assert is_refused is (Reason.GRAPHQL_DOCUMENT_INVALID is outcome(query, ONE, name))
    assert isinstance(outcome(query, GraphQLLimits(), name), Selection)
