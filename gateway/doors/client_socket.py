"""One client socket as the proxy door holds it: when it is read, when it is paused, and how it ends.

What is said here is about the socket; what the bytes mean, and who may do what, is the subclass's to know. A socket is
read unless the upstream takes no more of a body or too many bytes have come before their turn. It ends in one of three
ways: kept for the next request, closed in order so that the last answer can be read, or reset.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Coroutine
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, Final

from gateway.core.outgoing import peer_lines
from gateway.doors.services import TURNED_AWAY, UNIX_PEER, Services
from gateway.wire.forwarded import ProxyHeaderInvalid, read_proxy_header
from gateway.wire.limits import LINGER_LIMIT_BYTES, PIPELINE_LIMIT_BYTES
from gateway.wire.request_reader import RequestReader

NEVER: Final = float("inf")
PROBE_SECONDS: Final = 0.25
"""How long after a client's FIN, without a byte of its answer, it is asked whether it is still there."""
DRAIN_GRACE_SECONDS: Final = 1.0
_PROBE: Final = b"HTTP/1.1 102 Processing\r\n\r\n"
_GONE: Final = select.POLLHUP | select.POLLERR
_RESET_ON_CLOSE: Final = pack("ii", 1, 0)


class ClientSocket(RequestReader, asyncio.Protocol):
    """The part of a client connection that knows sockets. `under_way`: a request was begun and is not answered yet."""

    __slots__ = (
        "_body_bytes",
        "_body_ended",
        "_body_since",
        "_client_ended",
        "_idle_since",
        "_keeps_alive",
        "_lingers",
        "_monotonic",
        "_paused_at",
        "_peer",
        "_peer_is_trusted",
        "_peer_lines",
        "_preamble",
        "_reads",
        "_request_paused",
        "_server_connections",
        "_server_tasks",
        "_services",
        "_socket_peer",
        "_task",
        "_thrown_away",
        "_transport",
        "_turned_away",
        "_was_used",
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
        self._peer = self._socket_peer = ""
        self._peer_lines = b""
        self._reads = True
        self._request_paused = False
        self._write_paused = False
        self._lingers = False
        self._thrown_away = 0
        self._keeps_alive = True
        self._client_ended = False
        self._body_ended = True
        self._body_bytes = 0
        self._body_since = self._paused_at = 0.0
        self._turned_away = False
        self._was_used = False
        self._idle_since = 0.0
        self._peer_is_trusted = False
        self._preamble: bytearray | None = None
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
        self._socket_peer = peer[0] if isinstance(peer, tuple) else UNIX_PEER
        self._know_peer(self._socket_peer)
        self._server_connections.add(self)
        self._idle_since = self._monotonic()
        self.deadline = self._idle_since + services.timeouts.head
        if not services.enter(self, self._socket_peer):
            # Told so once it has asked, because an answer to nothing would be lost in the reset; but not for ever.
            self._turned_away = True
            self.deadline = self._monotonic() + services.timeouts.linger
            if len(services.connections) > services.places * TURNED_AWAY + 16:
                self._transport.abort()
        if services.takes_proxy_protocol:
            self._preamble = bytearray()
            if not self._peer_is_trusted:
                self._transport.abort()

    def _know_peer(self, address: str) -> None:
        """Who the client of this connection is, as its socket or the proxy before it says."""
        services = self._services
        self._peer = address
        self._peer_lines = peer_lines(address.encode("ascii", "replace"), services.scheme)
        self._peer_is_trusted = services.trusted is not None and services.trusted.trusts(address)

    def _preamble_read(self, data: bytes) -> bytes:
        """What follows the header of the PROXY protocol; nothing until it is whole."""
        preamble = self._preamble
        assert preamble is not None  # asked by the caller
        preamble += data
        try:
            found = read_proxy_header(bytes(preamble))
        except ProxyHeaderInvalid:
            # Whoever is there does not speak what was agreed on; an answer in HTTP would mean nothing to it.
            self._lingers = True
            self._transport.abort()
            return b""
        if found is None:
            return b""
        self._preamble = None
        client, length = found
        if client:
            self._know_peer(client)
        return bytes(preamble[length:])

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_LIMIT_BYTES:
                self._transport.abort()
            return
        if self._preamble is not None:
            data = self._preamble_read(data)
            if not data:
                return
        was_idle = not self.under_way and not self._buffer
        try:
            self.feed(data)
        except Exception as fault:
            self.faulted(fault)
            return
        if self._buffer:
            if was_idle and not self.under_way and not self._turned_away:
                self.deadline = self._monotonic() + self._services.timeouts.head
            self._read_or_not()

    def eof_received(self) -> bool:
        # A client that has said all it had to say may still read its answer, also where we have not read all of it yet.
        self._client_ended = True
        stays = self.under_way and not self._lingers and (self._body_ended or bool(self._buffer))
        if stays and self._body_ended and self.deadline == NEVER:
            # Or it is gone altogether, which looks the same from here. It is asked, if its answer takes long (R13).
            self.deadline = self._monotonic() + PROBE_SECONDS
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.leave(self, self._socket_peer)
        self._server_connections.discard(self)
        self.deadline = NEVER
        self._lingers = True
        if self._task is not None:
            self._task.cancel()
        if self.under_way:
            self.client_left()
        # Transport and protocol know each other, so who is gone stays until the collector comes by; not its bytes.
        self._buffer.clear()

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
        """uvicorn drains: an idle connection closes now, a busy one after its answer.

        Who has connected and not asked yet is about to, and gets one answer.
        """
        if self.under_way:
            self._keeps_alive = False
        elif self._lingers:
            pass
        elif self._was_used and not self._buffer:
            self._transport.close()
        else:
            self.deadline = min(self.deadline, self._monotonic() + DRAIN_GRACE_SECONDS)

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

    def swept(self, now: float, crowded: bool) -> None:
        """Notices a client that is gone while nothing is read from it, and makes room where connections are many."""
        if not self.under_way:
            is_idle = not self._buffer and not self._lingers
            if (
                crowded
                and is_idle
                and self._idle_since + self._services.timeouts.crowded_keep_alive < now
                and not self._transport.get_write_buffer_size()
            ):
                # Nothing is owed to it, and by TLS an orderly close would wait for it to agree.
                self._transport.abort()
        elif (self._client_ended or not self._reads) and self._is_gone():
            self._transport.abort()

    def probe(self) -> bool:
        """Whether the deadline was that of a probe, which is now sent: to who is gone, it brings a reset."""
        if not (self._client_ended and self._body_ended) or self._write_paused:
            return False
        if self.is_http_11:
            # An interim answer says nothing to a client that waits (RFC 9110 section 15.2).
            self._transport.write(_PROBE)
        return True

    def _is_gone(self) -> bool:
        socket = self._transport.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(socket.fileno(), _GONE)
        return bool(poll.poll(0))

    # -- reading

    def request_paused(self) -> None:
        """The upstream takes no more of the body for now."""
        self._request_paused = True
        self._paused_at = self._monotonic()
        self._await_body_or_nothing()
        self._read_or_not()

    def request_resumed(self) -> None:
        """It takes more again."""
        if self._request_paused:
            self._body_since += self._monotonic() - self._paused_at
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
            timeouts = self._services.timeouts
            self.deadline = self._monotonic() + timeouts.body_idle
            if timeouts.body_rate:
                # A byte now and then would keep its place for ever (K2).
                slowest = self._body_since + timeouts.body_idle + self._body_bytes / timeouts.body_rate
                self.deadline = min(self.deadline, slowest)

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
        self._was_used = True
        self._services.in_flight -= 1
        self._request_paused = False
        has_more = bool(self._buffer) or self._has_rest or not self._client_ended
        if not (self._keeps_alive and self._body_ended and has_more):
            self._close_in_order()
        elif not self._write_paused:
            self._next()
        # Else the client has not taken this answer yet: its next request waits, so answers do not pile up here.

    def _next(self) -> None:
        """On to the next request of this connection."""
        self.next_request()
        self._idle_since = now = self._monotonic()
        self.deadline = now + self._services.timeouts.keep_alive
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
