"""The parts behind every door: judge, keys, upstreams, recorder; opened, read and closed together."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final

from gateway.admin.health import Check, Readiness
from gateway.assembly import CannotStart
from gateway.assembly.assertions import assertion_key_files, assertions_by
from gateway.assembly.files import places_for
from gateway.assembly.memory import MemoryGuard, memory_limit_bytes
from gateway.assembly.policies import PolicyTexts, policy_texts, usable_policy
from gateway.doors.asgi import AsgiDoor
from gateway.doors.proxy import protocol_factory
from gateway.doors.refs import References
from gateway.doors.services import Services
from gateway.judge import Judge
from gateway.keys.peppers import PeppersInvalid, read_peppers
from gateway.observe.access_log import AccessLog, open_access_log
from gateway.observe.counting import RequestCounts
from gateway.observe.exposition import metrics_registry
from gateway.observe.key_lookups import CountedKeyStore, KeyLookups
from gateway.observe.loop_lag import LoopLag
from gateway.observe.readings import (
    DoorReading,
    KeyCacheReading,
    KeyFeedReading,
    MemoryReading,
    PolicyReading,
    Readings,
    UpstreamReading,
)
from gateway.observe.recorder import RequestRecorder
from gateway.ports import Clock, StoreUnavailable
from gateway.settings import Settings
from gateway.stores import open_change_listener, open_key_store
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from gateway.upstreams.balancer import BalancedUpstream
from gateway.upstreams.opening import open_upstream
from gateway.upstreams.options import UpstreamOptions
from gateway.wire.forwarded import TrustedProxies

if TYPE_CHECKING:
    from gateway.assembly.users import Users

_LOG: Final = logging.getLogger("bearergate")


STORE_SILENCE_SECONDS: Final = 5.0
LOOP_SECONDS: Final = 5.0
"""How far `/readyz` looks back for a late event loop: one block is over before most balancers have asked twice."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


SYSTEM_CLOCK: Final[Clock] = SystemClock()


