"""The lag of the event loop, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from gateway.observe.loop_lag import INTERVAL_SECONDS, LoopLag
from tests.observe.samples import NOW
from tests.support.manual_clock import ManualClock


async def watched(extra_seconds: Iterable[float], clock: ManualClock | None = None) -> LoopLag:
    """A sampler whose sleeps took this much longer than asked, and which was then cancelled."""
    clock = clock or ManualClock(NOW)
    extras = iter(extra_seconds)

    async def sleep(seconds: float) -> None:
        try:
            clock.advance(seconds + next(extras))
        except StopIteration:
            raise asyncio.CancelledError from None

    lag = LoopLag(clock, sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.watch()
    return lag


async def test_there_is_no_lag_before_the_first_sample() -> None:
    assert (await watched([])).longest_seconds() == 0.0


async def test_the_longest_lag_of_the_window_is_shown() -> None:
    assert (await watched([0.001, 0.4, 0.002])).longest_seconds() == pytest.approx(0.4)


async def test_a_lag_is_forgotten_after_the_window() -> None:
    assert (await watched([0.4, *[0.001] * 299])).longest_seconds() == pytest.approx(0.001)


async def test_a_lag_of_a_shorter_window_is_forgotten_sooner() -> None:
    clock = ManualClock(NOW)
    lag = await watched([0.6, *[0.0] * 30], clock)

    assert lag.longest_seconds(5.0) == pytest.approx(0.6)
    clock.advance(INTERVAL_SECONDS)
    lag = await watched([0.6, *[0.0] * 51], clock)
    assert lag.longest_seconds(5.0) == pytest.approx(0.0)
    assert lag.longest_seconds() == pytest.approx(0.6)


async def test_a_timer_that_is_late_and_has_not_run_yet_counts() -> None:
    clock = ManualClock(NOW)
    lag = await watched([0.0], clock)

    clock.advance(INTERVAL_SECONDS + 0.7)

    assert lag.longest_seconds() == pytest.approx(0.7)


async def test_no_more_than_the_window_is_remembered() -> None:
    lag = await watched([0.0] * 1000)

    assert len(lag._lags) <= 301


async def test_a_timer_that_fires_early_is_no_lag() -> None:
    assert (await watched([-INTERVAL_SECONDS / 2])).longest_seconds() == 0.0
