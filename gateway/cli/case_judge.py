"""Judges cases by the corridor that judges requests in `serve`: only the store is made up, and nothing is forwarded."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.cli.cases import Case, Expectation, Token
from gateway.core.answers import answer_to, told_route
from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.decision import Preflight
from gateway.core.facts import facts_of
from gateway.core.graphql.document import DocumentCache
from gateway.core.graphql.request import read_request
from gateway.core.lifecycle import KeyState
from gateway.core.policy.asked import rules_met
from gateway.core.policy.document import Text
from gateway.core.policy.requirement import Requirement
from gateway.core.policy.routes import UNMATCHED, Policy, Route
from gateway.core.principal import KeyRecord, Principal, UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.core.token_kinds import kinds_of, read_authorization
from gateway.judge import AwaitingBody, Judge, Passed, Stopped
from gateway.ports import Missing

NOW: Final = 1_000_000.0
"""Seconds since the epoch at which every case is judged."""

# Made-up tokens of each shape: the judge reads them as it reads any other.
_TOKENS: Final = {
    CredentialKind.API_KEY: b"casecasecasecas." + b"case" * 12,
    CredentialKind.LEGACY_KEY: b"ca5e" * 8,
    CredentialKind.USER_JWT: b"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJjYXNlIn0.Y2FzZQ",
}
_KINDS: Final = kinds_of(jwt=True, opaque=False)
_BY_RULES: Final = (
    None, Reason.SCOPE_MISSING, Reason.FIELD_NOT_ALLOWED, Reason.SUBJECT_FORBIDDEN, Reason.APP_FORBIDDEN
)  # fmt: skip
"""Why a document is refused, or None, when its rules were asked."""
_MALFORMED_TOKEN: Final = b"not-a-token"


class Seen(msgspec.Struct, frozen=True):
    """What the judge said of one case."""

    outcome: str
    status: int | None
    """None when the request would be forwarded: then the upstream says it."""
    reason: str
    missing: frozenset[str]
    fields: frozenset[str]
    route: str
    """`unmatched` when there is none."""
    detail: str
    """What operators would read of it in the log."""
    rules: frozenset[str]
    """The field rules that judged it, and `introspection`."""
    scopes: frozenset[str]
    """The scopes without which it would have been judged otherwise: those that let it pass, or that it lacked."""

    def __str__(self) -> str:
        words = [f"{self.outcome} {self.status} {self.reason}" if self.reason else self.outcome]
        words += [f"missing {_shown(self.missing)}"] if self.missing else []
        words += [f"fields {_shown(self.fields)}"] if self.fields else []
        words += [f"route {self.route}"]
        return ", ".join(words) + (f" ({self.detail})" if self.detail else "")


class Difference(msgspec.Struct, frozen=True):
    """One thing that was expected otherwise."""

    what: str
    expected: str
    seen: str


def judge_case(policy: Policy, case: Case) -> Seen:
    """What the gateway would answer to the request of `case` under `policy`."""
    headers = [(b"Host", case.host.encode() or _host_of(policy))]
    authorization = _authorization(case.token)
    method = case.method.encode()
    if case.preflight_from:
        headers += [(b"Origin", case.preflight_from.encode()), (b"Access-Control-Request-Method", method)]
        method, authorization = b"OPTIONS", None
    if authorization is not None:
        headers.append((b"Authorization", authorization))
    if case.body is not None and not case.preflight_from:
        headers += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(case.body))]

    facts = facts_of(method, case.target.encode(), headers, is_http_11=True)
    if isinstance(facts, Refusal):
        return _refused(policy, facts, None, frozenset())

    keys, users = _MadeUpKeys(policy, case.token, authorization), _MadeUpUsers(case.token)
    judge = Judge(policy, keys, _StoppedClock(), users=users, kinds=_KINDS)
    step = judge.on_head(facts)
    if isinstance(step, AwaitingBody):
        step = judge.on_body(step, case.body or b"")
    if isinstance(step, Stopped):
        return _refused(policy, step.because, step.route, _rules_met(step.route, case.body, step.because.reason))

    if isinstance(step, Preflight):
        none = frozenset[str]()
        return Seen(Verdict.PREFLIGHT.value, 204, "", none, none, step.route.name, "", none, none)

    assert isinstance(step, Passed)  # made-up keys are always in memory
    route, principal = step.allowed.route, step.allowed.principal
    rules = frozenset[str]() if case.preflight_from else _rules_met(route, case.body, None)
    scopes = frozenset[str]() if principal is None else _scopes_used(route, rules, principal)
    return Seen(Verdict.ALLOWED.value, None, "", frozenset(), frozenset(), route.name, "", rules, scopes)


def differences(expected: Expectation, seen: Seen) -> list[Difference]:
    """Where the judgement is not the one that was expected; empty when it is."""
    compared: tuple[tuple[str, object, object], ...] = (
        ("outcome", expected.outcome, seen.outcome),
        ("status", expected.status, seen.status),
        ("reason", expected.reason, seen.reason),
        ("missing", None if expected.missing is None else _names(expected.missing), seen.missing),
        ("fields", None if expected.fields is None else _names(expected.fields), seen.fields),
        ("route", None if expected.route is None else expected.route.value, seen.route),
    )
    return [
        Difference(what, _shown(wanted), _shown(got))
        for what, wanted, got in compared
        if wanted is not None and wanted != got
    ]


def _names(texts: tuple[Text, ...]) -> frozenset[str]:
    return frozenset(text.value for text in texts)


def _shown(value: object) -> str:
    if value is None:
        return "none, because the request is allowed"
    if isinstance(value, frozenset):
        return f"[{', '.join(sorted(value))}]"
    return str(value) or "none"


def _refused(policy: Policy, because: Refusal | CannotDecide, route: Route | None, rules: frozenset[str]) -> Seen:
    profile = None if route is None or route.graphql is None else route.graphql.status_profile
    told = told_route(route, because.reason)
    answer = answer_to(because, ref="", shape=policy.errors if told is None else told.errors, profile=profile)
    is_refusal = isinstance(because, Refusal)
    missing = frozenset(because.missing_scopes) if isinstance(because, Refusal) else frozenset[str]()
    return Seen(
        (Verdict.REFUSED if is_refusal else Verdict.CANNOT_DECIDE).value,
        answer.status,
        because.reason.label,
        missing,
        frozenset(because.coordinates) if isinstance(because, Refusal) else frozenset(),
        UNMATCHED if route is None else route.name,
        because.detail,
        rules,
        missing,
    )


def _rules_met(route: Route | None, body: bytes | None, reason: Reason | None) -> frozenset[str]:
    """The rules of a GraphQL route that were asked; none when the judgement came before them."""
    if route is None or route.graphql is None or reason not in _BY_RULES:
        return frozenset()

    request = read_request(body or b"")
    assert not isinstance(request, Refusal)  # it was judged by its fields
    selection = DocumentCache().selection(request, route.graphql.limits, route.graphql.schema)
    assert not isinstance(selection, Refusal)
    return rules_met(route.graphql, selection)


def _scopes_used(route: Route, rules: frozenset[str], principal: Principal) -> frozenset[str]:
    """The scopes that let `principal` pass."""
    asked = [route.allow]
    if route.graphql is not None:
        asked = [route.graphql.fields.get(rule, route.graphql.introspection) for rule in rules]
    requirements = (rule.get(principal.kind) for rule in asked)
    needs = (need for rule in requirements if isinstance(rule, Requirement) for need in rule.needs)
    return frozenset(need.name for need in needs if need.is_met_by(principal))


def _authorization(token: Token) -> bytes | None:
    if token.word == "none":
        return None
    if token.word == "malformed":
        return b"Bearer " + _MALFORMED_TOKEN
    return b"Bearer " + _TOKENS[token.kind or CredentialKind.API_KEY]


def _host_of(policy: Policy) -> bytes:
    """One that the policy serves."""
    return b"gateway.example" if policy.hosts is None else policy.hosts.written[0].replace("*", "any").encode()


class _StoppedClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class _MadeUpKeys:
    """A store that knows the case's own token, if that is a known one."""

    def __init__(self, policy: Policy, token: Token, authorization: bytes | None) -> None:
        self._record: KeyRecord | None = None
        credential = read_authorization(authorization, _KINDS)
        if isinstance(credential, Credential) and token.word != "unknown":
            self._record = _record(policy, token, credential)

    def cached(self, digest: KeyDigest) -> KeyRecord | Missing | None:
        return self._record

    async def find(self, credential: Credential) -> KeyRecord | None:
        return self._record


class _MadeUpUsers:
    """An issuer that made the case's own token for its user, a moment ago."""

    def __init__(self, token: Token) -> None:
        self._user_id = token.user_id

    def cached(self, credential: Credential) -> UserRecord:
        who = Principal(credential.kind, KeyId(""), AppId("case"), frozenset(), frozenset(), self._user_id)
        return UserRecord(credential.digest, "case", "", NOW - 1, NOW - 1, NOW + 1, who)

    async def find(self, credential: Credential) -> UserRecord:
        return self.cached(credential)


def _record(policy: Policy, token: Token, credential: Credential) -> KeyRecord:
    # A revoked or an expired key had every scope, so nothing but its end refuses it.
    every = frozenset(scope.name for scope in policy.scopes.scopes)
    scopes = every if token.kind is None else _names(token.scopes)
    return KeyRecord(
        credential.digest,
        KeyState.REVOKED if token.word == "revoked" else KeyState.ACTIVE,
        True,
        NOW if token.word == "expired" else NOW + 1,
        Principal(credential.kind, KeyId("case"), AppId("case"), scopes, _names(token.features)),
    )
