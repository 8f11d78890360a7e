"""Where log lines go: a file, a pipe, a terminal or a socket, written without ever waiting for the reader.

Facts, then code: `O_NONBLOCK` belongs to the open file, which standard output shares with the shell and with every
other process that has it, so it is never set here. A pipe that `poll` calls writable takes `PIPE_BUF` bytes at once
(pipe(7)); a socket takes `MSG_DONTWAIT` per call; a regular file never makes anybody wait for a reader.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
from typing import Final, Protocol

STDOUT: Final = "-"
_PIPE_CHUNK_BYTES: Final = select.PIPE_BUF
_CHUNK_BYTES: Final = 65_536


class Sink(Protocol):
    """One open place for lines."""

    chunk_bytes: int
    """How much to offer at once."""

    def write(self, data: bytes) -> int:
        """How much of `data` was taken; 0 when nothing can be taken now, for whatever cause."""
        ...

    def close(self) -> None:
        """Never raises: the writer's thread must outlive a bad disk."""
        ...


def open_sink(target: str) -> Sink:
    """The sink for `-` (standard output) or a path, which is created (mode 0640) and appended to.

    Raises: OSError
    """
    if target == STDOUT:
        return sink_of(os.dup(sys.stdout.fileno()))
    # O_NONBLOCK is for a FIFO that nobody reads: opening it would wait for ever, so it is an error instead.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return sink_of(os.open(target, flags, 0o640))


def sink_of(descriptor: int) -> Sink:
    """The sink for an open descriptor, which it owns from now on."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return _FileSink(descriptor)
    if stat.S_ISSOCK(mode):
        return _SocketSink(descriptor)
    return _PipeSink(descriptor)


class _FileSink:
    def __init__(self, descriptor: int) -> None:
        self.chunk_bytes = _CHUNK_BYTES
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError:
            return 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class _PipeSink:
    """Pipes, FIFOs, terminals and other character devices."""

    def __init__(self, descriptor: int) -> None:
        self.chunk_bytes = _PIPE_CHUNK_BYTES
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        try:
            if not self._poll.poll(0):
                return 0
            return os.write(self._descriptor, data[:_PIPE_CHUNK_BYTES])
        except OSError:
            return 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class _SocketSink:
    """What systemd gives a service as its standard output when that goes to the journal.

    In pieces as small as those of a pipe: they are taken whole or not at all, so lines of several workers stay whole.
    """

    def __init__(self, descriptor: int) -> None:
        self.chunk_bytes = _PIPE_CHUNK_BYTES
        self._socket = socket.socket(fileno=descriptor)

    def write(self, data: bytes) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
