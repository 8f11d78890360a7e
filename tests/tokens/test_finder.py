"""User tokens in memory: verified once, asked at each use whether they still count, never older than they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.core.credential import AppId, Credential, CredentialKind, digest_of
from gateway.core.principal import UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.ports import MISSING
from gateway.tokens import finder as finder_module
from gateway.tokens.fetching import IssuerClient, IssuerUnreachable
from gateway.tokens.finder import TURN_TOKENS, VerifiedUsers
from gateway.tokens.introspection import Introspector
from gateway.tokens.jwks import KeyRing
from gateway.tokens.standing import Standing
from gateway.tokens.verify import record_of, verify
from tests.support.manual_clock import ManualClock
from tests.support.values import changed
from tests.tokens.support import CLAIMS, EC_KEY, ISS, ISSUER, JWKS, NOW, MemoryTokens, credential, jwk, jwks, token


class World:
    """A finder and everything around it, each part in a test's hand."""

    def __init__(self, **arguments: Any) -> None:
        self.clock = ManualClock()
        self.store = MemoryTokens()
        self.published: bytes | Exception = JWKS
        self.asked = 0
        self.held: asyncio.Event | None = None
        self.silence = 0.0
        self.standing = Standing(self.store, self.clock, silence_seconds=lambda: self.silence)
        self.ring = KeyRing("accounts", self._read, self.clock, algorithms=("ES256", "RS256"))
        self.finder = VerifiedUsers({ISS: ISSUER}, {"accounts": self.ring}, self.standing, self.clock, **arguments)

    async def _read(self) -> bytes:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.published, Exception):
            raise self.published
        return self.published

    async def found(self, text: bytes) -> UserRecord | Refusal | CannotDecide:
        return await self.finder.find(credential(text))

    async def why(self, text: bytes) -> Reason:
        answer = await self.found(text)
        assert not isinstance(answer, UserRecord)
        return answer.reason

    def memory(self, text: bytes) -> object:
        """What memory answers: the reason, the record, or `MISSING`."""
        answer = self.finder.cached(credential(text))
        return answer.reason if isinstance(answer, (Refusal, CannotDecide)) else answer


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.standing.refresh()
    await made.ring.refresh()
    yield made
    await made.finder.aclose()


GOOD = token()
FORGED = GOOD[:-10] + b"AAAAAAAAAA"


async def test_a_good_token_is_verified_once_and_then_remembered(world: World) -> None:
    assert world.memory(GOOD) is MISSING

    record = await world.found(GOOD)

    assert isinstance(record, UserRecord)
    assert world.memory(GOOD) is record
    counters = world.finder.counters
    assert (1, 0, 1, 1) == (counters.hits, counters.refused_hits, counters.misses, counters.verified)


async def test_h4_a_refused_token_is_remembered_briefly(world: World) -> None:
    assert Reason.TOKEN_UNKNOWN is await world.why(FORGED)
    assert Reason.TOKEN_UNKNOWN is world.memory(FORGED)

    world.clock.advance(5)

    assert world.memory(FORGED) is MISSING


@pytest.mark.parametrize("is_cached", [False, True])
async def test_a_token_that_was_revoked_since_is_refused_from_memory_too(world: World, is_cached: bool) -> None:
    if is_cached:
        await world.found(GOOD)
    world.store.revoke(token_id="token-1")
    await world.standing.refresh()

    assert Reason.TOKEN_REVOKED is await world.why(GOOD)
    assert Reason.TOKEN_REVOKED is world.memory(GOOD)


async def test_e14_h7_an_app_that_was_disabled_since_is_refused_from_memory_too(world: World) -> None:
    await world.found(GOOD)
    world.store.apps[AppId("app-1")] = False
    await world.standing.refresh()

    assert Reason.APP_INACTIVE is world.memory(GOOD)


async def test_h17_when_revocations_may_have_been_missed_nothing_is_decided(world: World) -> None:
    await world.found(GOOD)
    world.silence = 31.0

    assert Reason.STORE_UNAVAILABLE is world.memory(GOOD)
    assert Reason.STORE_UNAVAILABLE is await world.why(token(jti="another"))


async def test_f39_memory_never_outlives_the_token(world: World) -> None:
    text = token(exp=NOW + 20)
    await world.found(text)

    world.clock.advance(49.9)
    assert isinstance(world.memory(text), UserRecord)
    world.clock.advance(0.1)
    assert world.memory(text) is MISSING
    assert Reason.TOKEN_EXPIRED is await world.why(text)


async def test_h21_a_wall_clock_that_is_set_back_extends_nothing(world: World) -> None:
    await world.found(GOOD)
    world.clock.step(-3_600)
    world.clock.advance(300)

    assert world.memory(GOOD) is MISSING


