"""The application of the admin listener: `/metrics`, `/livez`, `/readyz`, and the keys that upstreams check with.

Reads only; nothing here changes anything.
Served on its own socket, by default on the loopback address alone, and never routed by the proxy. The server that
runs it must not announce itself (uvicorn: `server_header=False`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.admin.health import Readiness

_ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
JWKS_PATH: Final = "/.well-known/jwks.json"
JWKS_SECONDS: Final = 300
"""That upstreams may go on with keys that they have read; a key has to be published for so long before it signs."""


def admin_app(
    registry: CollectorRegistry,
    readiness: Callable[[], Readiness],
    before_metrics: Callable[[], Awaitable[None]] | None = None,
    jwks: Callable[[], bytes] | None = None,
) -> ASGIApp:
    """`readiness` is called on the event loop and must not wait; `before_metrics` fetches what a scrape shows.

    `jwks` is what is published of the keys that sign assertions; without it there is nothing at its path.
    """

    async def metrics(request: Request) -> Response:
        if before_metrics is not None:
            await before_metrics()
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        # In a worker thread, so that a large scrape does not hold up the event loop.
        return Response(await run_in_threadpool(encode, registry), headers={"content-type": media_type})

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

    routes = [Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)]
    if jwks is not None:
        routes.append(Route(JWKS_PATH, _published(jwks)))
    return _AlwaysHeaders(Starlette(routes=routes))


def _published(jwks: Callable[[], bytes]) -> Callable[[Request], Awaitable[Response]]:
    headers = {"content-type": "application/jwk-set+json", "cache-control": f"max-age={JWKS_SECONDS}"}

    async def keys(_: Request) -> Response:
        return Response(jwks(), headers=headers)

    return keys


class _AlwaysHeaders:
    """Puts headers on every answer that has none of their names, those to unknown paths and wrong methods included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
