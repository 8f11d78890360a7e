"""The corridor: the one file that knows the order in which a request is judged.

Host and preflight, where the policy speaks of them; route, credential, record, principal; and then either the decision
or the body that the decision needs. Each step takes what the one before it made. When the key is in memory and no body
is read, there is no await from head to decision; the two waits that there can be have a type each, so a door cannot
forget one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from gateway.core.credential import Credential
from gateway.core.decision import Allowed, Preflight, decide, decide_graphql, decide_preflight, decide_public
from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.document import DocumentCache
from gateway.core.graphql.request import GraphQLRequest, read_request
from gateway.core.outgoing import IdentityLines
from gateway.core.policy.cors import ORIGIN
from gateway.core.policy.routes import Policy, Route
from gateway.core.principal import KeyRecord, Principal, admit
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.core.target import parameter_names
from gateway.core.token_kinds import has_token, read_authorization
from gateway.core.websocket import KEY, PROTOCOL, VERSION, handshake_fault
from gateway.ports import MISSING, Clock, KeyFinder, Missing, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One policy and what was derived from it. A request keeps the snapshot that it began with."""

    policy: Policy
    identity: IdentityLines


@final
class Passed:
    """The request may be forwarded."""

    __slots__ = ("allowed", "snapshot")

    allowed: Final[Allowed]
    snapshot: Final[Snapshot]

    def __init__(self, allowed: Allowed, snapshot: Snapshot) -> None:
        self.allowed = allowed
        self.snapshot = snapshot


@final
class Stopped:
    """The request goes no further. Route, credential and principal are there as far as they were known."""

    __slots__ = ("because", "credential", "principal", "route", "snapshot")

    because: Final[Refusal | CannotDecide]
    snapshot: Final[Snapshot]
    route: Final[Route | None]
    credential: Final[Credential | None]
    principal: Final[Principal | None]

    def __init__(
        self,
        because: Refusal | CannotDecide,
        snapshot: Snapshot,
        route: Route | None = None,
        credential: Credential | None = None,
        principal: Principal | None = None,
    ) -> None:
        self.because = because
        self.snapshot = snapshot
        self.route = route
        self.credential = credential
        self.principal = principal


@final
class AwaitingKey:
    """The key is not in memory: `Judge.on_key` asks the store."""

    __slots__ = ("credential", "facts", "route", "snapshot")

    facts: Final[RequestFacts]
    snapshot: Final[Snapshot]
    route: Final[Route | Refusal]
    credential: Final[Credential]

    def __init__(self, facts: RequestFacts, snapshot: Snapshot, route: Route | Refusal, credential: Credential) -> None:
        self.facts = facts
        self.snapshot = snapshot
        self.route = route
        self.credential = credential


@final
class AwaitingBody:
    """The rule reads the body: `Judge.on_body` takes it whole, at most `route.body_limit_bytes`."""

    __slots__ = ("facts", "principal", "route", "snapshot")

    facts: Final[RequestFacts]
    snapshot: Final[Snapshot]
    route: Final[Route]
    principal: Final[Principal]

    def __init__(self, facts: RequestFacts, snapshot: Snapshot, route: Route, principal: Principal) -> None:
        self.facts = facts
        self.snapshot = snapshot
        self.route = route
        self.principal = principal


_QUERY_AND_HEADER: Final = Refusal(Reason.CREDENTIAL_REPEATED, "a credential in the header and one in the query")
_QUERY: Final = Refusal(Reason.CREDENTIAL_IN_QUERY)
_BODY_REFUSED: Final = Refusal(Reason.BODY_REFUSED)
_UPGRADE_REFUSED: Final = Refusal(Reason.UPGRADE_REFUSED, "`Upgrade: websocket`")
_HOST_UNKNOWN: Final = Refusal(Reason.HOST_UNKNOWN)
_GRAPHQL_PARAMETERS: Final = frozenset((b"query", b"operationname", b"variables", b"extensions", b"documentid"))


