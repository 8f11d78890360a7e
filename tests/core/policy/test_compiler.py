"""What a good policy compiles to, and what is advised about it."""

from __future__ import annotations

import pytest

from gateway.core.credential import CredentialKind
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.policy.faults import Place, did_you_mean, listed
from gateway.core.policy.requirement import Requirement, ScopeNeed, Subject, SubjectPlace, UserRequirement
from gateway.core.policy.routes import ErrorShape, Policy, Route, RouteTimeouts, StatusProfile
from gateway.core.reasons import Reason, Refusal
from tests.core.policy.support import advice_on, compiled

SCOPES = """\
version: 1
scopes:
  READ: {means: read, aliases: [r.read, read]}
  WRITE: {means: write, sensitive: true, only_for: engagement}
routes:
"""
READ = ScopeNeed("READ", frozenset(("READ", "r.read", "read")))
WRITE = ScopeNeed("WRITE", frozenset(("WRITE",)), "engagement")
KINDS = (CredentialKind.API_KEY, CredentialKind.LEGACY_KEY)
USER_KINDS = (CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE)


def only_route(text: str) -> Route:
    (route,) = compiled(SCOPES + text).routes
    return route


def with_keys(**keys: str) -> Route:
    members = {"name": "a", "match": "GET /a", "upstream": "rest", "allow": "anyone", **keys}
    return only_route("  - " + "\n    ".join(f"{key}: {value}" for key, value in members.items() if value) + "\n")


def test_a_public_route_asks_for_nothing() -> None:
    route = with_keys(name="a.b-c", match="GET /a/{x}/b/{y}")

    assert route == Route(
        "a.b-c", b"GET", "/a/{x}/b/{y}", "rest", True, {}, ErrorShape.PROBLEM, None, False, 0, ("x", "y"), ()
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{api_key: READ}", Requirement((READ,))),
        ("{api_key: read}", Requirement((READ,))),
        ("{api_key: {all: [READ, WRITE]}}", Requirement((READ, WRITE))),
        ("{api_key: {any: [READ, WRITE]}}", Requirement((READ, WRITE), any_of=True)),
        ("{api_key: {all: [READ, r.read]}}", Requirement((READ,))),
    ],
)
def test_an_api_key_rule_covers_legacy_keys_too(rule: str, expected: Requirement) -> None:
    route = with_keys(allow=rule)

    assert not route.is_public
    assert route.allow == dict.fromkeys(KINDS, expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{user_token: {}}", UserRequirement()),
        (
            "{user_token: {subject: path.user_id}}",
            UserRequirement(
                Subject(SubjectPlace.PATH, "user_id", 3),
                Refusal(Reason.SUBJECT_MISMATCH, "`path.user_id` is not the user of the token"),
            ),
        ),
        (
            "{user_token: {subject: path.a}}",
            UserRequirement(
                Subject(SubjectPlace.PATH, "a", 1),
                Refusal(Reason.SUBJECT_MISMATCH, "`path.a` is not the user of the token"),
            ),
        ),
        (
            "{user_token: {subject: query.user}}",
            UserRequirement(
                Subject(SubjectPlace.QUERY, "user"),
                Refusal(Reason.SUBJECT_MISMATCH, "`query.user` is not the user of the token"),
            ),
        ),
    ],
)
def test_a_rule_for_user_tokens_covers_both_kinds_and_lets_no_key_in(rule: str, expected: UserRequirement) -> None:
    # F30
    route = with_keys(match="GET /{a}/users/{user_id}", allow=rule)

    assert not route.is_public
    assert route.allow == dict.fromkeys(USER_KINDS, expected)


def test_a_rule_may_be_for_keys_and_for_users() -> None:
    route = with_keys(allow="{api_key: READ, user_token: {}}")

    assert route.allow == {
        **dict.fromkeys(KINDS, Requirement((READ,))),
        **dict.fromkeys(USER_KINDS, UserRequirement()),
    }


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", Reason.SUBJECT_MISMATCH),
        ("subject_mismatch: 404\n", Reason.SUBJECT_MISMATCH),
        ("subject_mismatch: 403\n", Reason.SUBJECT_FORBIDDEN),
    ],
)
def test_a_policy_says_whether_users_are_told_that_something_is_anothers(written: str, reason: Reason) -> None:
    text = "  - {name: a, match: GET /a, upstream: rest, allow: {user_token: {subject: query.user}}}\n"
    (route,) = compiled(written + SCOPES + text).routes

    rule = route.allow[CredentialKind.USER_JWT]
    assert isinstance(rule, UserRequirement)
    assert rule.mismatch.reason is reason


