"""The corridor: the one file that knows the order in which a request is judged.

Host and preflight, where the policy speaks of them; route, credential, record, principal; and then either the decision
or the body that the decision needs. Each step takes what the one before it made. When the key is in memory and no body
is read, there is no await from head to decision; the two waits that there can be have a type each, so a door cannot
forget one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from gateway.core.credential import Credential, CredentialKind
from gateway.core.decision import (
    Allowed,
    Preflight,
    decide,
    decide_envelope,
    decide_graphql,
    decide_preflight,
    decide_public,
)
from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.document import DocumentCache
from gateway.core.graphql.envelope import (
    Envelope,
    accept_fault,
    is_upload,
    method_fault,
    read_body,
    read_url,
    upload_fault,
)
from gateway.core.graphql.persisted import DocumentStore, find_request
from gateway.core.graphql.request import GraphQLRequest, not_object, read_request, strict_json
from gateway.core.graphql.socket import chosen_protocol
from gateway.core.graphql.transports import Transports
from gateway.core.outgoing import IdentityLines
from gateway.core.policy.cors import ORIGIN
from gateway.core.policy.routes import GraphQLRules, Policy, Route, StatusProfile
from gateway.core.principal import KeyRecord, Principal, UserRecord, admit, admit_user
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.core.target import parameter_names
from gateway.core.token_kinds import KINDS, Kinds, has_token, read_authorization
from gateway.core.token_kinds.user_opaque import as_opaque
from gateway.core.websocket import KEY, PROTOCOL, VERSION, handshake_fault
from gateway.ports import MISSING, Clock, KeyFinder, Missing, StoreUnavailable, UserFinder


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
    """The key or the user token is not in memory: `Judge.on_key` asks the store, or the token's issuer."""

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


@final
class AwaitingInit:
    """A WebSocket of a GraphQL route may be opened, and nothing more before its credential has come in a message."""

    __slots__ = ("route", "snapshot")

    route: Final[Route]
    snapshot: Final[Snapshot]

    def __init__(self, route: Route, snapshot: Snapshot) -> None:
        self.route = route
        self.snapshot = snapshot


_LEGACY_KEY: Final = CredentialKind.LEGACY_KEY

_QUERY_AND_HEADER: Final = Refusal(Reason.CREDENTIAL_REPEATED, "a credential in the header and one in the query")
_QUERY: Final = Refusal(Reason.CREDENTIAL_IN_QUERY)
_BODY_REFUSED: Final = Refusal(Reason.BODY_REFUSED)
_UPGRADE_REFUSED: Final = Refusal(Reason.UPGRADE_REFUSED, "`Upgrade: websocket`")
_NO_PROTOCOL: Final = Refusal(
    Reason.HEADER_REFUSED, "neither `graphql-transport-ws` nor `graphql-ws` in `Sec-WebSocket-Protocol`"
)
_NO_TRANSPORTS: Final = Transports()
_HOST_UNKNOWN: Final = Refusal(Reason.HOST_UNKNOWN)
_GRAPHQL_PARAMETERS: Final = frozenset(
    (b"query", b"operationname", b"variables", b"extensions", b"documentid", b"id", b"doc_id", b"queryid")
)


