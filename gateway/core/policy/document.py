"""The policy document: what the files say, typed and placed. No dict and no YAML travels past here."""

from __future__ import annotations

from datetime import date
from enum import Enum

import msgspec

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.policy.faults import Place
from gateway.core.policy.routes import ErrorShape, RouteTimeouts, StatusProfile


class Text(msgspec.Struct, frozen=True):
    """A text with its place."""

    value: str
    place: Place


class ScopeEntry(msgspec.Struct, frozen=True):
    """One declared scope."""

    name: Text
    means: str
    aliases: tuple[Text, ...] = ()
    is_sensitive: bool = False
    only_for: str = ""


class ScopeRule(msgspec.Struct, frozen=True):
    """`api_key:` the scopes that a key must have: all of them, or any one; and where its App must be named."""

    scopes: tuple[Text, ...]
    any_of: bool = False
    app: Text | None = None


class UserRule(msgspec.Struct, frozen=True):
    """`user_token:` whose data it may be. Without a subject, any user's."""

    place: Place
    subject: Text | None = None


class AllowEntry(msgspec.Struct, frozen=True):
    """Which kinds of credential may, and what each must fulfil. A kind that is not named may not."""

    place: Place
    api_key: ScopeRule | None = None
    user_token: UserRule | None = None


class FieldEntry(msgspec.Struct, frozen=True):
    """The rule of one GraphQL field: a root coordinate or a path below one; with a schema, of a type or its field."""

    coordinate: Text
    allow: AllowEntry


class TransportsEntry(msgspec.Struct, frozen=True):
    """In which ways a GraphQL route may be asked, beside a POST of one request."""

    get: bool = False
    persisted: bool = False
    documents: Text | None = None
    """The name of the file beside the policy that holds them."""
    documents_only: bool = False
    batch: int = 0
    incremental: bool = False
    subscriptions: bool = False
    uploads: bool = False
    verbatim: bool = False


class GraphQLEntry(msgspec.Struct, frozen=True):
    """What a GraphQL route allows."""

    fields: tuple[FieldEntry, ...]
    introspection: AllowEntry | None
    limits: GraphQLLimits
    schema: Text | None = None
    """The name of the file beside the policy that holds the SDL."""
    transports: TransportsEntry | None = None
    websocket: Text | None = None
    """Where the credential of a WebSocket may stand: `header` or `init`. None: there is no WebSocket."""


class DeprecatedEntry(msgspec.Struct, frozen=True):
    """Since when a route is deprecated, when it ends, where that is explained, and which route replaces it."""

    since: date | None = None
    sunset: date | None = None
    link: str = ""
    replacement: Text | None = None


class ErrorsEntry(msgspec.Struct, frozen=True):
    """How refusals are worded, and with which statuses on a GraphQL route."""

    shape: ErrorShape
    profile: StatusProfile
    place: Place


class CorsChoice(Enum):
    """What `cors:` says in one word."""

    PASS = "pass"
    """The upstream answers preflights itself, and writes its own lines."""
    NONE = "none"
    """Pages of other origins may not, whatever the policy says for all routes."""


class CorsEntry(msgspec.Struct, frozen=True):
    """Which origins may call, with which headers. Equal for routes that say the same."""

    origins: tuple[str, ...]
    headers: tuple[str, ...]
    expose: tuple[str, ...]
    credentials: bool
    max_age_seconds: int


class HostsEntry(msgspec.Struct, frozen=True):
    """The hosts by which clients may call, of a whole policy."""

    hosts: tuple[str, ...]
    place: Place


class RouteEntry(msgspec.Struct, frozen=True):
    """One route. `allow` is None on public routes and on GraphQL routes."""

    name: Text
    method: str
    path: Text
    parameters: tuple[str, ...]
    upstream: Text
    is_public: bool
    allow: AllowEntry | None
    errors: ErrorsEntry | None
    graphql: GraphQLEntry | None
    deprecated: DeprecatedEntry | None
    takes_body: bool
    body_limit_bytes: int
    cors: CorsEntry | CorsChoice | None = None
    """None: as the policy has it for all routes."""
    is_websocket: bool = False
    timeouts: RouteTimeouts | None = None
    assertion: str = ""


class PolicyDocument(msgspec.Struct, frozen=True):
    """All files of one policy together."""

    scopes: tuple[ScopeEntry, ...]
    routes: tuple[RouteEntry, ...]
    route_names: tuple[Text, ...]
    """Of every route that has a name, those with faults elsewhere included."""
    errors: ErrorsEntry | None
    place: Place
    """Where the first file begins."""
    has_routes: bool
    """Whether any route was written, readable or not."""
    hosts: HostsEntry | None = None
    cors: CorsEntry | CorsChoice | None = None
    tells_mismatch: bool = False
    """Another user's data is forbidden, and not as if it were nothing."""