@pytest.mark.parametrize(
    ("method", "body", "limit", "takes_body", "limit_bytes"),
    [
        ("GET", "", "", False, 0),
        ("DELETE", "", "", False, 0),
        ("POST", "", "", True, 0),
        ("PUT", "", "512B", True, 512),
        ("PATCH", "", "64KiB", True, 65_536),
        ("DELETE", "allowed", "10MiB", True, 10_485_760),
        ("POST", "refused", "", False, 0),
        ("POST", "allowed", "2GiB", True, 2_147_483_648),
    ],
)
def test_a_body_goes_with_the_method_unless_the_route_says_otherwise(
    method: str, body: str, limit: str, takes_body: bool, limit_bytes: int
) -> None:
    route = with_keys(match=f"{method} /a", allow="{api_key: READ}", body=body, body_limit=limit)

    assert (route.takes_body, route.body_limit_bytes) == (takes_body, limit_bytes)


@pytest.mark.parametrize(
    ("errors", "shape"), [("", ErrorShape.PROBLEM), ("problem", ErrorShape.PROBLEM), ("platform", ErrorShape.PLATFORM)]
)
def test_a_route_has_its_shape_of_errors(errors: str, shape: ErrorShape) -> None:
    assert with_keys(errors=errors).errors is shape


def graphql(**keys: str) -> Route:
    return with_keys(match="POST /gql", allow="", **{"graphql": "{fields: {Query.user: {api_key: READ}}}", **keys})


@pytest.mark.parametrize(
    ("errors", "shape", "profile"),
    [
        ("", ErrorShape.GRAPHQL, StatusProfile.DRAFT_2026),
        ("graphql", ErrorShape.GRAPHQL, StatusProfile.DRAFT_2026),
        ("graphql/draft-2026", ErrorShape.GRAPHQL, StatusProfile.DRAFT_2026),
        ("graphql/2023", ErrorShape.GRAPHQL, StatusProfile.Y2023),
        ("graphql/legacy-200", ErrorShape.GRAPHQL, StatusProfile.LEGACY_200),
        ("platform", ErrorShape.PLATFORM, StatusProfile.DRAFT_2026),
    ],
)
def test_a_graphql_route_has_a_shape_and_a_status_profile(
    errors: str, shape: ErrorShape, profile: StatusProfile
) -> None:
    route = graphql(errors=errors)

    assert route.graphql is not None
    assert (route.errors, route.graphql.status_profile) == (shape, profile)


def test_a_graphql_route_is_judged_by_field_within_limits() -> None:
    route = graphql(
        graphql="{fields: {Query.user: {api_key: READ}, Query.user.a.b: {api_key: WRITE},"
        " Mutation.do: {user_token: {}}}, introspection: {api_key: READ}, limits: {depth: 3, tokens: 20000}}",
        body="allowed",
        body_limit="16MiB",
    )

    assert not route.is_public
    assert route.allow == {}
    assert route.takes_body
    assert route.body_limit_bytes == 16 * 1024 * 1024
    assert route.graphql is not None
    assert route.graphql.limits == GraphQLLimits(depth=3, tokens=20_000)
    assert route.graphql.introspection == dict.fromkeys(KINDS, Requirement((READ,)))
    assert route.graphql.fields == {
        "Query.user": dict.fromkeys(KINDS, Requirement((READ,))),
        "Query.user.a.b": dict.fromkeys(KINDS, Requirement((WRITE,))),
        "Mutation.do": dict.fromkeys(USER_KINDS, UserRequirement()),
    }


def test_a_subject_of_a_graphql_field_is_kept_for_who_compares_it() -> None:
    route = graphql(graphql="{fields: {Query.a: {user_token: {subject: args.input.id}}}}")

    assert route.graphql is not None
    rule = route.graphql.fields["Query.a"][CredentialKind.USER_JWT]
    assert isinstance(rule, UserRequirement)
    assert rule.subject == Subject(SubjectPlace.ARGS, "input.id")


def test_without_a_word_graphql_gets_the_defaults_and_no_introspection() -> None:
    route = graphql()

    assert route.graphql is not None
    assert route.graphql.limits == GraphQLLimits(5000, 15, 30, 50, 20)
    assert route.graphql.introspection == {}
    assert route.body_limit_bytes == 1024 * 1024


@pytest.mark.parametrize(
    ("deprecated", "lines"),
    [
        ("{sunset: 2027-06-30}", [(b"Deprecation", b"@0"), (b"Sunset", b"Wed, 30 Jun 2027 00:00:00 GMT")]),
        ("{since: 2026-01-02}", [(b"Deprecation", b"@1767312000")]),
        (
            "{link: 'https://docs.example.com/moving', replacement: a}",
            [
                (b"Deprecation", b"@0"),
                (b"Link", b'<https://docs.example.com/moving>; rel="deprecation", </a>; rel="successor-version"'),
            ],
        ),
    ],
)
def test_a_deprecated_route_says_so_in_every_answer(deprecated: str, lines: list[tuple[bytes, bytes]]) -> None:
    assert list(with_keys(deprecated=deprecated).deprecated) == lines


