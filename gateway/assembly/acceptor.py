"""Accepting from a socket that several processes share, so that each has about as many connections as the next.

Facts, then code: whoever of several is quickest at `accept` gets the connection, and the kernel wakes them in no order
that is fair. Three idle workers were seen to get 46, 18 and none of 64 connections, which then stay where they are for
as long as they are kept alive. So each worker shows how many it has, and one that has more than another waits five
milliseconds before it takes the next.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Sized
from typing import IO, Any, Final

GONE: Final = 0xFFFFFFFF
"""The load of a worker that accepts nothing: it has ended, or does not answer."""
YIELD_SECONDS: Final = 0.005
SHOW_SECONDS: Final = 0.25
AT_ONCE: Final = 8
"""Connections taken after a wait in which nobody else took them."""
NO_DESCRIPTORS_SECONDS: Final = 0.1


class Loads:
    """How many connections each worker has, in memory that all of them share. Each writes its own place."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._memory = mmap.mmap(file.fileno(), 0)
        self._loads = memoryview(self._memory).cast("I")

    @classmethod
    def of(cls, workers: int) -> Loads:
        """New ones, of workers that are not there yet."""
        if hasattr(os, "memfd_create"):
            file: IO[bytes] = os.fdopen(os.memfd_create("bearergate"), "r+b")  # no folder need be writable
        else:
            file = tempfile.TemporaryFile(prefix="bearergate-")  # noqa: SIM115 - it lives as long as we do
        file.write(GONE.to_bytes(4, "little") * workers)
        file.flush()
        return cls(file)

    def close(self) -> None:
        self._loads.release()
        self._memory.close()
        self.file.close()

    def show(self, worker: int, load: int) -> None:
        self._loads[worker - 1] = load

    def least(self) -> int:
        return min(self._loads)


class Acceptor:
    """What `uvicorn.Server` takes for a server: accepts from `listener` until it is closed."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        loads: Loads,
        worker: int,
        tls: dict[str, Any],
    ) -> None:
        """`tls` has the arguments that `connect_accepted_socket` takes for it, or none."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._loads = loads
        self._worker = worker
        self._tls = tls
        self._opening: set[asyncio.Task[Any]] = set()
        self._waiting: asyncio.TimerHandle | None = None
        self._showing = self._show()
        self._loop.add_reader(listener.fileno(), self._readable)

    def close(self) -> None:
        """Accepts nothing more; what is open stays open."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._loop.remove_reader(self._listener.fileno())
        self._showing.cancel()
        self._loads.show(self._worker, GONE)

    async def wait_closed(self) -> None:
        """Returns when no connection is being opened."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _show(self) -> asyncio.TimerHandle:
        """Connections that ended are told of by time, and not one by one."""
        self._loads.show(self._worker, len(self._connections))
        self._showing = self._loop.call_later(SHOW_SECONDS, self._show)
        return self._showing

    def _readable(self) -> None:
        load = len(self._connections) + len(self._opening)
        self._loads.show(self._worker, load)
        if load > self._loads.least() + 1:
            self._wait(YIELD_SECONDS)
        else:
            self._accept()

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._waiting = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._listener.fileno(), self._readable)
        for _ in range(AT_ONCE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Whether there was a connection."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            # No descriptors left, most likely. It stays in the queue, and who else can may take it.
            self._wait(NO_DESCRIPTORS_SECONDS)
            return False
        accepted.setblocking(False)
        task = self._loop.create_task(self._open(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted, **self._tls)
        except OSError:  # TLS and time-outs have theirs below it
            # It was closed, or its handshake failed: as with any server, nobody is told.
            accepted.close()