async def test_memory_never_outlives_the_keys_that_verified(world: World) -> None:
    world.published = IssuerUnreachable("away")
    world.clock.advance(3_550)
    late = token(iat=NOW + 3_550, exp=NOW + 7_000)
    assert isinstance(await world.found(late), UserRecord)

    world.clock.advance(50)

    assert world.memory(late) is MISSING
    assert Reason.ISSUER_UNAVAILABLE is await world.why(late)


async def test_f10_when_a_key_is_withdrawn_the_tokens_that_it_verified_are_forgotten(world: World) -> None:
    await world.found(GOOD)
    world.published = jwks(jwk(EC_KEY, "other"))

    await world.ring.refresh()

    assert world.memory(GOOD) is MISSING
    assert Reason.TOKEN_UNKNOWN is await world.why(GOOD)


async def test_a_token_refused_for_an_unknown_key_is_tried_again_when_the_key_comes(world: World) -> None:
    text = token(header={"kid": "next"})
    assert Reason.TOKEN_UNKNOWN is await world.why(text)
    assert Reason.TOKEN_UNKNOWN is world.memory(text)
    world.published = jwks(jwk(EC_KEY, "next"))
    await world.ring.refresh()

    assert world.memory(text) is MISSING
    assert isinstance(await world.found(text), UserRecord)


async def test_f9_an_unknown_key_is_looked_for_at_its_issuer_when_that_is_due(world: World) -> None:
    text = token(header={"kid": "next"})
    world.published = jwks(jwk(EC_KEY, "ec"), jwk(EC_KEY, "next"))
    world.clock.advance(10)

    assert isinstance(await world.found(text), UserRecord)
    assert 2 == world.asked


async def test_r34_with_the_issuer_away_known_keys_go_on_and_unknown_ones_cannot_be_decided(world: World) -> None:
    text = token(header={"kid": "next"})
    world.published = IssuerUnreachable("away")
    world.clock.advance(10)

    assert Reason.ISSUER_UNAVAILABLE is await world.why(text)
    assert isinstance(await world.found(GOOD), UserRecord)
    # Not remembered: the next one asks again (H5).
    assert world.memory(text) is MISSING

    world.published = jwks(jwk(EC_KEY, "ec"), jwk(EC_KEY, "next"))
    world.clock.advance(10)
    assert isinstance(await world.found(text), UserRecord)


# -- many at once


async def test_h14_many_first_uses_of_one_token_are_one_verification(world: World) -> None:
    answers = await asyncio.gather(*(world.found(GOOD) for _ in range(1_000)))

    assert 1 == world.finder.counters.verified
    assert all(isinstance(answer, UserRecord) for answer in answers)


async def test_h15_the_first_to_ask_may_leave(world: World) -> None:
    world.held = asyncio.Event()
    world.clock.advance(10)
    text = token(header={"kid": "next"})
    world.published = jwks(jwk(EC_KEY, "next"))
    first = asyncio.create_task(world.found(text))
    second = asyncio.create_task(world.found(text))
    for _ in range(5):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    world.held.set()

    assert isinstance(await second, UserRecord)
    assert first.cancelled()


async def test_k13_a_flood_is_verified_a_few_at_a_time_and_the_loop_goes_on() -> None:
    world = World(max_waiting=200)
    await world.standing.refresh()
    await world.ring.refresh()
    flood = [asyncio.create_task(world.found(token(jti=f"t{number}"))) for number in range(100)]
    verified = []
    while not all(task.done() for task in flood):
        await asyncio.sleep(0)
        verified.append(world.finder.counters.verified)

    steps = [after - before for before, after in zip([0, *verified], verified, strict=False)]
    assert max(steps) <= TURN_TOKENS
    assert 100 == verified[-1]
    await world.finder.aclose()


async def test_k13_what_does_not_fit_into_the_line_is_turned_away_and_known_users_keep_a_place() -> None:
    world = World(max_waiting=8)
    await world.standing.refresh()
    await world.ring.refresh()
    await world.found(GOOD)
    world.clock.advance(301)

    answers = await asyncio.gather(*(world.found(token(jti=f"t{number}")) for number in range(20)), world.found(GOOD))

    reasons = [answer.reason for answer in answers if isinstance(answer, CannotDecide)]
    assert [Reason.OVERLOADED] * 14 == reasons
    assert isinstance(answers[-1], UserRecord)
    assert 14 == world.finder.counters.turned_away
    await world.finder.aclose()


