"""One gateway process: two listeners, signals, and an end in which every request under way is answered."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from math import ceil
from typing import Any, Final

import uvicorn

from gateway.assembly.acceptor import Loads
from gateway.assembly.gateway import SYSTEM_CLOCK, Gateway
from gateway.assembly.listeners import BACKLOG, check_no_loop, listening, path_of, place_of, port_of
from gateway.assembly.policies import PolicyTexts
from gateway.assembly.self_test import try_guards
from gateway.assembly.servers import SERVER, Server, admin_server
from gateway.assembly.tls import ServerTls
from gateway.observe.access_log import AccessLog
from gateway.ports import Clock
from gateway.settings import Settings

_LOG: Final = logging.getLogger("bearergate")


class Running:
    """A gateway that serves: its listeners and the parts behind them. A worker has no admin listener of its own."""

    def __init__(
        self,
        gateway: Gateway,
        proxy: socket.socket,
        admin: socket.socket | None,
        tls: ServerTls | None = None,
        share: tuple[Loads, int] | None = None,
    ) -> None:
        self.gateway = gateway
        self._sockets = [proxy]
        self._tls = tls
        common = SERVER | {"timeout_graceful_shutdown": ceil(gateway.settings.drain)}
        config = uvicorn.Config(_no_app, http=gateway.protocol(), backlog=BACKLOG, **common)
        if tls is not None:
            config.load()
            config.ssl = tls.context
        self._proxy = Server(config, gateway.settings.timeouts.wire(), share)
        self._servers = [self._proxy]
        self._owned_paths: list[str] = []
        if admin is not None:
            self._sockets.append(admin)
            self._servers.append(admin_server(gateway.registry, gateway.readiness, jwks=gateway.jwks))
            if not gateway.settings.reuse_port:
                # With `reuse_port` the next process has put its own socket there already.
                self._owned_paths = [path for listener in self._sockets if (path := path_of(listener))]
        self.ports = [port_of(listener) for listener in self._sockets]
        self.places = [place_of(listener) for listener in self._sockets]
        """Where clients and operators are answered, as text."""
        self._serving: list[asyncio.Task[None]] = []
        self._hurried = asyncio.Event()

    @property
    def proxy_port(self) -> int:
        return self.ports[0]

    @property
    def admin_port(self) -> int:
        return self.ports[1]

    async def start(self) -> None:
        """Returns when the listeners accept."""
        for server, listener in zip(self._servers, self._sockets, strict=True):
            self._serving.append(asyncio.create_task(server.serve(sockets=[listener])))
        while not all(server.started for server in self._servers):
            for task in self._serving:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def reload_policy(self, texts: PolicyTexts | None = None) -> tuple[str, ...]:
        """See `Gateway.reload_policy`; the certificate is read anew with it."""
        if self._tls is not None:
            fault = self._tls.reload()
            if fault:
                _LOG.error("certificate not reloaded, the old one stays in use: %s", fault)
        return await self.gateway.reload_policy(texts)

    def hurry(self) -> None:
        """Cuts the drain short: what is under way is broken off."""
        self._hurried.set()
        self._proxy.force_exit = True

    async def stop(self, *, at_once: bool = False) -> None:
        """Drains: not ready, then no new connections; requests under way may end, then everything is closed.

        `at_once` leaves out the time between the first two.
        """
        services, settings = self.gateway.services, self.gateway.settings
        services.draining = True
        if settings.drain_delay and not at_once:
            # A balancer that polls `/readyz` needs the time; answers say `connection: close` meanwhile.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), settings.drain_delay)
        _LOG.info("stopping: %d requests under way, at most %g s", services.in_flight, settings.drain)
        for server, serving in zip(self._servers, self._serving, strict=True):
            server.should_exit = True
            await serving
        await self.gateway.aclose()
        for listener in self._sockets:
            listener.close()
        for path in self._owned_paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """uvicorn wants an application; our protocol class never calls it."""


async def start(settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> Running:
    """A running gateway. Raises: CannotStart"""
    try_guards()
    with contextlib.ExitStack() as undo:
        tls = None if settings.tls_certificate is None else ServerTls(settings.tls_certificate, settings.tls_key)
        proxy = undo.enter_context(listening(settings.listen, "listen", reuse_port=settings.reuse_port))
        admin = undo.enter_context(listening(settings.admin_listen, "admin_listen", reuse_port=settings.reuse_port))
        check_no_loop(settings, (proxy, admin))
        gateway = Gateway(settings, clock=clock)
        await gateway.open()
        running = Running(gateway, proxy, admin, tls)
        await running.start()
        undo.pop_all()
    return running


async def start_worker(
    settings: Settings, texts: PolicyTexts, listener: socket.socket, share: tuple[Loads, int]
) -> Running:
    """One of several that accept from the same socket, under a policy that their supervisor has read.

    Raises: CannotStart
    """
    try_guards()
    tls = None if settings.tls_certificate is None else ServerTls(settings.tls_certificate, settings.tls_key)
    gateway = Gateway(settings, texts=texts)
    await gateway.open()
    running = Running(gateway, listener, None, tls, share)
    await running.start()
    return running


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT; a second one ends it at once.

    SIGHUP reloads policy and certificate, SIGUSR1 reopens the access log. Raises: CannotStart
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # While it starts it reads everything anyway; without a handler, either signal would end it.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, _do_nothing)
    running = await start(settings)
    reloads: set[asyncio.Task[Any]] = set()

    def reload() -> None:
        if len(reloads) > 1:
            return  # one is under way, and one waits, which will read the files as they are then
        task = loop.create_task(running.reload_policy())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, reopen, running.gateway.access_log)
    keep_what_was_loaded()
    _LOG.info("serving on %s, admin on %s", *running.places)
    await ended.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever asks twice does not want to wait.
        loop.add_signal_handler(number, running.hurry)
    await running.stop()
    _LOG.info("stopped")


def keep_what_was_loaded() -> None:
    """What was loaded stays: the collector need not walk it again while requests are served."""
    gc.collect()
    gc.freeze()


def _do_nothing() -> None:
    """Handles a signal that has no meaning yet."""


def reopen(log: AccessLog | None) -> None:
    """Opens the access log anew after it was moved away; what cannot be opened leaves the old file in use."""
    if log is None:
        return
    try:
        log.writer.reopen()
    except OSError as fault:
        _LOG.error("access log not reopened, the old file stays in use: %s", fault.strerror)
