"""A whole gateway in a thread, as `serve` runs it: a store with keys, a policy in a file, one recording upstream.

Time stands still unless a test moves it, so nothing times out by accident. The policy is small and has one route of
each kind; `Keys` names one key for each way in which a key can be good or bad.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.assembly.keys import open_key_service
from gateway.assembly.serving import Running, start
from gateway.keys.secret import Secret
from gateway.ports import Outcome, Recorder
from gateway.settings import KeyCacheSettings, Settings, TimeoutSettings
from tests.support.manual_clock import ManualClock
from tests.support.recording_upstream import RecordingUpstream

SAFETY_SECONDS = 10.0

POLICY = """\
version: 1
errors: problem
scopes:
  READ: {means: read items, aliases: [items.read]}
  WRITE: {means: write items}
  ADMIN: {means: administer}
routes:
  - {name: public, match: GET /public, upstream: rest, allow: anyone}
  - {name: items.list, match: GET /items, upstream: rest, allow: {api_key: READ}}
  - {name: items.read, match: "GET /items/{id}", upstream: rest, allow: {api_key: READ}}
  - {name: items.add, match: POST /items, upstream: rest, allow: {api_key: WRITE}}
  - {name: items.put, match: "PUT /items/{id}", upstream: rest, allow: {api_key: WRITE}}
  - {name: items.patch, match: "PATCH /items/{id}", upstream: rest, allow: {api_key: WRITE}}
  - {name: items.delete, match: "DELETE /items/{id}", upstream: rest, allow: {api_key: WRITE}}
  - {name: items.search, match: GET /search, upstream: rest, body: allowed, allow: {api_key: READ}}
  - {name: uploads, match: POST /uploads, upstream: rest, body_limit: 64KiB, allow: {api_key: WRITE}}
  - {name: users.me, match: GET /users/me, upstream: rest, allow: {api_key: ADMIN}}
  - {name: users.read, match: "GET /users/{id}", upstream: rest, allow: {api_key: READ}}
  - {name: admin, match: GET /admin, upstream: rest, allow: {api_key: ADMIN}}
  - {name: old, match: GET /old, upstream: rest, deprecated: {sunset: 2030-01-01}, allow: {api_key: READ}}
  - name: gql
    match: POST /gql
    upstream: rest
    errors: graphql
    graphql:
      introspection: {api_key: ADMIN}
      fields:
        Query.item: {api_key: READ}
        Mutation.add: {api_key: WRITE}
"""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Key:
    """A token and the ids that the upstream is told of it."""

    token: bytes
    key_id: bytes
    app_id: bytes
    kind: bytes = b"api_key"
    scopes: bytes = b""

    @property
    def line(self) -> bytes:
        return b"Authorization: Bearer " + self.token + b"\r\n"


@dataclass(frozen=True, slots=True)
class Keys:
    """One key for each way to be good or bad."""

    a: Key
    """Good: READ and WRITE, of App A."""
    b: Key
    """Good: READ and WRITE, of App B."""
    writer: Key
    """Good, and has WRITE alone."""
    alias: Key
    """Good: READ by its alias."""
    stranger: Key
    """Good, with a scope that no policy knows."""
    legacy: Key
    """Good: a legacy key with READ."""
    expired: Key
    revoked: Key
    orphan: Key
    """Of an App that is disabled."""
    unknown: Key
    """Well-formed, and in no store."""


class Watching:
    """A recorder before the gateway's own, so that a test can see each outcome."""

    def __init__(self, inner: Recorder) -> None:
        self.inner = inner
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.inner.record(outcome)


