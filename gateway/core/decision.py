"""The ladder: may this principal do this? Only this file makes an `Allowed`, and only an `Allowed` is forwarded.

Refused by default at every rung: a kind the rule does not name, a scope that is missing, a field without a rule.
"""

from __future__ import annotations

from typing import Final, final

import orjson

from gateway.core.credential import CredentialKind
from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.canonical import canonical_body
from gateway.core.graphql.envelope import Envelope
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.policy.asked import INTROSPECTION, Asked, asked_of
from gateway.core.policy.cors import ORIGIN, REQUEST_METHOD, Lines
from gateway.core.policy.requirement import Requirement
from gateway.core.policy.routes import GraphQLRules, Policy, Route
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Refusal

_TOKEN_LENGTH: Final = 32
"""The shortest token that a key can be."""


@final
class Allowed:
    """The request may be forwarded to `route.upstream`. `body` is what was judged, re-encoded, on GraphQL routes."""

    __slots__ = ("body", "head", "principal", "route")

    route: Final[Route]
    principal: Final[Principal | None]
    """None on public routes called without a credential."""
    body: Final[bytes | None]
    head: Final[RequestFacts | None]
    """The head that is sent, where it is not the one that came: a GET of GraphQL goes on as a POST."""

    def __init__(
        self,
        route: Route,
        principal: Principal | None,
        body: bytes | None = None,
        head: RequestFacts | None = None,
    ) -> None:
        self.route = route
        self.principal = principal
        self.body = body
        self.head = head


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


# Bound once: looking a member up on its enumeration is a Python call in 3.11.
_API_KEY: Final = CredentialKind.API_KEY
_LEGACY_KEY: Final = CredentialKind.LEGACY_KEY

_KIND_NOT_ALLOWED: Final = Refusal(Reason.KIND_NOT_ALLOWED)
_OTHER_APP: Final = Refusal(Reason.APP_FORBIDDEN)
_COST: Final = Refusal(Reason.GRAPHQL_LIMIT_EXCEEDED, "over the limit of `cost`")
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


def decide(route: Route, principal: Principal, facts: RequestFacts) -> Allowed | Refusal:
    """The judgement of a REST request."""
    if route.is_public:
        return Allowed(route, principal)

    requirement = route.allow.get(principal.kind)
    if requirement is None:
        return _KIND_NOT_ALLOWED

    if isinstance(requirement, Requirement):
        missing = requirement.missing(principal)
        if missing:
            return Refusal(Reason.SCOPE_MISSING, missing_scopes=missing)
        if requirement.app is not None and not requirement.app.is_in_head(principal.app_id, facts):
            return _OTHER_APP
        return Allowed(route, principal)

    subject = requirement.subject
    if subject is not None and not subject.is_in_head(principal.user_id, facts):
        return requirement.mismatch
    return Allowed(route, principal)


def decide_graphql(
    route: Route, principal: Principal, request: GraphQLRequest, selection: Selection
) -> Allowed | Refusal:
    """The judgement of a GraphQL request: every field that it could run, and whom its arguments name.

    One forbidden field refuses the whole document; the refusal names each missing scope and each coordinate. Whom
    arguments name, and what they ask for, is looked at last, because it takes the variables.
    """
    rules = route.graphql
    if rules is None:
        return Refusal(Reason.FIELD_NOT_ALLOWED, "the route has no GraphQL rules")

    asked = asked_of(rules, selection, principal.kind)
    missing: list[str] = []
    coordinates: list[str] = []
    for requirement, asking in asked.needs:
        lacking = requirement.missing(principal)
        if lacking:
            missing += lacking
            coordinates += asking
    if asked.forbidden or missing:
        reason = Reason.FIELD_NOT_ALLOWED if asked.forbidden else Reason.SCOPE_MISSING
        coordinates += [_tellable(coordinate, rules) for coordinate in asked.forbidden]
        return Refusal(reason, missing_scopes=tuple(sorted(set(missing))), coordinates=tuple(sorted(set(coordinates))))

    if asked.namings or selection.cost is not None:
        refusal = _decide_by_variables(asked, principal, request, selection, rules.limits.cost)
        if refusal is not None:
            return refusal
    return Allowed(route, principal, canonical_body(request, selection))


def _decide_by_variables(
    asked: Asked, principal: Principal, request: GraphQLRequest, selection: Selection, highest_cost: int
) -> Refusal | None:
    """What forbids a request that another one of the same document could pass (G33, G55)."""
    given: dict[str, object] = orjson.loads(request.variables) if request.variables else {}
    is_user = principal.kind is not _API_KEY and principal.kind is not _LEGACY_KEY
    who = principal.user_id if is_user else principal.app_id
    others = [naming for naming in asked.namings if not naming.names_only(who, given)]
    if others:
        whose = "the user of the token" if is_user else "the App of the key"
        return Refusal(
            Reason.SUBJECT_FORBIDDEN if is_user else Reason.APP_FORBIDDEN,
            f"`{others[0].written}` is not {whose}, or not {whose} alone",
            coordinates=tuple(sorted({naming.coordinate for naming in others})),
        )

    if selection.cost is not None and not selection.cost.is_within(highest_cost, given):
        return _COST
    return None


def decide_envelope(
    route: Route, principal: Principal, facts: RequestFacts, envelope: Envelope, judged: list[Allowed]
) -> Allowed:
    """The judgement of an envelope of which each request was allowed: all of them go on together."""
    bodies = [allowed.body for allowed in judged if allowed.body is not None]
    return Allowed(route, principal, envelope.body(bodies), envelope.head(facts))


def _tellable(coordinate: str, rules: GraphQLRules) -> str:
    """A coordinate that no rule has is the client's own text: long names may be tokens, and are not repeated."""
    if coordinate in rules.fields or coordinate in INTROSPECTION:
        return coordinate
    root, _, name = coordinate.partition(".")
    return coordinate if len(name) < _TOKEN_LENGTH else f"{root}.…"
