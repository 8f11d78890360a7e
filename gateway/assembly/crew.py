"""Workers as their supervisor sees them: started, spoken to, listened to, and buried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

import gateway
from gateway.admin.health import Check
from gateway.assembly.acceptor import Loads
from gateway.assembly.orders import (
    LINE_LIMIT_BYTES,
    Begin,
    Failed,
    Order,
    Reading,
    Ready,
    Reload,
    What,
    from_worker,
    line_of,
)
from gateway.observe.merging import FamilyReading

_LOG: Final = logging.getLogger("bearergate")
_REAP_SECONDS: Final = 1.0
"""A process that has closed its socket is as good as gone; one that is not after this time is killed."""


class Worker:
    """One process that serves. It is `ready` when it said so, and `ended` when it is reaped."""

    def __init__(self, number: int, listener: socket.socket, loads: Loads, begin: Begin) -> None:
        """Starts it: a fresh interpreter, because a fork would take our event loop and threads along."""
        self.number = number
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.is_ready = False
        self.failure = ""
        """Why it could not start, in its own words."""
        self.families: tuple[FamilyReading, ...] = ()
        self.checks: tuple[Check, ...] = ()
        self.read_seconds = 0.0
        """How long the last reading took."""
        self.silent_seconds = 0.0
        """Since it last said anything, or began."""
        self._read = asyncio.Event()
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), listener.fileno(), loads.file.fileno())
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    *_interpreter_options(),
                    "-m",
                    "gateway.assembly.worker",
                    str(number),
                    *map(str, descriptors),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                # Ctrl-C in a terminal is for the supervisor alone, which tells the others.
                process_group=0,
            )
        self._listening = asyncio.create_task(self._listen(ours, begin))
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: list[bytes] = []

    def say(self, message: Order | Reload) -> None:
        """To one that is not there to hear it, nothing."""
        line = line_of(message)
        if self._writer is None:
            self._waiting.append(line)
        elif not self._writer.is_closing():
            self._writer.write(line)

    async def read(self) -> None:
        """Returns when a new reading is there, or the worker gone."""
        if not self.is_ready or self.ended.is_set():
            return
        began = time.monotonic()
        self._read.clear()
        self.say(Order(What.READ))
        await self._read.wait()
        self.read_seconds = time.monotonic() - began

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def epitaph(self) -> str:
        """How it ended."""
        status = self.process.returncode
        if status is not None and status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with {status}"

    async def _listen(self, ours: socket.socket, begin: Begin) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        self._writer = writer
        writer.write(line_of(begin))
        for line in self._waiting:
            writer.write(line)
        self._waiting.clear()
        try:
            while line := await reader.readline():
                self._hear(line)
        except (ConnectionError, ValueError, msgspec.MsgspecError) as fault:
            _LOG.error("worker %d said what cannot be read: %s", self.number, type(fault).__name__)
            self.kill()
        try:
            await asyncio.wait_for(self._reaped(), _REAP_SECONDS)
        except TimeoutError:
            self.kill()
            await self._reaped()
        self.is_ready = False
        writer.close()
        self.ended.set()
        self._read.set()

    def _hear(self, line: bytes) -> None:
        message = from_worker.decode(line)
        self.silent_seconds = 0.0
        if isinstance(message, Reading):
            self.families, self.checks = message.families, message.checks
            self._read.set()
        elif isinstance(message, Ready):
            self.is_ready = True
            self.ready.set()
        elif isinstance(message, Failed):
            self.failure = message.message

    async def _reaped(self) -> None:
        while self.process.poll() is None:  # noqa: ASYNC110 - its socket was closed, so it takes no second turn
            await asyncio.sleep(0.005)


def _interpreter_options() -> list[str]:
    """`-P` unless we were found in the current folder ourselves: then nothing that lies there can take our place."""
    beside = Path(gateway.__file__).resolve().parents[1]
    found_here = bool(sys.path) and not sys.flags.safe_path and Path(sys.path[0] or os.curdir).resolve() == beside
    return [] if found_here else ["-P"]


class CrashLoop:
    """When the next worker may start: at once, until more than five have ended within ten seconds.

    From then on with pauses that double from one second to thirty, until ten seconds pass without an end.
    """

    WINDOW_SECONDS: Final = 10.0
    MOST_ENDS: Final = 5
    LONGEST_SECONDS: Final = 30.0

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=self.MOST_ENDS + 1)
        self._pause = 0.0

    def pause_after(self, now: float) -> float:
        """Seconds to wait after an end at `now`."""
        if self._ends and now - self._ends[-1] > self._pause + self.WINDOW_SECONDS:
            self._pause = 0.0
            self._ends.clear()
        self._ends.append(now)
        crowded = len(self._ends) > self.MOST_ENDS and now - self._ends[0] <= self.WINDOW_SECONDS
        if self._pause or crowded:
            self._pause = min(self.LONGEST_SECONDS, max(1.0, self._pause * 2))
        return self._pause
