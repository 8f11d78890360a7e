"""Where the parts are put together: the only file that chooses concrete classes. It starts what runs and ends it again.

`start` returns once both listeners answer and the change feed has been read; `Running.stop` ends everything it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from gateway.admin.app import admin_app
from gateway.admin.health import Check, Readiness
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.policy.routes import Policy
from gateway.doors.asgi import AsgiDoor
from gateway.doors.proxy import protocol_factory
from gateway.doors.refs import References
from gateway.doors.services import Services
from gateway.judge import Judge
from gateway.keys.service import KeyService as KeyService
from gateway.observe.access_log import AccessLog, open_access_log
from gateway.observe.counting import RequestCounts
from gateway.observe.exposition import metrics_registry
from gateway.observe.key_lookups import CountedKeyStore, KeyLookups
from gateway.observe.loop_lag import LoopLag
from gateway.observe.readings import (
    DoorReading,
    KeyCacheReading,
    KeyFeedReading,
    PolicyReading,
    Readings,
    UpstreamReading,
)
from gateway.observe.recorder import RequestRecorder
from gateway.policy_files import load
from gateway.ports import Clock, StoreUnavailable
from gateway.settings import Settings, SettingsInvalid, address, read_settings
from gateway.stores import open_key_service as open_key_service
from gateway.stores import open_key_store
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from gateway.upstreams.pool import UpstreamPool

_LOG: Final = logging.getLogger("bearergate")

STORE_SILENCE_SECONDS: Final = 5.0


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


SYSTEM_CLOCK: Final[Clock] = SystemClock()


class CannotStart(Exception):
    """The gateway cannot start; the message says why and what to do."""


class Gateway:
    """The parts behind every door: judge, keys, upstreams, recorder. `open` and `aclose` in one event loop."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.clock = clock
        policy = _loaded(settings.policy)
        _check_upstreams(policy, settings)
        self._reloads = {"loaded": 0, "refused": 0}
        self._stale = ""
        timeouts = settings.timeouts.wire()
        self.counts = RequestCounts()
        self.counts.follow([route.name for route in policy.routes], settings.upstreams)
        self.access_log = _access_log(settings.access_log, clock)
        self.recorder = RequestRecorder(self.counts, self.access_log)
        self._lookups = KeyLookups()
        cache = settings.key_cache
        try:
            self._store = open_key_store(settings.store, lookup_timeout_seconds=cache.lookup_timeout)
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
        self.feed = ChangeFeed(self._store, self.keys, clock, poll_seconds=cache.poll, ttl_seconds=cache.ttl)
        self.judge = Judge(policy, self.keys, clock)
        self.upstreams = {
            name: UpstreamPool(
                name,
                url,
                now=clock.monotonic,
                timeouts=timeouts,
                max_connections=settings.upstream_max_connections,
            )
            for name, url in settings.upstreams.items()
        }
        self.services = Services(
            judge=self.judge,
            upstreams=dict(self.upstreams),
            recorder=self.recorder,
            clock=clock,
            references=References(os.urandom),
            timeouts=timeouts,
        )
        self._loop_lag = LoopLag(clock)
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

    async def aclose(self) -> None:
        """Ends everything that `open` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keys.aclose()
        await self._store.aclose()
        for pool in self.upstreams.values():
            pool.close()
        if self.access_log is not None:
            self.access_log.writer.close()

    async def reload_policy(self) -> tuple[str, ...]:
        """Loads the policy files again and swaps the policy whole; on any fault the old one stays.

        Returns the faults, as lines; none means that the new policy is in force.
        """
        try:
            policy = await asyncio.to_thread(_loaded, self.settings.policy)
            _check_upstreams(policy, self.settings)
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
        silence = self.clock.monotonic() - (self.feed.last_contact or 0.0)
        store = (
            "answers" if silence < STORE_SILENCE_SECONDS else f"has been silent for {silence:.0f} s; cached keys work"
        )
        stale = f"; the newest files were refused: {self._stale.splitlines()[0]}" if self._stale else ""
        return Readiness(
            (
                Check("policy", True, f"revision {policy.revision}{stale}"),
                Check("store", True, store),
                Check("draining", not self.services.draining, "draining" if self.services.draining else "serving"),
            )
        )

    def protocol(self) -> Any:
        """What `uvicorn.Config(http=...)` takes."""
        return protocol_factory(self.services)

    async def _sweep(self) -> None:
        seconds = self.services.timeouts.sweep
        while True:
            await asyncio.sleep(seconds)
            self.services.sweep()
            for pool in self.upstreams.values():
                pool.sweep()

    def _readings(self) -> Readings:
        log = self.access_log
        return Readings(
            doors=lambda: DoorReading(self.services.in_flight, len(self.services.connections)),
            key_cache=self._key_cache,
            key_feed=lambda: KeyFeedReading(
                self.feed.lag_seconds, max(0.0, self.clock.monotonic() - (self.feed.last_contact or 0.0))
            ),
            policy=self._policy,
            upstreams=self._upstreams,
            access_log_dropped=None if log is None else lambda: log.writer.dropped,
            loop_lag_seconds=self._loop_lag.longest_seconds,
        )

    def _key_cache(self) -> KeyCacheReading:
        counters = self.keys.counters
        return KeyCacheReading(
            hits=counters.hits,
            unknown_hits=counters.unknown_hits,
            misses=counters.misses,
            evictions=counters.evictions + counters.unknown_evictions,
            keys=self.keys.known_count,
            unknown=self.keys.unknown_count,
        )

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
                idle=pool.idle_count,
                busy=pool.open_count - pool.idle_count,
                connected=pool.connects["opened"],
                connect_failures=pool.connects["failed"] + pool.connects["timeout"],
            )
            for name, pool in self.upstreams.items()
        }


class Running:
    """A gateway that serves: two listeners and the parts behind them."""

    def __init__(self, gateway: Gateway, proxy: socket.socket, admin: socket.socket) -> None:
        self.gateway = gateway
        self.proxy_port: int = proxy.getsockname()[1]
        self.admin_port: int = admin.getsockname()[1]
        self._sockets = (proxy, admin)
        common = _SERVER | {"timeout_graceful_shutdown": int(gateway.settings.drain) or None}
        self._proxy = _Server(uvicorn.Config(_no_app, http=gateway.protocol(), backlog=2048, **common))
        self._admin = _admin_server(gateway)
        self._serving: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when both listeners accept."""
        for server, listener in zip((self._proxy, self._admin), self._sockets, strict=True):
            self._serving.append(asyncio.create_task(server.serve(sockets=[listener])))
        while not (self._proxy.started and self._admin.started):
            for task in self._serving:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def reload_policy(self) -> tuple[str, ...]:
        """See `Gateway.reload_policy`."""
        return await self.gateway.reload_policy()

    async def stop(self) -> None:
        """Drains: no new connections, requests under way may end, then everything is closed."""
        self.gateway.services.draining = True
        self._proxy.should_exit = True
        await self._serving[0]
        self._admin.should_exit = True
        await self._serving[1]
        await self.gateway.aclose()
        for listener in self._sockets:
            listener.close()


