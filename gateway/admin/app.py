"""The application of the admin listener: `/metrics`, `/livez`, `/readyz`. Reads only; nothing here changes anything.

Served on its own socket, by default on the loopback address alone, and never routed by the proxy. The server that
runs it must not announce itself (uvicorn: `server_header=False`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.admin.health import Readiness

_ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def admin_app(registry: CollectorRegistry, readiness: Callable[[], Readiness]) -> ASGIApp:
    """`readiness` is called on the event loop and must not wait."""

    def metrics(request: Request) -> Response:
        # Not `async`: Starlette runs it in a worker thread, so that a large scrape does not hold up the event loop.
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": media_type})

    async def livez(_: Request) -> Response:
        # Nothing is looked at: that this answers at all is the whole statement.
        return JSONResponse({"live": True})

    async def readyz(_: Request) -> Response:
        now = readiness()
        return JSONResponse(
            {
                "ready": now.is_ready,
                "checks": {check.name: {"ok": check.is_good, "detail": check.detail} for check in now.checks},
            },
            status_code=200 if now.is_ready else 503,
        )

    return _AlwaysHeaders(
        Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])
    )


class _AlwaysHeaders:
    """Puts the same headers on every answer, those to unknown paths and wrong methods included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)
