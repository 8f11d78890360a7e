"""Plain values for tests of the core: requests, routes and principals of which only the point at issue is said."""

from __future__ import annotations

from collections.abc import Iterable

import h11

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId, digest_of
from gateway.core.facts import RequestFacts, facts_of
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.lifecycle import KeyState
from gateway.core.policy.requirement import Requirement, Requirements, ScopeNeed
from gateway.core.policy.routes import ErrorShape, GraphQLRules, Policy, Route, StatusProfile
from gateway.core.principal import KeyRecord, Principal, UserRecord
from gateway.core.reasons import Refusal
from gateway.core.scopes import Scope, ScopeRegistry

Headers = list[tuple[bytes, bytes]]

API_TOKEN = b"ek5Tq0aVb81LmZc.0123456789abcdefghijABCDEFGHIJ0123456789abcdefgh"
LEGACY_TOKEN = b"0123456789abcdef0123456789abcdef"
JWT = b"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.AAAA_-AAAA"

SCOPES = ScopeRegistry(
    (
        Scope("users:read", "read users", aliases=("read_users",)),
        Scope("users:write", "change users"),
        Scope("files:read", "read files", only_for="files"),
    )
)


def bearer(token: bytes) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + token)


def facts_or_refusal(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/v1/users",
    host: bytes | None = b"api.example",
    is_http_11: bool = True,
) -> RequestFacts | Refusal:
    hosts = [] if host is None else [(b"Host", host)]
    return facts_of(method, target, [*hosts, *headers], is_http_11)


def facts(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/v1/users",
    host: bytes | None = b"api.example",
    is_http_11: bool = True,
) -> RequestFacts:
    read = facts_or_refusal(*headers, method=method, target=target, host=host, is_http_11=is_http_11)
    assert isinstance(read, RequestFacts), read
    return read


def principal(
    *scopes: str,
    kind: CredentialKind = CredentialKind.API_KEY,
    key_id: str = "ek5Tq0aVb81LmZc",
    app_id: str = "app-1",
    features: Iterable[str] = (),
) -> Principal:
    return Principal(kind, KeyId(key_id), AppId(app_id), frozenset(scopes), frozenset(features))


def user(
    user_id: str = "user-1",
    *scopes: str,
    kind: CredentialKind = CredentialKind.USER_JWT,
    app_id: str = "app-1",
) -> Principal:
    return Principal(kind, KeyId(""), AppId(app_id), frozenset(scopes), frozenset(), user_id)


def user_record(
    token: bytes = JWT,
    who: Principal | None = None,
    *,
    starts_at: float = 0.0,
    expires_at: float = 2_000_000_000.0,
    digest: KeyDigest | None = None,
) -> UserRecord:
    return UserRecord(
        digest or digest_of(token), "https://issuer.example", "jti-1", starts_at, starts_at, expires_at, who or user()
    )


def record(
    token: bytes = API_TOKEN,
    *scopes: str,
    state: KeyState = KeyState.ACTIVE,
    app_is_active: bool = True,
    expires_at: float = 2_000_000_000.0,
    digest: KeyDigest | None = None,
) -> KeyRecord:
    return KeyRecord(digest or digest_of(token), state, app_is_active, expires_at, principal(*scopes))


def need(name: str, *aliases: str, only_for: str = "") -> ScopeNeed:
    return ScopeNeed(name, frozenset((name, *aliases)), only_for)


def requires(*names: str, any_of: bool = False) -> Requirement:
    return Requirement(tuple(need(name) for name in names), any_of)


def route(
    name: str = "users.list",
    *,
    method: bytes = b"GET",
    pattern: str = "/v1/users",
    is_public: bool = False,
    allow: Requirements | None = None,
    graphql: GraphQLRules | None = None,
    takes_body: bool = False,
    body_limit_bytes: int = 0,
) -> Route:
    return Route(
        name=name,
        method=method,
        pattern=pattern,
        upstream="rest",
        is_public=is_public,
        allow=allow or {},
        errors=ErrorShape.PROBLEM if graphql is None else ErrorShape.GRAPHQL,
        graphql=graphql,
        takes_body=takes_body,
        body_limit_bytes=body_limit_bytes,
        parameters=(),
    )


def graphql_rules(
    fields: dict[str, Requirements],
    introspection: Requirements | None = None,
) -> GraphQLRules:
    return GraphQLRules(fields, GraphQLLimits(), introspection or {}, StatusProfile.DRAFT_2026)


def policy(*routes: Route, revision: str = "0123456789abcdef") -> Policy:
    return Policy(revision, SCOPES, routes, ErrorShape.PROBLEM)


def parsed_by_h11(head: bytes) -> tuple[h11.Request, list[h11.Event]]:
    """A request head as another implementation reads it, and every event that it made of it."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    events: list[h11.Event] = []
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            break
        assert isinstance(event, h11.Event)
        events.append(event)
    request = events[0]
    assert isinstance(request, h11.Request)
    return request, events
