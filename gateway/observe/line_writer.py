"""A bounded buffer of lines before a sink: who offers a line never waits, and a thread writes what the sink takes.

Offered lines go into memory. The thread writes them in batches, ten times a second, in order and whole. When the
sink takes nothing (a full pipe, a full disk, a reader that is gone) the buffer fills, then new lines are dropped and
counted, and once it flows again one line says how many. Lines are offered by one thread only, the event loop's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from select import PIPE_BUF
from typing import Final

from gateway.observe.sinks import STDOUT, Sink, open_sink
from gateway.ports import Clock

FLUSH_SECONDS: Final = 0.1
_LINES_AT_ONCE: Final = 512
LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Some 20,000 lines: half a second of full load on one core, and a tenth of what a worker may hold."""

_RETRY_SECONDS: Final = 0.01
_NOTICE_SECONDS: Final = 1.0


class LineWriter:
    """Owns the sink and the thread. `start` it, `offer` lines, `close` it."""

    def __init__(
        self,
        sink: Sink,
        clock: Clock,
        notice: Callable[[int], bytes],
        *,
        target: str = STDOUT,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """`notice` makes the line that says how many were dropped; `target` is what `reopen` opens."""
        self._sink = sink
        self._clock = clock
        self._notice = notice
        self._target = target
        self._limit_bytes = limit_bytes

        self._lines: deque[bytes] = deque()
        # Each counter has one writing thread: no lock, and no count is lost.
        self._offered_bytes = 0  # the loop's
        self._refused = 0  # the loop's
        self._taken_bytes = 0  # the writer's
        self._lost = 0  # the writer's, at the end
        self._noticed = 0  # the writer's
        self._noticed_at = clock.monotonic()

        self._chunk = b""
        self._next_sink: Sink | None = None
        self._next_sink_lock = threading.Lock()
        self._stopping = threading.Event()
        self._stop_by = 0.0
        self._writing: threading.Thread | None = None

    def offer(self, line: bytes) -> None:
        """Takes a line (without its newline), or counts it as dropped. Never waits, never raises."""
        if self._offered_bytes - self._taken_bytes > self._limit_bytes:
            self._refused += 1
            return
        self._lines.append(line)
        self._offered_bytes += len(line)

    @property
    def dropped(self) -> int:
        """How many lines were not written and never will be."""
        return self._refused + self._lost

    def start(self) -> None:
        # A daemon, so that a disk that hangs cannot keep the process from ending.
        self._writing = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._writing.start()

    def reopen(self) -> None:
        """Opens the path anew, for a rotated file; standard output stays as it is. The writer changes over by itself.

        Raises: OSError, and the old file stays in use.
        """
        if self._target == STDOUT:
            return
        sink = open_sink(self._target)
        with self._next_sink_lock:
            superseded, self._next_sink = self._next_sink, sink
        if superseded is not None:
            superseded.close()

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Writes what can be written by the deadline, counts the rest as dropped, and ends the thread."""
        self._limit_bytes = -1  # later offers are dropped and counted
        self._stop_by = self._clock.monotonic() + deadline_seconds
        self._stopping.set()
        if self._writing is None:
            self._finish()
        else:
            self._writing.join(deadline_seconds + 1.0)

    def flush(self) -> bool:
        """One pass of the writer: True when nothing is left to write. Called by the thread, or by tests without one."""
        self._change_over()
        while self._chunk or self._take():
            written = self._sink.write(self._chunk)
            if not written:
                return False
            self._chunk = self._chunk[written:]
            if not self._chunk:
                self._notice_drops()
        return True

    def _take(self) -> bool:
        """Fills the chunk with whole lines up to what the sink takes at once, so that no line is torn in a pipe."""
        lines = self._lines
        limit = self._sink.chunk_bytes
        if limit > PIPE_BUF:
            # A file takes lines of any length together: 0.05 us a line, against 0.16 when each length is looked at.
            taken = [lines.popleft() for _ in range(min(len(lines), _LINES_AT_ONCE))]
            size = sum(map(len, taken)) + len(taken)
        else:
            taken, size = [], 0
            while lines and (not taken or size + len(lines[0]) < limit):
                line = lines.popleft()
                taken.append(line)
                size += len(line) + 1
        if not taken:
            return False
        self._taken_bytes += size - len(taken)
        taken.append(b"")
        self._chunk = b"\n".join(taken)
        return True

    def _notice_drops(self) -> None:
        """Something was just written, so it flows: says how many lines were dropped, at most once a second."""
        refused = self._refused
        if refused == self._noticed:
            return
        now = self._clock.monotonic()
        if self._lines and now - self._noticed_at < _NOTICE_SECONDS:
            return
        self._chunk = self._notice(refused - self._noticed) + b"\n"
        self._noticed = refused
        self._noticed_at = now

    def _change_over(self) -> None:
        """Takes the reopened sink, between two chunks: a line that was begun ends where it began."""
        if self._chunk:
            return
        with self._next_sink_lock:
            sink, self._next_sink = self._next_sink, None
        if sink is not None:
            self._sink.close()
            self._sink = sink

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            self.flush()
        self._finish()

    def _finish(self) -> None:
        while not self.flush() and self._clock.monotonic() < self._stop_by:
            time.sleep(_RETRY_SECONDS)
        self._lost = len(self._lines) + self._chunk.count(b"\n")
        self._lines.clear()
        self._chunk = b""
        self._change_over()
        self._sink.close()
