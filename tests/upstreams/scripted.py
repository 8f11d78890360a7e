"""Upstreams on the loopback that answer as they are told, and a proxy before one of them that breaks things."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from struct import pack
from typing import Any

from gateway.upstreams.balancer import BalancedUpstream
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.opening import open_upstream
from gateway.upstreams.options import UpstreamOptions
from gateway.wire.limits import Timeouts
from tests.support.manual_clock import ManualClock
from tests.upstreams.sinks import Hearing

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSE = b"close"
"""In place of an answer: an orderly end."""
RESET = b"reset"
SILENCE = b""
"""In place of an answer: nothing at all."""


class Scripted:
    """An upstream that gives each request the next answer of its script, then `answer` to all others."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer = OK
        self.script: deque[bytes] = deque()
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted = 0
        self.port = 0
        self.host = "127.0.0.1"
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Scripted:
        self.host = host
        self._server = await asyncio.start_server(self._serve, host, port or self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """No listener, and no connection."""
        if self._server is not None:
            self._server.close()
            self.reset_all()
            await self._server.wait_closed()
            self._server = None

    def reset_all(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.script.popleft() if self.script else self.answer
                if answer == RESET:
                    reset(writer)
                elif answer == CLOSE:
                    return
                else:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class FaultProxy:
    """Passes bytes between clients and an upstream, and breaks what it is told to."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.stalls_answers = False
        self.cut_answers_after: int | None = None
        """Bytes of the answer that pass before the connection is reset."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            forth = asyncio.ensure_future(self._pass(reader, to_writer))
            self._tasks.add(forth)
            await self._pass_answers(to_reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            forth.cancel()
            for end in (writer, to_writer):
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.stalls_answers:
                await asyncio.Event().wait()
            if self.cut_answers_after is not None:
                writer.write(data[: self.cut_answers_after])
                await writer.drain()
                reset(writer)
                return
            writer.write(data)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    writer.transport.abort()


class World:
    """Upstreams, a clock, and what was opened to them; ended together."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.servers: list[Scripted] = []
        self.proxies: list[FaultProxy] = []
        self.opened: list[BalancedUpstream] = []

    async def servers_of(self, count: int) -> list[Scripted]:
        made = [await Scripted().start() for _ in range(count)]
        self.servers += made
        return made

    async def proxy_to(self, server: Scripted) -> FaultProxy:
        proxy = await FaultProxy(server.port).start()
        self.proxies.append(proxy)
        return proxy

    def upstream(
        self,
        *urls: str | Scripted,
        timeouts: Timeouts | None = None,
        max_connections: int = 8,
        **options: Any,
    ) -> BalancedUpstream:
        resolve = options.pop("resolve", None)
        made = open_upstream(
            "rest",
            [url if isinstance(url, str) else url.url for url in urls],
            now=self.clock.monotonic,
            timeouts=timeouts,
            max_connections=max_connections,
            options=UpstreamOptions(**options),
            **({} if resolve is None else {"resolve": resolve}),
        )
        self.opened.append(made)
        return made

    async def close(self) -> None:
        for upstream in self.opened:
            upstream.close()
            for pool in upstream.pools:
                for connection in list(pool._open):
                    connection.abandon()
        for proxy in self.proxies:
            await proxy.stop()
        for server in self.servers:
            await server.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop turn until `holds`; no time passes but what the loop needs."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


async def heard(connection: UpstreamConnection, data: bytes = GET) -> Hearing:
    """What a sink heard of one request on a connection."""
    sink = Hearing()
    connection.send(data, sink, answers_head=False, ends=True)
    async with asyncio.timeout(5):
        await sink.ended.wait()
    return sink


async def ask(upstream: BalancedUpstream, data: bytes = GET) -> Hearing:
    """One request as the doors send it, without their second attempt."""
    return await heard(upstream.take() or await upstream.connect(), data)


def refusing_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
