"""The example upstreams, REST and GraphQL: small apps that answer what the example data says.

They trust the identity headers, as an upstream behind the gateway may: a user is shown only to a key of the App that
the user belongs to, and for any other App there is no such user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphql import GraphQLError, GraphQLResolveInfo, build_schema, graphql
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.demo.example import Answer, Example, GraphQLExample, filled

Members = Mapping[str, Sequence[str]]
"""The users of each App, by App id."""

_APP_HEADER: Final = "x-gateway-app-id"
_REF_HEADER: Final = "x-gateway-request-id"


def rest_app(example: Example, members: Members) -> Starlette:
    """The REST upstream."""
    routes: list[BaseRoute] = []
    for call, answer in example.rest.items():
        method, path = call.split(" ")
        routes.append(Route(path, _rest_endpoint(answer, members), methods=[method]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _rest_error})


def graphql_app(example: GraphQLExample, members: Members) -> Starlette:
    """The GraphQL upstream: the example's schema, executed, with canned values at the root."""
    schema = build_schema(example.sdl)
    for coordinate, answer in example.fields.items():
        type_name, field_name = coordinate.split(".")
        schema.type_map[type_name].fields[field_name].resolve = _resolver(answer, members)  # type: ignore[attr-defined]

    async def serve(request: Request) -> Response:
        asked = await request.json()
        result = await graphql(
            schema,
            asked["query"],
            context_value=request.headers.get(_APP_HEADER, ""),
            variable_values=asked.get("variables"),
            operation_name=asked.get("operationName"),
        )
        return JSONResponse(result.formatted)

    return Starlette(routes=[Route(path, serve, methods=["POST"]) for path in example.paths])


def _rest_endpoint(answer: Answer, members: Members) -> Any:
    async def serve(request: Request) -> Response:
        given = {name: str(value) for name, value in request.path_params.items()}
        if answer.user and given[answer.user] not in members.get(request.headers.get(_APP_HEADER, ""), ()):
            raise HTTPException(404, "USER_NOT_FOUND")
        return JSONResponse(filled(answer.answer, given), answer.status)

    return serve


def _resolver(answer: Answer, members: Members) -> Any:
    def resolve(_: object, info: GraphQLResolveInfo[str], **arguments: object) -> Any:
        given = {name: str(value) for name, value in arguments.items()}
        if answer.user and given[answer.user] not in members.get(info.context, ()):
            raise GraphQLError("user not found", extensions={"code": "USER_NOT_FOUND"})
        return filled(answer.answer, given)

    return resolve


async def _rest_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = error.detail.upper().replace(" ", "_")
    said = {"message": error.detail.replace("_", " ").lower(), "errorCode": code}
    return JSONResponse({**said, "ref": request.headers.get(_REF_HEADER, "")}, error.status_code)
