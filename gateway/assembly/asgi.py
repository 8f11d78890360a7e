"""The ASGI application with its parts around it, for servers other than our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

from gateway.assembly import CannotStart
from gateway.assembly.gateway import SYSTEM_CLOCK, Gateway
from gateway.assembly.listeners import listening
from gateway.assembly.servers import Server, admin_server
from gateway.ports import Clock
from gateway.settings import Settings, read_settings

_LAX_SERVERS: Final = {
    "uvicorn.protocols.http.h11_impl": "uvicorn with h11",
    "granian.asgi": "granian",
    "hypercorn.app_wrappers": "hypercorn",
}
"""By a module that is loaded where they serve, and nowhere else."""


class AsgiApplication:
    """The ASGI door and its parts, for servers that send lifespan events. The admin listener comes with it."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._gateway: Gateway | None = None
        self._admin: tuple[Server, asyncio.Task[None], socket.socket] | None = None

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
        _check_server()
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(listening(self._settings.admin_listen, "admin_listen"))
            gateway = Gateway(self._settings, clock=self._clock)
            await gateway.open()
            server = admin_server(gateway.registry, gateway.readiness, jwks=gateway.jwks)
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
    """Configured by the environment, for `uvicorn --factory gateway.assembly.asgi:asgi_app`. Raises: SettingsInvalid"""
    config = os.environ.get("BEARERGATE_CONFIG")
    return AsgiApplication(read_settings(Path(config) if config else None))


def _check_server() -> None:
    """Not under a server that takes for framing what a hop before it may not have seen as such (A1, A12, A14).

    Facts: a scope does not name its server. What each one lets through is measured by a test and in `docs/asgi.md`.
    Raises: CannotStart
    """
    for module, server in _LAX_SERVERS.items():
        if module in sys.modules:
            raise CannotStart(
                f"{server} lets requests through that two hops may read differently (docs/asgi.md); "
                "run uvicorn with `--http httptools`, or `bearergate serve`"
            )
