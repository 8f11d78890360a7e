"""One connection to an upstream: a request goes out, its answer is read, and then it is clean or gone."""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable
from typing import Final, Protocol

from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import Reason
from gateway.ports import ResponseSink
from gateway.upstreams.health import EndpointHealth
from gateway.wire.chunked import LAST_CHUNK, chunk_head
from gateway.wire.limits import Timeouts
from gateway.wire.response_reader import IDLE, ResponseReader

NEVER: Final = float("inf")
_KEEP_ALIVE: Final = b"keep-alive"
_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout=\"?([0-9]{1,6})(?![0-9])", re.IGNORECASE)


class Owner(Protocol):
    """Who holds the connections to one upstream: the pool."""

    @property
    def timeouts(self) -> Timeouts: ...

    @property
    def now(self) -> Callable[[], float]:
        """Monotonic seconds."""
        ...

    @property
    def health(self) -> EndpointHealth: ...

    def opened(self, connection: UpstreamConnection) -> None: ...

    def closed(self, connection: UpstreamConnection) -> None: ...

    def give_back(self, connection: UpstreamConnection) -> None:
        """The answer ended cleanly, and nothing is left on either side."""
        ...

    def failed(self, detail: str) -> None:
        """A request got no answer, and the connection's age is not to blame."""
        ...

    def answered(self) -> None:
        """An answer has begun, the first after failures."""
        ...


