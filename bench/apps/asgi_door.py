"""Bearergate's ASGI door as an app of its own, configured by BEARERGATE_… like `bearergate serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from gateway.assembly.gateway import Gateway
from gateway.settings import read_settings

_gateway: Gateway | None = None


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    global _gateway
    _gateway = Gateway(read_settings())
    await _gateway.open()
    yield
    await _gateway.aclose()


_lifespan_app = Starlette(lifespan=_lifespan)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Requests go straight to the door; Starlette sees the lifespan alone."""
    if scope["type"] == "lifespan":
        await _lifespan_app(scope, receive, send)
        return

    assert _gateway is not None
    await _gateway.asgi(scope, receive, send)
