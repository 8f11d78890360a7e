"""The life of a key: legal moves, and death on time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.lifecycle import MOVES, KeyEvent, KeyState, is_expired

SECONDS = st.floats(0, 253_402_300_799, allow_nan=False)
"""To the end of the year 9999 (E12)."""


def test_expiry_is_half_open() -> None:
    assert not is_expired(1_000.0, 999.999)
    assert is_expired(1_000.0, 1_000.0)
    assert is_expired(1_000.0, 1_000.001)


@given(SECONDS, SECONDS)
def test_a_key_that_is_dead_stays_dead(expires_at: float, now: float) -> None:
    later = math.nextafter(now, math.inf)

    assert not is_expired(expires_at, now) or is_expired(expires_at, later)
    assert is_expired(expires_at, now) == (now >= expires_at)


def test_a_key_is_created_once_and_revoked_once_and_only_an_active_one_is_rotated() -> None:
    expected = {
        (None, KeyEvent.CREATED): KeyState.ACTIVE,
        (KeyState.ACTIVE, KeyEvent.RENAMED): KeyState.ACTIVE,
        (KeyState.ACTIVE, KeyEvent.ROTATED): KeyState.ACTIVE,
        (KeyState.ACTIVE, KeyEvent.REVOKED): KeyState.REVOKED,
        (KeyState.REVOKED, KeyEvent.RENAMED): KeyState.REVOKED,
    }

    assert expected == MOVES


def test_nothing_leads_out_of_revoked() -> None:
    assert {KeyState.REVOKED} == {MOVES[move] for move in MOVES if move[0] is KeyState.REVOKED}


def test_states_and_events_have_the_names_that_the_store_keeps() -> None:
    assert ["active", "revoked"] == [state.value for state in KeyState]
    assert ["created", "renamed", "rotated", "revoked"] == [event.value for event in KeyEvent]
