"""When an endpoint is left out, for how long, and what brings it back."""

from __future__ import annotations

import pytest

from gateway.upstreams.health import EndpointHealth


def ejected(at: float = 0.0) -> EndpointHealth:
    health = EndpointHealth(eject_after=3, first_seconds=1.0, longest_seconds=8.0)
    assert [False, False, True] == [health.failed(at) for _ in range(3)]
    return health


def test_only_failures_in_a_row_count() -> None:
    health = EndpointHealth(eject_after=3)

    for _ in range(10):
        health.failed(0.0)
        health.failed(0.0)
        assert not health.answered()

    assert not health.is_out
    assert 0 == health.ejections


def test_an_endpoint_that_fails_often_enough_is_out_until_its_time_is_over() -> None:
    health = ejected(at=10.0)

    assert health.is_out
    assert (False, True) == (health.is_due(10.9), health.is_due(11.0))


def test_the_time_doubles_with_each_failed_trial_up_to_a_limit_and_begins_anew_after_an_answer() -> None:
    health = ejected()
    now, seconds = 0.0, []
    for _ in range(5):
        seconds.append(health.ejected_seconds)
        now += health.ejected_seconds
        health.try_now(now)
        assert not health.failed(now)
    health.try_now(now + 8.0)
    came_back = health.answered()

    assert [1.0, 2.0, 4.0, 8.0, 8.0] == seconds
    assert came_back
    assert not health.is_out
    assert 1 == health.ejections
    assert [False, False, True] == [health.failed(now) for _ in range(3)]
    assert 1.0 == health.ejected_seconds


def test_only_one_request_tries_it_and_another_one_if_that_one_is_never_heard_of() -> None:
    health = ejected()

    health.try_now(1.0)

    assert (False, True) == (health.is_due(1.9), health.is_due(2.0))


def test_failures_of_requests_that_were_sent_before_do_not_lengthen_the_time() -> None:
    health = ejected()

    for _ in range(100):
        assert not health.failed(0.5)

    assert 1.0 == health.ejected_seconds
    assert 1 == health.ejections


def test_what_asks_too_early_is_no_trial() -> None:
    health = ejected()
    health.try_now(0.5)
    health.failed(0.5)

    assert 1.0 == health.ejected_seconds
    assert health.is_due(1.0)


def test_zero_failures_leave_nobody_out() -> None:
    health = EndpointHealth(eject_after=0)

    assert not any(health.failed(0.0) for _ in range(100))
    assert not health.is_out


@pytest.mark.parametrize(
    ("checks", "is_out"),
    [
        ("x", False),
        ("xx", True),
        ("x.x", False),
        ("x.x.x.", False),
        ("xx.", True),
        ("xx..", False),
        ("xx.x.", True),
        ("xx.x..", False),
        ("xxxxxxx..", False),
        ("xx..x", False),
    ],
)
def test_two_bad_checks_leave_it_out_and_two_good_ones_bring_it_back(checks: str, is_out: bool) -> None:
    health = EndpointHealth()

    for check in checks:
        health.checked(check == ".")

    assert is_out is health.is_out


def test_a_change_by_checks_is_told_once() -> None:
    health = EndpointHealth()

    assert [False, True, False, False, True] == [
        health.checked(is_good) for is_good in (False, False, False, True, True)
    ]
    assert 1 == health.ejections


def test_who_fails_its_checks_is_not_tried_and_comes_back_by_its_checks_alone() -> None:
    health = EndpointHealth()
    health.checked(False)
    health.checked(False)

    assert not health.is_due(1e9)
    assert not health.answered()
    assert health.is_out


def test_who_fails_both_ways_has_to_mend_both() -> None:
    health = ejected()
    health.checked(False)
    health.checked(False)
    assert not health.answered()
    assert health.is_out
    health.checked(True)
    assert health.is_out
    health.checked(True)

    assert not health.is_out
