"""Answers: status, challenge and body in the route's shape, and nothing that a client should not hear."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answers import REALM, Answer, answer_to, challenge, preflight_answer, told_route
from gateway.core.policy.routes import ErrorShape, StatusProfile
from gateway.core.reasons import CANNOT_DECIDE_REASONS, CannotDecide, Reason, Refusal
from gateway.core.scopes import SCOPE_NAME
from tests.core.samples import route
from tests.support.values import fields_of

REF = "0b0c8a1e-5c1f-4d1e-8c1f-0123456789ab"
NEW_TYPE = b"application/graphql-response+json"
CANARY = "canary-detail-only-operators-see"


def field(answer: Answer, name: bytes) -> bytes | None:
    values = [value for named, value in answer.fields if named == name]
    assert len(values) <= 1
    return values[0] if values else None


def body_of(answer: Answer) -> Any:
    return json.loads(answer.body)


# -- the three shapes


def test_a_problem_is_rfc_9457() -> None:
    answer = answer_to(Refusal(Reason.SCOPE_MISSING, CANARY, missing_scopes=("users:read", "users:write")), ref=REF)

    assert 403 == answer.status
    assert b"application/problem+json" == field(answer, b"content-type")
    assert {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "the token lacks a scope that this needs: users:read, users:write",
        "instance": f"urn:uuid:{REF}",
        "reason": "scope_missing",
        "ref": REF,
        "missing_scopes": ["users:read", "users:write"],
    } == body_of(answer)


def test_a_problem_without_missing_scopes_does_not_name_any() -> None:
    assert "missing_scopes" not in body_of(answer_to(Refusal(Reason.ROUTE_UNKNOWN), ref=REF))


def test_the_platforms_own_shape_has_three_members() -> None:
    answer = answer_to(Refusal(Reason.TOKEN_REVOKED, CANARY), ref=REF, shape=ErrorShape.PLATFORM)

    assert b"application/json" == field(answer, b"content-type")
    assert {"message": "the token is not valid", "errorCode": "TOKEN_INVALID", "ref": REF} == body_of(answer)


def test_a_graphql_refusal_is_a_graphql_response() -> None:
    because = Refusal(
        Reason.FIELD_NOT_ALLOWED, CANARY, missing_scopes=("users:read",), coordinates=("Query.user", "Query.x")
    )

    answer = answer_to(because, ref=REF, shape=ErrorShape.GRAPHQL, profile=StatusProfile.DRAFT_2026)

    assert 403 == answer.status
    extensions = {
        "code": "FIELD_NOT_ALLOWED",
        "ref": REF,
        "missingScopes": ["users:read"],
        "coordinates": ["Query.user", "Query.x"],
    }
    message = "a selected field is not allowed: users:read"
    assert {"errors": [{"message": message, "extensions": extensions}]} == body_of(answer)


def test_a_graphql_refusal_without_lists_has_none() -> None:
    answer = answer_to(Refusal(Reason.JSON_INVALID), ref=REF, shape=ErrorShape.GRAPHQL)

    assert {"code": "JSON_INVALID", "ref": REF} == body_of(answer)["errors"][0]["extensions"]


@pytest.mark.parametrize(
    ("accept", "profile", "expected"),
    [
        (b"", StatusProfile.DRAFT_2026, b"application/json"),
        (b"application/json", StatusProfile.DRAFT_2026, b"application/json"),
        (NEW_TYPE, StatusProfile.DRAFT_2026, NEW_TYPE),
        (b"application/json;q=0.5, " + NEW_TYPE, StatusProfile.Y2023, NEW_TYPE),
        (NEW_TYPE, StatusProfile.LEGACY_200, b"application/json"),
        (NEW_TYPE, None, NEW_TYPE),
    ],
)
def test_a_graphql_answer_has_the_media_type_that_its_client_knows(
    accept: bytes, profile: StatusProfile | None, expected: bytes
) -> None:
    answer = answer_to(Refusal(Reason.JSON_INVALID), ref=REF, shape=ErrorShape.GRAPHQL, profile=profile, accept=accept)

    assert expected == field(answer, b"content-type")


def test_an_unknown_hash_is_told_in_the_words_of_its_clients() -> None:
    because = Refusal(Reason.PERSISTED_QUERY_NOT_FOUND)
    answer = answer_to(because, ref=REF, shape=ErrorShape.GRAPHQL, profile=StatusProfile.Y2023)
    (error,) = json.loads(answer.body)["errors"]

    assert ("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND") == (error["message"], error["extensions"]["code"])
    assert 404 == answer_to(because, ref=REF).status


def test_the_accept_of_a_rest_client_changes_nothing() -> None:
    because = Refusal(Reason.ROUTE_UNKNOWN)

    assert fields_of(answer_to(because, ref=REF)) == fields_of(answer_to(because, ref=REF, accept=NEW_TYPE))


@pytest.mark.parametrize(
    ("reason", "draft", "y2023", "legacy"),
    [
        (Reason.JSON_INVALID, 400, 400, 200),
        (Reason.GRAPHQL_REQUEST_INVALID, 422, 400, 200),
        (Reason.GRAPHQL_DOCUMENT_INVALID, 400, 400, 200),
        (Reason.GRAPHQL_OPERATION_UNKNOWN, 422, 400, 200),
        (Reason.GRAPHQL_LIMIT_EXCEEDED, 400, 400, 200),
        (Reason.GRAPHQL_DOCUMENT_UNKNOWN, 422, 400, 200),
        (Reason.PERSISTED_QUERY_NOT_FOUND, 200, 200, 200),
        (Reason.NOT_ACCEPTABLE, 406, 406, 406),
        # Who may not, hears so in every profile.
        (Reason.FIELD_NOT_ALLOWED, 403, 403, 403),
        (Reason.SCOPE_MISSING, 403, 403, 403),
        (Reason.TOKEN_UNKNOWN, 401, 401, 401),
        (Reason.MEDIA_TYPE_UNSUPPORTED, 415, 415, 415),
        (Reason.BODY_TOO_LARGE, 413, 413, 413),
        (Reason.ROUTE_UNKNOWN, 404, 404, 404),
    ],
)
def test_the_status_follows_the_profile_of_a_graphql_route(reason: Reason, draft: int, y2023: int, legacy: int) -> None:
    profiles = (StatusProfile.DRAFT_2026, StatusProfile.Y2023, StatusProfile.LEGACY_200)
    statuses = [
        answer_to(Refusal(reason), ref=REF, shape=ErrorShape.GRAPHQL, profile=profile).status for profile in profiles
    ]

    assert [draft, y2023, legacy] == statuses


@pytest.mark.parametrize("shape", [ErrorShape.PROBLEM, ErrorShape.PLATFORM])
def test_a_profile_means_nothing_to_a_rest_route(shape: ErrorShape) -> None:
    answer = answer_to(Refusal(Reason.JSON_INVALID), ref=REF, shape=shape, profile=StatusProfile.LEGACY_200)

    assert 400 == answer.status


# -- headers


def test_a_method_that_is_not_allowed_names_those_that_are() -> None:
    answer = answer_to(Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=("GET", "POST")), ref=REF)

    assert (405, b"GET, POST") == (answer.status, field(answer, b"allow"))


@pytest.mark.parametrize("reason", CANNOT_DECIDE_REASONS)
def test_what_cannot_be_decided_is_no_verdict_and_says_when_to_come_again(reason: Reason) -> None:
    answer = answer_to(CannotDecide(reason, CANARY, retry_after_seconds=7), ref=REF)

    assert answer.status in {500, 503}
    assert (b"7" if answer.status == 503 else None) == field(answer, b"retry-after")
    assert field(answer, b"www-authenticate") is None


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.label)
@pytest.mark.parametrize("shape", ErrorShape)
def test_every_401_has_a_challenge_and_nothing_may_be_cached(reason: Reason, shape: ErrorShape) -> None:
    # C31
    answer = answer_to(Refusal(reason), ref=REF, shape=shape, profile=StatusProfile.LEGACY_200)

    has_challenge = field(answer, b"www-authenticate") is not None
    assert has_challenge == (reason.status == 401 or bool(reason.oauth_error))
    assert b"no-store" == field(answer, b"cache-control")
    assert b"authorization" == (field(answer, b"vary") or b"").lower()
    assert REF.encode() == field(answer, b"x-gateway-request-id")
    assert reason.closes is answer.closes
    assert not {b"content-length", b"transfer-encoding", b"connection"} & {name for name, _ in answer.fields}


@pytest.mark.parametrize(
    ("reason", "missing", "expected"),
    [
        (Reason.CREDENTIAL_MISSING, (), 'Bearer realm="bearergate"'),
        (Reason.CREDENTIAL_SCHEME, (), 'Bearer realm="bearergate"'),
        (
            Reason.TOKEN_EXPIRED,
            (),
            'Bearer realm="bearergate", error="invalid_token", error_description="the token is not valid"',
        ),
        (
            Reason.SCOPE_MISSING,
            ("users:read", "users:write"),
            'Bearer realm="bearergate", scope="users:read users:write", error="insufficient_scope", '
            'error_description="the token lacks a scope that this needs"',
        ),
    ],
)
def test_the_challenge_is_that_of_rfc_6750(reason: Reason, missing: tuple[str, ...], expected: str) -> None:
    assert expected == challenge(reason, missing)


CHALLENGE = re.compile(
    r'Bearer realm="[\x20-\x21\x23-\x5b\x5d-\x7e]+"'
    r'(, scope="[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")?'
    r'(, error="[\x20-\x21\x23-\x5b\x5d-\x7e]+", error_description="[\x20-\x21\x23-\x5b\x5d-\x7e]+")?'
)
NAMES = st.text("aZ09_.:-", max_size=20).map(lambda rest: "s" + rest)


@given(st.sampled_from(Reason), st.lists(NAMES, max_size=4).map(tuple))
def test_a_challenge_has_only_the_characters_of_rfc_6750(reason: Reason, missing: tuple[str, ...]) -> None:
    assert all(SCOPE_NAME.fullmatch(name) for name in missing)
    assert CHALLENGE.fullmatch(challenge(reason, missing))
    assert REALM in challenge(reason)


# -- what nobody hears

TEXTS = st.text(max_size=30).map(lambda text: CANARY + text)


@given(
    st.one_of(
        st.builds(Refusal, st.sampled_from(Reason), TEXTS),
        st.builds(CannotDecide, st.sampled_from(CANNOT_DECIDE_REASONS), TEXTS),
    ),
    st.sampled_from(ErrorShape),
    st.one_of(st.none(), st.sampled_from(StatusProfile)),
    st.binary(max_size=30),
)
def test_no_answer_tells_the_detail_or_repeats_the_client(
    because: Refusal | CannotDecide, shape: ErrorShape, profile: StatusProfile | None, accept: bytes
) -> None:
    # C33, F40, L19
    told = answer_to(because, ref=REF, shape=shape, profile=profile, accept=accept)

    everything = told.body + b"".join(name + value for name, value in told.fields)
    assert CANARY.encode() not in everything
    assert everything == everything.translate(None, bytes(range(32)))
    assert answer_to(because, ref=REF, shape=shape, profile=profile, accept=NEW_TYPE).body == told.body
    assert json.loads(told.body)


def test_all_keys_that_are_not_good_get_one_answer() -> None:
    # E1, F40
    reasons = (
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_KIND_UNSUPPORTED,
        Reason.TOKEN_UNKNOWN,
        Reason.TOKEN_REVOKED,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_NOT_YET_VALID,
        Reason.APP_INACTIVE,
    )

    for shape in ErrorShape:
        assert 1 == len({fields_of(answer_to(Refusal(reason), ref=REF, shape=shape)) for reason in reasons})


def test_what_is_another_users_is_answered_like_a_path_without_a_route() -> None:
    # F31
    for shape in ErrorShape:
        mismatch = answer_to(Refusal(Reason.SUBJECT_MISMATCH, "x"), ref=REF, shape=shape)
        assert fields_of(answer_to(Refusal(Reason.ROUTE_UNKNOWN), ref=REF, shape=shape)) == fields_of(mismatch)


def test_the_answer_to_another_users_path_knows_no_route() -> None:
    known = route()

    assert {reason for reason in Reason if told_route(known, reason) is None} == {Reason.SUBJECT_MISMATCH}
    assert told_route(known, Reason.SUBJECT_FORBIDDEN) is known
    assert told_route(None, Reason.SCOPE_MISSING) is None


# -- preflights


def test_a_preflight_is_answered_without_a_body_and_not_stored() -> None:
    answer = preflight_answer(((b"access-control-max-age", b"60"),), ref=REF)

    fields = (
        (b"access-control-max-age", b"60"),
        (b"cache-control", b"no-store"),
        (b"x-gateway-request-id", REF.encode()),
    )
    assert fields_of(answer) == fields_of(Answer(204, fields, b"", closes=False))
