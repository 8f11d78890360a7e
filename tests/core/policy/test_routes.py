"""Which route a request has: against a plain matcher that knows nothing of dicts and tries."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.policy.document import RouteEntry, Text
from gateway.core.policy.faults import Place
from gateway.core.policy.overlap import Overlap, overlaps
from gateway.core.policy.routes import Policy, Route, is_parameter_value
from gateway.core.reasons import Reason, Refusal
from tests.core.policy.support import compiled, policy_of

PLACE = Place("p.yaml", 1, 1)


def matches(pattern: str, path: str) -> bool:
    """The oracle: one regular expression per pattern."""
    parts = [
        r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]{1,128}" if part.startswith("{") else re.escape(part)
        for part in pattern.split("/")
    ]
    return re.fullmatch("/".join(parts), path) is not None


def is_narrower(one: str, other: str) -> bool:
    """Whether `one` has the literal wherever the two differ."""
    pairs = list(zip(one.split("/"), other.split("/"), strict=True))
    return all(mine == yours or yours.startswith("{") for mine, yours in pairs)


def slow_route_for(policy: Policy, method: str, path: str) -> Route | Refusal:
    """The narrowest route that matches, found by asking each."""
    asked = "GET" if method == "HEAD" else method
    hits = [route for route in policy.routes if matches(route.pattern, path)]
    mine = [route for route in hits if route.method.decode() == asked]
    for route in mine:
        if all(is_narrower(route.pattern, other.pattern) for other in mine):
            return route
    methods = {route.method.decode() for route in hits}
    if "GET" in methods:
        methods.add("HEAD")
    if methods:
        return Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=tuple(sorted(methods)))
    return Refusal(Reason.ROUTE_UNKNOWN)


def entry(match: str) -> RouteEntry:
    """A route as the compiler compares it."""
    method, path = match.split(" ")
    text = Text(path, PLACE)
    return RouteEntry(Text(match, PLACE), method, text, (), text, True, None, None, None, None, False, 0)


def accepted(found: list[str]) -> list[str]:
    """Those of `found` that can stand in one policy, the later of two in conflict left out."""
    kept: list[str] = []
    for match in dict.fromkeys(found):
        if not overlaps(tuple(entry(one) for one in [*kept, match])):
            kept.append(match)
    return kept


SEGMENT = st.sampled_from(["a", "b", "c", "a.b", "a:b", "", "..x"])
PATTERN_SEGMENT = st.one_of(SEGMENT.filter(bool), st.sampled_from(["{x}", "{y}", "{z}"]))


def _named(segments: list[str]) -> str:
    return "/" + "/".join(f"{{p{place}}}" if part[0] == "{" else part for place, part in enumerate(segments))


PATTERNS = st.lists(PATTERN_SEGMENT, min_size=1, max_size=4).map(_named)
MATCHES = st.builds("{} {}".format, st.sampled_from(["GET", "POST", "DELETE"]), PATTERNS)
PATHS = st.lists(st.one_of(SEGMENT, st.sampled_from([".", "..", "a,b", "x" * 129])), min_size=1, max_size=5).map(
    lambda segments: "/" + "/".join(segments)
)


@given(st.lists(MATCHES, max_size=12), st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PATCH"]), PATHS)
def test_the_trie_finds_what_the_plain_matcher_finds(found: list[str], method: str, path: str) -> None:
    policy = policy_of(accepted(found))

    assert slow_route_for(policy, method, path) == policy.route_for(method.encode(), path.encode())


@given(PATTERNS, PATTERNS)
def test_an_overlap_is_told_exactly_when_two_routes_of_equal_rank_share_a_path(one: str, other: str) -> None:
    told = overlaps((entry(f"GET {one}"), entry(f"GET {other}")))
    shared = [path for path in all_paths(one.count("/")) if matches(one, path) and matches(other, path)]
    is_ranked = one.count("/") == other.count("/") and is_narrower(one, other) != is_narrower(other, one)

    assert bool(told) == (bool(shared) and not is_ranked)
    for overlap in told:
        assert matches(one, overlap.path)
        assert matches(other, overlap.path)


def all_paths(length: int) -> list[str]:
    """Every path of `length` segments that the patterns' literals can make."""
    paths = [""]
    for _ in range(length):
        paths = [f"{path}/{part}" for path in paths for part in ("a", "b", "c", "a.b", "a:b", "..x", "other")]
    return paths


ROUTES = (
    "GET /v2/users/me",
    "GET /v2/users/{user_id}",
    "DELETE /v2/users/{user_id}",
    "GET /v2/users/{user_id}/events",
    "GET /v2/users/me/plans",
    "POST /v4/gql",
    "GET /",
    "GET /trailing/",
)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/users/me", "GET /v2/users/me"),
        ("GET", "/v2/users/u1", "GET /v2/users/{user_id}"),
        ("HEAD", "/v2/users/u1", "GET /v2/users/{user_id}"),
        ("HEAD", "/v2/users/me", "GET /v2/users/me"),
        ("GET", "/v2/users/me/events", "GET /v2/users/{user_id}/events"),
        ("GET", "/v2/users/me/plans", "GET /v2/users/me/plans"),
        ("DELETE", "/v2/users/me", "DELETE /v2/users/{user_id}"),
        ("GET", "/", "GET /"),
        ("GET", "/trailing/", "GET /trailing/"),
        ("GET", "/v2/users/" + "a" * 128, "GET /v2/users/{user_id}"),
        ("GET", "/v2/users/...", "GET /v2/users/{user_id}"),
    ],
)
def test_the_narrowest_route_wins(method: str, path: str, expected: str) -> None:
    route = policy_of(ROUTES).route_for(method.encode(), path.encode())

    assert isinstance(route, Route)
    assert expected == route.name


