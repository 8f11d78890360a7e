"""One request's end as every door says it: the same fields, filled in the same way."""

from __future__ import annotations

from gateway.core.credential import CredentialKind
from gateway.core.facts import RequestFacts
from gateway.core.policy.routes import UNMATCHED, Route
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Verdict
from gateway.core.token_kinds import masked
from gateway.ports import Outcome


def _path_of(facts: RequestFacts | None, route: Route | None) -> str:
    if facts is None:
        return ""
    if route is not None and not route.parameters:
        return route.pattern  # the same text, and written by the policy's author
    return masked(facts.path)


def outcome_of(
    ref: str,
    verdict: Verdict,
    reason: Reason | None,
    status: int,
    facts: RequestFacts | None,
    route: Route | None,
    principal: Principal | None,
    kind: CredentialKind | None,
    peer: str,
    began: float,
    forwarded: float,
    now: float,
    bytes_in: int,
    bytes_out: int,
    detail: str,
) -> Outcome:
    """`began`, `forwarded` (0: nothing was) and `now` are monotonic seconds; `kind` is for callers not admitted."""
    return Outcome(
        ref,
        verdict,
        reason,
        status,
        "" if facts is None else facts.method.decode(),
        _path_of(facts, route),
        UNMATCHED if route is None else route.name,
        route.upstream if route is not None and forwarded else "",
        kind if principal is None else principal.kind,
        "" if principal is None else principal.key_id,
        "" if principal is None else principal.app_id,
        peer,
        now - began,
        now - forwarded if forwarded else 0.0,
        bytes_in,
        bytes_out,
        detail,
    )
