"""The law of the cache: with it, every request ends as it would have ended without it.

Hypothesis interleaves writers, look-ups that hang half-way, time and polls, and after each poll compares.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core.credential import Credential, CredentialKind, KeyId
from gateway.core.principal import KeyRecord, Principal, admit
from gateway.core.reasons import Refusal
from gateway.keys.refused import KeyRefused
from gateway.ports import Missing, StoreUnavailable
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from gateway.stores.memory import MemoryKeyStore
from tests.stores.contract import a_digest, credential_of, service_over
from tests.stores.gated import GatedStore, settle
from tests.support.manual_clock import ManualClock

TTL = 30.0
UNKNOWN_TTL = 5.0
NUMBERS = st.integers(0, 1_000_000)


class CachedOrNot(RuleBasedStateMachine):
    """One gateway with a small cache, one truth, and everything that may happen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.truth = MemoryKeyStore()
        self.store = GatedStore(self.truth)
        self.service = service_over(self.truth, self.clock)
        self.finder = CachedKeyFinder(
            self.store, self.clock, ttl_seconds=TTL, unknown_ttl_seconds=UNKNOWN_TTL, max_entries=4, max_unknown=4
        )
        self.feed = ChangeFeed(self.truth, self.finder, self.clock, ttl_seconds=TTL)
        self.tasks: list[asyncio.Task[KeyRecord | None]] = []
        self.apps = [self.service.create_app(f"App {number}").id for number in range(2)]
        self.tokens = [
            Credential(CredentialKind.API_KEY, KeyId(f"xk{number:013}"), a_digest(number)) for number in range(3)
        ]
        self.futures: list[object] = []
        self.is_told = False

    def teardown(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        await self.finder.aclose()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @initialize()
    def begin(self) -> None:
        self.poll()

    def pick(self, number: int) -> Credential:
        return self.tokens[number % len(self.tokens)]

    # -- what people do

    @rule(app=NUMBERS, lives=st.floats(1, 200))
    def create(self, app: int, lives: float) -> None:
        try:
            new = self.service.create_key(
                self.apps[app % 2], name="k", scopes=["S"], expires_at=self.clock.now() + lives
            )
        except KeyRefused:
            return
        good = credential_of(new)
        self.tokens += [good, Credential(CredentialKind.API_KEY, good.key_id, a_digest(len(self.tokens)))]
        self.is_told = False

    @rule(app=NUMBERS)
    def create_a_key_whose_token_was_tried_before(self, app: int) -> None:
        kept = self.truth.backup()
        self.create(app, 100.0)
        made = self.truth.backup()
        self.truth.restore(kept)
        self.ask_and_wait(len(self.tokens) - 2)
        self.truth.restore(made)

    @rule(number=NUMBERS)
    def revoke(self, number: int) -> None:
        try:
            self.service.revoke_key(self.pick(number).key_id)
        except KeyRefused:
            return
        self.is_told = False

    @rule(app=NUMBERS, enable=st.booleans())
    def switch_app(self, app: int, enable: bool) -> None:
        (self.service.enable_app if enable else self.service.disable_app)(self.apps[app % 2])
        self.is_told = False

    @rule(seconds=st.sampled_from([0.01, 1.0, 4.99, 5.0, 29.99, 30.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3_600.0, 3_600.0]))
    def set_the_wall_clock(self, seconds: float) -> None:
        self.clock.step(seconds)

    # -- what the gateway does

    @rule(number=NUMBERS)
    def ask(self, number: int) -> None:
        """A look-up that reads the store now and hears of it later, if ever."""
        credential = self.pick(number)
        if isinstance(self.finder.cached(credential.digest), Missing):
            self.tasks.append(self.loop.create_task(self.finder.find(credential)))
            self.loop.run_until_complete(settle())

    @rule(number=NUMBERS)
    def ask_and_wait(self, number: int) -> None:
        self.ask(number)
        self.store.let_go()
        self.loop.run_until_complete(settle())

    @precondition(lambda self: self.store.waiting)
    @rule(number=NUMBERS, fails=st.booleans())
    def answer_one(self, number: int, fails: bool) -> None:
        self.store.fault = StoreUnavailable("down") if fails else None
        self.store.let_go(number % self.store.waiting)
        self.loop.run_until_complete(settle())
        self.store.fault = None

    @precondition(lambda self: self.tasks)
    @rule(number=NUMBERS)
    def client_goes_away(self, number: int) -> None:
        self.tasks[number % len(self.tasks)].cancel()
        self.loop.run_until_complete(settle())

    @rule()
    def poll(self) -> None:
        self.loop.run_until_complete(self.feed.poll_once())
        self.is_told = True

    # -- what must hold

    def outcome_without(self, credential: Credential) -> Principal | Refusal:
        return admit(self.loop.run_until_complete(self.truth.find(credential)), credential, self.clock.now())

    @invariant()
    def every_outcome_is_the_one_without_a_cache(self) -> None:
        if not self.is_told:
            return
        for credential in self.tokens:
            held = self.finder.cached(credential.digest)
            if not isinstance(held, Missing):
                assert self.outcome_without(credential) == admit(held, credential, self.clock.now())

    @invariant()
    def the_bounds_hold(self) -> None:
        assert self.finder.known_count <= 4
        assert self.finder.unknown_count <= 4


def test_the_outcome_with_the_cache_is_the_outcome_without_it() -> None:
    run_state_machine_as_test(CachedOrNot, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