class UpstreamConnection(ResponseReader, asyncio.Protocol):
    """Belongs to its pool while idle, and to one sink while an answer is awaited."""

    __slots__ = (
        "_answer_began",
        "_asked_at",
        "_ends_by",
        "_head_seconds",
        "_health",
        "_idle_seconds",
        "_is_last_try",
        "_is_paused",
        "_is_tightened",
        "_keeps_alive",
        "_knows_idle_seconds",
        "_now",
        "_poll",
        "_request_ended",
        "_sent_at",
        "_silence_seconds",
        "_sink",
        "_started",
        "_transport",
        "_was_reused",
        "address",
        "deadline",
        "is_open",
        "pool",
    )

    def __init__(self, pool: Owner, address: str = "") -> None:
        super().__init__()
        self.pool = pool
        self.address = address
        self._now = pool.now
        self._head_seconds = pool.timeouts.response_head
        self._silence_seconds = pool.timeouts.response_idle
        self._health = pool.health
        self._sink: ResponseSink | None = None
        self._transport: asyncio.Transport
        self._poll: select.poll | None = None
        self._keeps_alive = False
        self._request_ended = True
        self._answer_began = False
        self._started = False
        self._was_reused = False
        self._is_last_try = False
        self._is_paused = False
        self._is_tightened = False
        self._knows_idle_seconds = False
        self._idle_seconds = pool.timeouts.upstream_keep_alive
        self._ends_by = NEVER
        self._sent_at = self._asked_at = 0.0
        self.deadline = NEVER
        self.is_open = False

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._poll = select.poll()
            self._poll.register(socket.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        self.pool.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            # An answer that nobody asked for would be the next client's (A42).
            self._discard()
            return
        self._answer_began = True
        self.feed(data)
        if self.reading != IDLE and self._answer_began and not self._is_paused:
            # Not where the answer has ended and the sink has sent the next request already: that one set its own.
            self.deadline = min(self._now() + self._silence_seconds, self._ends_by)

    def eof_received(self) -> bool:
        if self._sink is None or not self.feed_end():
            self._lost("the upstream closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.pool.closed(self)
        self._lost(type(exc).__name__ if exc is not None else "the upstream closed the connection")

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.request_paused()

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.request_resumed()

    # -- the exchange

    def tighten(self, ends_by: float, response_head: float, response_idle: float) -> None:
        self._is_tightened = True
        self._ends_by = ends_by
        if response_head > 0.0:
            self._head_seconds = response_head
        if response_idle > 0.0:
            self._silence_seconds = response_idle

    def send(self, data: bytes, sink: ResponseSink, *, answers_head: bool, ends: bool) -> None:
        self._sink = sink
        self._request_ended = ends
        self._answer_began = False
        self._started = False
        self.expect_response(answers_head=answers_head)
        self._sent_at = self._asked_at = now = self._now()
        self.deadline = min(now + self._head_seconds, self._ends_by)
        self._transport.write(data)

    def send_body(self, data: bytes, *, is_chunked: bool) -> None:
        if is_chunked:
            self._transport.writelines((chunk_head(len(data)), data, b"\r\n"))
        else:
            self._transport.write(data)
        self._is_not_late()

    def end_body(self, *, is_chunked: bool) -> None:
        self._request_ended = True
        self._asked_at = self._now()
        if is_chunked:
            self._transport.write(LAST_CHUNK)
        self._is_not_late()

    def _is_not_late(self) -> None:
        """The upstream is not while the client is still sending; once it answers, it is timed for its answer alone."""
        if not self._started:
            self.deadline = min(self._now() + self._head_seconds, self._ends_by)

    def await_switch(self) -> None:
        self.may_switch = True

    def tunnel_to(self, sink: ResponseSink) -> None:
        self._sink = sink
        # The door times a tunnel.
        self._head_seconds = self._silence_seconds = NEVER
        self._ends_by = self.deadline = NEVER

    def pause(self) -> None:
        if self.is_open and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
            self.deadline = self._ends_by

    def resume(self) -> None:
        if self.is_open and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
            self.deadline = min(self._now() + self._silence_seconds, self._ends_by)

    def abandon(self) -> None:
        self._sink = None
        self._discard()

    # -- the pool

    def is_clean(self) -> bool:
        """Whether the idle connection may carry a request: open, and not one byte to read (law of suspicion, A41)."""
        # 0.6 us for the system call; the callback that would tell us may not have run yet.
        return self.is_open and self._poll is not None and not self._poll.poll(0)

    def reuse(self) -> None:
        """Marks the connection as one that has served before."""
        self._was_reused = True
        self._is_last_try = False
        if self._is_tightened:
            self._is_tightened = False
            timeouts = self.pool.timeouts
            self._head_seconds = timeouts.response_head
            self._silence_seconds = timeouts.response_idle
            self._ends_by = NEVER

    def try_last(self) -> None:
        """The request that this connection is for has been tried once before: it is not tried a third time."""
        self._is_last_try = True

    def close_idle(self) -> None:
        """Closes a connection that waits in the pool."""
        self._discard()

    def timed_out(self) -> None:
        """The deadline has passed."""
        sink = self._sink
        if sink is None:
            self._discard()
            return
        began = self._started
        # All that came of the request has been taken, and it is not whole: then who sends it is late.
        waits_for_body = not self._request_ended and not self._transport.get_write_buffer_size()
        self._sink = None
        self._discard()
        if began:
            sink.response_failed(Reason.UPSTREAM_TRUNCATED, "the answer was not whole in time", retriable=False)
        elif waits_for_body:
            sink.response_failed(Reason.BODY_TIMEOUT, "no whole request in time", retriable=False)
        else:
            if self._had_time():
                self.pool.failed("no answer in time")
            sink.response_failed(Reason.UPSTREAM_TIMEOUT, "no answer in time", retriable=False)

    def _had_time(self) -> bool:
        """Whether the whole request was there in the first half of its time: a client that sends the last of it when
        hardly any is left would have endpoints left out that do what they can (R38)."""
        return self._asked_at - self._sent_at <= self._ends_by - self._asked_at or self._now() < self._ends_by

    # -- ResponseReader

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        self._keeps_alive = facts.keeps_alive
        self._started = True
        if self._health.failures_in_a_row:
            self.pool.answered()
        if not self._knows_idle_seconds:
            self._read_idle_seconds()
        if self._sink is not None:
            self._sink.response_started(facts, data)

    def response_data(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.response_data(data)

    def response_ended(self, *, clean: bool) -> None:
        sink, self._sink = self._sink, None
        sent_all = self._request_ended and not self._transport.get_write_buffer_size()
        if clean and self._keeps_alive and sent_all and self.is_open:
            if self._is_paused:
                # The last bytes filled the client's buffer; the next request must hear its own answer.
                self.resume()
            self.deadline = self._now() + self._idle_seconds
            self.pool.give_back(self)
        else:
            self._discard()
        if sink is not None:
            sink.response_ended()

    def response_invalid(self, detail: str) -> None:
        sink, self._sink = self._sink, None
        began = self._started
        self._discard()
        if not began:
            self.pool.failed(detail)
        if sink is not None:
            reason = Reason.UPSTREAM_TRUNCATED if began else Reason.UPSTREAM_INVALID
            sink.response_failed(reason, detail, retriable=False)

    def _lost(self, detail: str) -> None:
        sink, self._sink = self._sink, None
        self._discard()
        if sink is None:
            return
        if self._started:
            sink.response_failed(Reason.UPSTREAM_TRUNCATED, detail, retriable=False)
        else:
            # What was kept open too long says nothing of the endpoint.
            was_stale = self._was_reused and not self._answer_began
            if not was_stale:
                self.pool.failed(detail)
            sink.response_failed(Reason.UPSTREAM_CLOSED, detail, retriable=was_stale and not self._is_last_try)

    def _read_idle_seconds(self) -> None:
        """How long the upstream keeps this connection, as its first answer says; we close a second earlier (R9)."""
        self._knows_idle_seconds = True
        for name, value in self._headers:
            if len(name) == len(_KEEP_ALIVE) and name.lower() == _KEEP_ALIVE:
                found = _TIMEOUT.search(value)
                if found is not None:
                    seconds = float(found[1]) - 1.0
                    self._idle_seconds = min(self._idle_seconds, max(seconds, 0.0))
                    if seconds <= 0.0:
                        self._keeps_alive = False

    def _discard(self) -> None:
        self.deadline = NEVER
        self.reading = IDLE
        if self.is_open:
            self.is_open = False
            self._transport.abort()