class Gateway:
    """The parts behind every door: judge, keys, upstreams, recorder. `open` and `aclose` in one event loop."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK, texts: PolicyTexts | None = None) -> None:
        """`texts` is the policy where somebody else has read it. Raises: CannotStart"""
        self.settings = settings
        self.clock = clock
        policy = usable_policy(policy_texts(settings) if texts is None else texts, settings)
        self._reloads = {"loaded": 0, "refused": 0}
        self._stale = ""
        self._reloading = asyncio.Lock()
        timeouts = settings.timeouts.wire()
        self.assertion_keys = assertion_key_files(settings)
        self.upstreams = {name: _opened_upstream(name, settings, clock) for name in settings.upstreams}
        self.counts = RequestCounts()
        self.counts.follow([route.name for route in policy.routes], settings.upstreams)
        self.access_log = _access_log(settings.access_log, clock)
        self.recorder = RequestRecorder(self.counts, self.access_log)
        self._lookups = KeyLookups()
        cache = settings.key_cache
        try:
            self._store = open_key_store(
                settings.store,
                peppers=read_peppers(settings.peppers, settings.pepper),
                region=settings.region,
                lookup_timeout_seconds=cache.lookup_timeout,
                on_made=lambda path: _LOG.warning("there was no key store at `%s`: an empty one was made", path),
            )
        except PeppersInvalid as fault:
            raise CannotStart(str(fault)) from fault
        except StoreUnavailable as fault:
            raise CannotStart(f"store: {fault}") from fault
        counted = CountedKeyStore(self._store, self._lookups, clock)
        self.keys = CachedKeyFinder(
            counted,
            clock,
            max_entries=cache.max_entries,
            max_unknown=cache.max_unknown,
            ttl_seconds=cache.ttl,
            unknown_ttl_seconds=cache.unknown_ttl,
            lookup_timeout_seconds=cache.lookup_timeout,
        )
        self.users = self._opened_users()
        self.feed = ChangeFeed(
            self._store,
            self.keys,
            clock,
            poll_seconds=cache.poll,
            ttl_seconds=cache.ttl,
            on_tokens=None if self.users is None else self.users.standing.refresh,
        )
        try:
            self._listener = open_change_listener(settings.store, self.feed.wake, listen_url=settings.store_listen)
        except StoreUnavailable as fault:
            raise CannotStart(f"store_listen: {fault}") from fault
        if self.users is None:
            self.judge = Judge(policy, self.keys, clock)
        else:
            self.judge = Judge(policy, self.keys, clock, users=self.users.finder, kinds=self.users.kinds)
        self.services = Services(
            judge=self.judge,
            upstreams=dict(self.upstreams),
            recorder=self.recorder,
            clock=clock,
            references=References(os.urandom),
            timeouts=timeouts,
            scheme=b"https" if settings.tls_certificate else settings.public_scheme.encode(),
            max_connections=places_for(settings.max_connections),
            max_connections_per_peer=settings.max_connections_per_peer,
            max_streams_per_caller=settings.max_streams_per_caller,
            max_websockets=settings.max_websockets,
            max_websocket_message_bytes=settings.max_websocket_message_bytes,
            max_websocket_frames_per_second=settings.max_websocket_frames_per_second,
            trusted=TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None,
            takes_proxy_protocol=settings.proxy_protocol,
            assertions=assertions_by(self.assertion_keys, settings),
        )
        self._store_answers = True
        self._loop_lag = LoopLag(clock)
        limit = memory_limit_bytes(settings)
        self.memory = MemoryGuard(limit, self.services, self.keys, self.judge, clock) if limit else None
        self._tasks: list[asyncio.Task[None]] = []
        self.registry = metrics_registry(self.counts, self._lookups, self._readings())
        self.asgi = AsgiDoor(self.services)

    async def open(self) -> None:
        """Reads the change feed once, so that the store is known to answer, and starts what runs in the background."""
        try:
            await self.feed.poll_once()
        except StoreUnavailable as fault:
            raise CannotStart(f"store: {fault}") from fault
        if self.access_log is not None:
            self.access_log.writer.start()
        for work in (self.feed.follow(), self._sweep(), self._loop_lag.watch()):
            self._tasks.append(asyncio.create_task(work))
        if self._listener is not None:
            self._tasks.append(asyncio.create_task(self._listener.listen()))
        if self.users is not None:
            self._tasks += [asyncio.create_task(work) for work in self.users.work()]

    async def aclose(self) -> None:
        """Ends everything that `open` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keys.aclose()
        if self.users is not None:
            await self.users.aclose()
        await self._store.aclose()
        for upstream in self.upstreams.values():
            upstream.close()
        if self.access_log is not None:
            self.access_log.writer.close()

    async def reload_policy(self, texts: PolicyTexts | None = None) -> tuple[str, ...]:
        """Loads the policy files again, or takes `texts`, and swaps the policy whole; on any fault the old one stays.

        The keys of assertions are read again with it. Returns the faults, as lines; none means that the new policy is
        in force.
        """
        # One after the other: the files as they are when the last one is asked for are what counts in the end.
        async with self._reloading:
            await self._read_assertion_keys()
            return await self._reload(texts)

    async def _read_assertion_keys(self) -> None:
        keys, assertions = self.assertion_keys, self.services.assertions
        if keys is None or assertions is None:
            return
        fault = await asyncio.to_thread(keys.reload)
        if fault:
            _LOG.error("keys of assertions not read again, the old ones stay in use: %s", fault)
        else:
            assertions.sign_with(keys.keys.sign)

    async def _reload(self, texts: PolicyTexts | None) -> tuple[str, ...]:
        try:
            if texts is None:
                texts = await asyncio.to_thread(policy_texts, self.settings)
            policy = await asyncio.to_thread(usable_policy, texts, self.settings)
        except CannotStart as fault:
            self._reloads["refused"] += 1
            self._stale = str(fault)
            _LOG.error("policy not reloaded, the old one stays in force:\n%s", fault)
            return tuple(str(fault).splitlines())

        self._reloads["loaded"] += 1
        self._stale = ""
        self.counts.follow([route.name for route in policy.routes], self.settings.upstreams)
        self.judge.replace_policy(policy)
        _LOG.info("policy reloaded: revision %s, %d routes", policy.revision, len(policy.routes))
        return ()

    def readiness(self) -> Readiness:
        """What `/readyz` says."""
        policy = self.judge.snapshot.policy
        silence = self._store_silence
        store = (
            "answers" if silence < STORE_SILENCE_SECONDS else f"has been silent for {silence:.0f} s; cached keys work"
        )
        stale = f"; the newest files were refused: {self._stale.splitlines()[0]}" if self._stale else ""
        memory = self.memory
        return Readiness(
            (
                Check("policy", True, f"revision {policy.revision}{stale}"),
                Check("store", True, store),
                self._loop_check(),
                *(() if memory is None else (Check("memory", not memory.is_short, f"{memory} in use"),)),
                Check("draining", not self.services.draining, "draining" if self.services.draining else "serving"),
            )
        )

    def _loop_check(self) -> Check:
        """Whether clients are kept waiting by something that blocks the event loop (R32)."""
        lag, most = self._loop_lag.longest_seconds(LOOP_SECONDS), self.settings.max_loop_lag
        return Check("loop", most == 0 or lag <= most, f"up to {lag:.2f} s late in the last {LOOP_SECONDS:g} s")

    @property
    def jwks(self) -> Callable[[], bytes] | None:
        """The public halves of the keys of assertions; None where there are none."""
        return None if self.assertion_keys is None else self.assertion_keys.jwks

    def protocol(self) -> Any:
        """What `uvicorn.Config(http=...)` takes."""
        return protocol_factory(self.services)

    async def _sweep(self) -> None:
        seconds = self.services.timeouts.sweep
        while True:
            await asyncio.sleep(seconds)
            try:
                self.services.sweep()
                for upstream in self.upstreams.values():
                    upstream.sweep()
                if self.memory is not None:
                    self.memory.look_if_due()
                self._say_if_the_store_came_or_went()
            except Exception:
                # Whatever it was, every other time-out hangs on the next turn.
                _LOG.exception("a look at the time-outs failed")

    def _opened_users(self) -> Users | None:
        if not self.settings.issuers:
            return None
        from gateway.assembly.users import open_users  # noqa: PLC0415 - its libraries are loaded where they are needed

        return open_users(self.settings, self._store, self.clock, lambda: self._feed_silence)

    @property
    def _feed_silence(self) -> float:
        """The same, and without end before the first answer."""
        contact = self.feed.last_contact
        return inf if contact is None else max(0.0, self.clock.monotonic() - contact)

    @property
    def _store_silence(self) -> float:
        """Seconds since the store last answered a look at the change feed."""
        return max(0.0, self.clock.monotonic() - (self.feed.last_contact or 0.0))

    def _say_if_the_store_came_or_went(self) -> None:
        answers = self._store_silence < STORE_SILENCE_SECONDS
        if answers is not self._store_answers:
            self._store_answers = answers
            if answers:
                _LOG.info("the key store answers again")
            else:
                _LOG.error("the key store has been silent for %.0f s; keys in memory still work", self._store_silence)

    def _readings(self) -> Readings:
        log, assertions = self.access_log, self.services.assertions
        return Readings(
            doors=lambda: DoorReading(self.services.in_flight, len(self.services.connections)),
            key_cache=self._key_cache,
            key_feed=lambda: KeyFeedReading(self.feed.lag_seconds, self._store_silence),
            tokens=None if self.users is None else self.users.reading,
            policy=self._policy,
            upstreams=self._upstreams,
            access_log_dropped=None if log is None else lambda: log.writer.dropped,
            loop_lag_seconds=self._loop_lag.longest_seconds,
            memory=None if self.memory is None else self._memory,
            assertions_signed=None if assertions is None else lambda: assertions.signed,
        )

    def _key_cache(self) -> KeyCacheReading:
        counters = self.keys.counters
        return KeyCacheReading(
            hits=counters.hits,
            unknown_hits=counters.unknown_hits,
            misses=counters.misses,
            evictions=counters.evictions + counters.unknown_evictions,
            turned_away=counters.turned_away,
            keys=self.keys.known_count,
            unknown=self.keys.unknown_count,
        )

    def _memory(self) -> MemoryReading:
        assert self.memory is not None  # or it is not asked
        return MemoryReading(self.memory.limit_bytes, self.memory.is_short, self.services.held_bytes)

    def _policy(self) -> PolicyReading:
        policy = self.judge.snapshot.policy
        return PolicyReading(
            revision=policy.revision,
            routes=len(policy.routes),
            is_stale=bool(self._stale),
            reloads_loaded=self._reloads["loaded"],
            reloads_refused=self._reloads["refused"],
        )

    def _upstreams(self) -> Mapping[str, UpstreamReading]:
        return {
            name: UpstreamReading(
                idle=upstream.idle_count,
                busy=upstream.open_count - upstream.idle_count,
                connected=sum(pool.connects["opened"] for pool in upstream.pools),
                connect_failures=sum(pool.connects["failed"] + pool.connects["timeout"] for pool in upstream.pools),
                endpoints=len(upstream.pools),
                endpoints_out=sum(pool.health.is_out for pool in upstream.pools),
                ejections=sum(pool.health.ejections for pool in upstream.pools),
                retries=upstream.budget.made,
                retries_refused=upstream.budget.refused,
                waiting=len(upstream.line.waiting),
                turned_away=upstream.line.turned_away,
            )
            for name, upstream in self.upstreams.items()
        }


def _access_log(target: str, clock: Clock) -> AccessLog | None:
    if target == "none":
        return None
    try:
        return open_access_log(target, clock)
    except OSError as fault:
        raise CannotStart(f"access_log: `{target}` cannot be opened: {fault.strerror}") from fault


def _opened_upstream(name: str, settings: Settings, clock: Clock) -> BalancedUpstream:
    try:
        return open_upstream(
            name,
            settings.endpoints(name),
            now=clock.monotonic,
            timeouts=settings.timeouts.wire(),
            max_connections=settings.upstream_max_connections,
            options=UpstreamOptions(**settings.options_of(name).model_dump()),
        )
    except ValueError as fault:  # UnicodeError is one
        raise CannotStart(f"upstreams: {fault}") from fault
