# mypy: disable-error-code="import-not-found,no-any-return"
"""The gateway one would write first: Starlette, a list of patterns, httpx, and GraphQL parsed anew each time.

Not careless: one client for all requests, keys kept as digests in memory. Bodies are read whole, as first versions do.
Started with the upstream's address in NAIVE_UPSTREAM and the one good token in NAIVE_TOKEN.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

import graphql
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_UPSTREAM: Final = os.environ["NAIVE_UPSTREAM"]
_SCOPES: Final = {
    hashlib.sha256(os.environ["NAIVE_TOKEN"].encode()).hexdigest(): frozenset(("USER_READ", "OFFLOADS_READ"))
}
_RULES: Final = (
    ("GET", re.compile(r"/v2/users/[^/]+"), "USER_READ"),
    ("GET", re.compile(r"/v2/users/[^/]+/events"), "USER_READ"),
    ("GET", re.compile(r"/v2/users/[^/]+/moments"), "USER_READ"),
    ("GET", re.compile(r"/v2/users/[^/]+/segments"), "USER_READ"),
    ("GET", re.compile(r"/bulk/[^/]+"), "USER_READ"),
    ("POST", re.compile(r"/bulk/[^/]+"), "USER_READ"),
)
_FIELDS: Final = {"user": "USER_READ", "offloads": "OFFLOADS_READ"}
_NOT_FORWARDED: Final = frozenset(("host", "connection", "content-length", "transfer-encoding", "authorization"))

_client = httpx.AsyncClient(base_url=_UPSTREAM, timeout=60.0, limits=httpx.Limits(max_connections=64))


async def _gateway(request: Request) -> Response:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    scopes = _SCOPES.get(hashlib.sha256(token.encode()).hexdigest())
    if scheme.lower() != "bearer" or scopes is None:
        return JSONResponse({"error": "unauthorized"}, 401, headers={"WWW-Authenticate": "Bearer"})

    body = await request.body()
    if request.url.path == "/v4/gql":
        needed = _needed(graphql.parse((await request.json())["query"]))
    else:
        needed = {
            scope for method, path, scope in _RULES if method == request.method and path.fullmatch(request.url.path)
        }
    if not needed or not needed <= scopes:
        return JSONResponse({"error": "forbidden"}, 403)

    headers = {name: value for name, value in request.headers.items() if name not in _NOT_FORWARDED}
    answer = await _client.request(request.method, request.url.path, content=body, headers=headers)
    kept = {name: value for name, value in answer.headers.items() if name not in _NOT_FORWARDED}
    return Response(answer.content, answer.status_code, kept)


def _needed(document: graphql.DocumentNode) -> set[str]:
    return {
        _FIELDS[field.name.value]
        for definition in document.definitions
        if isinstance(definition, graphql.OperationDefinitionNode)
        for field in definition.selection_set.selections
        if isinstance(field, graphql.FieldNode)
    }


app = Starlette(routes=[Route("/{path:path}", _gateway, methods=["GET", "POST"])])
