"""CORS lines: what a page of which origin is told, and which routes answer to pages at all."""

from __future__ import annotations

import pytest

from gateway.core.decision import Allowed, Preflight, decide_preflight
from gateway.core.policy.cors import EXPOSED, CorsRules, without_cors
from gateway.core.policy.routes import Policy, Route
from gateway.core.reasons import Reason, Refusal
from tests.core.policy.support import compiled
from tests.core.samples import facts

APP = b"https://app.example"
RULES = CorsRules(("https://app.example",), ("authorization", "x-a"), ("etag",), True, 60)

POLICY = """\
version: 1
cors: {origins: [https://app.example, https://www.example]}
routes:
  - {name: read, match: "GET /a/{id}", upstream: rest, allow: anyone}
  - {name: me, match: GET /a/me, upstream: rest, allow: anyone, cors: none}
  - {name: write, match: "POST /a/{id}", upstream: rest, allow: anyone}
  - name: put
    match: PUT /a/{id}
    upstream: rest
    allow: anyone
    cors: {origins: [https://app.example], headers: [X-A], expose: [ETag], credentials: true, max_age: 60}
  - {name: theirs, match: "PATCH /c/{id}", upstream: rest, allow: anyone, cors: pass}
  - {name: options, match: "OPTIONS /a/{id}", upstream: rest, allow: anyone}
  - {name: closed, match: GET /b, upstream: rest, allow: anyone, cors: none}
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return compiled(POLICY)


def test_a_listed_origin_is_told_what_it_may_read() -> None:
    exposed = (b"access-control-expose-headers", b", ".join((*EXPOSED, b"etag")))

    assert RULES.lines_for([b"accept: ", b"x", b"\r\n", b"origin: ", APP, b"\r\n"]) == (
        (b"access-control-allow-origin", APP),
        (b"access-control-allow-credentials", b"true"),
        exposed,
        (b"vary", b"origin"),
    )


@pytest.mark.parametrize(
    "fields", [[], [b"origin: ", b"null", b"\r\n"], [b"x: ", b"origin: ", b"\r\n"], [b"origin: ", b"*", b"\r\n"]]
)
def test_anybody_else_is_told_that_answers_differ_and_nothing_more(fields: list[bytes]) -> None:
    assert RULES.lines_for(fields) == ((b"vary", b"origin"),)


def test_an_upstreams_own_lines_are_left_out_in_any_case() -> None:
    fields = [
        b"Access-Control-Allow-Origin: ",
        b"*",
        b"\r\n",
        b"ETag: ",
        b"1",
        b"\r\n",
        b"ACCESS-CONTROL-X: ",
        b"",
        b"",
    ]

    assert without_cors(fields) == [b"ETag: ", b"1", b"\r\n"]


def judged(
    policy: Policy, method: bytes, origin: bytes = APP, target: bytes = b"/a/1", *more: tuple[bytes, bytes]
) -> object:
    asked = [(b"Origin", origin), (b"Access-Control-Request-Method", method), *more]
    return decide_preflight(policy, facts(*asked, method=b"OPTIONS", target=target))


def test_a_preflight_names_the_methods_that_share_its_rules(policy: Policy) -> None:
    preflight = judged(policy, b"POST")

    assert isinstance(preflight, Preflight)
    assert preflight.route.name == "write"
    assert preflight.lines == (
        (b"access-control-allow-origin", APP),
        (b"access-control-allow-methods", b"GET, HEAD, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    )


def test_a_preflight_of_a_route_with_rules_of_its_own(policy: Policy) -> None:
    preflight = judged(policy, b"PUT")

    assert isinstance(preflight, Preflight)
    assert preflight.lines[:-1] == (
        (b"access-control-allow-origin", APP),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"PUT"),
        (b"access-control-allow-headers", b"authorization, content-type, x-a"),
        (b"access-control-max-age", b"60"),
    )


def test_headers_are_named_once() -> None:
    (headers,) = [value for name, value in RULES.preflight_lines(APP, [b"GET"], False) if name.endswith(b"-headers")]

    assert headers == b"authorization, x-a"


def test_a_preflight_is_passed_for_nobody_where_the_route_says_so(policy: Policy) -> None:
    allowed = judged(policy, b"PATCH", b"https://any.example", b"/c/1")

    assert isinstance(allowed, Allowed)
    assert (allowed.route.name, allowed.principal, allowed.body) == ("theirs", None, None)


def test_a_route_for_options_is_judged_as_such_though_preflights_are_passed() -> None:
    policy = compiled(
        "version: 1\nscopes:\n  READ: {means: reads}\nroutes:\n"
        "  - {name: a, match: GET /a, upstream: rest, allow: anyone, cors: pass}\n"
        "  - {name: b, match: OPTIONS /a, upstream: rest, allow: {api_key: READ}}\n"
    )

    assert judged(policy, b"GET", APP, b"/a") is None


@pytest.mark.parametrize(
    ("method", "origin", "target"),
    [
        (b"PUT", b"https://www.example", b"/a/1"),
        (b"GET", b"https://evil.example", b"/a/1"),
        (b"GET", APP, b"/a/me"),
        (b"DELETE", APP, b"/a/1"),
        (b"OPTIONS", APP, b"/a/1"),
        (b"get", APP, b"/a/1"),
    ],
)
def test_a_preflight_for_what_no_route_grants_is_refused(
    policy: Policy, method: bytes, origin: bytes, target: bytes
) -> None:
    refusal = judged(policy, method, origin, target)

    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.CORS_REFUSED
    assert origin.decode() not in refusal.detail


def test_a_preflight_has_no_body(policy: Policy) -> None:
    refusal = judged(policy, b"GET", APP, b"/a/1", (b"Content-Length", b"1"))

    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.BODY_REFUSED


def test_what_is_no_preflight_or_meets_no_cors_is_judged_like_any_other_request(policy: Policy) -> None:
    assert decide_preflight(policy, facts((b"Origin", APP), method=b"OPTIONS", target=b"/a/1")) is None
    assert judged(policy, b"GET", APP, b"/b") is None
    assert judged(policy, b"GET", APP, b"/nothing") is None
    lone = facts((b"Access-Control-Request-Method", b"GET"), method=b"OPTIONS", target=b"/a/1")
    assert decide_preflight(policy, lone) is None


def routes(policy: Policy) -> dict[str, Route]:
    return {route.name: route for route in policy.routes}


def test_routes_that_say_the_same_share_their_rules(policy: Policy) -> None:
    named = routes(policy)

    assert named["read"].cors is named["write"].cors is not None
    assert named["put"].cors is not named["read"].cors
    assert [name for name, route in named.items() if route.cors is None] == ["me", "theirs", "options", "closed"]
    assert [name for name, route in named.items() if route.passes_preflight] == ["theirs"]
    assert policy.has_cors
    assert policy.hosts is None


def test_a_whole_policy_can_leave_it_to_its_upstreams() -> None:
    policy = compiled(
        "version: 1\ncors: pass\nhosts: [b.example, 'a.example:443']\nroutes:\n"
        "  - {name: a, match: GET /a, upstream: rest, allow: anyone}\n"
    )

    assert policy.has_cors
    assert policy.routes[0].passes_preflight
    assert policy.hosts is not None
    assert policy.hosts.written == ("b.example", "a.example:443")


def test_without_cors_there_is_none() -> None:
    policy = compiled("version: 1\nroutes:\n  - {name: a, match: GET /a, upstream: rest, allow: anyone}\n")

    assert not policy.has_cors
    assert policy.routes[0].cors is None