_SERVER: Final[dict[str, Any]] = {
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "server_header": False,
    "date_header": False,
}


def _admin_server(gateway: Gateway) -> _Server:
    config = uvicorn.Config(
        admin_app(gateway.registry, gateway.readiness), limit_concurrency=64, timeout_graceful_shutdown=1, **_SERVER
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: signals are the process's, and it has two servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """uvicorn wants an application; our protocol class never calls it."""


async def start(settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> Running:
    """A running gateway. Raises: CannotStart"""
    with contextlib.ExitStack() as undo:
        proxy = undo.enter_context(_listener(settings.listen, "listen"))
        admin = undo.enter_context(_listener(settings.admin_listen, "admin_listen"))
        _check_no_loop(settings, (proxy, admin))
        gateway = Gateway(settings, clock=clock)
        await gateway.open()
        running = Running(gateway, proxy, admin)
        await running.start()
        undo.pop_all()
    return running


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. SIGHUP reloads the policy, SIGUSR1 reopens the access log. Raises: CannotStart"""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    running = await start(settings)
    reloads: set[asyncio.Task[Any]] = set()

    def reload() -> None:
        task = loop.create_task(running.reload_policy())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, _reopen, running.gateway.access_log)
    host = address(settings.listen)[0]
    _LOG.info("serving on %s:%d, admin on port %d", host, running.proxy_port, running.admin_port)
    await ended.wait()
    await running.stop()


class AsgiApplication:
    """The ASGI door and its parts, for servers that send lifespan events. The admin listener comes with it."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._gateway: Gateway | None = None
        self._admin: tuple[_Server, asyncio.Task[None], socket.socket] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._gateway is None:
            raise RuntimeError("the server sent a request before the lifespan event `startup`; turn its lifespan on")
        else:
            await self._gateway.asgi(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._open()
        except CannotStart as fault:
            await send({"type": "lifespan.startup.failed", "message": str(fault)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(_listener(self._settings.admin_listen, "admin_listen"))
            gateway = Gateway(self._settings, clock=self._clock)
            await gateway.open()
            server = _admin_server(gateway)
            self._admin = (server, asyncio.create_task(server.serve(sockets=[listener])), listener)
            self._gateway = gateway
            undo.pop_all()

    async def _close(self) -> None:
        if self._gateway is None or self._admin is None:
            return
        server, serving, listener = self._admin
        server.should_exit = True
        await serving
        await self._gateway.aclose()
        listener.close()
        self._gateway = None


def asgi_app() -> AsgiApplication:
    """Configured by the environment, for `uvicorn --factory gateway.assembly:asgi_app`. Raises: SettingsInvalid"""
    config = os.environ.get("BEARERGATE_CONFIG")
    return AsgiApplication(read_settings(Path(config) if config else None))


def _listener(text: str, name: str) -> socket.socket:
    host, port = address(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        message = f"{name}: cannot listen on `{text}`: {fault.strerror}; choose another port, or port 0 for a free one"
        raise CannotStart(message) from fault
    listener.setblocking(False)
    return listener


def _reopen(log: AccessLog | None) -> None:
    """Opens the access log anew after it was moved away; what cannot be opened leaves the old file in use."""
    if log is None:
        return
    try:
        log.writer.reopen()
    except OSError as fault:
        _LOG.error("access log not reopened, the old file stays in use: %s", fault.strerror)


def _access_log(target: str, clock: Clock) -> AccessLog | None:
    if target == "none":
        return None
    try:
        return open_access_log(target, clock)
    except OSError as fault:
        raise CannotStart(f"access_log: `{target}` cannot be opened: {fault.strerror}") from fault


def _loaded(path: Path) -> Policy:
    try:
        return load(path).policy
    except PolicyInvalid as fault:
        raise CannotStart("\n".join(str(line) for line in fault.faults)) from fault


def _check_upstreams(policy: Policy, settings: Settings) -> None:
    missing = sorted(policy.upstreams - settings.upstreams.keys())
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise CannotStart(
            f"the policy sends requests to {names}, and the settings do not locate it; "
            f"add `--upstream {missing[0]}=http://host:port`"
        )
    for name, url in settings.upstreams.items():
        try:
            UpstreamPool(name, url, now=time.monotonic)
        except (ValueError, UnicodeError) as fault:
            raise CannotStart(f"upstreams: {fault}") from fault


def _check_no_loop(settings: Settings, listeners: tuple[socket.socket, ...]) -> None:
    """An upstream that is a listener of ours would put the admin pages on the public port (I29)."""
    ours = {listener.getsockname()[1] for listener in listeners}
    for name, url in settings.upstreams.items():
        parts = urlsplit(url)
        if parts.hostname in ("127.0.0.1", "localhost", "::1", "0.0.0.0") and parts.port in ours:
            raise CannotStart(f"upstreams: `{name}` is at `{url}`, which is a listener of this gateway itself")


__all__ = [
    "CannotStart",
    "Gateway",
    "KeyService",
    "Running",
    "SettingsInvalid",
    "open_key_service",
    "serve",
    "start",
]
