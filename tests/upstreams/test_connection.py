"""One upstream connection: reused only after a clean end, and gone after anything else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason
from gateway.upstreams.connection import NEVER, UpstreamConnection
from gateway.upstreams.opening import open_upstream
from gateway.wire.limits import Timeouts
from tests.support.manual_clock import ManualClock
from tests.upstreams.sinks import Hearing

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
TIMEOUTS = Timeouts(response_head=30.0, response_idle=60.0, upstream_keep_alive=45.0)


class Wire(asyncio.Transport):
    """A transport without a network: what was written is kept, and an abort is told later, as a loop would."""

    def __init__(self, end: socket.socket | None = None) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.is_aborted = False
        self.reads = True
        self._end = end

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._end if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written += b"".join(bytes(piece) for piece in pieces)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True


class Line:
    """A connection of a pool on a wire, with a request under way."""

    def __init__(self, *, end: socket.socket | None = None, is_reused: bool = False) -> None:
        self.clock = ManualClock()
        self.upstream = open_upstream("rest", ["http://127.0.0.1:9"], now=self.clock.monotonic, timeouts=TIMEOUTS)
        (self.pool,) = self.upstream.pools
        self.connection = UpstreamConnection(self.pool)
        self.wire = Wire(end)
        self.connection.connection_made(self.wire)
        if is_reused:
            self.connection.reuse()
        self.sink = Hearing()

    def ask(self, *, answers_head: bool = False, ends: bool = True) -> Hearing:
        self.sink = Hearing()
        self.connection.send(GET, self.sink, answers_head=answers_head, ends=ends)
        return self.sink

    def is_kept(self) -> bool:
        assert not (self.connection.is_open and self.wire.is_aborted)
        return self.pool.idle_count == 1 and self.connection.is_open


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_an_answer_that_ends_cleanly_leaves_the_connection_to_the_pool() -> None:
    line = Line()
    sink = line.ask()

    line.connection.data_received(OK)
    line.connection.data_received(b"hello")

    assert GET == line.wire.written
    assert (["started", "ended"], b"hello") == (sink.calls, sink.body)
    assert line.is_kept()


@pytest.mark.parametrize(
    "data",
    [
        OK + b"hello!",  # A41
        OK + b"hello" + OK + b"POISON",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
    ],
)
def test_an_answer_after_which_the_connection_is_suspect_is_heard_and_the_connection_goes(data: bytes) -> None:
    line = Line()
    sink = line.ask()

    line.connection.data_received(data)

    assert ["started", "ended"] == sink.calls
    assert sink.body in (b"hello", b"")
    assert not line.is_kept()


def test_a_byte_that_comes_while_nobody_waits_costs_the_connection() -> None:
    # A42
    line = Line()
    sink = line.ask()
    line.connection.data_received(OK + b"hello")
    assert line.is_kept()

    line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")

    assert not line.is_kept()
    assert (["started", "ended"], b"hello") == (sink.calls, sink.body)


def test_an_answer_before_the_request_has_ended_costs_the_connection() -> None:
    line = Line()
    sink = line.ask(ends=False)

    line.connection.data_received(OK + b"hello")

    assert ["started", "ended"] == sink.calls
    assert not line.is_kept()


def test_a_request_that_ended_in_pieces_leaves_a_clean_connection() -> None:
    line = Line()
    line.ask(ends=False)
    line.connection.send_body(b"abc", is_chunked=False)
    line.connection.end_body(is_chunked=False)
    line.connection.data_received(OK + b"hello")

    assert GET + b"abc" == line.wire.written
    assert line.is_kept()


def test_a_chunked_body_is_coded_anew() -> None:
    line = Line()
    line.ask(ends=False)
    line.connection.send_body(b"0123456789", is_chunked=True)
    line.connection.send_body(b"x", is_chunked=True)
    line.connection.end_body(is_chunked=True)

    assert GET + b"a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n" == line.wire.written


def test_the_sink_may_use_the_connection_again_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    line = Line(end=ends[0])

    class Next(Hearing):
        def response_ended(self) -> None:
            super().response_ended()
            taken = line.pool.take()
            assert taken is line.connection
            taken.send(b"NEXT", second, answers_head=False, ends=True)

    second = Hearing()
    first = Next()
    line.connection.send(GET, first, answers_head=False, ends=True)
    line.connection.data_received(OK + b"hello")
    assert line.clock.monotonic() + TIMEOUTS.response_head == line.connection.deadline
    line.connection.data_received(OK + b"world")

    assert GET + b"NEXT" == line.wire.written
    assert (b"hello", b"world") == (first.body, second.body)
    assert line.is_kept()


# -- failures


@pytest.mark.parametrize(
    ("data", "is_reused", "failure"),
    [
        # R9: only a connection that had served before and ended without a byte may have been closed under our hands.
        (b"", True, (Reason.UPSTREAM_CLOSED, True)),
        (b"", False, (Reason.UPSTREAM_CLOSED, False)),
        (b"H", True, (Reason.UPSTREAM_CLOSED, False)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", True, (Reason.UPSTREAM_CLOSED, False)),
        (OK, True, (Reason.UPSTREAM_TRUNCATED, False)),
        (OK + b"hell", True, (Reason.UPSTREAM_TRUNCATED, False)),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            True,
            (Reason.UPSTREAM_TRUNCATED, False),
        ),
    ],
)
@pytest.mark.parametrize("how", ["eof", "reset", "closed"])
def test_an_answer_that_breaks_off_fails_once(
    data: bytes, is_reused: bool, failure: tuple[Reason, bool], how: str
) -> None:
    line = Line(is_reused=is_reused)
    sink = line.ask()
    if data:
        line.connection.data_received(data)

    if how == "eof":
        line.connection.eof_received()
    line.connection.connection_lost(ConnectionResetError() if how == "reset" else None)

    assert failure == sink.failure
    assert 1 == sink.calls.count("failed")
    assert "ended" not in sink.calls
    assert 0 == line.pool.open_count == line.pool.idle_count


def test_an_answer_until_the_end_of_the_connection_ends_with_a_fin_and_breaks_with_a_reset() -> None:
    for exc, calls in ((None, ["started", "ended"]), (ConnectionResetError(), ["started", "failed"])):
        line = Line()
        sink = line.ask()
        line.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if exc is None:
            line.connection.eof_received()
        line.connection.connection_lost(exc)

        assert (calls, b"hello") == (sink.calls, sink.body)
        assert not line.is_kept()


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ([b"HTTP/1.1 200 OK\nX: y\n\n"], Reason.UPSTREAM_INVALID),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], Reason.UPSTREAM_INVALID),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"], Reason.UPSTREAM_TRUNCATED),
    ],
)
def test_an_answer_that_is_not_well_formed_fails_and_the_connection_goes(pieces: list[bytes], failure: Reason) -> None:
    # A43, A45
    line = Line(is_reused=True)
    sink = line.ask()

    for piece in pieces:
        line.connection.data_received(piece)
    line.connection.connection_lost(None)

    assert (failure, False) == sink.failure
    assert 1 == sink.calls.count("failed")
    assert not line.is_kept()


def test_an_idle_connection_that_ends_is_nobodys_failure() -> None:
    line = Line()
    sink = line.ask()
    line.connection.data_received(OK + b"hello")
    line.connection.eof_received()
    line.connection.connection_lost(None)

    assert ["started", "ended"] == sink.calls
    assert (0, 0) == (line.pool.open_count, line.pool.idle_count)


def test_who_abandons_hears_nothing_more() -> None:
    line = Line()
    sink = line.ask()
    line.connection.data_received(OK)

    line.connection.abandon()
    line.connection.data_received(b"hello")
    line.connection.connection_lost(None)

    assert (["started"], b"") == (sink.calls, sink.body)
    assert not line.is_kept()


@pytest.mark.parametrize(
    "data", [OK + b"hello", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"]
)
def test_a_sink_may_abandon_while_it_is_told(data: bytes) -> None:
    line = Line()

    class Gone(Hearing):
        def response_data(self, data: bytes) -> None:
            line.connection.abandon()

    sink = Gone()
    line.connection.send(GET, sink, answers_head=False, ends=True)
    head, _, body = data.partition(b"\r\n\r\n")
    line.connection.data_received(head + b"\r\n\r\n")
    line.connection.data_received(body)

    assert ["started"] == sink.calls
    assert not line.is_kept()


# -- time


def test_the_deadline_follows_what_is_awaited() -> None:
    line = Line()
    now = line.clock.monotonic
    assert NEVER == line.connection.deadline

    line.ask(ends=False)
    assert now() + 30 == line.connection.deadline
    line.clock.advance(5)
    line.connection.send_body(b"x", is_chunked=False)
    assert now() + 30 == line.connection.deadline
    line.connection.end_body(is_chunked=False)
    line.connection.data_received(OK)
    assert now() + 60 == line.connection.deadline
    line.clock.advance(5)
    line.connection.data_received(b"hell")
    assert now() + 60 == line.connection.deadline
    line.connection.data_received(b"o")
    assert now() + 45 == line.connection.deadline


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"", Reason.UPSTREAM_TIMEOUT),
        (b"HTTP/1.1 200", Reason.UPSTREAM_TIMEOUT),
        (OK + b"hell", Reason.UPSTREAM_TRUNCATED),
    ],
)
def test_an_answer_that_does_not_come_in_time_fails_once(data: bytes, failure: Reason) -> None:
    # K15
    line = Line(is_reused=True)
    sink = line.ask()
    if data:
        line.connection.data_received(data)
    line.clock.advance(59)
    line.pool.sweep()
    line.clock.advance(2)
    line.pool.sweep()
    line.connection.connection_lost(None)
    line.pool.sweep()

    assert (failure, False) == sink.failure
    assert 1 == sink.calls.count("failed")
    assert not line.is_kept()


def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    line = Line()
    sink = line.ask()
    line.connection.data_received(OK + b"hello")

    line.clock.advance(44)
    line.pool.sweep()
    assert line.is_kept()
    line.clock.advance(2)
    line.pool.sweep()

    assert not line.is_kept()
    assert ["started", "ended"] == sink.calls


def test_who_is_paused_by_the_client_is_not_late() -> None:
    # K3
    line = Line()
    sink = line.ask()
    line.connection.data_received(OK)

    line.connection.pause()
    line.connection.pause()
    line.clock.advance(1_000)
    line.pool.sweep()
    was_read = line.wire.reads
    line.connection.resume()
    line.connection.resume()

    assert (False, True) == (was_read, line.wire.reads)
    assert sink.failure is None
    assert line.clock.monotonic() + 60 == line.connection.deadline


def test_a_connection_that_was_paused_at_its_end_reads_again() -> None:
    line = Line()
    line.ask()
    line.connection.data_received(OK)
    line.connection.pause()
    line.connection.data_received(b"hello")

    assert line.is_kept()
    assert line.wire.reads
    assert line.clock.monotonic() + 45 == line.connection.deadline


def test_a_connection_that_is_gone_is_neither_paused_nor_resumed() -> None:
    line = Line()
    line.ask()
    line.connection.abandon()

    line.connection.pause()
    line.connection.resume()

    assert line.wire.reads
    assert NEVER == line.connection.deadline


def test_the_sink_is_told_when_the_upstream_takes_no_more() -> None:
    line = Line()
    line.connection.pause_writing()
    line.connection.resume_writing()
    sink = line.ask(ends=False)
    line.connection.pause_writing()
    line.connection.resume_writing()

    assert ["paused", "resumed"] == sink.calls


# -- the idle socket


def test_an_idle_connection_is_clean_while_nothing_can_be_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    line = Line(end=ours)
    assert line.connection.is_clean()

    theirs.send(b"x")

    # A41: the loop has not told us yet, the socket has.
    assert not line.connection.is_clean()


def test_an_idle_connection_that_the_upstream_closed_is_not_clean(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    line = Line(end=ours)

    theirs.close()

    assert not line.connection.is_clean()


def test_a_connection_without_a_socket_or_that_is_closed_is_not_clean(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    assert not Line().connection.is_clean()
    line = Line(end=ends[0])
    line.connection.close_idle()
    assert not line.connection.is_clean()


EVENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [OK, b"hello", b"HTTP/1.1 204 N\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x", b"\r\n", OK + b"hello"]
        ),
        st.sampled_from(["pause", "resume", "abandon", "eof", "late", "end", "again"]),
    ),
    max_size=10,
)


@given(EVENTS, st.booleans())
def test_whatever_happens_each_sink_hears_one_end_at_most_and_nothing_after_it(
    events: list[bytes | str], ends: bool
) -> None:
    line = Line()
    sinks = [line.ask(ends=ends)]
    for event in events:
        connection = line.connection
        if isinstance(event, bytes):
            if line.wire.reads and not line.wire.is_aborted:
                connection.data_received(event)
        elif event == "pause":
            connection.pause()
        elif event == "resume":
            connection.resume()
        elif event == "abandon":
            connection.abandon()
        elif event == "eof":
            connection.eof_received()
        elif event == "late":
            line.clock.advance(1_000)
            line.pool.sweep()
        elif event == "end":
            connection.end_body(is_chunked=False)
        elif line.pool.idle_count and connection.is_open:
            line.pool.take()
            if connection.is_open:
                sinks.append(line.ask())
    line.connection.connection_lost(None)

    for sink in sinks:
        finals = [place for place, call in enumerate(sink.calls) if call in ("ended", "failed")]
        assert len(finals) <= 1
        assert not finals or finals == [len(sink.calls) - 1]
        assert sink.calls.count("started") <= 1
    assert (0, 0) == (line.pool.open_count, line.pool.idle_count)


def test_a_connection_on_which_a_request_still_waits_to_be_sent_is_not_kept() -> None:
    line = Line()
    line.ask()
    line.wire.unsent = 1

    line.connection.data_received(OK + b"hello")

    assert line.wire.is_aborted
    assert not line.is_kept()


@pytest.mark.parametrize(
    ("field", "idle_seconds"),
    [
        (b"Keep-Alive: timeout=5", 4),
        (b"keep-alive: timeout=5, max=100", 4),
        (b"Keep-Alive: max=100,timeout=5", 4),
        (b'Keep-Alive: Timeout="20"', 19),
        (b"Keep-Alive: timeout=600", 45),
        (b"Keep-Alive: max=5", 45),
        (b"Keep-Alive: timeout=-5", 45),
        (b"Keep-Alive: timeout=12345678", 45),
        (b"Keep-Alive: mytimeout=5", 45),
        (b"Keep-Aliver: timeout=5", 45),
    ],
)
def test_a_connection_is_closed_a_second_before_the_upstream_would(field: bytes, idle_seconds: int) -> None:
    # R9: who closes first can not be met closing.
    line = Line()
    line.ask()

    line.connection.data_received(OK[:-2] + field + b"\r\n\r\nhello")

    assert line.clock.monotonic() + idle_seconds == line.connection.deadline
    line.ask()
    line.connection.data_received(OK + b"hello")
    assert line.clock.monotonic() + idle_seconds == line.connection.deadline
    assert line.connection.is_open


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_connection_that_the_upstream_keeps_for_no_time_is_not_kept(seconds: int) -> None:
    line = Line()
    line.ask()

    line.connection.data_received(OK[:-2] + b"Keep-Alive: timeout=%d\r\n\r\nhello" % seconds)

    assert not line.is_kept()


# -- the whole of a request


def line_with(**timeouts: float) -> Line:
    line = Line()
    (line.pool,) = open_upstream(
        "rest", ["http://127.0.0.1:9"], now=line.clock.monotonic, timeouts=Timeouts(**timeouts)
    ).pools
    line.connection = UpstreamConnection(line.pool)
    line.connection.connection_made(line.wire)
    return line


def test_a_request_has_one_deadline_that_no_byte_moves() -> None:
    # R38
    line = line_with(response_head=30.0, response_idle=30.0)
    begun = line.clock.monotonic()
    line.connection.tighten(begun + 50, 0.0, 0.0)
    line.ask(ends=False)
    assert begun + 30 == line.connection.deadline
    line.clock.advance(25)
    line.connection.send_body(b"x", is_chunked=False)
    assert begun + 50 == line.connection.deadline
    line.connection.data_received(OK)
    line.clock.advance(20)
    line.connection.data_received(b"h")
    assert begun + 50 == line.connection.deadline
    line.connection.pause()
    assert begun + 50 == line.connection.deadline
    line.connection.resume()
    assert begun + 50 == line.connection.deadline
    line.clock.advance(6)
    line.pool.sweep()

    assert (Reason.UPSTREAM_TRUNCATED, False) == line.sink.failure


def test_a_request_that_is_not_answered_by_its_deadline_is_a_time_out() -> None:
    # R38
    line = line_with()
    line.connection.tighten(line.clock.monotonic() + 3, 0.0, 0.0)
    line.ask()
    line.clock.advance(2.9)
    line.pool.sweep()
    assert line.sink.failure is None
    line.clock.advance(0.2)
    line.pool.sweep()

    assert (Reason.UPSTREAM_TIMEOUT, False) == line.sink.failure


def test_the_deadline_of_one_request_is_not_that_of_the_next() -> None:
    line = line_with(response_head=30.0, response_idle=40.0)
    line.connection.tighten(line.clock.monotonic() + 7, 3.0, 4.0)
    line.ask()
    assert line.clock.monotonic() + 3 == line.connection.deadline
    line.connection.data_received(OK)
    assert line.clock.monotonic() + 4 == line.connection.deadline
    line.connection.data_received(b"hello")
    assert line.clock.monotonic() + 45 == line.connection.deadline
    line.clock.advance(35)
    line.connection.reuse()
    line.ask()

    assert line.clock.monotonic() + 30 == line.connection.deadline
    line.connection.data_received(OK)
    assert line.clock.monotonic() + 40 == line.connection.deadline


def test_a_client_that_does_not_finish_its_request_in_time_is_no_failure_of_the_endpoint() -> None:
    line = line_with()
    line.connection.tighten(line.clock.monotonic() + 3, 0.0, 0.0)
    line.ask(ends=False)
    line.clock.advance(3.1)
    line.pool.sweep()

    assert (Reason.BODY_TIMEOUT, False) == line.sink.failure
    assert 0 == line.pool.health.failures_in_a_row


def test_an_upstream_that_does_not_take_a_request_in_time_has_failed() -> None:
    line = line_with()
    line.connection.tighten(line.clock.monotonic() + 3, 0.0, 0.0)
    line.ask(ends=False)
    line.wire.unsent = 1
    line.clock.advance(3.1)
    line.pool.sweep()

    assert (Reason.UPSTREAM_TIMEOUT, False) == line.sink.failure
    assert 1 == line.pool.health.failures_in_a_row


@pytest.mark.parametrize(("sent_for", "failures"), [(0.0, 1), (1.4, 1), (1.6, 0), (2.9, 0)])
def test_who_is_left_hardly_any_time_to_answer_has_not_failed(sent_for: float, failures: int) -> None:
    # R38: or a client that ends its requests at the last moment has every endpoint left out
    line = line_with()
    line.connection.tighten(line.clock.monotonic() + 3, 0.0, 0.0)
    line.ask(ends=False)
    line.clock.advance(sent_for)
    line.connection.end_body(is_chunked=False)
    line.clock.advance(3.1 - sent_for)
    line.pool.sweep()

    assert (Reason.UPSTREAM_TIMEOUT, False) == line.sink.failure
    assert failures == line.pool.health.failures_in_a_row


def test_who_does_not_begin_to_answer_in_its_time_has_failed_however_slow_the_client_was() -> None:
    line = line_with(response_head=3.0)
    line.connection.tighten(line.clock.monotonic() + 10, 0.0, 0.0)
    line.ask(ends=False)
    line.clock.advance(2.9)
    line.connection.send_body(b"x", is_chunked=True)
    line.clock.advance(2.9)
    line.connection.end_body(is_chunked=True)
    line.clock.advance(3.1)
    line.pool.sweep()

    assert (Reason.UPSTREAM_TIMEOUT, False) == line.sink.failure
    assert 1 == line.pool.health.failures_in_a_row


def test_the_time_to_begin_an_answer_begins_with_the_end_of_the_body() -> None:
    line = line_with(response_head=3.0)
    line.ask(ends=False)
    line.clock.advance(2.9)
    line.connection.end_body(is_chunked=True)

    assert line.clock.monotonic() + 3 == line.connection.deadline


def test_a_body_that_goes_on_beside_its_answer_does_not_move_the_deadline_of_the_answer() -> None:
    line = line_with(response_head=3.0, response_idle=40.0)
    line.ask(ends=False)
    line.connection.data_received(OK)
    begun = line.clock.monotonic()
    line.clock.advance(1)
    line.connection.send_body(b"x", is_chunked=True)
    assert begun + 40 == line.connection.deadline
    line.connection.pause()
    line.connection.send_body(b"x", is_chunked=True)
    line.connection.end_body(is_chunked=True)

    assert NEVER == line.connection.deadline
