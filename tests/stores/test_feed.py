"""The change feed: what happened is forgotten by the cache, nothing is skipped, and gaps empty it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.credential import AppId, KeyId
from gateway.keys.service import NewKey
from gateway.ports import KeyChange, StoreUnavailable
from gateway.stores.feed import ChangeFeed
from gateway.stores.memory import MemoryKeyStore
from tests.stores.contract import NOTE, an_app, service_over
from tests.support.manual_clock import ManualClock


class Cache:
    """Writes down what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def forget_key(self, key_id: KeyId) -> None:
        self.told.append(f"key {key_id}")

    def forget_app(self, app_id: AppId) -> None:
        self.told.append(f"app {app_id}")

    def forget_all(self) -> None:
        self.told.append("all")


class Story:
    """A feed from a store in memory to a cache that listens."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryKeyStore()
        self.service = service_over(self.store, self.clock)
        self.app = self.service.create_app("A")
        self.cache = Cache()
        self.slept: list[float] = []
        self.feed = ChangeFeed(self.store, self.cache, self.clock, sleep=self._sleep)
        self.stop_after = 0

    def key(self) -> NewKey:
        return self.service.create_key(self.app.id, name="k", scopes=["S"])

    async def poll(self) -> list[str]:
        """What one poll told the cache."""
        self.cache.told.clear()
        await self.feed.poll_once()
        return self.cache.told

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)
        if len(self.slept) >= self.stop_after:
            raise asyncio.CancelledError


@pytest.fixture
def story() -> Story:
    return Story()


async def test_the_first_contact_empties_the_cache_and_starts_at_the_newest_change(story: Story) -> None:
    story.key()

    assert await story.poll() == ["all"]
    assert story.feed.position == 2
    assert await story.poll() == []


async def test_a_feed_that_begins_with_an_empty_store_misses_nothing() -> None:
    clock = ManualClock()
    store = MemoryKeyStore()
    cache = Cache()
    feed = ChangeFeed(store, cache, clock)
    await feed.poll_once()
    service = service_over(store, clock)

    app = service.create_app("A")
    await feed.poll_once()

    assert ["all", f"app {app.id}"] == cache.told


async def test_each_change_is_told_once_in_order(story: Story) -> None:
    await story.poll()
    new = story.key()
    story.service.revoke_key(new.key.id)
    story.service.disable_app(story.app.id)

    told = await story.poll()

    assert [f"key {new.key.id}", f"key {new.key.id}", f"app {story.app.id}"] == told
    assert story.feed.position == 4
    assert await story.poll() == []


async def test_more_changes_than_one_answer_holds_are_all_told(story: Story) -> None:
    await story.poll()
    with story.store.writing() as writing:
        for number in range(2_500):
            writing.add_app(an_app(number), NOTE)

    assert [f"app app{number}" for number in range(2_500)] == await story.poll()


async def test_the_lag_is_from_the_stores_writing_to_here(story: Story) -> None:
    await story.poll()
    story.key()
    story.clock.advance(0.75)

    await story.poll()

    assert story.feed.lag_seconds == 0.75


async def test_a_change_from_a_clock_that_is_ahead_has_no_negative_lag(story: Story) -> None:
    await story.poll()
    story.key()
    story.clock.step(-60)

    await story.poll()

    assert story.feed.lag_seconds == 0.0


async def test_contact_is_the_last_poll_that_was_answered(story: Story) -> None:
    never = story.feed.last_contact
    await story.poll()
    first = story.feed.last_contact
    story.clock.advance(3)
    story.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await story.poll()

    assert never is None
    assert first == story.feed.last_contact == story.clock.monotonic() - 3


async def test_contact_counts_from_the_question_and_not_from_a_slow_answer() -> None:
    clock = ManualClock()

    class Slow(MemoryKeyStore):
        async def changes_since(self, position: int) -> list[KeyChange]:
            found = await super().changes_since(position)
            clock.advance(2)
            return found

    feed = ChangeFeed(Slow(), Cache(), clock)
    asked_at = clock.monotonic()
    await feed.poll_once()

    assert feed.last_contact == asked_at < clock.monotonic()


@pytest.mark.parametrize(("poll_seconds", "pauses"), [(0.5, [1.0, 1.0, 0.5]), (5.0, [1.0, 1.0, 5.0])])
async def test_a_store_that_is_down_is_asked_again_within_a_second(
    story: Story, poll_seconds: float, pauses: list[float]
) -> None:
    story.store.is_down = True

    async def sleep(seconds: float) -> None:
        story.slept.append(seconds)
        story.store.is_down = len(story.slept) < 2
        if len(story.slept) == 3:
            raise asyncio.CancelledError

    feed = ChangeFeed(story.store, story.cache, story.clock, poll_seconds=poll_seconds, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await feed.follow()

    assert pauses == story.slept


async def test_after_a_short_outage_what_happened_in_it_is_caught_up(story: Story) -> None:
    await story.poll()
    new = story.key()
    story.store.is_down = True
    story.clock.advance(30)
    with pytest.raises(StoreUnavailable):
        await story.poll()
    story.store.is_down = False

    assert [f"key {new.key.id}"] == await story.poll()


async def test_after_an_outage_longer_than_the_ttl_nothing_that_is_held_is_trusted(story: Story) -> None:
    await story.poll()
    story.key()
    story.clock.advance(30.001)

    assert await story.poll() == ["all"]
    assert story.feed.position == 2


@pytest.mark.parametrize("changes_after", [0, 1, 5], ids=["shorter", "as long", "longer"])
async def test_a_restored_backup_empties_the_cache_however_much_happened_since(
    story: Story, changes_after: int
) -> None:
    backup = story.store.backup()
    story.key()
    await story.poll()
    story.store.restore(backup)
    for _ in range(changes_after):
        story.clock.advance(1)
        story.key()

    assert await story.poll() == ["all"]
    assert 1 + changes_after == story.feed.position
    new = story.key()
    assert [f"key {new.key.id}"] == await story.poll()


async def test_a_store_restored_to_emptiness_is_followed_from_there() -> None:
    story = Story()
    empty = MemoryKeyStore().backup()
    await story.poll()

    story.store.restore(empty)

    assert await story.poll() == ["all"]
    assert story.feed.position == 0
    app = story.service.create_app("B")
    assert [f"app {app.id}"] == await story.poll()


async def test_a_change_during_the_first_contact_is_not_lost(story: Story) -> None:
    class Hurried(MemoryKeyStore):
        """Writes a change between its two answers."""

        async def position(self) -> int:
            newest = await story.store.position()
            story.key()
            return newest

        async def changes_since(self, position: int) -> list[KeyChange]:
            return await story.store.changes_since(position)

    feed = ChangeFeed(Hurried(), story.cache, story.clock)

    await feed.poll_once()

    assert story.cache.told == ["all"]
    assert 2 == feed.position == await story.store.position()


async def test_following_polls_twice_a_second(story: Story) -> None:
    story.stop_after = 4
    with pytest.raises(asyncio.CancelledError):
        await story.feed.follow()

    assert story.slept == [0.5, 0.5, 0.5, 0.5]


async def test_following_goes_on_through_an_outage_at_most_a_second_apart(story: Story) -> None:
    story.stop_after = 3
    story.store.is_down = True
    with pytest.raises(asyncio.CancelledError):
        await story.feed.follow()
    story.store.is_down = False
    story.stop_after = 5
    with pytest.raises(asyncio.CancelledError):
        await story.feed.follow()

    assert story.slept == [1.0, 1.0, 1.0, 0.5, 0.5]


async def test_following_goes_on_through_what_should_never_happen(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(position: int) -> list[KeyChange]:
        raise RuntimeError(position)

    await story.poll()
    monkeypatch.setattr(story.store, "changes_since", broken)
    story.stop_after = 2
    with pytest.raises(asyncio.CancelledError):
        await story.feed.follow()
    assert ["the change feed could not be read"] * 2 == [record.message for record in caplog.records]

    monkeypatch.undo()
    new = story.key()
    assert [f"key {new.key.id}"] == await story.poll()


async def test_an_operator_is_told_that_the_store_is_another_one(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    backup = story.store.backup()
    story.key()
    await story.poll()
    assert caplog.records == []

    story.store.restore(backup)
    await story.poll()
    await story.poll()

    (said,) = caplog.records
    assert "change 2 is not in its history, which ends with 1" in said.message


class Tokens:
    """Counts how often it was asked to read, and may fail."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_down = False

    async def refresh(self) -> None:
        self.reads += 1
        if self.is_down:
            raise StoreUnavailable("down")