async def test_f9_few_wait_for_a_silent_issuer_and_the_others_are_told_at_once() -> None:
    world = World(max_asking=3)
    await world.standing.refresh()
    await world.ring.refresh()
    world.held = asyncio.Event()
    world.clock.advance(10)
    waiting = [asyncio.create_task(world.found(token(header={"kid": f"k{number}"}))) for number in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)

    told = [task.result() for task in waiting if task.done()]
    assert [Reason.ISSUER_UNAVAILABLE] * 7 == [answer.reason for answer in told if isinstance(answer, CannotDecide)]
    assert isinstance(await world.found(GOOD), UserRecord)

    world.held.set()
    await asyncio.gather(*waiting)
    await world.finder.aclose()


async def test_f9_forged_tokens_of_a_silent_issuer_keep_nobody_from_another_one() -> None:
    asker = Asked(opaque_record)
    asker.issuer = changed(ISSUER, name="sessions")
    world = World(max_asking=8, introspector=asker)
    await world.standing.refresh()
    await world.ring.refresh()
    world.held = asyncio.Event()
    world.clock.advance(10)
    waiting = [asyncio.create_task(world.found(token(header={"kid": f"k{number}"}))) for number in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)

    assert isinstance(await world.finder.find(opaque()), UserRecord)

    world.held.set()
    await asyncio.gather(*waiting)
    await world.finder.aclose()


async def test_k13_made_up_tokens_leave_places_to_those_that_were_good() -> None:
    asker = Slow(opaque_record)
    world = World(max_asking=8, introspector=asker)
    await world.standing.refresh()
    asker.held.set()
    assert isinstance(await world.finder.find(opaque()), UserRecord)
    world.clock.advance(60)
    asker.held.clear()
    made_up = [credential(b"made-up-%d" % number, CredentialKind.USER_OPAQUE) for number in range(20)]
    flood = [asyncio.create_task(world.finder.find(each)) for each in made_up]
    for _ in range(5):
        await asyncio.sleep(0)
    known = asyncio.create_task(world.finder.find(opaque()))
    for _ in range(5):
        await asyncio.sleep(0)

    assert 14 == sum(task.done() for task in flood)
    assert not known.done()

    asker.held.set()
    assert isinstance(await known, UserRecord)
    await asyncio.gather(*flood)
    # Whoever was asked has room again.
    assert isinstance(await world.finder.find(made_up[-1]), UserRecord)
    await world.finder.aclose()


async def test_h13_forged_tokens_evict_no_good_one() -> None:
    world = World(max_refused=10, max_entries=2)
    await world.standing.refresh()
    await world.ring.refresh()
    await world.found(GOOD)

    for number in range(50):
        await world.found(token(jti=f"t{number}", aud="other"))

    assert isinstance(world.memory(GOOD), UserRecord)
    assert (1, 10) == (world.finder.known_count, world.finder.refused_count)


async def test_h13_good_tokens_are_bounded_too() -> None:
    world = World(max_entries=3)
    await world.standing.refresh()
    await world.ring.refresh()

    for number in range(5):
        await world.found(token(jti=f"t{number}"))

    assert 3 == world.finder.known_count
    assert world.memory(token(jti="t0")) is MISSING


async def test_h12_no_text_of_a_token_is_kept(world: World) -> None:
    texts = [GOOD, FORGED]
    for text in texts:
        await world.found(text)

    kept = repr(vars(world.finder))

    assert not any(part.decode() in kept for text in texts for part in text.split(b"."))
    assert {digest_of(GOOD)} == set(world.finder._known)


async def test_a_fault_of_ours_is_no_verdict_and_is_not_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> UserRecord:
        raise RuntimeError("secret")

    monkeypatch.setattr(finder_module, "verify", failing)
    answer = await world.found(GOOD)
    monkeypatch.setattr(finder_module, "verify", verify)

    assert CannotDecide(Reason.INTERNAL_FAULT, "the verification failed (RuntimeError)") == answer
    assert isinstance(await world.found(GOOD), UserRecord)


async def test_who_waits_when_it_ends_is_told_that_it_cannot_be_decided(world: World) -> None:
    world.held = asyncio.Event()
    world.clock.advance(10)
    waiting = asyncio.create_task(world.found(token(header={"kid": "next"})))
    for _ in range(5):
        await asyncio.sleep(0)

    await world.finder.aclose()

    answer = await waiting
    assert isinstance(answer, CannotDecide)
    assert Reason.INTERNAL_FAULT is answer.reason


# -- opaque tokens


