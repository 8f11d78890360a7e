"""A WebSocket after its handshake: bytes both ways, each side at the other's pace, until one of them ends.

The tunnel takes the client's socket over from the connection that read the handshake, and hears the upstream in its
place. Nothing is held: what one side does not take is not read from the other. Once a second the request is judged
anew, by the policy of that moment: a key that was revoked or has expired ends it (A36).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, final

from gateway.core.facts import RequestFacts
from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import CannotDecide, Reason, Verdict
from gateway.core.websocket import GOING_AWAY, NOT_ALLOWED, TRY_LATER, UPSTREAM_BROKE, Frames, close_frame
from gateway.doors.faults import log_fault
from gateway.doors.services import Services
from gateway.judge import AwaitingKey, Stopped
from gateway.ports import UpstreamExchange

NEVER: Final = float("inf")
IDLE_SECONDS: Final = 300.0
"""Without a byte either way. Servers and clients ping every 20 to 60 s; nginx waits for 60 s, AWS for 350."""
JUDGED_EVERY_SECONDS: Final = 1.0


class Opener(Protocol):
    """The connection that the handshake came on."""

    def tunnel_ended(self, verdict: Verdict, reason: Reason | None, detail: str, bytes_in: int, bytes_out: int) -> None:
        """The one outcome of the request."""
        ...


@final
class Tunnel(asyncio.Protocol):
    """The client's protocol and the upstream's `ResponseSink`, from the 101 to the end."""

    __slots__ = (
        "_bytes_in",
        "_bytes_out",
        "_exchange",
        "_facts",
        "_frames",
        "_has_ended",
        "_judged_at",
        "_monotonic",
        "_opener",
        "_peer",
        "_ref",
        "_server_connections",
        "_services",
        "_task",
        "_transport",
        "_write_paused",
        "deadline",
    )

    def __init__(
        self,
        opener: Opener,
        services: Services,
        server_connections: set[Any],
        transport: asyncio.Transport,
        exchange: UpstreamExchange,
        facts: RequestFacts,
        peer: str,
        ref: str,
    ) -> None:
        self._opener = opener
        self._services = services
        self._server_connections = server_connections
        self._transport = transport
        self._exchange: UpstreamExchange | None = exchange
        self._facts = facts
        self._peer = peer
        self._ref = ref
        self._monotonic = services.clock.monotonic
        self._frames = Frames()
        self._bytes_in = self._bytes_out = 0
        self._has_ended = False
        self._write_paused = False
        self._task: asyncio.Task[None] | None = None
        self._judged_at = self._monotonic()
        self.deadline = self._judged_at + IDLE_SECONDS

    def begin(self, from_client: bytes, from_upstream: bytes, *, write_paused: bool) -> None:
        """Takes over, in the place that the opener had; with what came of either side behind its head."""
        exchange, services = self._exchange, self._services
        assert exchange is not None  # until the end
        services.connections.discard(self._opener)
        services.connections.add(self)
        self._server_connections.discard(self._opener)
        self._server_connections.add(self)
        self._transport.set_protocol(self)
        exchange.tunnel_to(self)
        if write_paused:
            self.pause_writing()
        if from_upstream:
            self.response_data(from_upstream)
        if from_client:
            self.data_received(from_client)

    # -- the client

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            return
        self._bytes_in += len(data)
        self._goes_on()
        self._exchange.send_body(data, is_chunked=False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.leave(self, self._peer)
        self._server_connections.discard(self)
        verdict = Verdict.ALLOWED if self._frames.is_closed else Verdict.CLIENT_GONE
        self._end(verdict, None, "" if self._frames.is_closed else "the client closed the connection", 0)
        self.deadline = NEVER

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._monotonic() + self._services.timeouts.write_idle
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self._goes_on()
            self._exchange.resume()

    # -- uvicorn and the sweep

    def shutdown(self) -> None:
        """uvicorn drains. A WebSocket has no end of its own to wait for."""
        self._end(Verdict.ALLOWED, None, "the gateway is stopping", GOING_AWAY)

    def timed_out(self) -> None:
        """The deadline has passed."""
        if self._has_ended or self._write_paused:
            self._end(Verdict.CLIENT_GONE, None, "the client took no bytes in time", 0)
            self._transport.abort()
        else:
            self._end(Verdict.CLIENT_GONE, None, f"no byte either way in {IDLE_SECONDS:g} s", GOING_AWAY)

    def swept(self, now: float, crowded: bool) -> None:
        """Judges the request anew, once a second."""
        if self._has_ended or self._task is not None or now < self._judged_at + JUDGED_EVERY_SECONDS:
            return
        self._judged_at = now
        step = self._services.judge.on_head(self._facts)
        if isinstance(step, Stopped):
            self._refuse(step)
        elif isinstance(step, AwaitingKey):
            self._task = asyncio.ensure_future(self._find_key(step))

    async def _find_key(self, awaiting: AwaitingKey) -> None:
        try:
            step = await self._services.judge.on_key(awaiting)
            self._task = None
            if isinstance(step, Stopped):
                self._refuse(step)
        except Exception as fault:
            self._task = None
            log_fault(fault, self._ref)
            self._end(Verdict.CANNOT_DECIDE, Reason.INTERNAL_FAULT, type(fault).__name__, TRY_LATER)

    # -- ResponseSink

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        raise AssertionError("the answer was the 101")

    def response_data(self, data: bytes) -> None:
        self._bytes_out += len(data)
        self._frames.feed(data)
        self._goes_on()
        self._transport.write(data)

    def response_ended(self) -> None:
        self._exchange = None
        self._end(Verdict.ALLOWED, None, "", 0)

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        self._exchange = None
        self._end(Verdict.UPSTREAM_FAILED, reason, detail, UPSTREAM_BROKE)

    def request_paused(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def request_resumed(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- ends

    def _goes_on(self) -> None:
        """A byte has passed. A client that takes nothing is timed for that, whatever it sends."""
        if not self._write_paused:
            self.deadline = self._monotonic() + IDLE_SECONDS

    def _refuse(self, stopped: Stopped) -> None:
        because = stopped.because
        if isinstance(because, CannotDecide):
            self._end(Verdict.CANNOT_DECIDE, because.reason, because.detail, TRY_LATER)
        else:
            self._end(Verdict.REFUSED, because.reason, because.detail, NOT_ALLOWED)

    def _end(self, verdict: Verdict, reason: Reason | None, detail: str, code: int) -> None:
        """Ends both sides, once. With a `code`, the client is told by a close frame, if one may stand here."""
        if self._has_ended:
            return
        self._has_ended = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        if self._task is not None:
            self._task.cancel()
        if not self._transport.is_closing():
            if code and self._frames.is_between and not self._frames.is_closed:
                self._transport.write(close_frame(code))
            self.deadline = self._monotonic() + self._services.timeouts.write_idle
            self._transport.close()
        self._opener.tunnel_ended(verdict, reason, detail, self._bytes_in, self._bytes_out)