@pytest.mark.parametrize(
    "path",
    [
        "/v2/users",
        "/v2/users/",
        "/v2/users//events",
        "/v2/users/u1/",
        "/v2/users/u1/events/",
        "/v2/usersx/me",
        "/V2/users/me",
        "/v2/users/.",
        "/v2/users/..",
        "/v2/users/../events",
        "/v2/users/a%20b",
        "/v2/users/a,b",
        "/v2/users/a:b",
        "/v2/users/é",
        "/v2/users/me\n",
        "/v2/users/" + "a" * 129,
        "/trailing",
        "",
        "*",
    ],
)
def test_a_path_that_no_route_has_is_unknown(path: str) -> None:
    assert policy_of(ROUTES).route_for(b"GET", path.encode()) == Refusal(Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v2/users/u1", ("DELETE", "GET", "HEAD")),
        ("POST", "/v2/users/me", ("DELETE", "GET", "HEAD")),
        ("GET", "/v4/gql", ("POST",)),
        ("HEAD", "/v4/gql", ("POST",)),
        ("get", "/", ("GET", "HEAD")),
        ("", "/", ("GET", "HEAD")),
    ],
)
def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(
    method: str, path: str, allowed: tuple[str, ...]
) -> None:
    expected = Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=allowed)

    assert expected == policy_of(ROUTES).route_for(method.encode(), path.encode())


def test_a_policy_without_get_routes_knows_no_head() -> None:
    policy = policy_of(["POST /a", "DELETE /a/{b}"])

    assert policy.route_for(b"HEAD", b"/a/b") == Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=("DELETE",))
    assert policy.upstreams == {"rest"}


@pytest.mark.parametrize(("value", "expected"), [(b"a", True), (b"", False), (b"..", False), (b"a" * 129, False)])
def test_a_parameter_takes_unreserved_bytes_only(value: bytes, expected: bool) -> None:
    assert is_parameter_value(value) is expected


def test_every_byte_of_a_parameter_is_judged() -> None:
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"

    for byte in range(256):
        assert is_parameter_value(b"a%c" % byte) is (byte in unreserved)


def test_options_on_a_graphql_path_bypasses_nothing_and_another_method_does() -> None:
    from gateway.core.graphql.limits import GraphQLLimits
    from gateway.core.policy.document import GraphQLEntry

    rest = entry("OPTIONS /gql")
    graphql = RouteEntry(
        Text("gql", PLACE), "POST", Text("/gql", PLACE), (), Text("g", PLACE), False, None, None,
        GraphQLEntry((), None, GraphQLLimits()), None, True, 0,
    )  # fmt: skip

    assert not Overlap(graphql, rest, "/gql").bypasses_fields
    assert Overlap(graphql, entry("GET /gql"), "/gql").bypasses_fields
    assert not Overlap(graphql, graphql, "/gql").bypasses_fields
    assert overlaps((graphql, entry("POST /{any}"))) == []
    assert overlaps((entry("POST /{any}"), graphql)) == []
    assert overlaps((graphql, rest)) == []


SOCKETS = """\
version: 1
scopes: {READ: {means: read}}
routes:
  - {name: wide, match: "POST /{any}/gql", upstream: gql,
     graphql: {websocket: init, fields: {Query.a: {api_key: READ}}}}
  - {name: none, match: POST /b/gql, upstream: gql, graphql: {fields: {Query.a: {api_key: READ}}}}
  - {name: one, match: POST /c/gql, upstream: gql,
     graphql: {websocket: header, limits: {depth: 3}, fields: {Subscription.a: {api_key: READ}}}}
"""


@pytest.mark.parametrize(
    ("path", "name", "takes_init_token"),
    [(b"/a/gql", "wide", True), (b"/b/gql", "none", None), (b"/c/gql", "one", False), (b"/gql", None, None)],
)
def test_g51_a_websocket_goes_to_the_narrowest_graphql_route_or_to_none(
    path: bytes, name: str | None, takes_init_token: bool | None
) -> None:
    route = compiled(SOCKETS).socket_route_for(path)

    assert name == (None if route is None else route.name)
    rules = None if route is None or route.graphql is None else route.graphql.websocket
    assert takes_init_token is (None if rules is None else rules.takes_init_token)


def test_g39_subscriptions_are_chosen_over_the_websocket_alone() -> None:
    rules = next(route.graphql for route in compiled(SOCKETS).routes if route.name == "one")

    assert rules is not None
    assert rules.websocket is not None
    assert not rules.limits.subscriptions
    assert rules.websocket.limits == GraphQLLimits(depth=3, subscriptions=True)


def test_without_such_routes_no_path_opens_a_websocket_of_graphql() -> None:
    assert policy_of(["GET /a"]).socket_route_for(b"/a") is None
