"""The ladder: refused by default at every rung, and an `Allowed` only when every question was answered yes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.decision import Allowed, decide, decide_graphql, decide_public
from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.policy.asked import FREE, INTROSPECTION, MAX_KEPT
from gateway.core.policy.requirement import Requirement, Requirements, Subject, SubjectPlace, UserRequirement
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Refusal
from tests.core.samples import facts, graphql_rules, need, principal, requires, route, user
from tests.support.values import fields_of

KEY, LEGACY = CredentialKind.API_KEY, CredentialKind.LEGACY_KEY
JWT, OPAQUE = CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE
GET = facts()
PUBLIC = route(is_public=True)
USERS = route(allow={KEY: requires("users:read"), LEGACY: requires("users:read", "files:read", any_of=True)})


# -- REST


def test_without_a_credential_only_a_public_route_lets_pass() -> None:
    assert fields_of(Allowed(PUBLIC, None)) == fields_of(decide_public(PUBLIC))
    assert Refusal(Reason.CREDENTIAL_MISSING) == decide_public(USERS)


def test_a_public_route_lets_every_principal_pass() -> None:
    assert fields_of(Allowed(PUBLIC, principal())) == fields_of(decide(PUBLIC, principal(), GET))


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
    assert fields_of(expected) == fields_of(decide(USERS, who, GET))


def test_a_kind_that_the_rule_does_not_name_is_refused_whatever_its_scopes() -> None:
    # F30
    only_keys = route(allow={KEY: requires("users:read")})

    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(only_keys, principal("users:read", kind=LEGACY), GET)
    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(route(), principal("users:read"), GET)


def test_a_graphql_route_is_never_allowed_by_its_head_alone() -> None:
    asked = route(graphql=graphql_rules({"Query.user": {KEY: requires("users:read")}}))

    assert Refusal(Reason.KIND_NOT_ALLOWED) == decide(asked, principal("users:read"), GET)


def test_a_scope_for_some_apps_is_inert_for_others() -> None:
    files = route(allow={KEY: Requirement((need("files:read", only_for="files"),))})

    assert isinstance(decide(files, principal("files:read"), GET), Refusal)
    assert isinstance(decide(files, principal("files:read", features=["files"]), GET), Allowed)


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
    assert holds == isinstance(decide(asked, principal(*granted, kind=kind), GET), Allowed)


# -- users

THEIRS = Refusal(Reason.SUBJECT_MISMATCH, "`path.user_id` is not the user of the token")
ANY_USER = UserRequirement()
OWN_PATH = UserRequirement(Subject(SubjectPlace.PATH, "user_id", 2), THEIRS)
OWN_QUERY = UserRequirement(Subject(SubjectPlace.QUERY, "user_id"), THEIRS)


@pytest.mark.parametrize("kind", [JWT, OPAQUE])
def test_a_rule_without_a_subject_lets_every_user_in(kind: CredentialKind) -> None:
    asked = route(allow={JWT: ANY_USER, OPAQUE: ANY_USER})

    assert isinstance(decide(asked, user(kind=kind), GET), Allowed)


@pytest.mark.parametrize("kind", CredentialKind)
def test_no_kind_meets_the_rule_of_another(kind: CredentialKind) -> None:
    # F30
    everything = user("u1", "users:read", kind=kind)
    rules: Requirements = {KEY: requires("users:read"), LEGACY: requires("users:read"), JWT: ANY_USER, OPAQUE: ANY_USER}

    for named, rule in rules.items():
        decided = decide(route(allow={named: rule}), everything, GET)
        assert (named is kind) == isinstance(decided, Allowed)
        assert named is kind or decided == Refusal(Reason.KIND_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("rule", "target", "is_theirs"),
    # F31, F32
    [
        (OWN_PATH, b"/users/u1", True),
        (OWN_PATH, b"/users/u1/events?user_id=u2", True),
        (OWN_PATH, b"/users/u2", False),
        (OWN_PATH, b"/users/U1", False),
        (OWN_PATH, b"/users/u01", False),
        (OWN_PATH, b"/users/u1.", False),
        (OWN_PATH, b"/users/me", False),
        (OWN_PATH, b"/users/u2?user_id=u1", False),
        (OWN_QUERY, b"/users?user_id=u1", True),
        (OWN_QUERY, b"/users?a=b&user_id=u1", True),
        (OWN_QUERY, b"/users/u1", False),
        (OWN_QUERY, b"/users?user_id=", False),
        (OWN_QUERY, b"/users?user_id", False),
        (OWN_QUERY, b"/users?user_id=u2", False),
        (OWN_QUERY, b"/users?user_id=u1&user_id=u1", False),
        (OWN_QUERY, b"/users?user_id=u1&user_id=u2", False),
        (OWN_QUERY, b"/users?user_id=%751", False),
        (OWN_QUERY, b"/users?user_id=u1;user_id=u2", False),
    ],
)
def test_a_user_reaches_what_is_named_as_theirs_and_nothing_else(
    rule: UserRequirement, target: bytes, is_theirs: bool
) -> None:
    asked, who = route(allow={JWT: rule}), user("u1")

    decided = decide(asked, who, facts(target=target))

    assert fields_of(Allowed(asked, who) if is_theirs else THEIRS) == fields_of(decided)


@pytest.mark.parametrize("target", [b"/users?user_id=", b"/users?user_id", b"/users"])
def test_nobody_is_never_the_one_who_is_named(target: bytes) -> None:
    assert decide(route(allow={JWT: OWN_QUERY}), user(""), facts(target=target)) == THEIRS


@pytest.mark.parametrize("place", [SubjectPlace.ARGS, SubjectPlace.VARIABLES])
def test_what_stands_in_a_body_is_not_in_the_head(place: SubjectPlace) -> None:
    rule = UserRequirement(Subject(place, "user_id", 2), THEIRS)

    assert decide(route(allow={JWT: rule}), user("u1"), facts(target=b"/users/u1?user_id=u1")) == THEIRS


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

    def is_met(question: str) -> bool:
        rule = rules.get(question, {}).get(kind)
        return isinstance(rule, Requirement) and not rule.missing(who)

    answers = {question: is_met(question) for question in questions}
    assert all(answers.values()) == isinstance(decided, Allowed)
    if isinstance(decided, Refusal):
        assert tuple(sorted(question for question, answer in answers.items() if not answer)) == decided.coordinates


def test_a_field_name_that_could_be_a_token_is_not_repeated() -> None:
    decided = decide_graphql(GQL, principal(), REQUEST, selected("Query." + "x" * 31, "Query." + "y" * 32))

    assert isinstance(decided, Refusal)
    assert ("Query." + "x" * 31, "Query.…") == decided.coordinates


# -- users of GraphQL


USERS_GQL = route(
    "gql",
    graphql=graphql_rules(
        {
            "Query.me": {KEY: requires("users:read"), JWT: ANY_USER},
            "Query.user": {KEY: requires("users:read"), JWT: UserRequirement(Subject(SubjectPlace.ARGS, "id"))},
        },
        introspection={JWT: ANY_USER},
    ),
)


def test_a_field_for_every_user_lets_a_user_select_it() -> None:
    decided = decide_graphql(USERS_GQL, user(), REQUEST, selected("Query.me", "Query.__schema"))

    assert isinstance(decided, Allowed)


def test_a_field_with_a_subject_that_is_selected_nowhere_names_nobody() -> None:
    decided = decide_graphql(USERS_GQL, user(), REQUEST, selected("Query.me", "Query.user"))

    assert isinstance(decided, Refusal)
    assert (Reason.SUBJECT_FORBIDDEN, ("Query.user",)) == (decided.reason, decided.coordinates)
    assert decided.detail == "`args.id` is not the user of the token, or not the user of the token alone"
    assert isinstance(decide_graphql(USERS_GQL, principal("users:read"), REQUEST, selected("Query.user")), Allowed)


def decided_on(asked: Route, who: Principal, query: str, variables: bytes = b"") -> Reason | None:
    """Why a document is refused, or None."""
    assert asked.graphql is not None
    request = GraphQLRequest(query, None, variables)
    selection = read_document(request, asked.graphql.limits, asked.graphql.schema)
    assert isinstance(selection, Selection), selection
    decided = decide_graphql(asked, who, request, selection)
    return decided.reason if isinstance(decided, Refusal) else None


THEIRS_ALONE = (
    '{user(id: "u1") {id}}',
    '{a: user(id: "u1") {id} b: user(id: "u1") {id}}',
    '{...F} fragment F on Query {user(id: "u1") {id}}',
    'query ($a: ID = "u1") {user(id: $a) {id}}',
    "{me {id}}",
)
NOT_THEIRS = (
    '{user(id: "u2") {id}}',
    "{user {id}}",
    '{a: user(id: "u1") {id} b: user(id: "u2") {id}}',
    '{user(id: "u1") {id} ...F} fragment F on Query {c: user(id: "u2") {id}}',
    '{user(id: "u1") {id} c: user(id: "u2") @skip(if: true) {id}}',
    'query ($a: ID = "u2") {user(id: $a) {id}}',
)


@pytest.mark.parametrize("kind", [JWT, OPAQUE])
def test_a_user_reaches_what_arguments_name_as_theirs_and_nothing_else(kind: CredentialKind) -> None:
    # G33, G34
    rule: Requirements = {kind: UserRequirement(Subject(SubjectPlace.ARGS, "id"))}
    asked = route("gql", graphql=graphql_rules({"Query.me": {kind: ANY_USER}, "Query.user": rule}))
    who = user("u1", kind=kind)

    assert [decided_on(asked, who, query) for query in THEIRS_ALONE] == [None] * len(THEIRS_ALONE)
    assert {decided_on(asked, who, query) for query in NOT_THEIRS} == {Reason.SUBJECT_FORBIDDEN}
    assert decided_on(asked, user("", kind=kind, app_id="u1"), THEIRS_ALONE[0]) is Reason.SUBJECT_FORBIDDEN


def test_a_document_that_was_seen_before_is_judged_by_the_variables_of_each_request() -> None:
    # G55
    rule: Requirements = {JWT: UserRequirement(Subject(SubjectPlace.ARGS, "id"))}
    asked = route("gql", graphql=graphql_rules({"Query.user": rule}))
    assert asked.graphql is not None
    selection = read_document(GraphQLRequest("query ($a: ID) {user(id: $a) {id}}", None, b""), asked.graphql.limits)
    assert isinstance(selection, Selection)

    def decide_with(variables: bytes) -> bool:
        request = GraphQLRequest("query ($a: ID) {user(id: $a) {id}}", None, variables)
        return isinstance(decide_graphql(asked, user("u1"), request, selection), Allowed)

    assert [decide_with(b'{"a":"u1"}'), decide_with(b'{"a":"u2"}'), decide_with(b""), decide_with(b'{"a":"u1"}')] == [
        True, False, False, True,
    ]  # fmt: skip


def test_a_selection_is_asked_anew_by_other_rules() -> None:
    # G55
    selection = selected("Query.user")
    open_to = [route("gql", graphql=graphql_rules({"Query.user": {KEY: requires(scope)}})) for scope in "abcdef"]

    for _ in range(2):
        for scope, asked in zip("abcdef", open_to, strict=True):
            assert isinstance(decide_graphql(asked, principal(scope), REQUEST, selection), Allowed)
            assert isinstance(decide_graphql(asked, principal("x"), REQUEST, selection), Refusal)
            assert len(selection.judged) <= MAX_KEPT


def test_a_key_reaches_what_names_its_app_and_nothing_else() -> None:
    own = Requirement((need("users:read"),), app=Subject(SubjectPlace.ARGS, "app"))
    asked = route("gql", graphql=graphql_rules({"Query.users": {KEY: own, LEGACY: own, JWT: ANY_USER}}))
    theirs, others = '{users(app: "app-1") {id}}', '{users(app: "app-2") {id}}'

    for kind in (KEY, LEGACY):
        assert decided_on(asked, principal("users:read", kind=kind), theirs) is None
        assert decided_on(asked, principal("users:read", kind=kind), others) is Reason.APP_FORBIDDEN
        assert decided_on(asked, principal("x", kind=kind), theirs) is Reason.SCOPE_MISSING
    assert decided_on(asked, user("u1"), others) is None


def test_a_key_reaches_a_path_that_names_its_app_and_no_other() -> None:
    own = Requirement((need("users:read"),), app=Subject(SubjectPlace.PATH, "app_id", 2))
    asked = route(allow={KEY: own})

    assert isinstance(decide(asked, principal("users:read"), facts(target=b"/apps/app-1/users")), Allowed)
    assert decide(asked, principal("users:read"), facts(target=b"/apps/app-2/users")) == Refusal(Reason.APP_FORBIDDEN)
    assert decide(asked, principal("x"), facts(target=b"/apps/app-2/users")) == Refusal(
        Reason.SCOPE_MISSING, missing_scopes=("users:read",)
    )


@pytest.mark.parametrize(
    ("query", "variables", "is_theirs"),
    [
        ("query ($user_id: ID) {user(id: $user_id) {id}}", b'{"user_id":"u1"}', True),
        ("query ($user_id: ID) {user(id: $user_id) {id}}", b'{"user_id":"u2"}', False),
        ('query ($user_id: ID = "u1") {user(id: $user_id) {id}}', b"", True),
        ("query ($user_id: ID) {user(id: $user_id) {id}}", b"", False),
        ('query ($user_id: ID) {user(id: "u1") {id}}', b'{"user_id":"u1"}', False),
        ('{user(id: "u1") {id}}', b'{"user_id":"u1"}', False),
        ("query ($user_id: ID) {user(id: $user_id) {id} b: user(id: 2) {id}}", b'{"user_id":"u1"}', False),
    ],
)
def test_a_variable_names_a_user_where_the_field_is_given_it(query: str, variables: bytes, is_theirs: bool) -> None:
    rule: Requirements = {JWT: UserRequirement(Subject(SubjectPlace.VARIABLES, "user_id"))}
    asked = route("gql", graphql=graphql_rules({"Query.user": rule}))

    expected = None if is_theirs else Reason.SUBJECT_FORBIDDEN
    assert expected is decided_on(asked, user("u1"), query, variables)


def test_a_cost_that_variables_decide_is_looked_at_with_them() -> None:
    rules = replace(graphql_rules({"Query.a": {KEY: requires("a")}}), limits=GraphQLLimits(cost=11))
    asked = route("gql", graphql=rules)
    query = "query ($n: Int) {a(first: $n) {b}}"

    assert decided_on(asked, principal("a"), query, b'{"n":10}') is None
    assert decided_on(asked, principal("a"), query, b'{"n":11}') is Reason.GRAPHQL_LIMIT_EXCEEDED
    assert decided_on(asked, principal(), query, b'{"n":11}') is Reason.SCOPE_MISSING


def test_a_user_token_with_the_scope_is_no_key() -> None:
    decided = decide_graphql(GQL, user("u1", "users:read"), REQUEST, selected("Query.user"))

    assert Refusal(Reason.FIELD_NOT_ALLOWED, coordinates=("Query.user",)) == decided
