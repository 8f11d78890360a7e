"""Several processes that serve as one: sockets opened once, signals passed on, the dead replaced, metrics added up.

The supervisor serves no request and holds no key: it opens the listening socket, which all workers accept from, reads
the policy, so that all have the same one, and answers on the admin listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.admin.health import Check, Readiness
from gateway.assembly import CannotStart
from gateway.assembly.acceptor import GONE, Loads
from gateway.assembly.assertions import published_jwks
from gateway.assembly.crew import CrashLoop, Worker
from gateway.assembly.listeners import check_no_loop, listening, path_of, place_of
from gateway.assembly.orders import Begin, Order, Reload, What
from gateway.assembly.policies import PolicyTexts, policy_texts, usable_policy
from gateway.assembly.servers import admin_server
from gateway.observe.merging import FamilyReading, ReadingCollector, Tally, readings_of
from gateway.observe.metrics import METRICS, WORKER_STATES
from gateway.settings import Settings, settings_text

_LOG: Final = logging.getLogger("bearergate")
TICK_SECONDS: Final = 1.0
"""Between two readings of a worker: what one that is killed has counted since the last one is lost."""
SCRAPE_SECONDS: Final = 1.0
"""That a scrape waits for workers that do not answer."""
SILENT_SECONDS: Final = 3.0
"""Without an answer after which `/readyz` says so."""
START_SECONDS: Final = 60.0
_Labels = tuple[tuple[str, str], ...]
KILL_SECONDS: Final = 5.0
"""Added to the time of a drain, before what is left of it is killed."""
HURRY_SECONDS: Final = 1.5


async def supervise(settings: Settings) -> None:
    """Runs `settings.workers` processes until SIGTERM or SIGINT; a second one ends them at once. Raises: CannotStart"""
    with contextlib.ExitStack() as undo:
        proxy = undo.enter_context(listening(settings.listen, "listen", reuse_port=settings.reuse_port))
        admin = undo.enter_context(listening(settings.admin_listen, "admin_listen", reuse_port=settings.reuse_port))
        check_no_loop(settings, (proxy, admin))
        paths = [path for listener in (proxy, admin) if (path := path_of(listener)) and not settings.reuse_port]
        try:
            await Supervisor(settings, proxy, admin).run()
        finally:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


class Supervisor:
    """Keeps as many workers as it was told to."""

    def __init__(self, settings: Settings, proxy: socket.socket, admin: socket.socket) -> None:
        """Raises: CannotStart"""
        self._settings = settings
        self._proxy = proxy
        self._admin = admin
        self._begin = Begin(settings_text(settings), [])
        self._workers: dict[int, Worker] = {}
        self._loads = Loads.of(settings.workers)
        self._tally = Tally()
        self._crashes = CrashLoop()
        self._restarts = 0
        self._reloads = {"loaded": 0, "refused": 0}
        self._stale = ""
        self._last_end = ""
        self._jwks = published_jwks(settings)
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._registry = CollectorRegistry()
        self._merged: tuple[FamilyReading, ...] = ()
        self._registry.register(ReadingCollector(lambda: self._merged))

    async def run(self) -> None:
        """Raises: CannotStart"""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            # Workers that start read everything anyway.
            loop.add_signal_handler(number, _do_nothing)
        texts = policy_texts(self._settings)
        usable_policy(texts, self._settings)
        self._take(texts)
        try:
            # One alone first: what keeps it from starting is told once, and it makes the store where there is none.
            for numbers in ((1,), range(2, self._settings.workers + 1)):
                if not self._stopping.is_set():
                    await self._start(numbers)
            # Told to stop while it starts, nobody has been told that it serves: it ends at once (R26).
            if not self._stopping.is_set():
                await self._serve()
        finally:
            for worker in self._workers.values():
                worker.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*(worker.ended.wait() for worker in self._workers.values()))
        _LOG.info("stopped")

    # -- the life of workers

    async def _start(self, numbers: range | tuple[int, ...]) -> None:
        """Returns when they accept connections, or when it is time to stop. Raises: CannotStart"""
        started = [self._started(number) for number in numbers]
        states = [asyncio.create_task(one.wait()) for worker in started for one in (worker.ready, worker.ended)]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not all(worker.is_ready for worker in started) and not stopping.done():
                pending = [task for task in states if not task.done()]
                await asyncio.wait([stopping, *pending], return_when=asyncio.FIRST_COMPLETED)
                for worker in started:
                    if worker.ended.is_set() and not stopping.done():
                        said = f"worker {worker.number} {worker.epitaph()} before it served; what it said is above"
                        raise CannotStart(worker.failure or said)
        finally:
            for task in (stopping, *states):
                task.cancel()
        for worker in started:
            if worker.is_ready:
                self._do(self._keep(worker))

    def _started(self, number: int) -> Worker:
        worker = self._workers[number] = Worker(number, self._proxy, self._loads, self._begin)
        return worker

    async def _keep(self, worker: Worker) -> None:
        """One worker after the other in one place (R14)."""
        while True:
            await worker.ended.wait()
            self._loads.show(worker.number, GONE)
            self._tally.keep(worker.families)
            worker.families = ()
            if self._stopping.is_set():
                return
            self._restarts += 1
            why = f": {worker.failure}" if worker.failure else ""
            self._last_end = f"worker {worker.number} {worker.epitaph()}{why}"
            pause = self._crashes.pause_after(time.monotonic())
            if pause:
                _LOG.error("%s; too many ended within seconds, so another starts in %g s", self._last_end, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                    return
            else:
                _LOG.error("%s; another one starts", self._last_end)
            worker = await self._replacement(worker.number)

    async def _replacement(self, number: int) -> Worker:
        while True:
            try:
                return self._started(number)
            except OSError as fault:
                _LOG.error("worker %d cannot be started: %s; tried again in a second", number, fault.strerror)
                await asyncio.sleep(1.0)

    async def _watch(self) -> None:
        """Asks every worker once a second whether it is there, reads what it counted, and kills those that hang."""
        last = time.monotonic()
        until_reading = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            # Time in which we were stopped ourselves counts as one look: nobody was asked then.
            passed, last = min(now - last, 2 * TICK_SECONDS), now
            for worker in self._workers.values():
                if not worker.ended.is_set():
                    self._look_at(worker, passed)
            until_reading -= passed
            if until_reading <= 0:
                await self._read_all()
                # Never more than a twentieth of a worker's time, however many series there are.
                until_reading = min(20 * max(worker.read_seconds for worker in self._workers.values()), 5.0)

    def _look_at(self, worker: Worker, passed_seconds: float) -> None:
        worker.silent_seconds += passed_seconds
        if worker.silent_seconds >= SILENT_SECONDS:
            # The others need not leave it connections; it shows its load again when it wakes.
            self._loads.show(worker.number, GONE)
        limit = self._settings.worker_timeout if worker.is_ready else START_SECONDS
        if worker.silent_seconds > limit:
            what = "has not answered" if worker.is_ready else "has not got ready"
            _LOG.error("worker %d %s for %.0f s: it is killed", worker.number, what, worker.silent_seconds)
            worker.kill()
        elif worker.is_ready:
            worker.say(Order(What.ANSWER))

    async def _read_all(self) -> None:
        """Reads all workers, and waits no longer than a second for those that do not answer."""
        reads = [asyncio.create_task(worker.read()) for worker in self._workers.values()]
        _, late = await asyncio.wait(reads, timeout=SCRAPE_SECONDS)
        for read in late:
            read.cancel()

    # -- what operators ask

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        loop.add_signal_handler(signal.SIGUSR1, self._tell_all, Order(What.REOPEN))
        jwks = None if self._jwks is None else lambda: self._jwks or b""
        admin = admin_server(self._registry, self.readiness, self._before_metrics, jwks)
        serving = asyncio.create_task(admin.serve(sockets=[self._admin]))
        await self._read_all()
        self._do(self._watch())
        while not admin.started and not serving.done():  # noqa: ASYNC110 - uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.005)
        _LOG.info("serving on %s, admin on %s", place_of(self._proxy), place_of(self._admin))
        _LOG.info("%d workers, supervised by process %d", self._settings.workers, os.getpid())
        await self._stopping.wait()
        hurried = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever asks twice does not want to wait.
            loop.add_signal_handler(number, hurried.set)
        await self._drain(hurried)
        admin.should_exit = True
        await serving

    async def _drain(self, hurried: asyncio.Event) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        for worker in self._workers.values():
            if worker.is_ready:
                worker.say(Order(What.DRAIN))
            else:
                worker.kill()
        # With the workers' own: else connections would wait in a queue that nobody accepts from.
        closing = loop.call_later(settings.drain_delay, self._proxy.close)
        ended = asyncio.create_task(self._all_ended())
        hurry = asyncio.create_task(hurried.wait())
        limit = settings.drain_delay + settings.drain + KILL_SECONDS
        await asyncio.wait((ended, hurry), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            self._tell_all(Order(What.HURRY))
            await asyncio.wait((ended,), timeout=HURRY_SECONDS)
        for task in (ended, hurry):
            task.cancel()
        closing.cancel()

    async def _all_ended(self) -> None:
        for worker in list(self._workers.values()):
            await worker.ended.wait()

    def readiness(self) -> Readiness:
        """What `/readyz` says: ready when one worker is. Where workers differ, each is named."""
        ready = [worker for worker in self._workers.values() if worker.is_ready]
        heard = [worker for worker in ready if worker.silent_seconds < SILENT_SECONDS]
        is_stopping = self._stopping.is_set()
        checks = [Check("workers", any(_is_good(worker) for worker in heard), self._state_of_workers(heard))]
        names = dict.fromkeys(check.name for worker in heard for check in worker.checks)
        checks += [self._joint(name, heard) for name in names]
        if is_stopping:
            checks = [check for check in checks if check.name != "draining"]
            checks.append(Check("draining", False, "draining"))
        return Readiness(tuple(checks))

    def _joint(self, name: str, heard: list[Worker]) -> Check:
        """One check of all workers."""
        said = {worker.number: check for worker in heard for check in worker.checks if check.name == name}
        details = list(dict.fromkeys(check.detail for check in said.values()))
        if len(details) == 1:
            detail = details[0]
        else:
            detail = "; ".join(f"worker {number}: {check.detail}" for number, check in sorted(said.items()))
        if name == "policy" and self._stale:
            detail += f"; the newest files were refused: {self._stale.splitlines()[0]}"
        return Check(name, any(check.is_good for check in said.values()), detail)

    def _state_of_workers(self, heard: list[Worker]) -> str:
        parts = [f"{len(heard)} of {self._settings.workers} answer"]
        for number, worker in sorted(self._workers.items()):
            if worker.ended.is_set():
                parts.append(f"worker {number} has ended")
            elif not worker.is_ready:
                parts.append(f"worker {number} starts")
            elif worker not in heard:
                parts.append(f"worker {number} has not answered for {worker.silent_seconds:.0f} s")
        if self._last_end:
            parts.append(f"restarts: {self._restarts}, the last because {self._last_end}")
        return "; ".join(parts)

    async def _before_metrics(self) -> None:
        await self._read_all()
        readings = [worker.families for worker in self._workers.values()]
        self._merged = self._tally.merged(readings, tuple(self._own_families()))

    def _own_families(self) -> Iterator[FamilyReading]:
        yield from readings_of(self._process)
        states = dict.fromkeys(WORKER_STATES, 0)
        for worker in self._workers.values():
            if not worker.ended.is_set():
                is_silent = worker.silent_seconds >= SILENT_SECONDS
                states["starting" if not worker.is_ready else "silent" if is_silent else "ready"] += 1
        yield _family("bearergate_workers", {_label("state", state): count for state, count in states.items()})
        yield _family("bearergate_worker_restarts_total", {(): self._restarts})
        reloads = {_label("result", result): count for result, count in self._reloads.items()}
        yield _family("bearergate_policy_reloads_total", reloads)
        yield _family("bearergate_policy_stale", {(): int(bool(self._stale))})

    # -- signals

    def _tell_all(self, message: Order | Reload) -> None:
        for worker in self._workers.values():
            worker.say(message)

    def _reload_soon(self) -> None:
        if sum(task.get_name() == "reload" for task in self._tasks) < 2:
            # One is under way, and one waits, which will read the files as they are then.
            self._do(self._reload(), "reload")

    async def _reload(self) -> None:
        """Checked here first, so that all workers take a policy or none does."""
        async with self._reloading:
            try:
                texts = await asyncio.to_thread(policy_texts, self._settings)
                policy = await asyncio.to_thread(usable_policy, texts, self._settings)
            except CannotStart as fault:
                self._reloads["refused"] += 1
                self._stale = str(fault)
                _LOG.error("policy not reloaded, the old one stays in force:\n%s", fault)
                return
            self._reloads["loaded"] += 1
            self._stale = ""
            await self._read_assertion_keys()
            self._take(texts)
            self._tell_all(Reload(texts))
            self._tally.forget_routes(route.name for route in policy.routes)

    async def _read_assertion_keys(self) -> None:
        """Published before the workers read them, and sign with them."""
        try:
            self._jwks = await asyncio.to_thread(published_jwks, self._settings)
        except CannotStart as fault:
            _LOG.error("keys of assertions not read again, the old ones stay in use: %s", fault)

    def _take(self, texts: PolicyTexts) -> None:
        """The policy that workers begin with from now on."""
        self._begin = Begin(self._begin.settings, texts)

    def _do(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _family(name: str, values: Mapping[_Labels, int]) -> FamilyReading:
    metric = next(metric for metric in METRICS if metric.name == name)
    samples = tuple((name, labels, float(value)) for labels, value in values.items())
    return FamilyReading(name.removesuffix("_total"), metric.kind.value, metric.help, samples)


def _label(name: str, value: str) -> _Labels:
    return ((name, value),)


def _is_good(worker: Worker) -> bool:
    return all(check.is_good for check in worker.checks)


def _do_nothing() -> None:
    """Handles a signal that has no meaning yet."""
