"""One gateway process: two listeners, signals, and an end in which every request under way is answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import ceil
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from gateway.admin.app import admin_app
from gateway.assembly import CannotStart
from gateway.assembly.gateway import SYSTEM_CLOCK, Gateway
from gateway.assembly.self_test import try_guards
from gateway.assembly.tls import ServerTls
from gateway.observe.access_log import AccessLog
from gateway.ports import Clock
from gateway.settings import Settings, listen_address
from gateway.wire.limits import Timeouts

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

    def __init__(
        self, gateway: Gateway, proxy: socket.socket, admin: socket.socket, tls: ServerTls | None = None
    ) -> None:
        self.gateway = gateway
        self.proxy_port = _port(proxy)
        self.admin_port = _port(admin)
        self.places = (_place(proxy), _place(admin))
        """Where clients and operators are answered, as text."""
        self._paths = (_path(proxy), _path(admin))
        self._sockets = (proxy, admin)
        self._tls = tls
        common = _SERVER | {"timeout_graceful_shutdown": ceil(gateway.settings.drain)}
        config = uvicorn.Config(_no_app, http=gateway.protocol(), backlog=BACKLOG, **common)
        if tls is not None:
            config.load()
            config.ssl = tls.context
        self._proxy = Server(config, gateway.settings.timeouts.wire())
        self._admin = admin_server(gateway)
        self._serving: list[asyncio.Task[None]] = []
        self._hurried = asyncio.Event()

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
        """See `Gateway.reload_policy`; the certificate is read anew with it."""
        if self._tls is not None:
            fault = self._tls.reload()
            if fault:
                _LOG.error("certificate not reloaded, the old one stays in use: %s", fault)
        return await self.gateway.reload_policy()

    def hurry(self) -> None:
        """Cuts the drain short: what is under way is broken off."""
        self._hurried.set()
        self._proxy.force_exit = True

    async def stop(self) -> None:
        """Drains: not ready, then no new connections; requests under way may end, then everything is closed."""
        services, settings = self.gateway.services, self.gateway.settings
        services.draining = True
        if settings.drain_delay:
            # A balancer that polls `/readyz` needs the time; answers say `connection: close` meanwhile.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), settings.drain_delay)
        _LOG.info("stopping: %d requests under way, at most %g s", services.in_flight, settings.drain)
        self._proxy.should_exit = True
        await self._serving[0]
        self._admin.should_exit = True
        await self._serving[1]
        await self.gateway.aclose()
        for listener, path in zip(self._sockets, self._paths, strict=True):
            listener.close()
            if path and not self.gateway.settings.reuse_port:
                # With `reuse_port` the next process has put its own socket there already.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: signals are the process's, and it has two servers."""

    def __init__(self, config: uvicorn.Config, timeouts: Timeouts | None = None) -> None:
        super().__init__(config)
        self._timeouts = timeouts or Timeouts()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn has it; but a TLS handshake, and the goodbye at its end, have our time-outs and not a minute."""
        context = self.config.ssl
        if context is None or sockets is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        self.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                ssl=context,
                backlog=self.config.backlog,
                ssl_handshake_timeout=self._timeouts.head,
                ssl_shutdown_timeout=self._timeouts.linger,
            )
            for listener in sockets
        ]
        self.started = True

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
    try_guards()
    with contextlib.ExitStack() as undo:
        tls = None if settings.tls_certificate is None else ServerTls(settings.tls_certificate, settings.tls_key)
        proxy = undo.enter_context(listening(settings.listen, "listen", reuse_port=settings.reuse_port))
        admin = undo.enter_context(listening(settings.admin_listen, "admin_listen", reuse_port=settings.reuse_port))
        _check_no_loop(settings, (proxy, admin))
        gateway = Gateway(settings, clock=clock)
        await gateway.open()
        running = Running(gateway, proxy, admin, tls)
        await running.start()
        undo.pop_all()
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
    loop.add_signal_handler(signal.SIGUSR1, _reopen, running.gateway.access_log)
    # What was loaded stays: the collector need not walk it again while requests are served.
    gc.collect()
    gc.freeze()
    _LOG.info("serving on %s, admin on %s", *running.places)
    await ended.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever asks twice does not want to wait.
        loop.add_signal_handler(number, running.hurry)
    await running.stop()
    _LOG.info("stopped")


def _do_nothing() -> None:
    """Handles a signal that has no meaning yet."""


def listening(text: str, name: str, *, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on `text`; `name` is the setting that it came from. Raises: CannotStart"""
    host, port = listen_address(text)
    if not host:
        return _handed_over(port, name)
    is_unix = port < 0
    family = socket.AF_UNIX if is_unix else socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if is_unix:
            _bind_path(listener, host, name, reuse_port=reuse_port)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        # At once: two that bind the same port with SO_REUSEADDR are told apart only by who listens first.
        listener.listen(BACKLOG)
    except CannotStart:
        listener.close()
        raise
    except OSError as fault:
        listener.close()
        advice = _ADVICE.get(fault.errno or 0, "write an address of this machine, as in `127.0.0.1:8080`")
        raise CannotStart(f"{name}: cannot listen on `{text}`: {fault.strerror}; {advice}") from fault
    listener.setblocking(False)
    return listener


