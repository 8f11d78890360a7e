"""Expiry: one calendar year at most, in UTC."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.expiry import expiry_for, latest_expiry, read_expiry, utc_text, year_after
from gateway.keys.refused import KeyFault, KeyRefused


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOW = at("2026-11-21T17:30:00Z")
YEAR_LATER = at("2027-11-21T17:30:00Z")


@pytest.mark.parametrize(
    ("made", "dies"),
    [
        ("2026-11-21T17:30:00Z", "2027-11-21T17:30:00Z"),
        ("2027-03-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2028-02-28T12:00:00Z", "2029-02-28T12:00:00Z"),
        ("2028-02-29T12:00:00Z", "2029-02-28T12:00:00Z"),
        ("2027-02-28T23:59:59Z", "2028-02-28T23:59:59Z"),
        ("2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"),
    ],
)
def test_a_year_is_a_calendar_year(made: str, dies: str) -> None:
    assert at(dies) == year_after(at(made))


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)))
def test_a_year_has_365_or_366_days_and_keeps_the_time_of_day(naive: datetime) -> None:
    made = naive.replace(tzinfo=UTC, microsecond=0).timestamp()

    assert year_after(made) - made in {365 * 86_400, 366 * 86_400}


def test_without_a_wish_a_key_lives_as_long_as_it_may() -> None:
    assert expiry_for(None, NOW, None) == YEAR_LATER
    assert expiry_for(None, NOW, 90) == NOW + 90 * 86_400


@pytest.mark.parametrize("asked", [NOW + 1, NOW + 86_400, YEAR_LATER - 1, YEAR_LATER])
def test_a_shorter_life_is_granted_as_asked(asked: float) -> None:
    assert asked == expiry_for(asked, NOW, None)


@pytest.mark.parametrize(
    ("asked", "max_days", "fault", "message"),
    [
        (NOW, None, KeyFault.EXPIRY_PAST, "the expiry is in the past; choose a later one"),
        (NOW - 1, None, KeyFault.EXPIRY_PAST, "the expiry is in the past; choose a later one"),
        (-math.inf, None, KeyFault.EXPIRY_PAST, "the expiry is in the past; choose a later one"),
        (math.nan, None, KeyFault.EXPIRY_PAST, "the expiry is in the past; choose a later one"),
        (
            YEAR_LATER + 1,
            None,
            KeyFault.EXPIRY_TOO_LATE,
            "the expiry is too late: a key lives one year at most, here until `2027-11-21T17:30:00Z`",
        ),
        (
            math.inf,
            None,
            KeyFault.EXPIRY_TOO_LATE,
            "the expiry is too late: a key lives one year at most, here until `2027-11-21T17:30:00Z`",
        ),
        (
            NOW + 91 * 86_400,
            90,
            KeyFault.EXPIRY_TOO_LATE,
            "the expiry is too late: a key lives 90 days at most, here until `2027-02-19T17:30:00Z`",
        ),
    ],
)
def test_a_past_or_longer_life_is_refused_in_clear_words(
    asked: float, max_days: int | None, fault: KeyFault, message: str
) -> None:
    with pytest.raises(KeyRefused) as refused:
        expiry_for(asked, NOW, max_days)

    assert (fault, message) == (refused.value.fault, str(refused.value))


@given(st.floats(allow_nan=True, allow_infinity=True), st.one_of(st.none(), st.integers(1, 400)))
def test_no_number_gives_a_key_that_is_dead_or_lives_too_long(asked: float, max_days: int | None) -> None:
    try:
        granted = expiry_for(asked, NOW, max_days)
    except KeyRefused:
        return

    assert NOW < granted <= latest_expiry(NOW, max_days)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", NOW + 90 * 86_400),
        ("1d", NOW + 86_400),
        ("2027-01-01", at("2027-01-01T00:00:00Z")),
        ("2027-01-01T12:00:00Z", at("2027-01-01T12:00:00Z")),
        ("2027-01-01T12:00:00+02:00", at("2027-01-01T10:00:00Z")),
    ],
)
def test_expiry_is_read_from_days_dates_and_instants(text: str, expected: float) -> None:
    assert expected == read_expiry(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "d",
        "-1d",
        "1.5d",
        "٩٠d",
        "90d\n",
        "20270101",
        "2027-W01-1",
        "2027-01-01T12",
        "2027-01-01T12:00:00Z+01:00",
        "tomorrow",
    ],
)
def test_an_expiry_with_another_reading_is_refused(text: str) -> None:
    with pytest.raises(KeyRefused, match="is not understood; write `90d`, `2027-01-01` or") as refused:
        read_expiry(text, NOW)

    assert KeyFault.EXPIRY_INVALID is refused.value.fault


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2027-13-01", "is not a day of the calendar"),
        ("2027-02-29", "is not a day of the calendar"),
        ("0000-00-00", "is not a day of the calendar"),
        ("2027-13-01T12:00:00Z", "is not a day of the calendar"),
        ("2027-01-01T25:00:00Z", "has a time or an offset that no clock shows"),
        ("2027-01-01T12:00:00+99:00", "has a time or an offset that no clock shows"),
        ("2027-01-01T12:00:00", "does not say in which offset; write it like `2027-01-01T12:00:00Z` for UTC"),
        ("2027-01-01 12:00", "does not say in which offset; write it like `2027-01-01T12:00:00Z` for UTC"),
    ],
)
def test_an_expiry_that_is_nearly_right_is_refused_with_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        read_expiry(text, NOW)

    assert (KeyFault.EXPIRY_INVALID, f"expiry {text!r} {problem}") == (refused.value.fault, str(refused.value))


@given(st.text())
def test_reading_an_expiry_ends_in_a_number_or_a_refusal(text: str) -> None:
    with contextlib.suppress(KeyRefused):
        assert isinstance(read_expiry(text, NOW), float)


def test_instants_are_written_in_utc() -> None:
    assert utc_text(NOW + 0.75) == "2026-11-21T17:30:00Z"