class Judge:
    """Judges by the policy of the moment. `replace_policy` swaps one reference; requests under way keep theirs."""

    __slots__ = ("_clock", "_documents", "_keys", "_kinds", "_now", "_store", "_users", "snapshot")

    def __init__(
        self,
        policy: Policy,
        keys: KeyFinder,
        clock: Clock,
        documents: DocumentCache | None = None,
        users: UserFinder | None = None,
        kinds: Kinds = KINDS,
    ) -> None:
        """`users` verifies what `kinds` reads of user tokens; without it, `kinds` reads none (`KINDS`)."""
        self.snapshot = Snapshot(policy, IdentityLines(policy.scopes))
        self._keys = keys
        self._users = users
        self._kinds = KINDS if users is None else kinds
        self._clock = clock
        self._now = clock.now
        self._documents = documents or DocumentCache()
        self._store = DocumentStore()

    def replace_policy(self, policy: Policy) -> None:
        """Judges requests that begin from now on by `policy`."""
        self.snapshot = Snapshot(policy, IdentityLines(policy.scopes))

    def shrink(self) -> None:
        """Memory is short: lets go of half of the GraphQL documents that are remembered, read or as texts."""
        self._documents.shrink()
        self._store.shrink()

    def on_head(self, facts: RequestFacts) -> Passed | Stopped | AwaitingKey | AwaitingBody | AwaitingInit | Preflight:
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
        if facts.upgrades:
            route = policy.socket_route_for(facts.path) or route
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

        if facts.upgrades and facts.authorization is None and known is not None and _takes_init_token(known):
            return AwaitingInit(known, snapshot)

        credential = read_authorization(facts.authorization, self._kinds)
        if not isinstance(credential, Credential):
            return Stopped(credential, snapshot, known)
        if credential.text is not None:
            return self._on_text(facts, snapshot, route, credential)

        record = self._keys.cached(credential.digest)
        if record is MISSING:
            return AwaitingKey(facts, snapshot, route, credential)

        return self._on_record(facts, snapshot, route, credential, record)

    async def on_key(self, awaiting: AwaitingKey) -> Passed | Stopped | AwaitingBody:
        """On from a key or a user token that was not in memory. Who cannot answer has said nothing against it."""
        credential = awaiting.credential
        if credential.text is not None and credential.kind is not _LEGACY_KEY:
            return await self._find_user(awaiting, credential)
        try:
            record = await self._keys.find(credential)
        except StoreUnavailable as fault:
            because = CannotDecide(Reason.STORE_UNAVAILABLE, str(fault))
            known = awaiting.route if isinstance(awaiting.route, Route) else None
            return Stopped(because, awaiting.snapshot, known, credential)

        if record is None and credential.text is not None:
            return await self._find_user(awaiting, as_opaque(credential))
        return self._on_record(awaiting.facts, awaiting.snapshot, awaiting.route, credential, record)

    async def _find_user(self, awaiting: AwaitingKey, credential: Credential) -> Passed | Stopped | AwaitingBody:
        assert self._users is not None  # or no such token is read
        found = await self._users.find(credential)
        return self._on_user(awaiting.facts, awaiting.snapshot, awaiting.route, credential, found)

    def on_body(self, awaiting: AwaitingBody, body: bytes) -> Passed | Stopped:
        """On with the whole body of a GraphQL request."""
        route, principal, snapshot = awaiting.route, awaiting.principal, awaiting.snapshot
        assert route.graphql is not None  # only GraphQL routes wait for a body
        rules = route.graphql
        if rules.transports is not None:
            envelope = read_body(awaiting.facts, body, rules.transports, self._store)
            return self._on_envelope(awaiting.facts, snapshot, route, rules, principal, envelope)

        request = read_request(body)
        if not isinstance(request, GraphQLRequest):
            return Stopped(request, snapshot, route, None, principal)

        selection = self._documents.selection(request, rules.limits, rules.schema, principal.app_id)
        if isinstance(selection, Refusal):
            return Stopped(selection, snapshot, route, None, principal)

        decision = decide_graphql(route, principal, request, selection)
        if not isinstance(decision, Allowed):
            return Stopped(decision, snapshot, route, None, principal)

        return Passed(decision, snapshot)

    def on_operation(self, awaiting: AwaitingBody, payload: bytes) -> Passed | Stopped:
        """On with one operation of a WebSocket: its payload is what the body of a POST would be, judged like it."""
        route, principal, snapshot = awaiting.route, awaiting.principal, awaiting.snapshot
        rules = route.graphql
        assert rules is not None  # or no WebSocket of it would be open
        assert rules.websocket is not None
        read = strict_json(payload)
        if not isinstance(read, dict):
            return Stopped(not_object(read), snapshot, route, None, principal)
        found = find_request(read, rules.transports or _NO_TRANSPORTS, self._store)
        if isinstance(found, Refusal):
            return Stopped(found, snapshot, route, None, principal)

        request = found.request
        selection = self._documents.selection(request, rules.websocket.limits, rules.schema, principal.app_id)
        if isinstance(selection, Refusal):
            return Stopped(selection, snapshot, route, None, principal)
        decision = decide_graphql(route, principal, request, selection)
        if not isinstance(decision, Allowed):
            return Stopped(decision, snapshot, route, None, principal)

        if found.registers:
            self._store.remember(found.registers, request.query)
        return Passed(decision, snapshot)

    def _on_envelope(
        self,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route,
        rules: GraphQLRules,
        principal: Principal,
        envelope: Envelope | Refusal,
    ) -> Passed | Stopped:
        """On with all that came in one HTTP request: each is judged like a POST of its own, and one refuses all."""
        if isinstance(envelope, Refusal):
            return Stopped(envelope, snapshot, route, None, principal)

        judged: list[Allowed] = []
        for request in envelope.requests:
            selection = self._documents.selection(request, rules.limits, rules.schema, principal.app_id)
            if isinstance(selection, Refusal):
                return Stopped(selection, snapshot, route, None, principal)
            fault = envelope.operation_fault(selection.operation, facts.accept)
            if fault is not None:
                return Stopped(fault, snapshot, route, None, principal)
            decision = decide_graphql(route, principal, request, selection)
            if not isinstance(decision, Allowed):
                return Stopped(decision, snapshot, route, None, principal)
            judged.append(decision)

        for digest, text in envelope.registers:
            # Only now: who may not run a document makes no room be taken for it.
            self._store.remember(digest, text)
        return Passed(decide_envelope(route, principal, facts, envelope, judged), snapshot)

    def _on_text(
        self, facts: RequestFacts, snapshot: Snapshot, route: Route | Refusal, credential: Credential
    ) -> Passed | Stopped | AwaitingKey | AwaitingBody:
        """On with what is a user token, or may be one: 32 hexadecimal digits are a legacy key to the store first."""
        if credential.kind is _LEGACY_KEY:
            record = self._keys.cached(credential.digest)
            if record is MISSING:
                return AwaitingKey(facts, snapshot, route, credential)
            if record is not None:
                return self._on_record(facts, snapshot, route, credential, record)
            credential = as_opaque(credential)

        assert self._users is not None  # or no such token is read
        found = self._users.cached(credential)
        if isinstance(found, Missing):
            return AwaitingKey(facts, snapshot, route, credential)
        return self._on_user(facts, snapshot, route, credential, found)

    def _on_user(
        self,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route | Refusal,
        credential: Credential,
        found: UserRecord | Refusal | CannotDecide,
    ) -> Passed | Stopped | AwaitingBody:
        if not isinstance(found, UserRecord):
            return Stopped(found, snapshot, route if isinstance(route, Route) else None, credential)
        return self._on_principal(facts, snapshot, route, credential, admit_user(found, credential, self._now()))

    def _on_record(
        self,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route | Refusal,
        credential: Credential,
        record: KeyRecord | Missing | None,
    ) -> Passed | Stopped | AwaitingBody:
        principal = admit(record, credential, self._now())  # type: ignore[arg-type]
        return self._on_principal(facts, snapshot, route, credential, principal)

    def _on_principal(
        self,
        facts: RequestFacts,
        snapshot: Snapshot,
        route: Route | Refusal,
        credential: Credential,
        principal: Principal | Refusal,
    ) -> Passed | Stopped | AwaitingBody:
        if not isinstance(principal, Principal):
            return Stopped(principal, snapshot, route if isinstance(route, Route) else None, credential)

        if not isinstance(route, Route):
            # Only now: to a caller without a good credential every path looks alike.
            return Stopped(route, snapshot, None, credential, principal)

        if route.graphql is not None:
            if facts.upgrades:
                return AwaitingBody(facts, snapshot, route, principal)
            rules = route.graphql
            fault = graphql_head_fault(facts, rules)
            if fault is not None:
                return Stopped(fault, snapshot, route, credential, principal)
            if facts.method == b"GET" and rules.transports is not None:
                envelope = read_url(facts, rules.transports, self._store)
                return self._on_envelope(facts, snapshot, route, rules, principal, envelope)
            return AwaitingBody(facts, snapshot, route, principal)

        return self._decided(decide(route, principal, facts), facts, snapshot, route, principal)

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


