"""One gateway process: two listeners, signals, and an end in which every request under way is answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from gateway.admin.app import admin_app
from gateway.assembly import CannotStart
from gateway.assembly.gateway import SYSTEM_CLOCK, Gateway
from gateway.observe.access_log import AccessLog
from gateway.ports import Clock
from gateway.settings import Settings, address

_LOG: Final = logging.getLogger("bearergate")


BACKLOG: Final = 2048
_ADVICE: Final = {
    errno.EADDRINUSE: "choose another port, or port 0 for a free one",
    errno.EACCES: "choose a port above 1023, or give the process the right to use this one",
}
_SERVER: Final[dict[str, Any]] = {
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "server_header": False,
    "date_header": False,
}


class Running:
    """A gateway that serves: two listeners and the parts behind them."""

    def __init__(self, gateway: Gateway, proxy: socket.socket, admin: socket.socket) -> None:
        self.gateway = gateway
        self.proxy_port: int = proxy.getsockname()[1]
        self.admin_port: int = admin.getsockname()[1]
        self._sockets = (proxy, admin)
        common = _SERVER | {"timeout_graceful_shutdown": ceil(gateway.settings.drain)}
        self._proxy = Server(uvicorn.Config(_no_app, http=gateway.protocol(), backlog=BACKLOG, **common))
        self._admin = admin_server(gateway)
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
        """Drains: not ready, then no new connections; requests under way may end, then everything is closed."""
        services, settings = self.gateway.services, self.gateway.settings
        services.draining = True
        if settings.drain_delay:
            # A balancer that polls `/readyz` needs the time; answers say `connection: close` meanwhile.
            await asyncio.sleep(settings.drain_delay)
        _LOG.info("stopping: %d requests under way, at most %g s", services.in_flight, settings.drain)
        self._proxy.should_exit = True
        await self._serving[0]
        self._admin.should_exit = True
        await self._serving[1]
        await self.gateway.aclose()
        for listener in self._sockets:
            listener.close()


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: signals are the process's, and it has two servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def admin_server(gateway: Gateway) -> Server:
    """The server of the admin listener."""
    config = uvicorn.Config(
        admin_app(gateway.registry, gateway.readiness), limit_concurrency=64, timeout_graceful_shutdown=1, **_SERVER
    )
    return Server(config)


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """uvicorn wants an application; our protocol class never calls it."""


async def start(settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> Running:
    """A running gateway. Raises: CannotStart"""
    with contextlib.ExitStack() as undo:
        proxy = undo.enter_context(listening(settings.listen, "listen"))
        admin = undo.enter_context(listening(settings.admin_listen, "admin_listen"))
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
    # What was loaded stays: the collector need not walk it again while requests are served.
    gc.collect()
    gc.freeze()
    host = address(settings.listen)[0]
    _LOG.info("serving on %s:%d, admin on port %d", host, running.proxy_port, running.admin_port)
    await ended.wait()
    await running.stop()
    _LOG.info("stopped")


def listening(text: str, name: str) -> socket.socket:
    """A socket bound to `text`; `name` is the setting that it came from. Raises: CannotStart"""
    host, port = address(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once: two that bind the same port with SO_REUSEADDR are told apart only by who listens first.
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        advice = _ADVICE.get(fault.errno or 0, "write an address of this machine, as in `127.0.0.1:8080`")
        raise CannotStart(f"{name}: cannot listen on `{text}`: {fault.strerror}; {advice}") from fault
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


def _check_no_loop(settings: Settings, listeners: tuple[socket.socket, ...]) -> None:
    """An upstream that is a listener of ours would put the admin pages on the public port (I29)."""
    ours = {listener.getsockname()[1]: ip_address(listener.getsockname()[0]) for listener in listeners}
    for name, url in settings.upstreams.items():
        parts = urlsplit(url)
        listener = ours.get(parts.port or 0)
        if listener is None:
            continue
        # Resolved, because `127.1`, `0` and names of this machine are other spellings of the same place.
        for address_of in _addresses(parts.hostname or ""):
            everywhere = listener.is_unspecified or address_of.is_unspecified
            if address_of == listener or (everywhere and (address_of.is_loopback or address_of.is_unspecified)):
                raise CannotStart(f"upstreams: `{name}` is at `{url}`, which is a listener of this gateway itself")


def _addresses(host: str) -> set[IPv4Address | IPv6Address]:
    try:
        return {ip_address(str(found[4][0]).partition("%")[0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
