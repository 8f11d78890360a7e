"""The cache of key records: never staler than it says, never asking twice, never remembering an error."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator

import pytest

from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord
from gateway.keys.secret import Secret
from gateway.keys.service import NewKey
from gateway.ports import MISSING, StoreUnavailable
from gateway.stores.cached import CachedKeyFinder, KeyCacheCounters
from gateway.stores.memory import MemoryKeyStore
from tests.stores.contract import a_digest, credential_of, service_over
from tests.stores.gated import GatedStore, settle
from tests.support.manual_clock import ManualClock


class Story:
    """A cache before a gated store with one App, and the clock that both live by."""

    def __init__(self, **limits: float) -> None:
        self.clock = ManualClock()
        self.memory = MemoryKeyStore()
        self.store = GatedStore(self.memory)
        self.store.is_open = True
        self.service = service_over(self.memory, self.clock)
        self.app = self.service.create_app("A", key_limit=1_000)
        self.finder = CachedKeyFinder(self.store, self.clock, **limits)  # type: ignore[arg-type]  # ints among them

    def key(self) -> NewKey:
        return self.service.create_key(self.app.id, name="k", scopes=["S"])

    def ask(self, credential: Credential) -> asyncio.Task[KeyRecord | None]:
        return asyncio.create_task(self.finder.find(credential))

    @property
    def counters(self) -> KeyCacheCounters:
        return self.finder.counters


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    story = Story()
    yield story
    await story.finder.aclose()


def unknown(number: int) -> Credential:
    return Credential(CredentialKind.API_KEY, KeyId(f"xk{number:013}"), a_digest(number))


# -- what is held, and for how long


async def test_a_record_is_asked_for_once_and_then_held(story: Story) -> None:
    asked = credential_of(story.key())
    assert story.finder.cached(asked.digest) == MISSING

    found = await story.finder.find(asked)

    assert found is not None
    assert found is story.finder.cached(asked.digest)
    assert (
        story.store.asked,
        story.counters.hits,
        story.counters.misses,
        story.counters.unknown_hits,
    ) == (1, 1, 1, 0)


async def test_an_unknown_token_is_asked_for_once_and_then_known_to_be_unknown(story: Story) -> None:
    assert await story.finder.find(unknown(1)) is None

    assert story.finder.cached(unknown(1).digest) is None
    assert (story.store.asked, story.counters.unknown_hits, story.counters.hits) == (1, 1, 0)


async def test_a_record_is_held_for_its_ttl_and_not_an_instant_longer(story: Story) -> None:
    asked = credential_of(story.key())
    found = await story.finder.find(asked)

    story.clock.advance(29.999)
    assert found is story.finder.cached(asked.digest)
    story.clock.advance(0.001)
    assert story.finder.cached(asked.digest) == MISSING


async def test_an_unknown_token_is_held_for_its_own_shorter_ttl(story: Story) -> None:
    await story.finder.find(unknown(1))

    story.clock.advance(4.999)
    assert story.finder.cached(unknown(1).digest) is None
    story.clock.advance(0.001)
    assert story.finder.cached(unknown(1).digest) == MISSING


async def test_a_wall_clock_that_is_set_back_or_on_changes_no_ttl(story: Story) -> None:
    asked = credential_of(story.key())
    found = await story.finder.find(asked)

    story.clock.step(-3_600)
    assert found is story.finder.cached(asked.digest)
    story.clock.step(7_200)
    assert found is story.finder.cached(asked.digest)
    story.clock.advance(30)
    assert story.finder.cached(asked.digest) == MISSING


async def test_the_age_of_an_answer_counts_from_the_question(story: Story) -> None:
    asked = credential_of(story.key())
    story.store.is_open = False
    task = story.ask(asked)
    await settle()
    story.clock.advance(20)
    story.store.let_go()
    await task

    story.clock.advance(9)
    assert story.finder.cached(asked.digest) != MISSING
    story.clock.advance(1)
    assert story.finder.cached(asked.digest) == MISSING


async def test_a_ttl_of_zero_turns_the_cache_off() -> None:
    story = Story(ttl_seconds=0.0, unknown_ttl_seconds=0.0)
    asked = credential_of(story.key())
    await story.finder.find(asked)
    await story.finder.find(unknown(1))

    assert story.finder.cached(asked.digest) == MISSING
    assert story.finder.cached(unknown(1).digest) == MISSING


async def test_a_known_id_with_another_secret_is_an_unknown_token_and_evicts_nothing(story: Story) -> None:
    asked = credential_of(story.key())
    found = await story.finder.find(asked)
    guess = Credential(CredentialKind.API_KEY, asked.key_id, a_digest(1))

    assert await story.finder.find(guess) is None

    assert story.finder.cached(guess.digest) is None
    assert found is story.finder.cached(asked.digest)
    assert (story.finder.known_count, story.finder.unknown_count) == (1, 1)


async def test_a_legacy_key_is_held_and_forgotten_by_its_id_like_any_other(story: Story) -> None:
    token = Secret("e5c3b842284045d98ed042814f31543f")
    key = story.service.import_legacy_key(story.app.id, token, name="old", scopes=["S"])
    digest = story.memory.backup().digests[key.id]
    asked = Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest)
    found = await story.finder.find(asked)
    assert found is story.finder.cached(digest)

    story.finder.forget_key(key.id)

    assert story.finder.cached(digest) == MISSING


# -- bounds


async def test_a_flood_of_unknown_tokens_evicts_no_known_key() -> None:
    story = Story(max_entries=2, max_unknown=3)
    asked = [credential_of(story.key()) for _ in range(2)]
    found = [await story.finder.find(each) for each in asked]

    for number in range(100):
        await story.finder.find(unknown(number))

    assert found == [story.finder.cached(each.digest) for each in asked]
    assert (story.finder.known_count, story.finder.unknown_count) == (2, 3)
    assert (story.counters.evictions, story.counters.unknown_evictions) == (0, 97)


async def test_the_oldest_record_makes_room() -> None:
    story = Story(max_entries=2)
    asked = [credential_of(story.key()) for _ in range(3)]
    for each in asked:
        await story.finder.find(each)

    held = [story.finder.cached(each.digest) != MISSING for each in asked]
    assert held == [False, True, True]
    assert (story.finder.known_count, story.counters.evictions) == (2, 1)


async def test_a_large_cache_that_is_full_drops_a_small_part_at_once_and_the_oldest_first() -> None:
    story = Story(max_entries=600)
    asked = [credential_of(story.key()) for _ in range(601)]
    for each in asked:
        await story.finder.find(each)

    held = [story.finder.cached(each.digest) != MISSING for each in asked]
    assert held == [False] * 3 + [True] * 598
    assert (story.finder.known_count, story.counters.evictions) == (598, 3)


async def test_entries_that_are_gone_take_no_memory_for_long() -> None:
    story = Story(max_entries=100)
    asked = [credential_of(story.key()) for _ in range(100)]
    for each in asked:
        await story.finder.find(each)
    fresh = [sys.getsizeof(table) for table in (story.finder._known, story.finder._digests)]

    for number in range(20_000):
        story.finder.forget_key(asked[number % 100].key_id)
        await story.finder.find(asked[number % 100])
        assert story.finder._holes <= 1_025

    assert 100 == story.finder.known_count
    story.finder._close_holes()
    assert fresh == [sys.getsizeof(table) for table in (story.finder._known, story.finder._digests)]
    assert [story.finder._known[each.digest].principal.key_id for each in asked] == [each.key_id for each in asked]


async def test_where_memory_is_short_the_older_half_goes_and_the_last_thousand_stay(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R29
    monkeypatch.setattr("gateway.stores.cached.LEAST_ENTRIES", 10)
    asked = [credential_of(story.key()) for _ in range(30)]
    for each in asked:
        await story.finder.find(each)
    for number in range(15):
        await story.finder.find(unknown(number))

    story.finder.shrink()

    assert [False] * 15 + [True] * 15 == [story.finder.cached(each.digest) is not MISSING for each in asked]
    assert [False] * 5 + [True] * 10 == [
        story.finder.cached(unknown(number).digest) is not MISSING for number in range(15)
    ]
    story.finder.shrink()
    story.finder.shrink()
    assert (10, 10) == (story.finder.known_count, story.finder.unknown_count)
    assert (20, 5) == (story.counters.evictions, story.counters.unknown_evictions)
    # What is left is still forgotten by its key.
    story.finder.forget_key(asked[29].key_id)
    assert story.finder.cached(asked[29].digest) is MISSING


async def test_a_record_asked_for_again_is_the_youngest() -> None:
    story = Story(max_entries=2, ttl_seconds=10.0)
    asked = [credential_of(story.key()) for _ in range(3)]
    await story.finder.find(asked[0])
    await story.finder.find(asked[1])
    await story.finder.find(asked[0])
    await story.finder.find(asked[2])

    assert [story.finder.cached(each.digest) != MISSING for each in asked] == [True, False, True]


async def test_an_unknown_token_asked_for_again_is_the_youngest() -> None:
    story = Story(max_unknown=2)
    await story.finder.find(unknown(0))
    await story.finder.find(unknown(1))
    await story.finder.find(unknown(0))
    await story.finder.find(unknown(2))

    assert [None, MISSING, None] == [story.finder.cached(unknown(number).digest) for number in range(3)]


async def test_a_token_is_held_as_known_or_as_unknown_and_never_as_both(story: Story) -> None:
    without = story.memory.backup()
    asked = credential_of(story.key())
    with_key = story.memory.backup()
    for contents, counts in ((without, (0, 1)), (with_key, (1, 0)), (without, (0, 1))):
        story.memory.restore(contents)
        story.clock.advance(30)
        await story.finder.find(asked)

        assert counts == (story.finder.known_count, story.finder.unknown_count)
        assert MISSING != story.finder.cached(asked.digest)


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_the_bounds_hold_at_the_limit_and_one_beyond(limit: int) -> None:
    story = Story(max_entries=limit, max_unknown=limit)
    for number in range(limit + 1):
        await story.finder.find(credential_of(story.key()))
        await story.finder.find(unknown(number))

    assert (limit, limit) == (story.finder.known_count, story.finder.unknown_count)


async def test_too_many_look_ups_at_once_are_turned_away_and_cost_the_store_nothing() -> None:
    story = Story(max_lookups=3)
    story.store.is_open = False
    tasks = [story.ask(unknown(number)) for number in range(3)]
    await settle()

    with pytest.raises(StoreUnavailable, match="3 look-ups are waiting for the key store already"):
        await story.finder.find(unknown(4))
    joined = story.ask(unknown(0))
    await settle()
    story.store.let_go()

    assert await asyncio.gather(*tasks, joined) == [None] * 4
    assert (story.store.asked, story.counters.turned_away, story.finder.lookups_in_progress) == (3, 1, 0)
    story.store.is_open = True
    assert await story.finder.find(unknown(4)) is None


async def test_a_flood_of_unknown_tokens_leaves_places_for_keys_in_use() -> None:
    story = Story(max_lookups=8, ttl_seconds=30.0)
    used = credential_of(story.key())
    await story.finder.find(used)
    story.clock.advance(31.0)
    story.store.is_open = False
    flood = [story.ask(unknown(number)) for number in range(6)]
    await settle()

    with pytest.raises(StoreUnavailable, match="6 look-ups are waiting"):
        await story.finder.find(unknown(7))
    asked = story.ask(used)
    await settle()
    story.store.let_go()

    record = await asked
    assert record is not None
    assert record.digest == used.digest
    assert await asyncio.gather(*flood) == [None] * 6


# -- one question for all


async def test_fifty_look_ups_at_once_are_one_question(story: Story) -> None:
    asked = credential_of(story.key())
    story.store.is_open = False
    tasks = [story.ask(asked) for _ in range(50)]
    await settle()
    story.store.let_go()

    found = await asyncio.gather(*tasks)

    assert story.store.asked == 1
    assert all(each is found[0] is not None for each in found)


@pytest.mark.parametrize("leaver", [0, 1, 2], ids=["the first", "a later one", "the last"])
async def test_one_that_is_cancelled_takes_nobody_with_it(story: Story, leaver: int) -> None:
    asked = credential_of(story.key())
    story.store.is_open = False
    tasks = [story.ask(asked) for _ in range(3)]
    await settle()

    tasks[leaver].cancel()
    await settle()
    story.store.let_go()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[leaver], asyncio.CancelledError)
    assert sum(isinstance(answer, KeyRecord) for answer in answers) == 2
    assert story.store.asked == 1
    assert story.finder.cached(asked.digest) != MISSING


async def test_an_answer_that_nobody_waits_for_any_more_is_still_kept(story: Story) -> None:
    asked = credential_of(story.key())
    story.store.is_open = False
    task = story.ask(asked)
    await settle()
    task.cancel()
    await settle()
    story.store.let_go()
    await settle()

    assert story.finder.cached(asked.digest) != MISSING
    assert story.finder.lookups_in_progress == 0


# -- errors


@pytest.mark.parametrize("fault", [StoreUnavailable("the disk is gone"), ZeroDivisionError("a bug")])
async def test_an_error_reaches_all_that_wait_and_is_not_remembered(story: Story, fault: Exception) -> None:
    asked = credential_of(story.key())
    story.store.is_open = False
    story.store.fault = fault
    tasks = [story.ask(asked) for _ in range(50)]
    await settle()
    story.store.let_go()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert {StoreUnavailable} == {type(answer) for answer in answers}
    assert len({id(answer) for answer in answers}) == 50
    assert story.finder.cached(asked.digest) == MISSING
    assert story.store.asked == 1
    story.store.fault = None
    story.store.is_open = True
    assert await story.finder.find(asked) is not None


async def test_an_error_that_nobody_waits_for_any_more_disturbs_nobody(story: Story) -> None:
    story.store.is_open = False
    story.store.fault = StoreUnavailable("the disk is gone")
    task = story.ask(unknown(1))
    await settle()
    task.cancel()
    await settle()
    story.store.let_go()
    await settle()

    assert (story.store.asked, story.finder.lookups_in_progress) == (1, 0)


async def test_a_store_that_does_not_answer_in_time_is_unavailable() -> None:
    story = Story(lookup_timeout_seconds=0.0)
    story.store.is_open = False

    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.0 s"):
        await story.finder.find(unknown(1))

    assert story.finder.lookups_in_progress == 0
    assert story.finder.cached(unknown(1).digest) == MISSING


async def test_with_the_store_down_what_is_held_is_served_until_its_ttl_and_then_nothing_is(story: Story) -> None:
    asked = credential_of(story.key())
    found = await story.finder.find(asked)
    story.memory.is_down = True

    assert found is story.finder.cached(asked.digest)
    story.clock.advance(30)
    assert story.finder.cached(asked.digest) == MISSING
    with pytest.raises(StoreUnavailable):
        await story.finder.find(asked)


async def test_closing_ends_the_look_ups_under_way(story: Story) -> None:
    story.store.is_open = False
    task = story.ask(unknown(1))
    await settle()

    await story.finder.aclose()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert story.finder.lookups_in_progress == 0


# -- forgetting


async def test_a_forgotten_key_is_asked_for_again_and_the_others_are_not(story: Story) -> None:
    new, other = story.key(), story.key()
    for each in (new, other):
        await story.finder.find(credential_of(each))
    story.service.revoke_key(new.key.id)

    story.finder.forget_key(new.key.id)

    assert story.finder.cached(credential_of(new).digest) == MISSING
    assert story.finder.cached(credential_of(other).digest) != MISSING
    again = await story.finder.find(credential_of(new))
    assert again is not None
    assert KeyState.REVOKED is again.state


async def test_a_key_made_after_its_token_was_tried_works_as_soon_as_it_is_announced(story: Story) -> None:
    # The token is tried before its key is written: the same random bytes come a second time.
    before = story.memory.backup()
    new = story.key()
    asked = credential_of(new)
    after = story.memory.backup()
    story.memory.restore(before)
    assert await story.finder.find(asked) is None
    assert story.finder.cached(asked.digest) is None

    story.memory.restore(after)
    story.finder.forget_key(new.key.id)

    assert story.finder.cached(asked.digest) == MISSING
    assert await story.finder.find(asked) is not None


async def test_a_forgotten_app_takes_its_keys_along_and_no_others(story: Story) -> None:
    other_app = story.service.create_app("B")
    mine = [credential_of(story.key()) for _ in range(3)]
    theirs = credential_of(story.service.create_key(other_app.id, name="k", scopes=["S"]))
    for each in (*mine, theirs):
        await story.finder.find(each)

    story.finder.forget_app(story.app.id)

    assert {MISSING} == {story.finder.cached(each.digest) for each in mine}
    assert story.finder.cached(theirs.digest) != MISSING
    assert story.finder.known_count == 1


async def test_after_forgetting_all_nothing_is_held(story: Story) -> None:
    asked = credential_of(story.key())
    await story.finder.find(asked)
    await story.finder.find(unknown(1))

    story.finder.forget_all()

    assert (story.finder.known_count, story.finder.unknown_count) == (0, 0)
    assert story.finder.cached(asked.digest) == MISSING
    assert story.finder.cached(unknown(1).digest) == MISSING


@pytest.mark.parametrize("change", ["key", "app", "all", "another key"])
async def test_an_answer_to_a_question_put_before_a_change_is_not_kept_after_it(story: Story, change: str) -> None:
    new = story.key()
    asked = credential_of(new)
    story.store.is_open = False
    early = story.ask(asked)
    await settle()
    story.service.revoke_key(new.key.id)
    match change:
        case "key":
            story.finder.forget_key(new.key.id)
        case "app":
            story.finder.forget_app(AppId(story.app.id))
        case "all":
            story.finder.forget_all()
        case _:
            story.finder.forget_key(KeyId("another"))

    late = story.ask(asked)
    await settle()
    story.store.let_go()
    before, after = await early, await late

    assert before is not None
    assert after is not None
    assert (before.state, after.state) == (KeyState.ACTIVE, KeyState.REVOKED)
    assert after is story.finder.cached(asked.digest)
    assert story.store.asked == 2


async def test_an_early_answer_that_comes_last_does_not_replace_the_late_one(story: Story) -> None:
    new = story.key()
    asked = credential_of(new)
    story.store.is_open = False
    early = story.ask(asked)
    await settle()
    story.service.revoke_key(new.key.id)
    story.finder.forget_key(new.key.id)
    late = story.ask(asked)
    await settle()

    story.store.let_go(1)
    after = await late
    story.store.let_go(0)
    await early

    assert after is story.finder.cached(asked.digest)
    assert after is not None
    assert KeyState.REVOKED is after.state


async def test_an_early_answer_does_not_hide_the_late_question_from_those_who_ask_next(story: Story) -> None:
    new = story.key()
    asked = credential_of(new)
    story.store.is_open = False
    early = story.ask(asked)
    await settle()
    story.finder.forget_key(new.key.id)
    late = story.ask(asked)
    await settle()
    story.store.let_go(0)
    await early

    next_one = story.ask(asked)
    await settle()
    story.store.let_go()

    assert await late is await next_one
    assert 2 == story.store.asked


async def test_forgetting_is_harmless_where_nothing_is_held(story: Story) -> None:
    story.finder.forget_key(KeyId("nobody"))
    story.finder.forget_app(AppId("nobody"))
    story.finder.forget_all()

    assert (story.finder.known_count, story.finder.unknown_count) == (0, 0)


async def test_a_token_of_a_key_written_anew_leaves_no_second_entry(story: Story) -> None:
    # A store swapped for another may know the id with another digest.
    new = story.key()
    old = await story.finder.find(credential_of(new))
    contents = story.memory.backup()
    contents.digests[new.key.id] = a_digest(7)
    again = Credential(CredentialKind.API_KEY, new.key.id, KeyDigest(a_digest(7)))

    await story.finder.find(again)

    assert old is not None
    assert story.finder.cached(old.digest) == MISSING
    assert story.finder.known_count == 1
    story.finder.forget_key(new.key.id)
    assert story.finder.known_count == 0


async def test_random_use_keeps_the_index_and_the_records_in_step() -> None:
    dice = random.Random(5)
    story = Story(max_entries=5, max_unknown=5)
    keys = [story.key() for _ in range(12)]
    for _ in range(500):
        match dice.randrange(6):
            case 0:
                story.finder.forget_key(dice.choice(keys).key.id)
            case 1:
                story.clock.advance(dice.random() * 20)
            case 2:
                await story.finder.find(unknown(dice.randrange(20)))
            case _:
                await story.finder.find(credential_of(dice.choice(keys)))
        assert story.finder.known_count <= 5
        assert story.finder.unknown_count <= 5

    for each in keys:
        story.finder.forget_key(each.key.id)
    assert story.finder.known_count == 0