async def test_tokens_are_read_again_after_a_restart_an_app_and_a_revocation_and_never_else(story: Story) -> None:
    tokens = Tokens()
    feed = ChangeFeed(story.store, story.cache, story.clock, on_tokens=tokens.refresh)

    async def reads() -> int:
        tokens.reads = 0
        await feed.poll_once()
        return tokens.reads

    assert await reads() == 1
    assert await reads() == 0
    story.key()
    assert await reads() == 0
    story.service.disable_app(story.app.id)
    story.service.enable_app(story.app.id)
    assert await reads() == 1
    story.service.revoke_tokens(issuer="i", user_id="u")
    assert await reads() == 1
    story.clock.advance(30.001)
    assert await reads() == 1


async def test_a_revocation_of_tokens_forgets_no_key(story: Story) -> None:
    await story.poll()
    story.service.revoke_tokens(app_id=story.app.id)

    assert await story.poll() == []
    assert story.feed.position == 2


async def test_tokens_that_could_not_be_read_are_read_with_the_next_poll(story: Story) -> None:
    tokens = Tokens()
    feed = ChangeFeed(story.store, story.cache, story.clock, on_tokens=tokens.refresh)
    tokens.is_down = True
    with pytest.raises(StoreUnavailable):
        await feed.poll_once()
    never = feed.last_contact
    tokens.is_down = False

    await feed.poll_once()

    assert never is None
    assert tokens.reads == 2


async def test_a_feed_that_is_woken_polls_at_once_and_not_more_often_than_it_may() -> None:
    polls = 0

    class Counting(MemoryKeyStore):
        async def changes_since(self, position: int) -> list[KeyChange]:
            nonlocal polls
            polls += 1
            return await super().changes_since(position)

    feed = ChangeFeed(Counting(), Cache(), ManualClock(), poll_seconds=3_600.0)
    following = asyncio.create_task(feed.follow())
    while not polls:
        await asyncio.sleep(0)

    began = asyncio.get_running_loop().time()
    while polls < 6:
        feed.wake()
        await asyncio.sleep(0)
    took = asyncio.get_running_loop().time() - began
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    # H20: a flood of wake-ups is one poll each 20 ms; the first poll ends with a look at an empty history.
    assert took >= 4 * 0.02 * 0.9
