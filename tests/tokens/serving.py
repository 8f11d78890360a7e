"""A loopback issuer for tests: it answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


def answer(body: bytes, status: str = "200 OK", *fields: bytes) -> bytes:
    """A whole HTTP answer."""
    lines = [b"HTTP/1.1 " + status.encode(), b"content-type: application/json", *fields]
    lines.append(b"content-length: " + str(len(body)).encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class LoopbackIssuer:
    """What it was asked, and what it says."""

    def __init__(self, says: Callable[[bytes], bytes | None]) -> None:
        self.says = says
        """The answer to a request; None never answers."""
        self.asked: list[bytes] = []
        self.port = 0
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:")),
                    0,
                )
                request += await reader.readexactly(length)
                self.asked.append(request)
                said = self.says(request)
                if said is None:
                    await asyncio.Event().wait()
                else:
                    writer.write(said)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        for writer in list(self._clients):
            writer.transport.abort()


@asynccontextmanager
async def loopback_issuer(says: Callable[[bytes], bytes | None], port: int = 0) -> AsyncIterator[LoopbackIssuer]:
    """An issuer that listens until the block ends."""
    issuer = LoopbackIssuer(says)
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", port)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()
        issuer.hang_up()
        await asyncio.sleep(0)
