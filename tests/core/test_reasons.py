"""Reasons: a closed list whose every line is fit for clients, metrics and connections."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import CANNOT_DECIDE_REASONS, CannotDecide, Reason, Refusal, Verdict

EVERY = pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.label)


@EVERY
def test_the_label_is_the_name_in_lower_case(reason: Reason) -> None:
    assert reason.name.lower() == reason.label
    assert re.fullmatch(r"[a-z][a-z0-9_]{2,40}", reason.label)


@EVERY
def test_the_status_is_an_error_that_http_knows(reason: Reason) -> None:
    assert 400 <= reason.status <= 599
    assert HTTPStatus(reason.status).phrase


@EVERY
def test_the_sentence_is_public_and_in_the_house_style(reason: Reason) -> None:
    assert reason.sentence == reason.sentence.strip()
    assert not reason.sentence.endswith(".")
    assert reason.sentence[:1].islower()


@EVERY
def test_the_sentence_may_stand_in_an_error_description(reason: Reason) -> None:
    # RFC 6750 section 3: %x20-21 / %x23-5B / %x5D-7E
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", reason.sentence)


@EVERY
def test_an_oauth_error_goes_with_its_status(reason: Reason) -> None:
    # RFC 6750 section 3.1
    statuses = {"invalid_request": 400, "invalid_token": 401, "insufficient_scope": 403}

    assert reason.oauth_error == "" or statuses[reason.oauth_error] == reason.status


def test_labels_are_distinct() -> None:
    assert len(Reason) == len({reason.label for reason in Reason})


def test_what_is_wrong_with_a_good_looking_token_is_not_told() -> None:
    hidden = {
        (reason.status, reason.oauth_error, reason.closes, reason.sentence)
        for reason in (
            Reason.TOKEN_MALFORMED,
            Reason.TOKEN_UNKNOWN,
            Reason.TOKEN_REVOKED,
            Reason.TOKEN_EXPIRED,
            Reason.TOKEN_KIND_UNSUPPORTED,
            Reason.TOKEN_NOT_YET_VALID,
            Reason.APP_INACTIVE,
        )
    }

    assert 1 == len(hidden)


def test_a_missing_credential_has_no_error_code() -> None:
    assert "" == Reason.CREDENTIAL_MISSING.oauth_error


@pytest.mark.parametrize(
    "reason", [Reason.FRAMING_AMBIGUOUS, Reason.REQUEST_MALFORMED, Reason.BODY_MALFORMED, Reason.HEAD_TIMEOUT]
)
def test_what_two_hops_may_read_differently_ends_the_connection(reason: Reason) -> None:
    assert reason.closes


@pytest.mark.parametrize("reason", CANNOT_DECIDE_REASONS)
def test_what_cannot_be_decided_is_never_said_to_be_the_callers_fault(reason: Reason) -> None:
    assert reason.status in {500, 503}
    assert "" == reason.oauth_error


def test_verdicts_are_the_values_of_the_metric_label() -> None:
    labels = {verdict.value for verdict in Verdict}

    assert {"allowed", "refused", "cannot_decide", "upstream_failed", "client_gone", "preflight"} == labels


@given(st.sampled_from(Reason), st.text(), st.lists(st.text()).map(tuple))
def test_refusals_are_values(reason: Reason, detail: str, missing: tuple[str, ...]) -> None:
    assert Refusal(reason, detail, missing) == Refusal(reason, detail, missing)
    assert hash(Refusal(reason, detail, missing)) == hash(Refusal(reason, detail, missing))
    assert CannotDecide(reason, detail) == CannotDecide(reason, detail)


def test_a_refusal_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Refusal(Reason.TOKEN_UNKNOWN).reason = Reason.TOKEN_EXPIRED  # type: ignore[misc]
