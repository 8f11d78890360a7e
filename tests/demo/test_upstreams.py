"""The example upstreams: canned answers, and users that only their own App can see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from gateway.demo.example import Answer, Example, ExampleApp, GraphQLExample
from gateway.demo.upstreams import graphql_app, rest_app

_EXAMPLE = Example(
    version=1,
    apps=(ExampleApp(name="One", users=("u1",), keys=()),),
    rest={
        "GET /things": Answer({"things": [1, 2]}),
        "GET /users/{user_id}": Answer({"id": "{user_id}"}, user="user_id"),
        "DELETE /users/{user_id}": Answer({"gone": "{user_id}"}, status=202, user="user_id"),
    },
    graphql=GraphQLExample(
        paths=("/gql", "/old/gql"),
        sdl="type Query { user(id: ID!): User days(from: String!): [String!]! } type User { id: ID! }",
        fields={
            "Query.user": Answer({"id": "{id}"}, user="id"),
            "Query.days": Answer(["{from}", "later"]),
        },
    ),
    trials=(),
    unknown_token="abcdefgh.0123456789abcdefghij",
)
_MEMBERS = {"app-1": ("u1",), "app-2": ("u2",)}


@pytest.fixture
def rest() -> Iterator[TestClient]:
    with TestClient(rest_app(_EXAMPLE, _MEMBERS)) as client:
        yield client


@pytest.fixture
def graphql() -> Iterator[TestClient]:
    with TestClient(graphql_app(_EXAMPLE.graphql, _MEMBERS)) as client:
        yield client


def test_a_call_without_a_user_is_answered_to_anyone(rest: TestClient) -> None:
    assert rest.get("/things").json() == {"things": [1, 2]}


def test_a_user_is_shown_to_a_key_of_the_users_own_app(rest: TestClient) -> None:
    answer = rest.get("/users/u1", headers={"X-Gateway-App-Id": "app-1"})

    assert (answer.status_code, answer.json()) == (200, {"id": "u1"})


@pytest.mark.parametrize("app_id", ["app-2", "app-3", ""])
def test_for_any_other_app_there_is_no_such_user(rest: TestClient, app_id: str) -> None:
    answer = rest.get("/users/u1", headers={"X-Gateway-App-Id": app_id, "X-Gateway-Request-Id": "ref-1"})

    assert answer.status_code == 404
    assert answer.json() == {"message": "user not found", "errorCode": "USER_NOT_FOUND", "ref": "ref-1"}


def test_an_answer_may_have_a_status_of_its_own(rest: TestClient) -> None:
    answer = rest.delete("/users/u1", headers={"X-Gateway-App-Id": "app-1"})

    assert (answer.status_code, answer.json()) == (202, {"gone": "u1"})


def test_a_path_that_nobody_wrote_down_is_answered_in_the_shape_of_the_platform(rest: TestClient) -> None:
    answer = rest.get("/nothing/here")

    assert answer.status_code == 404
    assert answer.json() == {"message": "not found", "errorCode": "NOT_FOUND", "ref": ""}


@pytest.mark.parametrize("path", ["/gql", "/old/gql"])
def test_a_query_is_executed_with_the_canned_values(graphql: TestClient, path: str) -> None:
    answer = graphql.post(path, json={"query": '{ days(from: "monday") }'})

    assert answer.json() == {"data": {"days": ["monday", "later"]}}


def test_variables_and_the_name_of_the_operation_are_heeded(graphql: TestClient) -> None:
    query = "query A($day: String!) { days(from: $day) } query B { __typename }"

    answer = graphql.post("/gql", json={"query": query, "operationName": "A", "variables": {"day": "friday"}})

    assert answer.json() == {"data": {"days": ["friday", "later"]}}


def test_a_user_of_another_app_is_null_with_an_error(graphql: TestClient) -> None:
    answer = graphql.post("/gql", json={"query": '{ user(id: "u1") { id } }'}, headers={"X-Gateway-App-Id": "app-2"})

    assert answer.json()["data"] == {"user": None}
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["USER_NOT_FOUND"]


def test_a_user_of_the_own_app_is_there(graphql: TestClient) -> None:
    answer = graphql.post("/gql", json={"query": '{ user(id: "u1") { id } }'}, headers={"X-Gateway-App-Id": "app-1"})

    assert answer.json() == {"data": {"user": {"id": "u1"}}}