class RunningGateway:
    """A gateway that serves, and what a test may ask of it."""

    def __init__(self, folder: Path, upstream: RecordingUpstream, settings: Settings, clock: ManualClock) -> None:
        self.folder = folder
        self.upstream = upstream
        self.settings = settings
        self.clock = clock
        self.keys = make_keys(settings.store)
        self.running: Running
        self._watching: Watching
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._started = threading.Event()
        self._fault: BaseException | None = None

    def start(self) -> RunningGateway:
        self._thread.start()
        assert self._started.wait(SAFETY_SECONDS), "the gateway did not start"
        if self._fault is not None:
            raise self._fault
        return self

    def stop(self) -> None:
        """Drains, ends, and flushes the access log."""
        if not self._thread.is_alive():
            return
        try:
            self.await_(self.running.stop())
        finally:
            # What a failed test has left open would keep the loop from closing, and hide the failure behind another.
            self.call(self._let_go)
            for _ in range(3):
                self.call(lambda: None)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SAFETY_SECONDS)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def _let_go(self) -> None:
        gateway = self.running.gateway
        for client in list(gateway.services.connections):
            client._transport.abort()  # type: ignore[attr-defined]
        for upstream in gateway.upstreams.values():
            for pool in upstream.pools:
                for connection in list(pool._open):
                    connection._transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self.running = self._loop.run_until_complete(start(self.settings, clock=self.clock))
        except BaseException as fault:
            self._fault = fault
            self._loop.close()
            return
        else:
            services = self.running.gateway.services
            self._watching = Watching(services.recorder)
            services.recorder = self._watching
        finally:
            self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    # -- what a test may ask

    @property
    def port(self) -> int:
        return self.running.proxy_port

    @property
    def outcomes(self) -> list[Outcome]:
        """How each request ended since `forget`, as the recorder was told."""
        return self._watching.outcomes

    def forget(self) -> None:
        """Forgets what was recorded and scripted, here and at the upstream."""
        self.settle()
        self.upstream.clear()
        self._watching.outcomes = []

    @property
    def key_lookups(self) -> int:
        """How often the key cache was asked."""
        counters = self.running.gateway.keys.counters
        return counters.hits + counters.unknown_hits + counters.misses

    @property
    def authority(self) -> bytes:
        """The `Host` that the upstream must be sent."""
        return b"127.0.0.1:%d" % self.upstream.port

    def begin(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Begins `work` in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def await_(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work` in the gateway's loop."""
        return self.begin(work).result(SAFETY_SECONDS)

    def call(self, act: Callable[[], _T]) -> _T:
        """The result of `act` in the gateway's loop."""

        async def run() -> _T:
            return act()

        return self.await_(run())

    def settle(self) -> None:
        """Returns when the gateway and its upstream have done everything that had arrived."""
        for _ in range(3):
            self.call(lambda: None)
        self.upstream.settled()

    def until(self, holds: Callable[[], bool], what: str = "what was waited for") -> None:
        """Turns both loops until `holds`; the number of turns, not the time, is bounded by the safety limit."""
        end = time.monotonic() + SAFETY_SECONDS
        while not holds():
            assert time.monotonic() < end, f"{what} did not happen"
            self.settle()

    def pass_time(self, seconds: float) -> None:
        """Time passes, and every deadline is looked at, as the sweep does."""
        self.clock.advance(seconds)
        gateway = self.running.gateway

        def sweep() -> None:
            gateway.services.sweep()
            for upstream in gateway.upstreams.values():
                upstream.sweep()

        self.call(sweep)
        self.settle()

    @property
    def in_flight(self) -> int:
        return self.running.gateway.services.in_flight

    @property
    def client_connections(self) -> int:
        return len(self.running.gateway.services.connections)

    def scrape(self) -> str:
        """What `/metrics` says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.running.admin_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of `name` that have these labels."""
        total = 0.0
        for line in self.scrape().splitlines():
            if line.startswith("#"):
                continue
            start_of, _, value = line.rpartition(" ")
            sample, _, rest = start_of.partition("{")
            if sample == name and all(f'{label}="{text}"' in rest for label, text in labels.items()):
                total += float(value)
        return total

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log's lines; whole once the gateway has stopped."""
        return [json.loads(line) for line in self.log_bytes().splitlines()]

    def log_bytes(self) -> bytes:
        return Path(self.settings.access_log).read_bytes()

    def new_key(self, *scopes: str, app: Key | None = None, expires_at: float | None = None) -> Key:
        """One more key in the store, of the App of `app` (by default A's)."""
        app_id = (app or self.keys.a).app_id
        with open_key_service(self.settings.store) as service:
            made = service.create_key(app_id.decode(), name="one more", scopes=scopes, expires_at=expires_at)
            return Key(made.token.reveal().encode(), made.key.id.encode(), app_id, scopes=" ".join(scopes).encode())

    def read_changes(self) -> None:
        """Reads the change feed, as the background does all the time."""
        self.await_(self.running.gateway.feed.poll_once())

    # -- what the upstream must have been sent

    def head_fields(
        self,
        key: Key | None,
        *,
        client: list[tuple[bytes, bytes]] | None = None,
        framing: list[tuple[bytes, bytes]] | None = None,
        host: bytes = b"gateway.test",
        ref: bytes,
    ) -> list[tuple[bytes, bytes]]:
        """The exact header list of a forwarded request: host, the client's, framing, where from, who."""
        return [
            (b"host", self.authority),
            *(client or []),
            *(framing or []),
            (b"x-forwarded-for", b"127.0.0.1"),
            (b"x-forwarded-proto", b"http"),
            (b"via", b"1.1 bearergate"),
            (b"x-forwarded-host", host),
            (b"x-gateway-kind", b"" if key is None else key.kind),
            (b"x-gateway-key-id", b"" if key is None else key.key_id),
            (b"x-gateway-app-id", b"" if key is None else key.app_id),
            (b"x-gateway-user-id", b""),
            (b"x-gateway-scopes", b"" if key is None else key.scopes),
            (b"x-gateway-request-id", ref),
        ]


def make_keys(store: str) -> Keys:
    """A store with every kind of key in it."""
    hour = 3600.0
    with open_key_service(store, create=True) as service:
        app_a = service.create_app("App A", key_limit=100).id
        app_b = service.create_app("App B", key_limit=100).id
        app_off = service.create_app("App off").id

        def key(app: str, name: str, *granted: str, canonical: bytes, expires_at: float | None = None) -> Key:
            made = service.create_key(app, name=name, scopes=granted, expires_at=expires_at)
            return Key(made.token.reveal().encode(), made.key.id.encode(), app.encode(), scopes=canonical)

        legacy = b"0123456789abcdef0123456789abcdef"
        entry = service.import_legacy_key(app_a, Secret(legacy.decode()), name="legacy", scopes=["READ"])
        revoked = key(app_a, "revoked", "READ", canonical=b"READ")
        service.revoke_key(revoked.key_id.decode())
        orphan = key(app_off, "orphan", "READ", canonical=b"READ")
        service.disable_app(app_off)
        return Keys(
            a=key(app_a, "a", "READ", "WRITE", canonical=b"READ WRITE"),
            b=key(app_b, "b", "READ", "WRITE", canonical=b"READ WRITE"),
            writer=key(app_a, "writer", "WRITE", canonical=b"WRITE"),
            alias=key(app_a, "alias", "items.read", canonical=b"READ"),
            stranger=key(app_a, "stranger", "READER", canonical=b""),
            legacy=Key(legacy, entry.id.encode(), app_a.encode(), kind=b"legacy_key", scopes=b"READ"),
            # The gateway's clock is an hour ahead of the one that the key was made by.
            expired=key(app_a, "expired", "READ", canonical=b"READ", expires_at=time.time() + hour / 2),
            revoked=revoked,
            orphan=orphan,
            unknown=Key(b"e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3", b"", b""),
        )


@contextmanager
def running_gateway(
    folder: Path,
    *,
    upstream: RecordingUpstream | None = None,
    policy: str = POLICY,
    timeouts: TimeoutSettings | None = None,
    clock: ManualClock | None = None,
    **overrides: Any,
) -> Iterator[RunningGateway]:
    """A gateway on free ports with a store, a policy and an access log in `folder`; ended with the block."""
    folder.joinpath("policy.yaml").write_text(policy, "utf-8")
    recording = upstream or RecordingUpstream().start()
    settings = Settings(
        **{
            "policy": folder / "policy.yaml",
            "upstreams": {"rest": f"http://127.0.0.1:{recording.port}"},
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "store": f"sqlite:///{folder / 'keys.sqlite3'}",
            "access_log": str(folder / "access.log"),
            "drain": 1.0,
            # The change feed is read when a test says so.
            "key_cache": KeyCacheSettings(poll=5.0, lookup_timeout=5.0),
            "timeouts": timeouts or TimeoutSettings(),
            **overrides,
        }
    )
    gateway = RunningGateway(folder, recording, settings, clock or ManualClock(time.time() + 3600.0))
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
        if upstream is None:
            recording.stop()
