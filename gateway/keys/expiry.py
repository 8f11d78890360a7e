"""When a key dies: at the latest one calendar year after its creation, or sooner where the rules say so.

Instants are seconds since the epoch, UTC; a calendar is only opened to add a year and to read a date.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

from gateway.keys.refused import KeyFault, KeyRefused

DAY_SECONDS: Final = 86_400

_DAYS: Final = re.compile(r"([0-9]{1,6})d")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})")
_NO_OFFSET: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?")


def year_after(now: float) -> float:
    """The same date and time one calendar year later; 28 February where a 29th has no counterpart."""
    moment = datetime.fromtimestamp(now, UTC)
    try:
        return moment.replace(year=moment.year + 1).timestamp()
    except ValueError:
        return moment.replace(year=moment.year + 1, day=28).timestamp()


def latest_expiry(now: float, max_days: int | None) -> float:
    """The latest expiry of a key made at `now`: `max_days` later, or one calendar year when that is None."""
    return year_after(now) if max_days is None else now + max_days * DAY_SECONDS


def expiry_for(asked: float | None, now: float, max_days: int | None) -> float:
    """The expiry of a key made at `now`: the latest possible one if none was asked for. Raises: KeyRefused"""
    latest = latest_expiry(now, max_days)
    if asked is None:
        return latest

    # INVARIANT: written so that NaN, which compares false with everything, is refused.
    if not asked > now:
        raise KeyRefused(KeyFault.EXPIRY_PAST, "the expiry is in the past; choose a later one")

    if not asked <= latest:
        allowed = "one year" if max_days is None else f"{max_days} days"
        message = f"the expiry is too late: a key lives {allowed} at most, here until `{utc_text(latest)}`"
        raise KeyRefused(KeyFault.EXPIRY_TOO_LATE, message)

    return asked


def read_expiry(text: str, now: float) -> float:
    """`90d`, `2027-01-01` (dead from 00:00 UTC on) or `2027-01-01T12:00:00Z`. Raises: KeyRefused"""
    days = _DAYS.fullmatch(text)
    if days is not None:
        return now + int(days[1]) * DAY_SECONDS

    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        problem = (
            "has a time or an offset that no clock shows" if _is_day(text[:10]) else "is not a day of the calendar"
        )
        raise KeyRefused(KeyFault.EXPIRY_INVALID, f"expiry {text!r} {problem}") from error

    if _NO_OFFSET.fullmatch(text):
        message = f"expiry {text!r} does not say in which offset; write it like `2027-01-01T12:00:00Z` for UTC"
        raise KeyRefused(KeyFault.EXPIRY_INVALID, message)

    message = f"expiry {text!r} is not understood; write `90d`, `2027-01-01` or `2027-01-01T12:00:00Z`"
    raise KeyRefused(KeyFault.EXPIRY_INVALID, message)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def utc_text(instant: float) -> str:
    """RFC 3339 in UTC, whole seconds: `2027-01-01T12:00:00Z`."""
    return datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
