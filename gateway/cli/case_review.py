"""What the cases beside a policy get wrong about it, and what of it they leave out.

A case that names a scope or a route which does not exist passes, or fails, for a reason that nobody meant; and a rule
that no case meets may be spelled so that no request ever meets it: without a schema, nothing else can tell.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.cli.case_judge import Seen
from gateway.cli.cases import Case
from gateway.core.policy.asked import INTROSPECTION_RULE
from gateway.core.policy.document import PolicyDocument, RouteEntry, Text
from gateway.core.policy.faults import Fault, did_you_mean, in_order
from gateway.core.policy.routes import UNMATCHED, Policy


def faults_in(policy: Policy, cases: Iterable[Case]) -> tuple[Fault, ...]:
    """The scopes, features and routes that the cases name and the policy does not have."""
    scopes = [scope.name for scope in policy.scopes.scopes]
    features = sorted({scope.only_for for scope in policy.scopes.scopes if scope.only_for})
    routes = [route.name for route in policy.routes]
    faults: list[Fault] = []
    for case in cases:
        token, expect = case.token, case.expect
        faults += (
            Fault(scope.place, f"there is no scope `{scope.value}`", did_you_mean(scope.value, scopes))
            for scope in (*token.scopes, *(expect.missing or ()))
            if policy.scopes.find(scope.value) is None
        )
        faults += (
            Fault(feature.place, f"no scope is only for `{feature.value}`", did_you_mean(feature.value, features))
            for feature in token.features
            if feature.value not in features
        )
        if expect.route is not None and expect.route.value not in (*routes, UNMATCHED):
            name = expect.route.value
            faults.append(Fault(expect.route.place, f"there is no route `{name}`", did_you_mean(name, routes)))
    return in_order(faults)


def advice_on(document: PolicyDocument, judged: Iterable[tuple[Case, Seen]]) -> tuple[Fault, ...]:
    """Refusals that are expected without a reason, and every route, field rule and scope that no case exercises."""
    judged = tuple(judged)
    advice = [_say_why(case, seen) for case, seen in judged if not case.expect.says_why]

    met = {(seen.route, rule) for _, seen in judged for rule in seen.rules}
    reached = {seen.route for case, seen in judged if not case.preflight_from}
    by_users = {seen.route for case, seen in judged if case.token.user_id}
    for route in document.routes:
        if route.name.value not in reached:
            advice.append(_left_out(route.name, f"route `{route.name.value}` is reached by no case", _BOTH))
        else:
            advice += _user_rule_left_out(route, by_users)
            advice += _rules_left_out(route, {rule for name, rule in met if name == route.name.value})

    used = {scope for _, seen in judged for scope in seen.scopes}
    advice += (
        _left_out(scope.name, f"scope `{scope.name.value}` makes no difference to any case", _BOTH)
        for scope in document.scopes
        if scope.name.value not in used
    )
    return in_order(advice)


_BOTH = "add a case that is allowed and one that is refused"


def _rules_left_out(route: RouteEntry, met: set[str]) -> Iterable[Fault]:
    if route.graphql is None:
        return
    for field in route.graphql.fields:
        if field.coordinate.value not in met:
            what = f"rule `{field.coordinate.value}` of route `{route.name.value}` is met by no case"
            yield _left_out(field.coordinate, what, "check its spelling, and add a case that it refuses")
    introspection = route.graphql.introspection
    if introspection is not None and INTROSPECTION_RULE not in met:
        what = f"rule `{INTROSPECTION_RULE}` of route `{route.name.value}` is met by no case"
        yield Fault(introspection.place, what, "add a case that it refuses", is_advice=True)


def _user_rule_left_out(route: RouteEntry, by_users: set[str]) -> Iterable[Fault]:
    rule = None if route.allow is None else route.allow.user_token
    if rule is not None and route.name.value not in by_users:
        what = f"rule `user_token` of route `{route.name.value}` is met by no case"
        todo = "add a case of a user's own data, and one of another's" if rule.subject else "add a case of a user"
        yield Fault(rule.place, what, todo, is_advice=True)


def _left_out(text: Text, what: str, todo: str) -> Fault:
    return Fault(text.place, what, todo, is_advice=True)


def _say_why(case: Case, seen: Seen) -> Fault:
    why = "status: 403, reason: scope_missing"
    if seen.reason:
        why = f"status: {seen.status}, reason: {seen.reason}"
    what = "`refused` is also met by a refusal for another reason"
    return Fault(case.expect.place, what, f"say which is meant, such as `{{{why}}}`", is_advice=True)
