"""The policies that ship: nothing to mend, nothing to advise, every case judged as it says, every rule touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.case_judge import differences, judge_case
from gateway.cli.case_review import advice_on, faults_in
from gateway.cli.cases import Case, read_cases
from gateway.core.credential import CredentialKind
from gateway.core.graphql.schema import Schema, read_schema
from gateway.core.policy.requirement import Requirement, Subject, SubjectPlace, UserRequirement
from gateway.core.policy.routes import Policy, Route, StatusProfile
from gateway.core.reasons import Reason
from gateway.demo.example import read_example
from gateway.policy_files import load

POLICIES = Path(__file__).resolve().parents[2] / "policies"
SHIPPED = ("reference", "starter")

ALL = [
    pytest.param(name, case, id=f"{name}: {case.it}")
    for name in SHIPPED
    for case in read_cases(POLICIES / f"{name}.cases.yaml")
]
LOADED = {name: load(POLICIES / f"{name}.yaml") for name in SHIPPED}


@pytest.mark.parametrize(("name", "case"), ALL)
def test_a_shipped_policy_judges_as_its_case_says(name: str, case: Case) -> None:
    assert differences(case.expect, judge_case(LOADED[name].policy, case)) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_needs_no_advice(name: str) -> None:
    assert LOADED[name].advice == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_cases_of_a_shipped_policy_name_what_it_has_and_leave_nothing_out(name: str) -> None:
    loaded, cases = LOADED[name], read_cases(POLICIES / f"{name}.cases.yaml")

    assert faults_in(loaded.policy, cases) == ()
    assert advice_on(loaded.document, [(case, judge_case(loaded.policy, case)) for case in cases]) == ()


def test_the_shipped_policies_can_be_loaded_as_one_folder() -> None:
    policy = load(POLICIES).policy

    assert len(policy.routes) == sum(len(LOADED[name].policy.routes) for name in SHIPPED)


# What the platform documents: method and path, the scope of a key (None: keys are refused; "": anyone may).
OPERATIONS = {
    "GET /v2/segment_definitions": "",
    "GET /v2/moment_definitions": "",
    "GET /v2/users/me": None,
    "GET /v2/users/{user_id}": "USER_READ",
    "GET /v2/users/{user_id}/events": "USER_READ",
    "GET /v2/users/{user_id}/events/{start}": "USER_READ",
    "GET /v2/users/{user_id}/events/{start}/trajectory": "USER_READ",
    "GET /v2/users/{user_id}/events/{start}/behavior_scores": "USER_READ",
    "GET /v2/users/{user_id}/events/{start}/behavior_annotations": "USER_READ",
    "GET /v2/users/{user_id}/segments": "USER_READ",
    "GET /v2/users/{user_id}/moments": "USER_READ",
    "GET /v2/users/{user_id}/active_moments": "USER_READ",
    "GET /v2/users/{user_id}/location": "USER_READ",
    "GET /v2/users/{user_id}/location_clusters": "USER_READ",
    "GET /v2/users/{user_id}/car_behavior": "USER_READ",
    "GET /v2/users/{user_id}/anomalies": "USER_READ",
    "POST /v2/users/{install_id}/link": "USER_LINK",
    "GET /v3/users/{user_id}/events/{event_id}": "USER_READ",
    "GET /v3/users/{user_id}/events/{event_id}/trajectory": "USER_READ",
    "GET /v3/users/{user_id}/events/{event_id}/behavior_scores": "USER_READ",
    "GET /v3/users/{user_id}/events/{event_id}/behavior_annotations": "USER_READ",
    "GET /v3/users/{user_id}/aggregated_driving_scores": "USER_READ",
    "DELETE /users/{user_id}": "USER_DELETE",
    "POST /users/auth-code": "USER_LINK",
}
FIELDS = {
    "Query.user": "USER_READ",
    "Query.offloads": "OFFLOADS_READ",
    "OffloadFile.link": "OFFLOADS_GENERATE_URL",
    "Mutation.delete_user": "USER_DELETE",
    "Mutation.generate_offload_url": "OFFLOADS_GENERATE_URL",
    "Mutation.insert_fake_data": "FAKE_DATA_INSERT",
}


def scope_of(route: Route) -> str | None:
    if route.is_public:
        return ""
    requirement = route.allow.get(CredentialKind.API_KEY)
    return " ".join(need.name for need in requirement.needs) if isinstance(requirement, Requirement) else None


def reference() -> Policy:
    return LOADED["reference"].policy


def test_every_documented_operation_has_one_rule_and_there_are_no_others() -> None:
    found = {
        f"{route.method.decode()} {route.pattern}": scope_of(route)
        for route in reference().routes
        if route.graphql is None
    }

    assert found == OPERATIONS


def test_both_graphql_endpoints_ask_for_the_same_scopes_and_differ_in_their_statuses() -> None:
    rules = {route.pattern: route.graphql for route in reference().routes if route.graphql is not None}
    current, legacy = rules["/v4/gql"], rules["/v2/gql"]

    assert current is not None
    assert legacy is not None
    assert current.fields == legacy.fields
    asked = {name: rule[CredentialKind.API_KEY] for name, rule in current.fields.items()}
    needs = {name: rule.needs for name, rule in asked.items() if isinstance(rule, Requirement)}
    assert {name: need[0].name for name, need in needs.items()} == FIELDS
    assert (current.status_profile, legacy.status_profile) == (StatusProfile.DRAFT_2026, StatusProfile.LEGACY_200)


def test_every_route_and_field_of_the_shipped_policies_is_touched_by_a_case_that_allows_and_one_that_refuses() -> None:
    for name in SHIPPED:
        policy = LOADED[name].policy
        seen = [judge_case(policy, case) for case in read_cases(POLICIES / f"{name}.cases.yaml")]
        allowed = {judgement.route for judgement in seen if judgement.outcome == "allowed"}
        keyless = {route.name for route in policy.routes if scope_of(route) is None and route.graphql is None}

        assert {route.name for route in policy.routes} == allowed
        if name == "reference":
            # Routes whose scope was lacking, and fields likewise.
            lacking = {one.route for one in seen if one.reason == Reason.SCOPE_MISSING.label}
            closed = {route.name for route in policy.routes if not route.is_public} - keyless
            assert closed == lacking
            assert set(FIELDS) <= set().union(*(one.fields for one in seen))


USER_ONLY = {"users.me"}
KEY_ONLY = {"users.link", "users.auth_code"}


def test_what_is_only_for_users_or_only_for_keys_is_so_for_every_kind_of_either() -> None:
    # F30
    for route in reference().routes:
        if route.is_public or route.graphql is not None:
            continue
        by_key = {CredentialKind.API_KEY, CredentialKind.LEGACY_KEY} if route.name not in USER_ONLY else set()
        by_user = {CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE} if route.name not in KEY_ONLY else set()
        assert set(route.allow) == by_key | by_user, route.name


def test_every_route_that_names_a_user_is_shown_to_that_user_and_to_no_other() -> None:
    # F31
    seen = [
        judge_case(reference(), case) for case in read_cases(POLICIES / "reference.cases.yaml") if case.token.user_id
    ]
    own = {one.route for one in seen if one.outcome == "allowed"}
    others = {one.route for one in seen if one.reason == Reason.SUBJECT_MISMATCH.label and one.status == 404}

    named = {route.name for route in reference().routes if "user_id" in route.parameters}
    assert named == others
    assert named <= own


# G33, G34
USER_FIELDS = {"Query.user": "id", "Mutation.delete_user": "id"}


def test_what_users_reach_in_graphql_names_whose_it_is() -> None:
    for route in reference().routes:
        if route.graphql is None:
            continue
        by_users = {
            name: rule.subject
            for name, rules in route.graphql.fields.items()
            if isinstance(rule := rules.get(CredentialKind.USER_JWT), UserRequirement)
        }
        assert {name: Subject(SubjectPlace.ARGS, step) for name, step in USER_FIELDS.items()} == by_users


def test_the_schema_that_ships_is_that_of_the_example_upstream() -> None:
    example = read_example(POLICIES / "reference.demo.yaml")
    shipped = read_schema((POLICIES / "reference.graphql").read_text(encoding="utf-8"))
    served = read_schema(example.graphql.sdl)

    assert isinstance(shipped, Schema)
    assert isinstance(served, Schema)
    assert (shipped.types, shipped.roots) == (served.types, served.roots)