def _takes_init_token(route: Route) -> bool:
    rules = route.graphql
    return rules is not None and rules.websocket is not None and rules.websocket.takes_init_token


def _upgrade_fault(facts: RequestFacts, route: Route | None) -> Refusal | None:
    """What forbids a WebSocket, before it is asked who wants it; where no route takes one, all paths look alike."""
    rules = None if route is None else route.graphql
    if route is None or not (route.is_websocket or (rules is not None and rules.websocket is not None)):
        return _UPGRADE_REFUSED

    fields = facts.fields
    fault = handshake_fault(value_of(fields, VERSION), value_of(fields, KEY))
    if fault:
        return Refusal(Reason.HEADER_REFUSED, fault)
    if has_token(value_of(fields, PROTOCOL) or b""):
        return Refusal(Reason.CREDENTIAL_REPEATED, "a token among the WebSocket protocols")  # D22

    if rules is not None:
        if chosen_protocol(value_of(fields, PROTOCOL)) is None:
            return _NO_PROTOCOL
        if facts.query and parameter_names(facts.query) & _GRAPHQL_PARAMETERS:
            return Refusal(Reason.GRAPHQL_REQUEST_INVALID, "GraphQL parameters in the URL of a WebSocket")

    origin = None if route.cors is None else value_of(fields, ORIGIN)
    if route.cors is not None and origin is not None and origin not in route.cors.origins:
        # Browsers open WebSockets to every origin, without a preflight and with cookies.
        return Refusal(Reason.CORS_REFUSED, f"not an origin of route `{route.name}`")
    return None


