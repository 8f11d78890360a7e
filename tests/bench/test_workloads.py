"""The workloads: what they send is what they say, and the shipped policy lets the good ones through."""

from __future__ import annotations

import json

import pytest

from bench.workloads import ANSWER, GRAPHQL_BYTES, MISSHAPEN_TOKEN, UNKNOWN_TOKEN, WORKLOADS, Workload
from gateway.core.graphql.document import DocumentCache
from gateway.core.graphql.request import GraphQLRequest, read_request
from gateway.core.graphql.selection import Selection
from gateway.core.policy.routes import Route
from gateway.demo.shipped import shipped_policies
from gateway.policy_files import load

_BY_NAME = {workload.name: workload for workload in WORKLOADS}


def test_the_graphql_body_is_one_kibibyte_of_compact_json() -> None:
    body = _BY_NAME["graphql"].body

    assert len(body) == GRAPHQL_BYTES == 1024
    assert json.dumps(json.loads(body), separators=(",", ":")).encode() == body


def test_the_graphql_answer_is_as_long_as_any_and_answers_the_document() -> None:
    answer = _BY_NAME["graphql"].answer

    assert len(answer) == len(ANSWER) == 459
    assert list(json.loads(answer)["data"]) == [f"w{week}" for week in range(1, 8)]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_asks_for_a_route_of_the_shipped_policy(workload: Workload) -> None:
    policy = load(shipped_policies() / "reference.yaml").policy

    assert isinstance(policy.route_for(workload.method.encode(), workload.path.encode()), Route)


def test_the_graphql_document_stays_within_the_limits_of_its_route() -> None:
    workload = _BY_NAME["graphql"]
    route = load(shipped_policies() / "reference.yaml").policy.route_for(b"POST", workload.path.encode())
    assert isinstance(route, Route)
    assert route.graphql is not None
    request = read_request(workload.body)
    assert isinstance(request, GraphQLRequest)

    selection = DocumentCache().selection(request, route.graphql.limits)

    assert isinstance(selection, Selection)
    assert selection.coordinates == {"Query.offloads"}


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("get", "Bearer good.token"),
        ("no-token", None),
        ("unknown-key", f"Bearer {UNKNOWN_TOKEN}"),
        ("bad-shape", f"Bearer {MISSHAPEN_TOKEN}"),
    ],
)
def test_a_workload_carries_the_token_that_it_names(name: str, header: str | None) -> None:
    assert _BY_NAME[name].all_headers("good.token").get("Authorization") == header
