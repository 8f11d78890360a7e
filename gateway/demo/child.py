"""The process of the example upstreams: `python -m gateway.demo.child`, started by the demo and by nobody else.

One line of JSON comes in on standard input, one line with the two ports goes out on standard output, and the process
ends when its standard input does: it cannot outlive the demo, however that ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.demo.example import read_example
from gateway.demo.upstreams import graphql_app, rest_app

HOST: Final = "127.0.0.1"


class Order(msgspec.Struct, frozen=True):
    """What the child is told: which example, and which users belong to which App."""

    example: str
    members: dict[str, tuple[str, ...]]


class Ports(msgspec.Struct, frozen=True):
    """What the child says when it listens."""

    rest: int
    graphql: int


async def serve(order: Order) -> None:
    """Both upstreams, until standard input ends or a signal comes."""
    example = read_example(Path(order.example))
    rest, graphql = rest_app(example, order.members), graphql_app(example.graphql, order.members)
    with socket.create_server((HOST, 0)) as rest_socket, socket.create_server((HOST, 0)) as graphql_socket:
        ports = Ports(rest_socket.getsockname()[1], graphql_socket.getsockname()[1])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            # One server for both sockets, for a second one would fight over the signal handlers.
            await (graphql if scope["server"][1] == ports.graphql else rest)(scope, receive, send)

        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False)
        server = uvicorn.Server(config)
        watching = asyncio.create_task(_stop_with_input(server))
        # The sockets listen already: a request that comes before the server does waits in the backlog.
        sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
        sys.stdout.flush()
        await server.serve(sockets=[rest_socket, graphql_socket])
        watching.cancel()


async def _stop_with_input(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.should_exit = True


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.stdin.readline(), type=Order)))
