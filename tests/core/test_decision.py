"""The ladder: refused by default at every rung, and an `Allowed` only when every question was answered yes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.decision import FREE, INTROSPECTION, Allowed, decide, decide_graphql, decide_public
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.policy.requirement import Requirement
from gateway.core.policy.routes import Route
from gateway.core.reasons import Reason, Refusal
from tests.core.samples import graphql_rules, need, principal, requires, route
from tests.support.values import fields_of

KEY, LEGACY = CredentialKind.API_KEY, CredentialKind.LEGACY_KEY
PUBLIC = route(is_public=True)
USERS = route(allow={KEY: requires("users:read"), LEGACY: requires("users:read", "files:read", any_of=True)})


# -- REST


def test_without_a_credential_only_a_public_route_lets_pass() -> None:
    assert fields_of(Allowed(PUBLIC, None)) == fields_of(decide_public(PUBLIC))
    assert Refusal(Reason.CREDENTIAL_MISSING) == decide_public(USERS)


def test_a_public_route_lets_every_principal_pass() -> None:
    assert fields_of(Allowed(PUBLIC, principal())) == fields_of(decide(PUBLIC, principal()))


@pytest.mark.parametrize(
    ("scopes", "kind", "missing"),
    [
        (["users:read"], KEY, ()),
        (["users:read", "x"], KEY, ()),
        ([], KEY, ("users:read",)),
        (["users"], KEY, ("users:read",)),
        (["users:read:all"], KEY, ("users:read",)),
        (["USERS:READ"], KEY, ("users:read",)),
        (["files:read"], KEY, ("users:read",)),
        (["files:read"], LEGACY, ()),
        ([], LEGACY, ("users:read", "files:read")),
    ],
)
def test_a_rest_route_asks_for_the_scopes_of_the_kind(
    scopes: list[str], kind: CredentialKind, missing: tuple[str, ...]
) -> None:
    who = principal(*scopes, kind=kind)

    expected = Refusal(Reason.SCOPE_MISSING, missing_scopes=missing) if missing else Allowed(USERS, who)
    assert fields_of(expected) == fields_of(decide(USERS, who))


def test_a_kind_that_the_rule_does_not_name_is_refused_whatever_its_scopes() -> None:
    # F30
    only_keys = route(allow={KEY: requires("users:read")})

    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(only_keys, principal("users:read", kind=LEGACY))
    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(route(), principal("users:read"))


def test_a_graphql_route_is_never_allowed_by_its_head_alone() -> None:
    asked = route(graphql=graphql_rules({"Query.user": {KEY: requires("users:read")}}))

    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(asked, principal("users:read"))


def test_a_scope_for_some_apps_is_inert_for_others() -> None:
    files = route(allow={KEY: Requirement((need("files:read", only_for="files"),))})

    assert isinstance(decide(files, principal("files:read")), Refusal)
    assert isinstance(decide(files, principal("files:read", features=["files"])), Allowed)


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(
        st.sampled_from(CredentialKind), st.tuples(st.lists(NAMES, min_size=1, unique=True), st.booleans())
    ),
    st.sampled_from(CredentialKind),
    st.sets(NAMES),
)
def test_a_rest_decision_is_the_plain_reading_of_its_rule(
    rules: dict[CredentialKind, tuple[list[str], bool]], kind: CredentialKind, granted: set[str]
) -> None:
    asked = route(allow={kind: requires(*names, any_of=any_of) for kind, (names, any_of) in rules.items()})

    names, any_of = rules.get(kind, ([], False))
    holds = kind in rules and (any if any_of else all)(name in granted for name in names)
    assert holds == isinstance(decide(asked, principal(*granted, kind=kind)), Allowed)


# -- GraphQL

RULES = graphql_rules(
    {
        "Query.user": {KEY: requires("users:read"), LEGACY: requires("users:read")},
        "Query.offloads": {KEY: requires("offloads:read")},
        "Query.offloads.files.link": {KEY: requires("files:read")},
        "Mutation.delete_user": {KEY: requires("users:write", "users:delete")},
    }
)
OPEN_TO_LOOK = graphql_rules(RULES.fields, introspection={KEY: requires("schema:read")})
GQL = route("gql", method=b"POST", pattern="/v4/gql", graphql=RULES, takes_body=True)
REQUEST = GraphQLRequest("{ user { id } }", None, b"")


def selected(*coordinates: str, paths: tuple[str, ...] = (), operation: str = "query") -> Selection:
    return Selection(operation, frozenset(coordinates), frozenset(paths), b'"{ user { id } }"')


@pytest.mark.parametrize(
    ("selection", "scopes", "missing", "coordinates"),
    [
        (selected("Query.user"), ["users:read"], None, None),
        (selected("Query.user", paths=("Query.user.id",)), ["users:read"], None, None),
        (selected("Query.__typename"), [], None, None),  # G42
        (selected("Query.user"), [], ("users:read",), ("Query.user",)),
        (selected("Query.user", "Query.offloads"), ["users:read"], ("offloads:read",), ("Query.offloads",)),  # G58
        (
            selected("Query.offloads", paths=("Query.offloads.files", "Query.offloads.files.link")),
            ["offloads:read"],
            ("files:read",),
            ("Query.offloads.files.link",),
        ),  # G46
        (
            selected("Query.offloads", paths=("Query.offloads.files.link",)),
            ["files:read"],
            ("offloads:read",),
            ("Query.offloads",),
        ),
        (
            selected("Mutation.delete_user", operation="mutation"),
            ["users:write"],
            ("users:delete",),
            ("Mutation.delete_user",),
        ),
        (
            selected("Query.user", "Query.offloads"),
            [],
            ("offloads:read", "users:read"),
            ("Query.offloads", "Query.user"),
        ),
    ],
)
def test_every_root_field_and_every_ruled_path_is_asked_for(
    selection: Selection, scopes: list[str], missing: tuple[str, ...] | None, coordinates: tuple[str, ...] | None
) -> None:
    who = principal(*scopes)

    decided = decide_graphql(GQL, who, REQUEST, selection)

    if missing is None or coordinates is None:
        assert isinstance(decided, Allowed)
        assert (GQL, who) == (decided.route, decided.principal)
    else:
        assert Refusal(Reason.SCOPE_MISSING, missing_scopes=missing, coordinates=coordinates) == decided


@pytest.mark.parametrize(
    "coordinate",
    # G41, G43, G44, G45
    [
        "Query.unheard",
        "Query.node",
        "Query._service",
        "Mutation.user",
        "Query.__schema",
        "Query.__type",
        "Mutation.__schema",
        "Query.user2",
        "query.user",
        "Subscription.user",
        "Query.__typenames",
    ],
)
def test_a_field_without_a_rule_refuses_the_whole_document(coordinate: str) -> None:
    everything = principal("users:read", "users:write", "users:delete", "offloads:read", "files:read", "schema:read")

    decided = decide_graphql(GQL, everything, REQUEST, selected("Query.user", coordinate))

    assert Refusal(Reason.FIELD_NOT_ALLOWED, coordinates=(coordinate,)) == decided


def test_a_forbidden_field_weighs_more_than_a_missing_scope() -> None:
    decided = decide_graphql(GQL, principal(), REQUEST, selected("Query.user", "Query.unheard"))

    assert (
        Refusal(Reason.FIELD_NOT_ALLOWED, missing_scopes=("users:read",), coordinates=("Query.unheard", "Query.user"))
        == decided
    )


def test_introspection_has_its_own_requirement() -> None:
    open_route = route(graphql=OPEN_TO_LOOK)
    asked = selected("Query.__schema", "Query.__type", paths=("Query.__schema.types",))

    assert isinstance(decide_graphql(open_route, principal("schema:read"), REQUEST, asked), Allowed)
    assert Refusal(
        Reason.SCOPE_MISSING, missing_scopes=("schema:read",), coordinates=("Query.__schema", "Query.__type")
    ) == decide_graphql(open_route, principal("users:read"), REQUEST, asked)
    assert Refusal(Reason.FIELD_NOT_ALLOWED, coordinates=("Query.__schema", "Query.__type")) == decide_graphql(
        open_route, principal("schema:read", kind=LEGACY), REQUEST, asked
    )


def test_a_kind_without_a_rule_for_the_field_is_refused() -> None:
    decided = decide_graphql(GQL, principal("offloads:read", kind=LEGACY), REQUEST, selected("Query.offloads"))

    assert Refusal(Reason.FIELD_NOT_ALLOWED, coordinates=("Query.offloads",)) == decided


def test_a_route_without_graphql_rules_allows_no_document() -> None:
    decided = decide_graphql(PUBLIC, principal(), REQUEST, selected("Query.__typename"))

    assert isinstance(decided, Refusal)
    assert Reason.FIELD_NOT_ALLOWED is decided.reason


def test_the_body_that_is_sent_was_written_from_what_was_judged() -> None:
    request = GraphQLRequest("query A { user { id } } mutation B { delete_user }", "A", b'{"id":1.0}')
    selection = Selection("query", frozenset({"Query.user"}), frozenset(), b'"query A { user { id } }"')

    decided = decide_graphql(GQL, principal("users:read"), request, selection)

    assert isinstance(decided, Allowed)
    assert decided.body is not None
    expected = {"query": "query A { user { id } }", "operationName": "A", "variables": {"id": 1.0}}
    assert expected == json.loads(decided.body)
    assert b"delete_user" not in decided.body


COORDINATES = st.sampled_from(sorted({*RULES.fields, *FREE, *INTROSPECTION, "Query.unheard", "Mutation.user"}))
SCOPES = st.sets(
    st.sampled_from(["users:read", "users:write", "users:delete", "offloads:read", "files:read", "schema:read"])
)


@given(
    st.sampled_from([GQL, route("open", graphql=OPEN_TO_LOOK)]),
    st.sets(COORDINATES, max_size=4),
    st.sets(COORDINATES, max_size=3),
    SCOPES,
    st.sampled_from(CredentialKind),
)
def test_a_graphql_decision_is_the_plain_reading_of_its_rules(
    asked: Route, coordinates: set[str], paths: set[str], scopes: set[str], kind: CredentialKind
) -> None:
    who = principal(*scopes, kind=kind)

    decided = decide_graphql(asked, who, REQUEST, selected(*coordinates, paths=tuple(paths)))

    assert asked.graphql is not None
    rules = {**asked.graphql.fields, **dict.fromkeys(INTROSPECTION, asked.graphql.introspection)}
    questions = (coordinates - FREE) | (paths & set(asked.graphql.fields))
    answers = {
        question: question in rules and kind in rules[question] and not rules[question][kind].missing(who)
        for question in questions
    }
    assert all(answers.values()) == isinstance(decided, Allowed)
    if isinstance(decided, Refusal):
        assert tuple(sorted(question for question, answer in answers.items() if not answer)) == decided.coordinates


def test_a_field_name_that_could_be_a_token_is_not_repeated() -> None:
    decided = decide_graphql(GQL, principal(), REQUEST, selected("Query." + "x" * 31, "Query." + "y" * 32))

    assert isinstance(decided, Refusal)
    assert ("Query." + "x" * 31, "Query.…") == decided.coordinates
