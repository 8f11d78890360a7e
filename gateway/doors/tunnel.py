"""A WebSocket after its handshake: bytes both ways, each side at the other's pace, until one of them ends.

The tunnel takes the client's socket over from the connection that read the handshake, and hears the upstream in its
place. What one side does not take is not read from the other, and nothing is held but a frame's head that has not
come whole. Heads are read as they pass: one that two readers could take differently ends the tunnel, and so do a
message too large and a flood (K27). Once a second the request is judged anew, by the policy of that moment: a key that
was revoked or has expired ends it (A36).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, final

from gateway.core.facts import RequestFacts
from gateway.core.outgoing import ResponseFacts
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason, Verdict
from gateway.doors.faults import log_fault
from gateway.doors.services import TOO_MANY_STREAMS, Services
from gateway.judge import AwaitingKey, Passed, Stopped
from gateway.ports import UpstreamExchange
from gateway.wire.limits import LINGER_LIMIT_BYTES, WEBSOCKET_FLOOD_SECONDS
from gateway.wire.websocket_frames import (
    GOING_AWAY,
    NOT_ALLOWED,
    TOO_LARGE,
    TRY_LATER,
    UPSTREAM_BROKE,
    FrameReader,
    close_frame,
)

NEVER: Final = float("inf")
JUDGED_EVERY_SECONDS: Final = 1.0
# A 401 tells nobody what is wrong with a token; who has a WebSocket open has shown that it was good.
TOLD: Final = {Reason.TOKEN_REVOKED: "credential revoked", Reason.TOKEN_EXPIRED: "credential expired"}


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
        "_counted_from",
        "_counted_since",
        "_exchange",
        "_facts",
        "_flood_frames",
        "_from_client",
        "_from_upstream",
        "_has_ended",
        "_idle_seconds",
        "_judged_at",
        "_lingered_bytes",
        "_monotonic",
        "_opener",
        "_peer",
        "_principal",
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
        principal: Principal | None,
        *,
        compresses: bool,
    ) -> None:
        """`compresses`: the 101 agreed to `permessage-deflate`."""
        self._opener = opener
        self._services = services
        self._server_connections = server_connections
        self._transport = transport
        self._exchange: UpstreamExchange | None = exchange
        self._facts = facts
        self._peer = peer
        self._ref = ref
        self._principal = principal
        self._monotonic = services.clock.monotonic
        self._from_client = FrameReader(
            from_client=True, compresses=compresses, message_limit_bytes=services.max_websocket_message_bytes
        )
        self._from_upstream = FrameReader(from_client=False, compresses=compresses, message_limit_bytes=0)
        self._flood_frames = int(services.max_websocket_frames_per_second * WEBSOCKET_FLOOD_SECONDS)
        self._counted_from = 0
        self._lingered_bytes = 0
        self._bytes_in = self._bytes_out = 0
        self._has_ended = False
        self._write_paused = False
        self._task: asyncio.Task[None] | None = None
        self._idle_seconds = services.timeouts.websocket_idle
        self._judged_at = self._counted_since = self._monotonic()
        self.deadline = self._judged_at + self._idle_seconds

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
        exchange, reader = self._exchange, self._from_client
        if exchange is None:
            self._read_on(data)
            return
        self._bytes_in += len(data)
        now, frames_before = self._monotonic(), reader.frames
        passed = reader.feed(data)
        if reader.code:
            reason = Reason.WEBSOCKET_TOO_LARGE if reader.code == TOO_LARGE else Reason.WEBSOCKET_MALFORMED
            self._end(Verdict.REFUSED, reason, reader.fault, reader.code, reason.sentence)
            return
        if now >= self._counted_since + WEBSOCKET_FLOOD_SECONDS:
            self._counted_since = now
            self._counted_from = frames_before
        if reader.frames - self._counted_from > self._flood_frames:
            reason = Reason.WEBSOCKET_FLOOD
            detail = f"more than {self._flood_frames} frames in {WEBSOCKET_FLOOD_SECONDS:g} s"
            self._end(Verdict.REFUSED, reason, detail, NOT_ALLOWED, reason.sentence)
            return
        self._goes_on(now)
        if passed:
            exchange.send_body(passed, is_chunked=False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.leave(self, self._peer)
        self._server_connections.discard(self)
        is_closed = self._from_upstream.is_closed
        verdict = Verdict.ALLOWED if is_closed else Verdict.CLIENT_GONE
        self._end(verdict, None, "" if is_closed else "the client closed the connection", 0)
        self.deadline = NEVER

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._monotonic() + self._services.timeouts.write_idle
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self._goes_on(self._monotonic())
            self._exchange.resume()

    # -- uvicorn and the sweep

    def shutdown(self) -> None:
        """uvicorn drains. A WebSocket has no end of its own to wait for."""
        self._end(Verdict.ALLOWED, None, "the gateway is stopping", GOING_AWAY)
        if not self._transport.is_closing():
            self._close()

    def timed_out(self) -> None:
        """The deadline has passed."""
        if self._has_ended and not self._transport.is_closing():
            self._close()
        elif self._has_ended or self._write_paused:
            self._end(Verdict.CLIENT_GONE, None, "the client took no bytes in time", 0)
            self._transport.abort()
        else:
            detail = f"no byte either way in {self._idle_seconds:g} s"
            self._end(Verdict.CLIENT_GONE, None, detail, GOING_AWAY, "no byte either way for too long")

    def swept(self, now: float, crowded: bool) -> None:
        """Judges the request anew, once a second."""
        if self._has_ended:
            return
        if self._principal is not None and not self._services.may_last(self._principal):
            because = TOO_MANY_STREAMS
            self._end(Verdict.CANNOT_DECIDE, because.reason, because.detail, TRY_LATER, because.reason.sentence)
            return
        if self._task is not None or now < self._judged_at + JUDGED_EVERY_SECONDS:
            return
        self._judged_at = now
        try:
            step = self._services.judge.on_head(self._facts)
        except Exception as fault:
            self._faulted(fault)
            return
        if isinstance(step, AwaitingKey):
            self._task = asyncio.ensure_future(self._find_key(step))
        else:
            self._go_on_or_not(step)

    async def _find_key(self, awaiting: AwaitingKey) -> None:
        try:
            step = await self._services.judge.on_key(awaiting)
            self._task = None
            self._go_on_or_not(step)
        except Exception as fault:
            self._task = None
            self._faulted(fault)

    def _faulted(self, fault: Exception) -> None:
        log_fault(fault, self._ref)
        self._end(Verdict.CANNOT_DECIDE, Reason.INTERNAL_FAULT, type(fault).__name__, TRY_LATER)

    def _go_on_or_not(self, step: object) -> None:
        if isinstance(step, Stopped):
            self._refuse(step)
        elif not isinstance(step, Passed):
            # The path is another kind of route's now, of which messages are read.
            reason = Reason.UPGRADE_REFUSED
            self._end(Verdict.REFUSED, reason, "the route passes no WebSocket on", NOT_ALLOWED, reason.sentence)

    # -- ResponseSink

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        raise AssertionError("the answer was the 101")

    def response_data(self, data: bytes) -> None:
        reader = self._from_upstream
        passed = reader.feed(data)
        self._bytes_out += len(passed)
        self._goes_on(self._monotonic())
        if passed:
            self._transport.write(passed)
        if reader.code:
            self._end(Verdict.UPSTREAM_FAILED, Reason.UPSTREAM_INVALID, reader.fault, UPSTREAM_BROKE)

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

    def _goes_on(self, now: float) -> None:
        """A byte has come. A client that takes nothing is timed for that, whatever it sends."""
        if not self._write_paused:
            self.deadline = now + self._idle_seconds

    def _refuse(self, stopped: Stopped) -> None:
        because = stopped.because
        reason = because.reason
        if isinstance(because, CannotDecide):
            self._end(Verdict.CANNOT_DECIDE, reason, because.detail, TRY_LATER, reason.sentence)
        else:
            self._end(Verdict.REFUSED, reason, because.detail, NOT_ALLOWED, TOLD.get(reason, reason.sentence))

    def _end(self, verdict: Verdict, reason: Reason | None, detail: str, code: int, text: str = "") -> None:
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
            if code and self._from_upstream.is_between and not self._from_upstream.is_closed:
                self._say(close_frame(code, text))
            else:
                self._close()
        self._opener.tunnel_ended(verdict, reason, detail, self._bytes_in, self._bytes_out)

    def _say(self, frame: bytes) -> None:
        """Our last frame. The client is read on for a while: a reset for what it still sends would take it away."""
        self._transport.write(frame)
        if self._from_client.is_closed:
            self._close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self.deadline = self._monotonic() + self._services.timeouts.linger

    def _read_on(self, data: bytes) -> None:
        """Bytes behind our last frame: nobody reads them, but a close frame, for which we wait (RFC 6455 7.1.1)."""
        self._lingered_bytes += len(data)
        self._from_client.feed(data)
        if self._from_client.is_closed or self._lingered_bytes > LINGER_LIMIT_BYTES:
            self._close()

    def _close(self) -> None:
        """Nothing more is said; what is written already may take its time."""
        self.deadline = self._monotonic() + self._services.timeouts.write_idle
        self._transport.close()
