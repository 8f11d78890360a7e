"""uvicorn's server as we run it: signals are the process's, time-outs are ours, and nothing is announced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry

from gateway.admin.app import admin_app
from gateway.admin.health import Readiness
from gateway.assembly.acceptor import Acceptor, Loads
from gateway.wire.limits import Timeouts

SERVER: Final[dict[str, Any]] = {
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "server_header": False,
    "date_header": False,
}


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: signals are the process's, and it has two servers."""

    def __init__(
        self, config: uvicorn.Config, timeouts: Timeouts | None = None, share: tuple[Loads, int] | None = None
    ) -> None:
        """`share` is how this worker, by its number, shares the socket with others."""
        super().__init__(config)
        self._timeouts = timeouts or Timeouts()
        self._share = share

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn has it; but a TLS handshake, and the goodbye at its end, have our time-outs and not a minute."""
        context = self.config.ssl
        if sockets is None or (context is None and self._share is None):
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        tls: dict[str, Any] = {}
        if context is not None:
            tls = {
                "ssl": context,
                "ssl_handshake_timeout": self._timeouts.head,
                "ssl_shutdown_timeout": self._timeouts.linger,
            }
        if self._share is None:
            backlog = self.config.backlog
            self.servers = [
                await loop.create_server(protocol, sock=listener, backlog=backlog, **tls) for listener in sockets
            ]
        else:
            connections = self.server_state.connections
            self.servers = [
                Acceptor(listener, protocol, connections, *self._share, tls)  # type: ignore[misc]
                for listener in sockets
            ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def admin_server(
    registry: CollectorRegistry,
    readiness: Callable[[], Readiness],
    before_metrics: Callable[[], Awaitable[None]] | None = None,
    jwks: Callable[[], bytes] | None = None,
) -> Server:
    """The server of the admin listener; `before_metrics` is awaited before each scrape."""
    app = admin_app(registry, readiness, before_metrics, jwks)
    return Server(uvicorn.Config(app, limit_concurrency=64, timeout_graceful_shutdown=1, **SERVER))