class Asked(Introspector):
    """An introspector that answers from a function."""

    def __init__(self, says: Callable[[], UserRecord | Refusal | CannotDecide]) -> None:
        super().__init__(ISSUER, IssuerClient("http://127.0.0.1:9"), "id", "secret", ManualClock())
        self.says = says
        self.asked: list[bytes] = []

    async def ask(self, token: bytes, digest: Any) -> UserRecord | Refusal | CannotDecide:
        self.asked.append(token)
        return self.says()


class Slow(Asked):
    """One that answers when it is let."""

    def __init__(self, says: Callable[[], UserRecord | Refusal | CannotDecide]) -> None:
        super().__init__(says)
        self.held = asyncio.Event()

    async def ask(self, token: bytes, digest: Any) -> UserRecord | Refusal | CannotDecide:
        await self.held.wait()
        return await super().ask(token, digest)


OPAQUE = b"opaque-token"


def opaque() -> Credential:
    return credential(OPAQUE, CredentialKind.USER_OPAQUE)


def opaque_record(**claims: object) -> UserRecord:
    made = record_of({**CLAIMS, **claims}, ISSUER, digest_of(OPAQUE), CredentialKind.USER_OPAQUE, NOW)
    assert isinstance(made, UserRecord)
    return made


async def opaque_world(says: Callable[[], UserRecord | Refusal | CannotDecide]) -> tuple[World, Asked]:
    asked = Asked(says)
    world = World(introspector=asked)
    await world.standing.refresh()
    return world, asked


async def test_what_an_issuer_said_is_remembered_for_a_minute() -> None:
    world, asked = await opaque_world(opaque_record)

    first = await world.finder.find(opaque())
    assert isinstance(first, UserRecord)
    world.clock.advance(59.9)
    assert world.finder.cached(opaque()) is first
    world.clock.advance(0.1)

    assert world.finder.cached(opaque()) is MISSING
    assert [OPAQUE] == asked.asked


async def test_f39_what_an_issuer_said_never_outlives_the_token() -> None:
    world, _ = await opaque_world(lambda: opaque_record(exp=NOW + 1))

    await world.finder.find(opaque())
    world.clock.advance(31)

    assert world.finder.cached(opaque()) is MISSING


async def test_an_inactive_token_is_remembered_briefly_and_silence_is_not() -> None:
    answers: list[UserRecord | Refusal | CannotDecide] = [
        CannotDecide(Reason.ISSUER_UNAVAILABLE),
        Refusal(Reason.TOKEN_UNKNOWN),
    ]
    world, asked = await opaque_world(lambda: answers.pop(0))

    assert isinstance(await world.finder.find(opaque()), CannotDecide)
    assert world.finder.cached(opaque()) is MISSING
    assert isinstance(await world.finder.find(opaque()), Refusal)
    assert isinstance(world.finder.cached(opaque()), Refusal)
    world.clock.advance(5)
    assert world.finder.cached(opaque()) is MISSING
    assert 2 == len(asked.asked)


async def test_many_first_uses_of_an_opaque_token_are_one_question() -> None:
    world, asked = await opaque_world(opaque_record)

    await asyncio.gather(*(world.finder.find(opaque()) for _ in range(100)))

    assert [OPAQUE] == asked.asked


async def test_h9_a_revoked_opaque_token_is_refused_from_memory_too() -> None:
    world, _ = await opaque_world(opaque_record)
    await world.finder.find(opaque())
    world.store.revoke(user_id="user-1", not_before=NOW + 1.0)
    await world.standing.refresh()

    answer = world.finder.cached(opaque())

    assert isinstance(answer, Refusal)
    assert Reason.TOKEN_REVOKED is answer.reason


async def test_a_fault_of_ours_while_an_issuer_is_asked_is_no_verdict() -> None:
    def failing() -> UserRecord:
        raise RuntimeError("secret")

    world, _ = await opaque_world(failing)

    assert CannotDecide(Reason.INTERNAL_FAULT, "the verification failed (RuntimeError)") == await world.finder.find(
        opaque()
    )
    assert world.finder.cached(opaque()) is MISSING


async def test_an_opaque_token_where_nobody_is_asked_about_such_is_refused(world: World) -> None:
    answer = await world.finder.find(opaque())

    assert isinstance(answer, Refusal)
    assert Reason.TOKEN_KIND_UNSUPPORTED is answer.reason


async def test_h8_finders_with_other_issuers_share_no_memory(world: World) -> None:
    strict = changed(ISSUER, audience="https://other.example.org")
    other = VerifiedUsers({ISS: strict}, {"accounts": world.ring}, world.standing, world.clock)

    assert isinstance(await world.found(GOOD), UserRecord)

    assert other.cached(credential(GOOD)) is MISSING
    assert isinstance(await other.find(credential(GOOD)), Refusal)