def _bind_path(listener: socket.socket, path: str, name: str, *, reuse_port: bool) -> None:
    """Binds a Unix socket that its owner and group may use. What a dead process left there is taken away.

    Bound beside its path and moved there, so that a next process takes over from one that still serves.
    """
    place = Path(path)
    if place.exists():
        if not place.is_socket():
            raise CannotStart(f"{name}: `{path}` is there and is no socket; choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
            if not reuse_port and visitor.connect_ex(path) == 0:
                raise CannotStart(f"{name}: somebody listens on `{path}`; end that first, or set `reuse_port`")
    beside = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    listener.bind(beside)
    os.chmod(beside, 0o660)
    os.replace(beside, path)


def _handed_over(descriptor: int, name: str) -> socket.socket:
    """A listening socket that the parent process opened, as systemd does. Raises: CannotStart"""
    try:
        listener = socket.socket(fileno=descriptor)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.close()
            raise CannotStart(f"{name}: descriptor {descriptor} is no listening socket")
    except OSError as fault:
        raise CannotStart(f"{name}: descriptor {descriptor} is no socket: {fault.strerror}") from fault
    listener.setblocking(False)
    return listener


def _path(listener: socket.socket) -> str:
    """The path of a Unix socket; empty for others."""
    name = listener.getsockname()
    return name.rpartition(f".{os.getpid()}")[0] or name if isinstance(name, str) else ""


def _port(listener: socket.socket) -> int:
    """The port; 0 for Unix sockets."""
    name = listener.getsockname()
    return 0 if isinstance(name, str) else int(name[1])


def _place(listener: socket.socket) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{_path(listener)}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


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
    names = [listener.getsockname() for listener in listeners]
    ours = {place[1]: ip_address(place[0]) for place in names if not isinstance(place, str)}
    located = [(name, url) for name in settings.upstreams for url in settings.endpoints(name)]
    for name, url in located:
        parts = urlsplit(url)
        listener = ours.get(parts.port or 0)
        if listener is None:
            continue
        # Resolved, because `127.1`, `0` and names of this machine are other spellings of the same place.
        for address_of in _addresses(parts.hostname or ""):
            everywhere = listener.is_unspecified or address_of.is_unspecified
            if address_of == listener or (everywhere and _is_local(address_of)):
                raise CannotStart(f"upstreams: `{name}` is at `{url}`, which is a listener of this gateway itself")


def _addresses(host: str) -> set[IPv4Address | IPv6Address]:
    try:
        found = {ip_address(str(place[4][0]).partition("%")[0]) for place in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
    return {address.ipv4_mapped or address if isinstance(address, IPv6Address) else address for address in found}


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is one of this machine's own: then, and only then, a socket can be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
    return True