def graphql_head_fault(facts: RequestFacts, rules: GraphQLRules) -> Refusal | None:
    """What forbids reading a GraphQL request, as far as its head says it (C19, K10)."""
    transports = rules.transports
    accept = facts.accept
    # Nearly every client says one of these two in small letters.
    takes_json = not accept or b"*/*" in accept or b"application/json" in accept
    if not takes_json and rules.status_profile is not StatusProfile.LEGACY_200:
        fault = accept_fault(facts.accept, transports)
        if fault is not None:
            return fault
    if facts.method != b"POST":
        return method_fault(facts, transports)

    if facts.content_encoding is not None and facts.content_encoding.lower() != b"identity":
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Encoding` on a GraphQL body")

    media_type, _, parameters = (facts.content_type or b"").partition(b";")
    if transports is not None and transports.uploads and is_upload(facts):
        parameters = b""
        fault = upload_fault(facts)
        if fault is not None:
            return fault
    elif media_type.strip().lower() != b"application/json":
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Type` other than `application/json`")

    if facts.query and parameter_names(facts.query) & _GRAPHQL_PARAMETERS:
        # Servers differ on which of the two they run: the URL's or the body's (G22).
        return Refusal(Reason.GRAPHQL_REQUEST_INVALID, "GraphQL parameters in the URL of a POST")

    if parameters and parameters.replace(b'"', b"").strip().lower() not in (b"charset=utf-8", b"charset=utf8"):
        return Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "a `Content-Type` parameter other than `charset=utf-8`")

    return None
