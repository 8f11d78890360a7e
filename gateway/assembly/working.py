"""What a worker does: it serves, and obeys its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from typing import Any, Final

from gateway.assembly import CannotStart
from gateway.assembly.acceptor import Loads
from gateway.assembly.orders import (
    LINE_LIMIT_BYTES,
    Alive,
    Begin,
    Failed,
    FromWorker,
    Order,
    Reading,
    Ready,
    Reload,
    What,
    line_of,
    to_worker,
)
from gateway.assembly.serving import Running, keep_what_was_loaded, reopen, start_worker
from gateway.observe.merging import readings_of
from gateway.settings import settings_from

_LOG: Final = logging.getLogger("bearergate")
ORPHAN_DRAIN_SECONDS: Final = 1.5
"""For requests under way when the supervisor has died; `worker.ORPHAN_END_SECONDS` is the end of all."""


async def work(number: int, control: socket.socket, listener: socket.socket, loads: Loads) -> int:
    """Serves until the supervisor says that it is enough; returns the exit status."""
    listener.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=control, limit=LINE_LIMIT_BYTES)
    line = await reader.readline()
    if not line:
        return 1
    begin = to_worker.decode(line)
    assert isinstance(begin, Begin)  # it is the first one
    try:
        running = await start_worker(settings_from(begin.settings), begin.policy, listener, (loads, number))
    except CannotStart as fault:
        writer.write(line_of(Failed(str(fault))))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        return 1
    keep_what_was_loaded()
    writer.write(line_of(Ready()))
    return await _Orders(running, reader, writer).obey()


class _Orders:
    """Does what the supervisor says, until it says that this is the end, or says nothing more."""

    def __init__(self, running: Running, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._running = running
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reads = False
        self._ending: asyncio.Task[None] | None = None

    async def obey(self) -> int:
        """Returns the exit status."""
        hearing = asyncio.create_task(self._reader.readline())
        while True:
            waited = {hearing} if self._ending is None else {hearing, self._ending}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._ending is not None and self._ending.done():
                hearing.cancel()
                self._ending.result()
                self._writer.write(self._reading())  # the last one, with all that was counted
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()
                return 0
            line = await _heard(hearing)
            if not line:
                return await self._end_alone()
            order = to_worker.decode(line)
            if isinstance(order, Reload):
                self._do(self._running.reload_policy(order.policy))
            elif isinstance(order, Order):
                self._obey(order)
            hearing = asyncio.create_task(self._reader.readline())

    def _obey(self, order: Order) -> None:
        if order.what is What.ANSWER:
            self._say(Alive())
        elif order.what is What.READ:
            if not self._reads:
                self._reads = True
                self._do(self._read())
        elif order.what is What.REOPEN:
            reopen(self._running.gateway.access_log)
        elif order.what is What.DRAIN:
            if self._ending is None:
                self._ending = asyncio.create_task(self._running.stop())
        else:
            self._running.hurry()

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, message: FromWorker) -> None:
        self._writer.write(line_of(message))

    async def _read(self) -> None:
        try:
            # As a scrape of one process does it: beside the event loop.
            self._writer.write(await asyncio.to_thread(self._reading))
        finally:
            self._reads = False

    def _reading(self) -> bytes:
        gateway = self._running.gateway
        return line_of(Reading(readings_of(gateway.registry), gateway.readiness().checks))

    async def _end_alone(self) -> int:
        """The supervisor is gone, and the next one wants to listen: the socket is closed at once (R15)."""
        _LOG.error("the supervisor is gone: ending")
        if self._ending is None:
            self._ending = asyncio.create_task(self._running.stop(at_once=True))
        asyncio.get_running_loop().call_later(ORPHAN_DRAIN_SECONDS, self._running.hurry)
        await self._ending
        return 1


async def _heard(hearing: asyncio.Task[bytes]) -> bytes:
    try:
        return await hearing
    except ConnectionError:
        return b""
