"""Lines before a sink: in order, whole, never waiting, and counted when they are dropped."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.observe.line_writer import LineWriter
from gateway.observe.sinks import Sink, open_sink, sink_of
from tests.observe.samples import NOW, MemorySink
from tests.support.manual_clock import ManualClock


def notice(dropped: int) -> bytes:
    return b"dropped %d" % dropped


def writer_on(sink: Sink, limit_bytes: int = 1 << 20, target: str = "-") -> LineWriter:
    return LineWriter(sink, ManualClock(NOW), notice, target=target, limit_bytes=limit_bytes)


@pytest.fixture
def pipe() -> Iterator[tuple[int, Sink]]:
    """The reading end of a real pipe that nobody reads yet, and a sink on its writing end."""
    reading, writing = os.pipe()
    yield reading, sink_of(writing)
    os.close(reading)


def read_available(reading: int) -> bytes:
    """Everything that is in the pipe now."""
    os.set_blocking(reading, False)
    parts = []
    while True:
        try:
            part = os.read(reading, 1 << 20)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def test_lines_are_written_in_order_and_whole() -> None:
    sink = MemorySink(chunk_bytes=20)
    sink.accepts_bytes = 7
    writer = writer_on(sink)
    lines = [b"line %d" % number for number in range(50)]
    for line in lines:
        writer.offer(line)

    assert writer.flush()
    assert (lines, 0) == (sink.lines(), writer.dropped)


def test_a_line_longer_than_a_chunk_is_written_whole() -> None:
    sink = MemorySink(chunk_bytes=20)
    writer = writer_on(sink)
    for line in (b"short", b"x" * 100, b"short again"):
        writer.offer(line)

    assert writer.flush()
    assert sink.lines() == [b"short", b"x" * 100, b"short again"]


def test_a_chunk_holds_whole_lines_only() -> None:
    chunks: list[int] = []
    sink = MemorySink(chunk_bytes=20)
    writer = writer_on(sink)
    for number in range(9):
        writer.offer(b"line %d." % number)  # 8 bytes with its newline: two fit, three do not

    while not chunks or chunks[-1] < 72:
        sink.accepts_bytes = 20
        writer.flush()
        chunks.append(len(sink.written))

    assert sink.written.endswith(b"\n")
    assert all(len(line) == 7 for line in sink.lines())


def test_a_sink_that_takes_nothing_makes_the_buffer_drop_and_count() -> None:
    sink = MemorySink()
    sink.accepts_bytes = 0
    writer = writer_on(sink, limit_bytes=100)
    for number in range(50):
        writer.offer(b"line %05d" % number)
        writer.flush()

    # The chunk under way has left the buffer, so one line more than the limit is held.
    assert writer.dropped == 50 - 1 - 11
    assert sink.written == b""


def test_once_it_flows_again_one_line_says_how_many_were_dropped() -> None:
    sink = MemorySink()
    sink.accepts_bytes = 0
    writer = writer_on(sink, limit_bytes=30)
    for number in range(10):
        writer.offer(b"line %05d" % number)
    writer.flush()

    sink.accepts_bytes = 1 << 20
    assert writer.flush()
    writer.offer(b"after")
    writer.flush()

    kept = [b"line %05d" % number for number in range(4)]
    assert sink.lines() == [*kept, b"dropped 6", b"after"]
    assert writer.dropped == 6


def test_a_pipe_that_nobody_reads_never_makes_the_writer_wait(pipe: tuple[int, Sink]) -> None:
    reading, sink = pipe
    writer = writer_on(sink, limit_bytes=50_000)
    for number in range(10_000):
        writer.offer(b"line %05d %s" % (number, b"x" * 80))
        if number % 100 == 0:
            writer.flush()

    assert not writer.flush()
    dropped = writer.dropped
    assert dropped > 0

    received = b""
    while not writer.flush():
        received += read_available(reading)
    received += read_available(reading)
    lines = received.splitlines()
    assert lines.count(b"dropped %d" % dropped) == 1
    assert len(lines) - 1 + dropped == 10_000
    assert all(len(line) == 91 for line in lines if line.startswith(b"line"))
    writer.close()


def test_a_pipe_whose_reader_is_gone_drops_and_counts() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = writer_on(sink_of(writing))
    writer.offer(b"line")

    assert not writer.flush()
    writer.close(deadline_seconds=0)
    assert writer.dropped == 1


def test_a_socket_that_nobody_reads_never_makes_the_writer_wait() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        writer = writer_on(sink_of(ours.detach()), limit_bytes=1 << 22)
        for _ in range(20_000):
            writer.offer(b"x" * 99)

        assert not writer.flush()
        theirs.setblocking(False)
        received = b""
        while not writer.flush():
            received += theirs.recv(1 << 20)
        assert (len(received) + len(theirs.recv(1 << 22))) % 100 == 0
        writer.close()


def test_a_reader_that_goes_away_between_the_look_and_the_write_is_no_fault(
    pipe: tuple[int, Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, data: bytes) -> int:
        raise BrokenPipeError

    writer = writer_on(pipe[1])
    writer.offer(b"line")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        assert not writer.flush()

    assert writer.flush()
    assert read_available(pipe[0]) == b"line\n"
    writer.close()


def test_the_thread_writes_without_being_asked(pipe: tuple[int, Sink]) -> None:
    reading, sink = pipe
    writer = writer_on(sink)
    writer.start()
    writer.offer(b"line")

    assert os.read(reading, 100) == b"line\n"  # waits for the thread
    writer.close()


def test_closing_writes_what_is_left(pipe: tuple[int, Sink]) -> None:
    reading, sink = pipe
    writer = writer_on(sink)
    writer.start()
    for number in range(100):
        writer.offer(b"line %d" % number)

    writer.close()
    assert len(read_available(reading).splitlines()) == 100
    assert writer.dropped == 0


def test_closing_gives_up_at_the_deadline_and_counts_the_rest() -> None:
    clock = ManualClock(NOW)
    sink = MemorySink(on_write=lambda: clock.advance(1.0))
    sink.accepts_bytes = 0
    writer = LineWriter(sink, clock, notice)
    for _ in range(3):
        writer.offer(b"line")

    writer.close(deadline_seconds=2.0)
    assert writer.dropped == 3
    assert sink.is_closed


def test_lines_after_closing_are_dropped_and_counted() -> None:
    writer = writer_on(MemorySink())
    writer.close()
    writer.offer(b"late")

    assert writer.dropped == 1


def test_a_rotated_file_is_left_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = writer_on(open_sink(str(path)), target=str(path))
    writer.offer(b"before")
    writer.flush()

    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.reopen()  # twice before the writer comes round: the first is superseded
    writer.offer(b"after")
    writer.close()

    assert (tmp_path / "access.log.1").read_bytes() == b"before\n"
    assert path.read_bytes() == b"after\n"


def test_a_file_is_appended_to_and_not_readable_by_everybody(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for line in (b"first", b"second"):
        writer = writer_on(open_sink(str(path)), target=str(path))
        writer.offer(line)
        writer.close()

    assert path.read_bytes() == b"first\nsecond\n"
    assert path.stat().st_mode & 0o007 == 0


def test_a_path_that_cannot_be_reopened_leaves_the_old_file_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    writer = writer_on(open_sink(str(path)), target=str(path))
    folder.rename(tmp_path / "moved")

    with pytest.raises(FileNotFoundError):
        writer.reopen()
    writer.offer(b"line")
    writer.close()

    assert (tmp_path / "moved" / "access.log").read_bytes() == b"line\n"


def test_a_fifo_without_a_reader_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "access.fifo"
    os.mkfifo(path)

    with pytest.raises(OSError, match="No such device or address"):
        open_sink(str(path))


def test_standard_output_stays_as_it_is_when_it_is_reopened() -> None:
    sink = MemorySink()
    writer = writer_on(sink)
    writer.reopen()
    writer.offer(b"line")
    writer.flush()

    assert sink.lines() == [b"line"]


def test_a_full_disk_keeps_lines_until_there_is_room() -> None:
    full = sink_of(os.open("/dev/full", os.O_WRONLY))  # every write: no space left on device
    writer = writer_on(full)
    writer.offer(b"line")

    assert not writer.flush()
    assert writer.dropped == 0
    writer.close(deadline_seconds=0)
    assert writer.dropped == 1
