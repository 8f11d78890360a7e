"""Revoked tokens, users and Apps are refused as soon as they are known, and silence is not taken for good news."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId
from gateway.core.principal import Principal, UserRecord
from gateway.core.reasons import Reason
from gateway.ports import StoreUnavailable
from gateway.tokens.issuers import MAX_LEEWAY_SECONDS
from gateway.tokens.standing import Standing
from tests.support.manual_clock import START, ManualClock
from tests.tokens.support import ISS, MemoryTokens

DAY = 86_400.0


def record(
    issuer: str = ISS, jti: str = "t1", issued_at: float = START, app: str = "app-1", user: str = "u1"
) -> UserRecord:
    principal = Principal(CredentialKind.USER_JWT, KeyId(""), AppId(app), frozenset(), user_id=user)
    return UserRecord(KeyDigest(bytes(32)), issuer, jti, issued_at, issued_at, START + 600, principal)


class World:
    """A standing, its store, and a feed whose silence a test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryTokens()
        self.silence = 0.0
        self.standing = Standing(self.store, self.clock, silence_seconds=lambda: self.silence)

    def is_current(self) -> bool:
        return self.standing.is_current


@pytest.fixture
def world() -> World:
    return World()


async def test_nothing_is_current_before_the_store_was_read(world: World) -> None:
    assert not world.is_current()

    await world.standing.refresh()

    assert world.is_current()
    assert world.standing.refuses(record()) is None


@pytest.mark.parametrize(
    ("whose", "concerned", "others"),
    # F20, F33: one token, one user, one App, one issuer; issued before, and not one that was issued then
    [
        ({"token_id": "t1"}, [record(), record(issuer="other", user="u2")], [record(jti="t2"), record(jti="")]),
        ({"token_id": "t1", "issuer": ISS}, [record()], [record(issuer="other")]),
        (
            {"user_id": "u1", "not_before": START + 1},
            [record(), record(jti="t2"), record(app="app-2"), record(issuer="other"), record(issued_at=START + 0.5)],
            [record(user="u2"), record(issued_at=START + 1)],
        ),
        ({"user_id": "u1", "app_id": AppId("app-1"), "not_before": START + 1}, [record()], [record(app="app-2")]),
        ({"user_id": "u1", "issuer": ISS, "not_before": START + 1}, [record()], [record(issuer="other")]),
        ({"app_id": AppId("app-1"), "not_before": START + 1}, [record(), record(user="u2")], [record(app="app-2")]),
        ({"issuer": ISS, "not_before": START + 1}, [record(), record(app="app-2", user="")], [record(issuer="other")]),
        ({"not_before": START + 1}, [record(), record(issuer="other")], [record(issued_at=START + 2)]),
    ],
)
async def test_f33_a_revocation_concerns_whom_it_names(
    world: World, whose: dict[str, object], concerned: list[UserRecord], others: list[UserRecord]
) -> None:
    world.store.revoke(**whose)
    await world.standing.refresh()

    assert [Reason.TOKEN_REVOKED] * len(concerned) == [world.standing.refuses(one) for one in concerned]
    assert [None] * len(others) == [world.standing.refuses(one) for one in others]


async def test_of_two_revocations_the_stricter_counts_for_as_long_as_the_longer(world: World) -> None:
    world.store.revoke(user_id="u1", not_before=START + 10, expires_at=START + 20)
    world.store.revoke(user_id="u1", not_before=START + 5, expires_at=START + 100)
    await world.standing.refresh()

    assert world.standing.refuses(record(issued_at=START + 9)) is Reason.TOKEN_REVOKED


@pytest.mark.parametrize(
    ("apps", "reason"), [({}, Reason.APP_INACTIVE), ({AppId("app-1"): False}, Reason.APP_INACTIVE)]
)
async def test_e14_an_app_that_is_not_active_has_no_users(
    world: World, apps: dict[AppId, bool], reason: Reason
) -> None:
    world.store.apps = apps
    await world.standing.refresh()

    assert reason is world.standing.refuses(record())


async def test_only_what_is_new_is_read(world: World) -> None:
    world.store.revoke(token_id="t0")
    world.store.revoke(token_id="t1")
    await world.standing.refresh()
    world.store.revoke(token_id="t2")

    await world.standing.refresh()

    # From the last one on, which shows that the store is the one of before.
    assert [0, 1] == world.store.asked
    assert 3 == world.standing.size
    assert world.standing.refuses(record(jti="t2")) is Reason.TOKEN_REVOKED


async def test_more_than_one_page_is_read(world: World) -> None:
    for number in range(2_500):
        world.store.revoke(token_id=f"t{number}")

    await world.standing.refresh()

    assert [0, 1_000, 2_000] == world.store.asked
    assert 2_500 == world.standing.size


