"""A port before another one: connections go on to it, break, or fall silent, as a test says. In a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SAFETY_SECONDS = 10.0


class Gate:
    """Passes bytes both ways while it is open."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._loop: asyncio.AbstractEventLoop
        self._ended = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = True
        self._is_silent = False
        self.connects = 0
        """That were tried, taken or not."""
        self.port = 0

    def open(self) -> None:
        """From now on it passes everything."""
        self._is_open, self._is_silent = True, False

    def shut(self) -> None:
        """Breaks what is open, and every connection to come."""
        self._is_open = False
        self._call(self._break)

    def silence(self) -> None:
        """Like a peer that is gone without a word: everything is taken, and nothing arrives."""
        self._is_silent = True

    def break_silent(self) -> None:
        """Breaks what is open; what comes next is passed."""
        self._call(self._break)
        self.open()

    async def run(self, started: threading.Event) -> None:
        """Serves until `end`."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        server.close()
        self._is_open = False
        while self._writers:
            self._break()
            await asyncio.sleep(0)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)

    def _call(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(SAFETY_SECONDS), "the gate does not answer"

    def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        if not self._is_open:
            writer.transport.abort()
            return
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, onward_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pass(reader, onward_writer), self._pass(onward_reader, writer))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self._is_silent:
                    writer.write(data)
        # One side has ended: so has the other.
        writer.transport.abort()


@contextmanager
def gate(to: int) -> Iterator[Gate]:
    """A gate that is open, before a port of this machine; ended with the block."""
    made = Gate(to)
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(made.run(started)), name="gate", daemon=True)
    thread.start()
    assert started.wait(SAFETY_SECONDS), "the gate did not start"
    try:
        yield made
    finally:
        made.end()
        thread.join(SAFETY_SECONDS)