def test_a_replacement_with_parameters_is_no_link() -> None:
    assert with_keys(match="GET /a/{x}", deprecated="{replacement: a}").deprecated == ((b"Deprecation", b"@0"),)


def test_the_policy_knows_its_scopes_and_the_shape_of_errors_without_a_route() -> None:
    policy = compiled("errors: platform\n" + SCOPES + "  - {name: a, match: GET /a, upstream: rest, allow: anyone}\n")

    assert isinstance(policy, Policy)
    assert policy.errors is ErrorShape.PLATFORM
    assert [scope.name for scope in policy.scopes.scopes] == ["READ", "WRITE"]
    assert policy.scopes.find("r.read") == policy.scopes.scopes[0]
    assert policy.scopes.scopes[1].is_sensitive
    assert policy.upstreams == {"rest"}


@pytest.mark.parametrize(
    ("route", "advice"),
    [
        (
            "  - {name: a, match: POST /a, upstream: rest, allow: anyone}",
            "policy.yaml:3:23: route `a` lets anyone `POST`, without a token; "
            "name the kinds of token that may, if that is not meant",
        ),
        (
            "  - {name: a, match: 'GET /a/{id}', upstream: rest, allow: {user_token: {}}}",
            "policy.yaml:3:71: route `a` lets any user's token reach every `{id}`; "
            "add `subject: path.id`, if users may reach only their own",
        ),
    ],
)
def test_what_is_rarely_meant_is_advised_against(route: str, advice: str) -> None:
    text = f"version: 1\nroutes:\n{route}\n"

    assert compiled(text).routes
    assert [advice.split(":", 3)[3]] == [line.split(":", 3)[3] for line in advice_on(text)]


def test_an_unused_scope_and_an_older_spelling_are_advised_against() -> None:
    text = SCOPES + "  - {name: a, match: GET /a, upstream: rest, allow: {api_key: read}}\n"

    assert advice_on(text) == [
        "policy.yaml:4:3: no route asks for scope `WRITE`; take it out, or add the route that needs it",
        "policy.yaml:6:63: `read` is an older spelling; write `READ`",
    ]


@pytest.mark.parametrize(
    "route",
    [
        "  - {name: a, match: GET /a, upstream: rest, allow: anyone}",
        "  - {name: a, match: OPTIONS /a, upstream: rest, allow: anyone}",
        "  - {name: a, match: GET /a, upstream: rest, allow: {user_token: {}}}",
        "  - {name: a, match: 'GET /a/{id}', upstream: rest, allow: {user_token: {subject: path.id}}}",
    ],
)
def test_what_is_usual_needs_no_advice(route: str) -> None:
    assert advice_on(f"version: 1\nroutes:\n{route}\n") == []


def test_words_of_help() -> None:
    assert did_you_mean("colour", ()) == "there is none to choose from"
    assert did_you_mean("user-read", ["USER_READ"]) == "did you mean `USER_READ`?"
    assert did_you_mean("zzz", ["a", "b", "c"]) == "use `a`, `b` or `c`"
    assert listed(["a"]) == "`a`"
    assert str(Place("p.yaml", 2, 3)) == "p.yaml:2:3"


def test_a_scope_without_rules_for_its_spelling_is_offered_when_misspelt() -> None:
    with pytest.raises(Exception, match="did you mean `READ`"):
        compiled(SCOPES + "  - {name: a, match: GET /a, upstream: rest, allow: {api_key: REED}}\n")


@pytest.mark.parametrize(
    ("written", "audience"),
    [("orders", "orders"), ("https://orders.internal/v2", "https://orders.internal/v2"), ('"orders:eu"', "orders:eu")],
)
def test_a_route_says_for_whom_an_assertion_is(written: str, audience: str) -> None:
    assert with_keys(assertion=written).assertion == audience
    assert with_keys().assertion == ""


def test_a_websocket_is_let_through_where_the_route_says_so() -> None:
    assert with_keys(websocket="true").is_websocket
    assert not with_keys(websocket="false").is_websocket
    assert not with_keys().is_websocket


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", None),
        ("10", RouteTimeouts(10.0)),
        ("2.5", RouteTimeouts(2.5)),
        ("86400", RouteTimeouts(86_400.0)),
        ("{request: 0.1}", RouteTimeouts(0.1)),
        ("{response_head: 5}", RouteTimeouts(0.0, 5.0)),
        ("{response_idle: 15.125, response_head: 5}", RouteTimeouts(0.0, 5.0, 15.125)),
        ("{request: 30, response_head: 30, response_idle: 30}", RouteTimeouts(30.0, 30.0, 30.0)),
    ],
)
def test_a_route_says_how_long_its_upstream_may_take(written: str, expected: RouteTimeouts | None) -> None:
    assert with_keys(timeout=written).timeouts == expected