@pytest.mark.parametrize("length", [1, 10, 20])
async def test_a_restored_store_is_read_from_the_beginning(world: World, length: int) -> None:
    for number in range(10):
        world.store.revoke(token_id=f"t{number}")
    await world.standing.refresh()
    world.store.rows, world.store.newest = [], 0
    world.store.revoke(token_id="after")
    for number in range(length - 1):
        world.store.revoke(token_id=f"more-{number}")

    await world.standing.refresh()

    assert world.standing.refuses(record(jti="after")) is Reason.TOKEN_REVOKED
    assert world.standing.refuses(record(jti="t3")) is None


async def test_h19_after_a_silence_everything_is_read_from_the_beginning(world: World) -> None:
    for number in range(3):
        world.store.revoke(token_id=f"t{number}")
    await world.standing.refresh()
    # Another store by now, with a longer history.
    world.store.rows, world.store.newest = [], 0
    for number in range(5):
        world.store.revoke(token_id=f"other-{number}")
    world.silence = 31.0

    await world.standing.refresh()

    assert [0, 0] == world.store.asked
    assert world.standing.refuses(record(jti="other-0")) is Reason.TOKEN_REVOKED


async def test_h17_when_the_feed_is_silent_for_longer_than_a_key_may_be_kept_nothing_is_current(world: World) -> None:
    await world.standing.refresh()

    world.silence = 30.0
    assert world.is_current()
    world.silence = 30.1
    assert not world.is_current()


async def test_what_could_not_be_read_is_read_again(world: World) -> None:
    await world.standing.refresh()
    world.store.revoke(token_id="t1")
    world.store.is_available = False
    with pytest.raises(StoreUnavailable):
        await world.standing.refresh()
    world.clock.advance(20)
    await world.standing.catch_up()

    # For as long as a revocation may take to arrive ...
    assert world.is_current()
    world.clock.advance(10.1)
    # ... and then no longer.
    assert not world.is_current()

    world.store.is_available = True
    await world.standing.catch_up()
    assert world.is_current()
    assert world.standing.refuses(record()) is Reason.TOKEN_REVOKED


async def test_a_second_reading_that_fails_is_not_hidden_by_the_first(world: World) -> None:
    await world.standing.refresh()
    first = asyncio.create_task(world.standing.refresh())
    second = asyncio.create_task(world.standing.refresh())
    calls: list[None] = []

    def fail_from_the_second_on() -> None:
        calls.append(None)
        world.store.is_available = False

    world.store.before_answer = fail_from_the_second_on
    await first
    with pytest.raises(StoreUnavailable):
        await second
    world.clock.advance(30.1)

    assert not world.is_current()
    assert 1 == len(calls)


async def test_an_older_reading_that_ends_later_hides_nothing_of_a_newer_one(world: World) -> None:
    held = world.store.held = asyncio.Event()
    older = asyncio.create_task(world.standing.refresh())
    for _ in range(3):
        await asyncio.sleep(0)
    world.store.revoke(token_id="t1")
    newer = asyncio.create_task(world.standing.refresh())
    for _ in range(5):
        await asyncio.sleep(0)
    held.set()
    await asyncio.gather(older, newer)

    assert world.standing.refuses(record()) is Reason.TOKEN_REVOKED


async def test_what_is_past_is_forgotten(world: World) -> None:
    world.store.revoke(token_id="t1", expires_at=START + 100)
    world.store.revoke(user_id="u1", not_before=START, expires_at=START + 100)
    await world.standing.refresh()
    assert 2 == world.standing.size

    world.clock.advance(100 + DAY)
    await world.standing.catch_up()

    assert 0 == world.standing.size


async def test_f21_a_revocation_counts_for_the_leeway_of_its_token_too(world: World) -> None:
    world.store.revoke(token_id="t1", expires_at=START + 100)
    await world.standing.refresh()

    # A token is accepted until its `exp` and the leeway, by a clock that may be behind the one of whoever revoked it.
    world.clock.advance(100 + MAX_LEEWAY_SECONDS)
    await world.standing.catch_up()

    assert world.standing.refuses(record()) is Reason.TOKEN_REVOKED


async def test_f36_a_clock_that_was_ahead_for_a_while_hides_no_revocation(world: World) -> None:
    world.store.revoke(token_id="t1")
    await world.standing.refresh()
    world.clock.step(30 * DAY)
    world.clock.advance(60)
    await world.standing.catch_up()

    world.clock.step(-30 * DAY)

    # What was forgotten by that clock is not known any more, until all is read again.
    assert not world.is_current()
    await world.standing.catch_up()
    assert world.is_current()
    assert world.standing.refuses(record()) is Reason.TOKEN_REVOKED


async def test_f36_a_clock_that_was_ahead_at_the_start_hides_no_revocation(world: World) -> None:
    world.store.revoke(token_id="t1")
    world.clock.step(30 * DAY)
    await world.standing.refresh()

    world.clock.step(-30 * DAY)
    await world.standing.catch_up()

    assert world.standing.refuses(record()) is Reason.TOKEN_REVOKED
    # Once is enough.
    await world.standing.catch_up()
    assert [0, 0] == world.store.asked