class Judge:
    """Judges by the policy of the moment. `replace_policy` swaps one reference; requests under way keep theirs."""

    __slots__ = ("_clock", "_documents", "_keys", "_now", "snapshot")

    def __init__(self, policy: Policy, keys: KeyFinder, clock: Clock, documents: DocumentCache | None = None) -> None:
        self.snapshot = Snapshot(policy, IdentityLines(policy.scopes))
        self._keys = keys
        self._clock = clock
        self._now = clock.now
        self._documents = documents or DocumentCache()

    def replace_policy(self, policy: Policy) -> None:
        """Judges requests that begin from now on by `policy`."""
        self.snapshot = Snapshot(policy, IdentityLines(policy.scopes))

    def on_head(self, facts: RequestFacts) -> Passed | Stopped | AwaitingKey | AwaitingBody | Preflight:
        """As far as the head and memory lead."""
        snapshot = self.snapshot
        policy = snapshot.policy
        if policy.hosts is not None and not policy.hosts.serves(facts.host):
            return Stopped(_HOST_UNKNOWN, snapshot)

        if policy.has_cors and facts.method == b"OPTIONS" and not facts.query_credential:
            preflight = decide_preflight(policy, facts)
            if isinstance(preflight, Preflight):
                return preflight
            if isinstance(preflight, Allowed):
                return Passed(preflight, snapshot)
            if preflight is not None:
                return Stopped(preflight, snapshot)

        route = policy.route_for(facts.method, facts.path)
        known = route if isinstance(route, Route) else None

        if facts.upgrades:
            fault = _upgrade_fault(facts, known)
            if fault is not None:
                return Stopped(fault, snapshot, known)

        if facts.query_credential:
            because = _QUERY if facts.authorization is None else _QUERY_AND_HEADER
            return Stopped(because, snapshot, known)

        if facts.authorization is None and known is not None and known.is_public:
            return self._decided(decide_public(known), facts, snapshot, known, None)

        credential = read_authorization(facts.authorization)
        if not isinstance(credential, Credential):
            return Stopped(credential, snapshot, known)

        record = self._keys.cached(credential.digest)
        if record is MISSING:
            return AwaitingKey(facts, snapshot, route, credential)

        return self._on_record(facts, snapshot, route, credential, record)

    async def on_key(self, awaiting: AwaitingKey) -> Passed | Stopped | AwaitingBody:
        """On from a key that was not in memory. A store that cannot answer is no verdict on the key."""
        try:
            record = await self._keys.find(awaiting.credential)
        except StoreUnavailable as fault:
            because = CannotDecide(Reason.STORE_UNAVAILABLE, str(fault))
            known = awaiting.route if isinstance(awaiting.route, Route) else None
            return Stopped(because, awaiting.snapshot, known, awaiting.credential)

        return self._on_record(awaiting.facts, awaiting.snapshot, awaiting.route, awaiting.credential, record)

    def on_body(self, awaiting: AwaitingBody, body: bytes) -> Passed | Stopped:
        """On with the whole body of a GraphQL request."""
        route, principal, snapshot = awaiting.route, awaiting.principal, awaiting.snapshot
        request = read_request(body)
        if not isinstance(request, GraphQLRequest):
            return Stopped(request, snapshot, route, None, principal)

        assert route.graphql is not None  # only GraphQL routes wait for a body
        selection = self._documents.selection(request, route.graphql.limits)
        if isinstance(selection, Refusal):
            return Stopped(selection, snapshot, route, None, principal)

        decision = decide_graphql(route, principal, request, selection)
        if not isinstance(decision, Allowed):
            return Stopped(decision, snapshot, route, None, principal)

        return Passed(decision, snapshot)

    def _on_record(
        self,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route | Refusal,
        credential: Credential,
        record: KeyRecord | Missing | None,
    ) -> Passed | Stopped | AwaitingBody:
        principal = admit(record, credential, self._now())  # type: ignore[arg-type]
        if not isinstance(principal, Principal):
            return Stopped(principal, snapshot, route if isinstance(route, Route) else None, credential)

        if not isinstance(route, Route):
            # Only now: to a caller without a good credential every path looks alike.
            return Stopped(route, snapshot, None, credential, principal)

        if route.graphql is not None:
            fault = graphql_head_fault(facts)
            if fault is not None:
                return Stopped(fault, snapshot, route, credential, principal)
            return AwaitingBody(facts, snapshot, route, principal)

        return self._decided(decide(route, principal), facts, snapshot, route, principal)

    def _decided(
        self,
        decision: Allowed | Refusal,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route,
        principal: Principal | None,
    ) -> Passed | Stopped:
        if not isinstance(decision, Allowed):
            return Stopped(decision, snapshot, route, None, principal)

        if facts.content_length != 0:
            if not route.takes_body:
                return Stopped(_BODY_REFUSED, snapshot, route, None, principal)
            if 0 < route.body_limit_bytes < facts.content_length:
                return Stopped(Refusal(Reason.BODY_TOO_LARGE), snapshot, route, None, principal)

        return Passed(decision, snapshot)


def _upgrade_fault(facts: RequestFacts, route: Route | None) -> Refusal | None:
    """What forbids a WebSocket, before it is asked who wants it; where no route takes one, all paths look alike."""
    if route is None or not route.is_websocket:
        return _UPGRADE_REFUSED

    fields = facts.fields
    fault = handshake_fault(value_of(fields, VERSION), value_of(fields, KEY))
    if fault:
        return Refusal(Reason.HEADER_REFUSED, fault)
    if has_token(value_of(fields, PROTOCOL) or b""):
        return Refusal(Reason.CREDENTIAL_REPEATED, "a token among the WebSocket protocols")  # D22

    origin = None if route.cors is None else value_of(fields, ORIGIN)
    if route.cors is not None and origin is not None and origin not in route.cors.origins:
        # Browsers open WebSockets to every origin, without a preflight and with cookies.
        return Refusal(Reason.CORS_REFUSED, f"not an origin of route `{route.name}`")
    return None


def graphql_head_fault(facts: RequestFacts) -> Refusal | None:
    """What forbids reading the body of a GraphQL request, as far as its head says it (C19, K10)."""
    if facts.content_encoding is not None and facts.content_encoding.lower() != b"identity":
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Encoding` on a GraphQL body")

    media_type, _, parameters = (facts.content_type or b"").partition(b";")
    if media_type.strip().lower() != b"application/json":
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Type` other than `application/json`")

    if facts.query and parameter_names(facts.query) & _GRAPHQL_PARAMETERS:
        # Servers differ on which of the two they run: the URL's or the body's (G22).
        return Refusal(Reason.GRAPHQL_REQUEST_INVALID, "GraphQL parameters in the URL of a POST")

    if parameters and parameters.replace(b'"', b"").strip().lower() not in (b"charset=utf-8", b"charset=utf8"):
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Type` parameter other than `charset=utf-8`")

    return None
