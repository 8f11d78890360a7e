"""The ladder: may this principal do this? Only this file makes an `Allowed`, and only an `Allowed` is forwarded.

Refused by default at every rung: a kind the rule does not name, a scope that is missing, a field without a rule.
"""

from __future__ import annotations

from typing import Final, final

from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.canonical import canonical_body
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.policy.cors import ORIGIN, REQUEST_METHOD, Lines
from gateway.core.policy.routes import Policy, Route
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Refusal

INTROSPECTION: Final = frozenset(("Query.__schema", "Query.__type"))
FREE: Final = frozenset(("Query.__typename", "Mutation.__typename"))
_TOKEN_LENGTH: Final = 32
"""The shortest token that a key can be."""


@final
class Allowed:
    """The request may be forwarded to `route.upstream`. `body` is what was judged, re-encoded, on GraphQL routes."""

    __slots__ = ("body", "principal", "route")

    route: Final[Route]
    principal: Final[Principal | None]
    """None on public routes called without a credential."""
    body: Final[bytes | None]

    def __init__(self, route: Route, principal: Principal | None, body: bytes | None = None) -> None:
        self.route = route
        self.principal = principal
        self.body = body


@final
class Preflight:
    """A CORS preflight that is answered here, with these header lines. Nothing is forwarded, nobody is asked for."""

    __slots__ = ("lines", "route")

    route: Final[Route]
    """What the page wants to call."""
    lines: Final[Lines]

    def __init__(self, route: Route, lines: Lines) -> None:
        self.route = route
        self.lines = lines


_KIND_NOT_ALLOWED: Final = Refusal(Reason.KIND_NOT_ALLOWED)
_NO_CORS_METHOD: Final = Refusal(Reason.CORS_REFUSED, "no route of the path with that method has `cors`")
_BODY_REFUSED: Final = Refusal(Reason.BODY_REFUSED, "a preflight with a body")


def decide_preflight(policy: Policy, facts: RequestFacts) -> Preflight | Allowed | Refusal | None:
    """The judgement of an OPTIONS request as a CORS preflight, or None where it is none (B29, C30).

    None too where no route of the path has `cors`: then it is judged like any other request. An `Allowed` goes to the
    upstream of a route with `cors: pass`, for nobody; it opens the OPTIONS of a preflight and nothing else.
    """
    origin, method = value_of(facts.fields, ORIGIN), value_of(facts.fields, REQUEST_METHOD)
    if origin is None or method is None:
        return None
    routes = policy.cors_routes(facts.path)
    if not routes:
        return None

    if facts.content_length != 0:
        return _BODY_REFUSED
    route = routes.get(method)
    if route is None:
        return _NO_CORS_METHOD
    if route.cors is None:
        # An OPTIONS route of the path is the author's word on who may ask it.
        return None if isinstance(policy.route_for(b"OPTIONS", facts.path), Route) else Allowed(route, None)
    if origin not in route.cors.origins:
        return Refusal(Reason.CORS_REFUSED, f"not an origin of route `{route.name}`")

    alike = [name for name, other in routes.items() if other.cors is route.cors]
    return Preflight(route, route.cors.preflight_lines(origin, alike, route.takes_body))


def decide_public(route: Route) -> Allowed | Refusal:
    """The judgement for a caller without a credential: only a route that says `allow: anyone` lets it pass."""
    if not route.is_public:
        return Refusal(Reason.CREDENTIAL_MISSING)
    return Allowed(route, None)


def decide(route: Route, principal: Principal) -> Allowed | Refusal:
    """The judgement of a REST request."""
    if route.is_public:
        return Allowed(route, principal)

    requirement = route.allow.get(principal.kind)
    if requirement is None:
        return _KIND_NOT_ALLOWED

    missing = requirement.missing(principal)
    if missing:
        return Refusal(Reason.SCOPE_MISSING, missing_scopes=missing)

    return Allowed(route, principal)


def decide_graphql(
    route: Route, principal: Principal, request: GraphQLRequest, selection: Selection
) -> Allowed | Refusal:
    """The judgement of a GraphQL request: every root field that it selects, and every ruled path below them.

    One forbidden field refuses the whole document; the refusal names each missing scope and each coordinate.
    """
    rules = route.graphql
    if rules is None:
        return Refusal(Reason.FIELD_NOT_ALLOWED, "the route has no GraphQL rules")

    reason: Reason | None = None
    missing: list[str] = []
    forbidden: list[str] = []
    fields = rules.fields
    for coordinate in (*selection.coordinates, *(path for path in fields if path in selection.paths)):
        if coordinate in FREE:
            continue
        rule = rules.introspection if coordinate in INTROSPECTION else fields.get(coordinate)
        requirement = None if rule is None else rule.get(principal.kind)
        if requirement is None:
            reason = Reason.FIELD_NOT_ALLOWED
            forbidden.append(coordinate if rule is not None else _tellable(coordinate))
            continue
        lacking = requirement.missing(principal)
        if lacking:
            reason = reason or Reason.SCOPE_MISSING
            missing += lacking
            forbidden.append(coordinate)

    if reason is not None:
        return Refusal(reason, missing_scopes=tuple(sorted(set(missing))), coordinates=tuple(sorted(set(forbidden))))
    return Allowed(route, principal, canonical_body(request, selection))


def _tellable(coordinate: str) -> str:
    """A coordinate that no rule has, which is the client's own text: long names may be tokens, and are not repeated."""
    root, _, name = coordinate.partition(".")
    return coordinate if len(name) < _TOKEN_LENGTH else f"{root}.…"
