"""One client socket as the proxy door holds it: when it is read, when it is paused, and how it ends.

What is said here is about the socket; what the bytes mean, and who may do what, is the subclass's to know. A socket is
read unless the upstream takes no more of a body or too many bytes have come before their turn. It ends in one of three
ways: kept for the next request, closed in order so that the last answer can be read, or reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, Final

from gateway.core.outgoing import peer_lines
from gateway.doors.services import Services
from gateway.wire.limits import LINGER_LIMIT_BYTES, PIPELINE_LIMIT_BYTES
from gateway.wire.request_reader import RequestReader

NEVER: Final = float("inf")
_RESET_ON_CLOSE: Final = pack("ii", 1, 0)


class ClientSocket(RequestReader, asyncio.Protocol):
    """The part of a client connection that knows sockets. `under_way`: a request was begun and is not answered yet."""

    __slots__ = (
        "_body_ended",
        "_client_ended",
        "_keeps_alive",
        "_lingers",
        "_monotonic",
        "_peer",
        "_peer_lines",
        "_reads",
        "_request_paused",
        "_server_connections",
        "_server_tasks",
        "_services",
        "_task",
        "_thrown_away",
        "_transport",
        "_write_paused",
        "deadline",
        "under_way",
    )

    def __init__(self, services: Services, server_connections: set[Any], server_tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._services = services
        self._monotonic = services.clock.monotonic
        self._server_connections = server_connections
        self._server_tasks = server_tasks
        self._transport: asyncio.Transport
        self._peer = ""
        self._peer_lines = b""
        self._reads = True
        self._request_paused = False
        self._write_paused = False
        self._lingers = False
        self._thrown_away = 0
        self._keeps_alive = True
        self._client_ended = False
        self._body_ended = True
        self._task: asyncio.Task[None] | None = None
        self.under_way = False
        self.deadline = NEVER

    # -- what the subclass hears

    def client_left(self) -> None:
        """The connection is gone while a request was under way."""
        raise NotImplementedError

    def answer_paused(self) -> None:
        """The client takes no more of the answer for now."""
        raise NotImplementedError

    def answer_resumed(self) -> None:
        """It takes more again."""
        raise NotImplementedError

    def head_timed_out(self) -> None:
        """A head was begun and not finished in time."""
        raise NotImplementedError

    def request_timed_out(self) -> None:
        """The client was too slow to send a body, or to take an answer."""
        raise NotImplementedError

    def faulted(self, fault: Exception) -> None:
        """A bug of ours, on bytes of this client."""
        raise NotImplementedError

    # -- asyncio and uvicorn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        services = self._services
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else "unix"
        self._peer_lines = peer_lines(self._peer.encode("ascii", "replace"), services.scheme)
        services.connections.add(self)
        self._server_connections.add(self)
        self.deadline = self._monotonic() + services.timeouts.head

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_LIMIT_BYTES:
                self._transport.abort()
            return
        was_idle = not self.under_way and not self._buffer
        try:
            self.feed(data)
        except Exception as fault:
            self.faulted(fault)
            return
        if self._buffer:
            if was_idle and not self.under_way:
                self.deadline = self._monotonic() + self._services.timeouts.head
            self._read_or_not()

    def eof_received(self) -> bool:
        # A client that has said all it had to say may still read its answer, also where we have not read all of it yet.
        self._client_ended = True
        return self.under_way and not self._lingers and (self._body_ended or bool(self._buffer))

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.connections.discard(self)
        self._server_connections.discard(self)
        self.deadline = NEVER
        self._lingers = True
        if self._task is not None:
            self._task.cancel()
        if self.under_way:
            self.client_left()

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._monotonic() + self._services.timeouts.write_idle
        self.answer_paused()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.under_way:
            self._await_body_or_nothing()
            self.answer_resumed()
        elif not self._lingers:
            self._next()

    def shutdown(self) -> None:
        """uvicorn drains: an idle connection closes now, a busy one after its answer."""
        if self.under_way:
            self._keeps_alive = False
        elif not self._lingers:
            self._transport.close()

    def timed_out(self) -> None:
        """The deadline has passed: too slow to send, too slow to take, or idle."""
        self.deadline = NEVER
        if self.under_way:
            self.request_timed_out()
        elif self._lingers or self._transport.get_write_buffer_size():
            # An orderly close would wait for the client to take what it does not take.
            self._transport.abort()
        elif self._buffer:
            self.head_timed_out()
        else:
            self._transport.close()

    # -- reading

    def request_paused(self) -> None:
        """The upstream takes no more of the body for now."""
        self._request_paused = True
        self._await_body_or_nothing()
        self._read_or_not()

    def request_resumed(self) -> None:
        """It takes more again."""
        self._request_paused = False
        self._await_body_or_nothing()
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Reads the socket, or stops reading it, as the two reasons to stop have it now."""
        reads = not self._request_paused and (len(self._buffer) <= PIPELINE_LIMIT_BYTES or self._lingers)
        if reads is not self._reads and not self._transport.is_closing():
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _await_body_or_nothing(self) -> None:
        """The deadline of a request under way: for its body while we read one, none while others are to act.

        Unless the client takes nothing of its answer: then that is what it is timed for, whatever it sends.
        """
        if self._write_paused or self._lingers:
            return
        if self._body_ended or self._request_paused:
            self.deadline = NEVER
        else:
            self.deadline = self._monotonic() + self._services.timeouts.body_idle

    def _feed_held(self) -> None:
        """Goes on with bytes that came before their turn."""
        if self._buffer and not self._lingers and not self._transport.is_closing():
            self.data_received(self.take_held())
            if self._client_ended and not self._body_ended and not self._buffer:
                # No more is coming: the body broke off (A21).
                self._transport.abort()
            self._read_or_not()

    # -- work that has to wait

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Owns `work` until it ends or the client leaves."""
        self._task = task = asyncio.ensure_future(work)
        self._server_tasks.add(task)
        task.add_done_callback(self._server_tasks.discard)

    # -- ends

    def _answered(self) -> None:
        """The answer is out: on to the next request, or an orderly close."""
        self.under_way = False
        self._services.in_flight -= 1
        self._request_paused = False
        has_more = bool(self._buffer) or not self._client_ended
        if not (self._keeps_alive and self._body_ended and has_more):
            self._close_in_order()
        elif not self._write_paused:
            self._next()
        # Else the client has not taken this answer yet: its next request waits, so answers do not pile up here.

    def _next(self) -> None:
        """On to the next request of this connection."""
        services = self._services
        self.next_request()
        self.deadline = self._monotonic() + services.timeouts.keep_alive
        if self._buffer:
            # Pipelined. Through the loop, so that many requests in one packet do not nest or starve others (K28).
            asyncio.get_running_loop().call_soon(self._feed_held)
        elif not self._reads:
            self._read_or_not()

    def _close_in_order(self) -> None:
        """Closes so that the client can read the answer: a reset would take it away (RFC 9112 section 9.6)."""
        has_read_all = self._body_ended and not self._buffer
        self._lingers = True
        self._thrown_away = 0
        self._buffer.clear()
        if self._transport.is_closing():
            return
        now, timeouts = self._monotonic(), self._services.timeouts
        if has_read_all or not self._transport.can_write_eof():
            self.deadline = now + timeouts.write_idle
            self._transport.close()
            return
        self.deadline = now + timeouts.linger
        self._transport.write_eof()
        self._read_or_not()

    def _reset(self) -> None:
        """Ends the connection so that nobody takes what was sent for a complete answer."""
        self.under_way = False
        self._services.in_flight -= 1
        self._keeps_alive = False
        self._lingers = True
        socket = self._transport.get_extra_info("socket")
        if socket is not None:
            # A reset, and no FIN: to an HTTP/1.0 client without a length, a FIN would say that this was all.
            socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
