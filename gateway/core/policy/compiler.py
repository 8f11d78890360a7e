"""From the policy document to the compiled policy: whole, or refused with every fault (law 6).

In order: the scopes and their spellings, the names of routes, the rules against the scopes, replacements, and last
whether two routes can match one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

from msgspec.structs import replace

from gateway.core.credential import CredentialKind
from gateway.core.policy.cors import CorsRules
from gateway.core.policy.document import (
    AllowEntry,
    CorsChoice,
    CorsEntry,
    DeprecatedEntry,
    GraphQLEntry,
    PolicyDocument,
    RouteEntry,
    ScopeRule,
    Text,
    UserRule,
)
from gateway.core.policy.faults import Fault, Place, did_you_mean
from gateway.core.policy.graphql_documents import Manifests
from gateway.core.policy.graphql_schemas import Schemas
from gateway.core.policy.hosts import Hosts
from gateway.core.policy.overlap import Overlap, overlaps
from gateway.core.policy.requirement import (
    Requirement,
    Requirements,
    ScopeNeed,
    Subject,
    SubjectPlace,
    UserRequirement,
)
from gateway.core.policy.routes import ErrorShape, GraphQLRules, Policy, Route, SocketRules, StatusProfile
from gateway.core.reasons import Reason, Refusal
from gateway.core.scopes import Scope, ScopeRegistry

KINDS_OF_API_KEY: Final = (CredentialKind.API_KEY, CredentialKind.LEGACY_KEY)
"""`api_key` in a policy means both: a legacy key is an API key of an older form."""

KINDS_OF_USER_TOKEN: Final = (CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE)
"""`user_token` in a policy means both: they differ in who reads them."""


def compile_policy(
    document: PolicyDocument, revision: str, schemas: Mapping[str, bytes] | None = None
) -> tuple[Policy, list[Fault]]:
    """The policy that `document` describes, and what is wrong with it; with faults it must not be used.

    `schemas` are the files that `schema_files` and `document_files` name, by their names.
    """
    compiler = _Compiler(document, schemas or {})
    return compiler.policy(revision), compiler.faults


class _Compiler:
    def __init__(self, document: PolicyDocument, schemas: Mapping[str, bytes]) -> None:
        self.document = document
        self.faults: list[Fault] = []
        self.schemas = Schemas(schemas, self.faults)
        self.manifests = Manifests(schemas, self.faults)
        self.registry = ScopeRegistry(())
        self.used_scopes: set[str] = set()
        self.cors_rules: dict[CorsEntry, CorsRules] = {}

    def policy(self, revision: str) -> Policy:
        document = self.document
        self.check_scopes()
        self.registry = ScopeRegistry(
            Scope(
                entry.name.value,
                entry.means,
                tuple(alias.value for alias in entry.aliases),
                entry.is_sensitive,
                entry.only_for,
            )
            for entry in document.scopes
        )
        shared = overlaps(document.routes)
        copies: dict[Text, Text] = {}
        for overlap in shared:
            if overlap.is_copy:
                copies.setdefault(overlap.second.name, overlap.first.name)
        self.check_names(copies)
        routes = [self.route(entry) for entry in document.routes]
        for overlap in shared:
            if overlap.second.name not in copies:
                self.report(overlap)
        self.advise_on_scopes()
        shape = ErrorShape.PROBLEM if document.errors is None else document.errors.shape
        hosts = None if document.hosts is None else Hosts(document.hosts.hosts)
        return Policy(revision, self.registry, routes, shape, hosts)

    def fault(self, place: Place, what: str, todo: str) -> None:
        self.faults.append(Fault(place, what, todo))

    # -- names

    def check_scopes(self) -> None:
        """Each spelling means one scope."""
        names: dict[str, Text] = {}
        for entry in self.document.scopes:
            before = names.setdefault(entry.name.value, entry.name)
            if before is not entry.name:
                self.fault(
                    entry.name.place,
                    f"scope `{entry.name.value}` is declared already, {_at(before.place, entry.name.place)}",
                    "keep one of the two",
                )

        aliases: dict[str, Text] = {}
        for entry in self.document.scopes:
            for alias in entry.aliases:
                if alias.value in names:
                    where = _at(names[alias.value].place, alias.place)
                    self.fault(
                        alias.place,
                        f"the alias `{alias.value}` is the name of a scope, {where}",
                        "take the alias out, or choose another spelling",
                    )
                elif alias.value in aliases:
                    where = _at(aliases[alias.value].place, alias.place)
                    self.fault(
                        alias.place,
                        f"the alias `{alias.value}` belongs to another scope, {where}",
                        "let it mean one scope only",
                    )
                aliases.setdefault(alias.value, alias)

    def check_names(self, copies: dict[Text, Text]) -> None:
        """Each route has a name of its own, and there is a route. A copied route is told of once, whole."""
        if not self.document.has_routes:
            self.fault(
                self.document.place,
                "the policy has no routes, so every request would be refused",
                "add `routes:` with at least one",
            )
        names: dict[str, Text] = {}
        for name in self.document.route_names:
            before = names.setdefault(name.value, name)
            if name in copies:
                self.fault(
                    name.place,
                    f"route `{name.value}` is here already, {_at(copies[name].place, name.place)}, with the same path",
                    "keep one of the two",
                )
            elif before is not name:
                self.fault(
                    name.place,
                    f"the name `{name.value}` belongs to another route, {_at(before.place, name.place)}",
                    "give each route its own name",
                )

    # -- routes

    def route(self, entry: RouteEntry) -> Route:
        errors = entry.errors
        graphql = None
        shape = ErrorShape.PROBLEM if errors is None else errors.shape
        if entry.graphql is not None:
            shape = ErrorShape.GRAPHQL if errors is None else errors.shape
            schema = self.schemas.of(entry.graphql)
            transports = self.manifests.transports(entry.graphql.transports, entry.graphql.limits, schema)
            hashes = transports is not None and transports.persisted
            if hashes and errors is not None and shape is not ErrorShape.GRAPHQL:
                self.fault(
                    errors.place,
                    "clients that send a hash look for a GraphQL error when it is not known",
                    "write `errors: graphql`, or take `persisted` out",
                )
            graphql = GraphQLRules(
                {field.coordinate.value: self.requirements(field.allow) for field in entry.graphql.fields},
                entry.graphql.limits,
                self.requirements(entry.graphql.introspection),
                StatusProfile.DRAFT_2026 if errors is None else errors.profile,
                schema,
                transports,
                _socket_rules(entry.graphql),
            )
        return Route(
            entry.name.value,
            entry.method.encode("ascii"),
            entry.path.value,
            entry.upstream.value,
            entry.is_public,
            self.requirements(entry.allow, entry.path.value),
            shape,
            graphql,
            entry.takes_body,
            entry.body_limit_bytes,
            entry.parameters,
            () if entry.deprecated is None else self.deprecation(entry.deprecated),
            self.cors(entry),
            self.cors_entry(entry) is CorsChoice.PASS,
            entry.is_websocket,
            entry.timeouts,
            entry.assertion,
        )

    def cors_entry(self, entry: RouteEntry) -> CorsEntry | CorsChoice | None:
        """What the route says, or else the policy; of an `OPTIONS` route, nothing."""
        return None if entry.method == "OPTIONS" else entry.cors or self.document.cors

    def cors(self, entry: RouteEntry) -> CorsRules | None:
        """One and the same for all routes that say the same: they share the answer to a preflight."""
        said = self.cors_entry(entry)
        if not isinstance(said, CorsEntry):
            return None
        rules = self.cors_rules.get(said)
        if rules is None:
            rules = self.cors_rules[said] = CorsRules(
                said.origins, said.headers, said.expose, said.credentials, said.max_age_seconds
            )
        return rules

    def requirements(self, allow: AllowEntry | None, path: str = "") -> Requirements:
        """What each kind must hold; no kind's rule is ever asked of another."""
        requirements: Requirements = {}
        if allow is not None and allow.api_key is not None:
            requirement = self.requirement(allow.api_key, path)
            if requirement is not None:
                requirements |= dict.fromkeys(KINDS_OF_API_KEY, requirement)
        if allow is not None and allow.user_token is not None:
            requirements |= dict.fromkeys(KINDS_OF_USER_TOKEN, self.user_requirement(allow.user_token, path))
        return requirements

    def user_requirement(self, rule: UserRule, path: str) -> UserRequirement:
        if rule.subject is None:
            return UserRequirement()
        return UserRequirement(
            self.subject(rule.subject, path),
            Refusal(
                Reason.SUBJECT_FORBIDDEN if self.document.tells_mismatch else Reason.SUBJECT_MISMATCH,
                f"`{rule.subject.value}` is not the user of the token",
            ),
        )

    def subject(self, written: Text, path: str) -> Subject:
        """Where a request names the caller."""
        place, _, name = written.value.partition(".")
        segments = path.split("/")
        parameter = f"{{{name}}}"
        # A parameter that the path does not have is a fault already.
        segment = segments.index(parameter) if place == SubjectPlace.PATH.value and parameter in segments else 0
        if place == SubjectPlace.VARIABLES.value:
            what = f"`{written.value}` is what the client says, and a document may be about another"
            todo = "name the argument that decides, such as `args.id`"
            self.faults.append(Fault(written.place, what, todo, is_advice=True))
        return Subject(SubjectPlace(place), name, segment)

    def requirement(self, rule: ScopeRule, path: str) -> Requirement | None:
        needs = [self.need(spelling) for spelling in rule.scopes]
        known = {need.name: need for need in needs if need is not None}
        app = None if rule.app is None else self.subject(rule.app, path)
        return Requirement(tuple(known.values()), rule.any_of, app) if known else None

    def need(self, spelling: Text) -> ScopeNeed | None:
        scope = self.registry.find(spelling.value)
        if scope is None:
            self.fault(
                spelling.place,
                f"there is no scope `{spelling.value}`",
                did_you_mean(spelling.value, [known.name for known in self.registry.scopes])
                if self.registry.scopes
                else f"declare it under `scopes:`, as in `{spelling.value}: {{means: what it is for}}`",
            )
            return None
        if spelling.value != scope.name:
            self.faults.append(
                Fault(
                    spelling.place, f"`{spelling.value}` is an older spelling", f"write `{scope.name}`", is_advice=True
                )
            )
        self.used_scopes.add(scope.name)
        return ScopeNeed(scope.name, scope.spellings, scope.only_for)

    def deprecation(self, entry: DeprecatedEntry) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines of RFC 9745 (`Deprecation`), RFC 8594 (`Sunset`) and RFC 8288 (`Link`)."""
        since = 0 if entry.since is None else int(datetime.combine(entry.since, datetime.min.time(), UTC).timestamp())
        lines = [(b"Deprecation", b"@%d" % since)]
        if entry.sunset is not None:
            lines.append((b"Sunset", _http_date(entry.sunset)))

        links: list[str] = []
        if entry.link:
            links.append(f'<{entry.link}>; rel="deprecation"')
        if entry.replacement is not None:
            path = self.replacement(entry.replacement)
            # A path with parameters is no address, so it cannot be a link.
            if path and "{" not in path:
                links.append(f'<{path}>; rel="successor-version"')
        if links:
            lines.append((b"Link", ", ".join(links).encode("ascii")))
        return tuple(lines)

    def replacement(self, name: Text) -> str:
        """The path of the route that replaces another."""
        names = [known.value for known in self.document.route_names]
        if name.value not in names:
            self.fault(name.place, f"there is no route `{name.value}`", did_you_mean(name.value, names))
        return next((route.path.value for route in self.document.routes if route.name.value == name.value), "")

    # -- overlaps and advice

    def report(self, overlap: Overlap) -> None:
        first, second = overlap.first, overlap.second
        place = second.path.place
        where = _at(first.path.place, place)
        request = f"`{first.method} {overlap.path}`"
        if not overlap.is_ambiguous:
            rest = second if second.graphql is None else first
            self.fault(
                place,
                f"route `{second.name.value}` shares a path with route `{first.name.value}`, {where}: "
                f"`{rest.method} {overlap.path}` would pass without its GraphQL fields being read",
                "keep the path for the GraphQL route alone",
            )
        elif overlap.is_same_pattern:
            self.fault(
                place,
                f"route `{second.name.value}` can never be reached: "
                f"route `{first.name.value}`, {where}, matches {request} and all else that it does",
                "remove one of the two, or change its path",
            )
        else:
            self.fault(
                place,
                f"route `{second.name.value}` and route `{first.name.value}`, {where}, both match {request}, "
                "and neither is narrower",
                "make one narrower",
            )

    def advise_on_scopes(self) -> None:
        for entry in self.document.scopes:
            if entry.name.value not in self.used_scopes:
                self.faults.append(
                    Fault(
                        entry.name.place,
                        f"no route asks for scope `{entry.name.value}`",
                        "take it out, or add the route that needs it",
                        is_advice=True,
                    )
                )


def _socket_rules(entry: GraphQLEntry) -> SocketRules | None:
    """What holds for operations over a WebSocket, where the route takes any."""
    if entry.websocket is None:
        return None
    return SocketRules(replace(entry.limits, subscriptions=True), entry.websocket.value == "init")


def _at(place: Place, seen_from: Place) -> str:
    """Where something else stands, for a message about `seen_from`."""
    return f"on line {place.line}" if place.file == seen_from.file else f"in {place.file} on line {place.line}"


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _http_date(day: date) -> bytes:
    """Midnight UTC at the start of `day`, as RFC 9110 5.6.7 writes it, whatever the locale."""
    text = f"{_DAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year:04} 00:00:00 GMT"
    return text.encode("ascii")
