"""The proxy door: an HTTP/1.1 protocol class that uvicorn runs, from bytes to bytes with no framework between.

One `ClientConnection` per client socket, one request at a time on it. The walk of a request is `head_read` → `_go` →
`_forward` → `response_started` … `response_ended` → `_finish`; whatever leaves it early goes through `_refuse`.
A connection carries no identity: each request is judged from its own head (A28).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.core.answers import answer_to, preflight_answer, told_route
from gateway.core.credential import CredentialKind
from gateway.core.decision import Preflight
from gateway.core.facts import RequestFacts, facts_of, value_of
from gateway.core.outgoing import ResponseFacts, peer_lines, request_head
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.core.websocket import KEY, answer_fault, compresses
from gateway.doors.client_socket import NEVER, ClientSocket
from gateway.doors.connecting import connected_by
from gateway.doors.faults import log_fault
from gateway.doors.graphql_socket import GraphQLSocket
from gateway.doors.outcomes import outcome_of
from gateway.doors.services import NO_ROOM, NO_TUNNEL, TOO_MANY_STREAMS, Services, tighten
from gateway.doors.tunnel import JUDGED_EVERY_SECONDS, Tunnel
from gateway.doors.writing import our_own, passed_on, switched
from gateway.judge import AwaitingBody, AwaitingInit, AwaitingKey, Passed, Snapshot, Stopped
from gateway.ports import Upstream, UpstreamExchange, UpstreamFailed
from gateway.wire.chunked import LAST_CHUNK, chunk_head
from gateway.wire.forwarded import client_and_hops, scheme_by

_ALLOWED: Final = Verdict.ALLOWED
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def protocol_factory(services: Services) -> Callable[..., ClientConnection]:
    """What `uvicorn.Config(http=...)` takes: makes the protocol of one client connection."""

    def make(config: Any, server_state: Any, app_state: Any = None, _loop: Any = None) -> ClientConnection:
        return ClientConnection(services, server_state.connections, server_state.tasks)

    return make


class ClientConnection(ClientSocket):
    """What the bytes of one client mean, from a head to the outcome of its request."""

    __slots__ = (
        "_body",
        "_bytes_out",
        "_client",
        "_client_lines",
        "_ends_by",
        "_facts",
        "_finds_again",
        "_forwarded_at",
        "_held_bytes",
        "_judged_at",
        "_passed",
        "_rechunks",
        "_ref",
        "_ref_bytes",
        "_response",
        "_retried",
        "_sent_head",
        "_snapshot",
        "_started_at",
        "_status",
        "_upstream",
        "_waits_for_body",
    )

    def __init__(self, services: Services, server_connections: set[Any], server_tasks: set[asyncio.Task[None]]) -> None:
        super().__init__(services, server_connections, server_tasks)
        self._upstream: UpstreamExchange | None = None
        self._snapshot: Snapshot | None = None
        self._facts: RequestFacts | None = None
        self._passed: Passed | None = None
        self._waits_for_body: AwaitingBody | None = None
        # One buffer, not a list of pieces: a client decides how many pieces there are.
        self._body = bytearray()
        self._held_bytes = 0
        self._response: ResponseFacts | None = None
        self._sent_head = b""
        self._retried = False
        self._started_at = self._forwarded_at = self._judged_at = 0.0
        self._finds_again = False
        self._ends_by = NEVER
        self._bytes_out = 0
        self._status = 0
        self._client = ""
        self._client_lines = b""
        self._ref = ""
        self._ref_bytes = b""
        self._rechunks = False

    # -- ClientSocket

    def client_left(self) -> None:
        self._drop_upstream()
        if self._held_bytes:
            self._let_go_of_body()
        self._record(Verdict.CLIENT_GONE, None, "the client closed the connection")
        self.under_way = False
        self._services.in_flight -= 1

    def answer_paused(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def answer_resumed(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def head_timed_out(self) -> None:
        self._begin()
        self._refuse(Refusal(Reason.HEAD_TIMEOUT), None)

    def request_timed_out(self) -> None:
        if self._response is None and self.probe():
            return
        if not self._body_ended and self._response is None:
            self._refuse(Refusal(Reason.BODY_TIMEOUT), None)
        else:
            self._abort(Verdict.CLIENT_GONE, None, "the client took no bytes of the answer in time")

    def faulted(self, fault: Exception) -> None:
        """The request is not forwarded, the client gets a 500, and the place goes to the log."""
        log_fault(fault, self._ref)
        if self.under_way:
            self._refuse(CannotDecide(Reason.INTERNAL_FAULT, type(fault).__name__), None)
        else:
            self._lingers = True
            self._transport.abort()

    def swept(self, now: float, crowded: bool) -> None:
        super().swept(now, crowded)
        passed = self._passed
        if not self.under_way or passed is None or not self._forwarded_at:
            return
        principal = passed.allowed.principal
        if principal is None or now < self._forwarded_at + JUDGED_EVERY_SECONDS:
            return
        if self._response is not None and not self._services.may_last(principal):
            self._abort(Verdict.CANNOT_DECIDE, Reason.OVERLOADED, TOO_MANY_STREAMS.detail)
        elif (
            (self._response is not None or not self._body_ended)
            and not self._finds_again
            and now >= self._judged_at + JUDGED_EVERY_SECONDS
        ):
            self._judged_at = now
            self._judge_anew()

    # -- what lasts

    def _judge_anew(self) -> None:
        """Whether who began this may go on with it: a key or a token may end before the answer does (E11, E12, F21).

        A request that is whole and waits for its answer is left alone: its upstream may have acted on it.
        """
        assert self._facts is not None  # it was forwarded
        try:
            step = self._services.judge.on_head(self._facts)
        except Exception as fault:
            self.faulted(fault)
            return
        if isinstance(step, Stopped):
            self._refuse(step.because, None)
        elif isinstance(step, AwaitingKey):
            self._finds_again = True
            task = asyncio.ensure_future(self._find_key_again(step, self._ref))
            self._server_tasks.add(task)
            task.add_done_callback(self._server_tasks.discard)

    async def _find_key_again(self, awaiting: AwaitingKey, ref: str) -> None:
        step: Passed | Stopped | AwaitingBody | None = None
        try:
            step = await self._services.judge.on_key(awaiting)
        except Exception as fault:
            log_fault(fault, ref)
        self._finds_again = False
        if self._ref != ref or not self.under_way:
            return  # it came to its own end meanwhile
        if step is None:
            self._refuse(CannotDecide(Reason.INTERNAL_FAULT, "judged anew"), None)
        elif isinstance(step, Stopped):
            self._refuse(step.because, None)

    # -- RequestReader

    def head_read(self) -> None:
        self._begin()
        if self._turned_away:
            self._refuse(CannotDecide(Reason.OVERLOADED, "no place for another connection"), None)
            return
        if self._peer_is_trusted:
            self._believe_proxy()
        facts = facts_of(self.method, self.target, self.headers, self.is_http_11)
        if not isinstance(facts, RequestFacts):
            self._refuse(facts, None)
            return
        self._facts = facts
        self._keeps_alive = facts.keeps_alive and not self._services.draining
        self._body_ended = facts.content_length == 0
        self._go(self._services.judge.on_head(facts))

    def reading_refused(self, refusal: Refusal) -> None:
        if self._lingers:
            return
        if not self.under_way:
            self._begin()
        if self._response is not None:
            self._abort(Verdict.REFUSED, refusal.reason, refusal.detail)
            return
        self._refuse(refusal, None)

    def body_read(self, data: bytes) -> None:
        self._body_bytes += len(data)
        waiting = self._waits_for_body
        if waiting is not None:
            limit = waiting.route.body_limit_bytes
            if 0 < limit < self._body_bytes:
                self._refuse(Refusal(Reason.BODY_TOO_LARGE), None)
                return
            if not self._may_hold(len(data)):
                self._refuse(NO_ROOM, None)
                return
            self._body += data
            self._await_body_or_nothing()
            return

        passed, upstream = self._passed, self._upstream
        if upstream is None or passed is None or self._facts is None:
            return
        limit = passed.allowed.route.body_limit_bytes
        if 0 < limit < self._body_bytes:
            self._refuse(Refusal(Reason.BODY_TOO_LARGE), None)
            return
        self._await_body_or_nothing()
        upstream.send_body(data, is_chunked=self._facts.content_length < 0)

    def body_ended(self) -> None:
        if self._lingers or not self.under_way:
            return  # refused already, and the rest of it was read in the same packet
        self._body_ended = True
        self._await_body_or_nothing()
        waiting = self._waits_for_body
        if waiting is not None:
            step = self._services.judge.on_body(waiting, bytes(self._body))
            self._waits_for_body = None
            self._body.clear()
            self._go(step)
        elif self._upstream is not None and self._facts is not None:
            self._upstream.end_body(is_chunked=self._facts.content_length < 0)

    # -- the walk

    def _begin(self) -> None:
        services = self._services
        self.under_way = True
        services.in_flight += 1
        self._started_at = self._monotonic()
        self.deadline = NEVER
        self._ref = ref = services.references.new()
        self._ref_bytes = ref.encode()
        self._snapshot = services.judge.snapshot
        self._client = self._peer
        self._client_lines = self._peer_lines
        self._facts = None
        self._passed = None
        self._response = None
        self._waits_for_body = None
        self._body_ended = True
        self._retried = self._rechunks = False
        self._body_bytes = self._bytes_out = self._status = 0
        self._forwarded_at = 0.0

    def _believe_proxy(self) -> None:
        """The client of this one request as the listed proxy before us says: it may carry many on one connection."""
        trusted = self._services.trusted
        assert trusted is not None  # or no peer is
        self._client, chain = client_and_hops(self.headers, self._peer, trusted)
        self._client_lines = peer_lines(chain.encode("ascii"), scheme_by(self.headers, self._services.scheme))

    def _go(self, step: Passed | Stopped | AwaitingKey | AwaitingBody | AwaitingInit | Preflight) -> None:
        if isinstance(step, Passed):
            self._passed = step
            self._forward(step)
        elif isinstance(step, Stopped):
            self._refuse(step.because, step)
        elif isinstance(step, AwaitingBody):
            assert self._facts is not None  # set by head_read
            if self._facts.upgrades:
                self._hand_over_soon(step.route)
            else:
                self._collect(step)
        elif isinstance(step, AwaitingKey):
            self._start(self._find_key(step))
        elif isinstance(step, AwaitingInit):
            self._hand_over_soon(step.route)
        else:
            self._answer_preflight(step)

    async def _find_key(self, awaiting: AwaitingKey) -> None:
        try:
            step: Passed | Stopped | AwaitingBody = await self._services.judge.on_key(awaiting)
            self._task = None
            if self.under_way:
                self._go(step)
                self._feed_held()
        except Exception as fault:
            self._task = None
            self.faulted(fault)

    def _hand_over_soon(self, route: Route) -> None:
        """Through the loop: the reader of heads is still at work on what came with this one."""
        if not self._services.has_place_for_tunnel(route.upstream):
            self._refuse(CannotDecide(Reason.OVERLOADED, "no place for another WebSocket"), None, route)
            return
        asyncio.get_running_loop().call_soon(self._hand_over, route)

    def _hand_over(self, route: Route) -> None:
        """To a socket of a GraphQL route, which answers the handshake; this connection waits for its outcome."""
        facts = self._facts
        if not self.under_way or facts is None or self._transport.is_closing():
            return
        if self._client_ended:
            self._abort(Verdict.CLIENT_GONE, None, "the client closed its side before the WebSocket was open")
            return
        self._status = 101
        self.deadline = NEVER
        services = self._services
        socket = GraphQLSocket(
            self,
            services,
            self._server_connections,
            self._transport,
            facts,
            route,
            self._socket_peer,
            self._client,
            self._client_lines,
            self._ref,
        )
        if not self._reads:
            self._transport.resume_reading()
        socket.begin(self.take_held(), write_paused=self._write_paused)
        if services.draining:
            socket.shutdown()

    def socket_ended(
        self,
        verdict: Verdict,
        reason: Reason | None,
        detail: str,
        bytes_in: int,
        bytes_out: int,
        route: Route,
        principal: Principal | None,
        forwarded_at: float,
    ) -> None:
        """A WebSocket of a GraphQL route is over, and with it the request that opened it."""
        self._body_bytes, self._bytes_out = bytes_in, bytes_out
        self._forwarded_at = forwarded_at
        self._record(verdict, reason, detail, route, principal)
        self._lingers = True
        self.under_way = False
        self._services.in_flight -= 1

    def _collect(self, awaiting: AwaitingBody) -> None:
        """Reads the body of a request whose rule needs it; nothing is sent or connected before."""
        length = awaiting.facts.content_length
        limit = awaiting.route.body_limit_bytes
        if length == 0:
            self._go(self._services.judge.on_body(awaiting, b""))
            return
        if 0 < limit < length:
            self._refuse(Refusal(Reason.BODY_TOO_LARGE), None, awaiting.route, awaiting.principal)
            return
        if self._services.held_bytes + length > self._services.most_held_bytes:
            self._refuse(NO_ROOM, None, awaiting.route, awaiting.principal)
            return
        self._waits_for_body = awaiting
        self._body.clear()
        self._invite_body(awaiting.facts)

    def _may_hold(self, size: int) -> bool:
        """Counts bytes of a body that is held, until its request has ended; whether there is room for them (R29)."""
        services = self._services
        services.held_bytes += size
        self._held_bytes += size
        return services.held_bytes <= services.most_held_bytes

    def _let_go_of_body(self) -> None:
        self._services.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._body.clear()

    def _invite_body(self, facts: RequestFacts) -> None:
        if facts.expects_continue and self.is_http_11:
            self._transport.write(_CONTINUE)
        self._body_since = self._monotonic()
        self._await_body_or_nothing()
        self.expect_body(facts.content_length)

    def _forward(self, passed: Passed) -> None:
        facts = self._facts
        assert facts is not None  # set by head_read
        allowed = passed.allowed
        services = self._services
        if services.full_callers and not services.may_begin(allowed.principal):
            self._refuse(TOO_MANY_STREAMS, None)
            return
        if facts.upgrades and not services.has_place_for_tunnel(allowed.route.upstream):
            self._refuse(NO_TUNNEL, None)
            return
        upstream = services.upstreams[allowed.route.upstream]
        self._sent_head = head = request_head(
            allowed.head or facts,
            upstream.authority,
            self._client_lines,
            passed.snapshot.identity.of(allowed.principal),
            self._ref_bytes,
            allowed.body,
            services.assertion_line(passed) if allowed.route.assertion else b"",
        )
        self._forwarded_at = now = self._monotonic()
        self._ends_by = services.ends_by(allowed.route, now)
        exchange = upstream.take()
        if exchange is None:
            self._start(self._connect(upstream))
        else:
            self._send(exchange, head)

    async def _connect(self, upstream: Upstream, instead_of: UpstreamExchange | None = None) -> None:
        try:
            if self._ends_by == NEVER:
                exchange = await upstream.connect(instead_of)
            else:
                exchange = await connected_by(upstream, instead_of, self._ends_by - self._monotonic())
        except UpstreamFailed as fault:
            self._task = None
            if self.under_way:
                self._upstream_failed(fault.reason, fault.detail)
                self._feed_held()
            return
        except Exception as fault:
            self._task = None
            self.faulted(fault)
            return
        self._task = None
        if not self.under_way:
            exchange.abandon()
            return
        self._send(exchange, self._sent_head)
        self._feed_held()

    def _send(self, exchange: UpstreamExchange, head: bytes) -> None:
        self._upstream = exchange
        facts, passed = self._facts, self._passed
        assert facts is not None  # set on the way here
        assert passed is not None
        body = passed.allowed.body
        streams = body is None and facts.content_length != 0
        tighten(exchange, passed.allowed.route, self._ends_by)
        exchange.send(
            head if body is None else head + body, self, answers_head=facts.method == b"HEAD", ends=not streams
        )
        if streams:
            self._invite_body(facts)
        elif facts.upgrades:
            exchange.await_switch()

    # -- ResponseSink

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        passed, request = self._passed, self._facts
        assert passed is not None  # an exchange was sent
        assert request is not None
        route = passed.allowed.route
        if facts.status == 101:
            self._switch(facts, request, route, data)
            return
        self._response = facts
        self._status = facts.status
        length = facts.content_length
        if length >= 0:
            framing = b"content-length: %d\r\n" % length if facts.has_length else b""
        elif self.is_http_11:
            framing = b"transfer-encoding: chunked\r\n"
            self._rechunks = True
        else:
            framing = b""
            self._keeps_alive = False
        if not self._body_ended:
            # An early answer: what is left of the body would be read as the next request (A26, R12).
            self._keeps_alive = False
        parts = passed_on(facts, framing, route, request, self._ref_bytes, keeps_alive=self._keeps_alive)
        if data:
            self._bytes_out = len(data)
            if self._rechunks:
                parts += (chunk_head(len(data)), data, b"\r\n")
            else:
                parts.append(data)
        # One write for head and body: two would be two system calls and two packets.
        self._transport.write(b"".join(parts))

    def _switch(self, facts: ResponseFacts, request: RequestFacts, route: Route, data: bytes) -> None:
        """From an answer that no HTTP follows: the tunnel has both sides, and this connection waits for its outcome."""
        exchange, self._upstream = self._upstream, None
        assert exchange is not None  # it has just answered
        if self._client_ended:
            # It says nothing more, and a tunnel would not hear that it has gone: its end was read before.
            exchange.abandon()
            self._abort(Verdict.CLIENT_GONE, None, "the client closed its side before the WebSocket was open")
            return
        fault = answer_fault(facts.fields, value_of(request.fields, KEY) or b"")
        if fault:
            exchange.abandon()
            self._upstream_failed(Reason.UPSTREAM_INVALID, fault)
            return
        if not self._services.has_place_for_tunnel(route.upstream):
            # There was one when this opening was sent on, and for all that were sent on with it.
            exchange.abandon()
            self._refuse(NO_TUNNEL, None)
            return
        self._response = facts
        self._status = facts.status
        self.deadline = NEVER
        self._services.tunnel_opened(route.upstream)
        tunnel = Tunnel(
            self,
            self._services,
            self._server_connections,
            self._transport,
            exchange,
            request,
            self._socket_peer,
            self._ref,
            None if self._passed is None else self._passed.allowed.principal,
            compresses=compresses(facts.fields),
        )
        self._transport.write(switched(facts, route, self._ref_bytes))
        if not self._reads:
            self._transport.resume_reading()
        tunnel.begin(self.take_held(), data, write_paused=self._write_paused)
        if self._services.draining:
            tunnel.shutdown()

    def tunnel_ended(self, verdict: Verdict, reason: Reason | None, detail: str, bytes_in: int, bytes_out: int) -> None:
        """The WebSocket is over, and with it the request that opened it."""
        self._body_bytes, self._bytes_out = bytes_in, bytes_out
        self._record(verdict, reason, detail)
        assert self._passed is not None  # it was forwarded
        self._services.tunnel_ended(self._passed.allowed.route.upstream)
        self._passed = None
        self._lingers = True
        self.under_way = False
        self._services.in_flight -= 1

    def response_data(self, data: bytes) -> None:
        self._bytes_out += len(data)
        if self._rechunks:
            self._transport.writelines((chunk_head(len(data)), data, b"\r\n"))
        else:
            self._transport.write(data)

    def response_ended(self) -> None:
        self._upstream = None
        if self._rechunks:
            self._transport.write(LAST_CHUNK)
        self._record(_ALLOWED, None, "")
        self._finish()

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        failed, self._upstream = self._upstream, None
        facts, passed = self._facts, self._passed
        assert passed is not None  # an exchange was sent
        if (
            retriable
            and not self._retried
            and facts is not None
            and facts.method in (b"GET", b"HEAD", b"OPTIONS")
            and facts.content_length == 0
        ):
            upstream = self._services.upstreams[passed.allowed.route.upstream]
            if upstream.may_retry():
                # RFC 9110 9.2.2: a safe request that met a connection closed while idle goes once more, on a new one,
                # to another endpoint where there is one (R9).
                self._retried = True
                self._start(self._connect(upstream, failed))
                return
        self._upstream_failed(reason, detail)

    def _upstream_failed(self, reason: Reason, detail: str) -> None:
        passed = self._passed
        assert passed is not None  # only what has passed meets an upstream
        if self._response is not None:
            # Part of the answer is out. It must not look complete: no last chunk, no orderly close (A47, R10).
            self._abort(Verdict.UPSTREAM_FAILED, reason, detail)
            return
        verdict = Verdict.CANNOT_DECIDE if reason is Reason.OVERLOADED else Verdict.UPSTREAM_FAILED
        if reason is Reason.BODY_TIMEOUT:
            verdict = Verdict.REFUSED
        because = CannotDecide(reason, detail) if reason is Reason.OVERLOADED else Refusal(reason, detail)
        self._answer(because, verdict, passed.allowed.route, passed.allowed.principal, None)

    # -- ends

    def _refuse(
        self,
        because: Refusal | CannotDecide,
        stopped: Stopped | None,
        route: Route | None = None,
        principal: Principal | None = None,
    ) -> None:
        kind: CredentialKind | None = None
        if stopped is not None:
            route, principal = stopped.route, stopped.principal
            if stopped.credential is not None:
                kind = stopped.credential.kind
        elif self._passed is not None:
            route, principal = self._passed.allowed.route, self._passed.allowed.principal
        elif self._waits_for_body is not None:
            route, principal = self._waits_for_body.route, self._waits_for_body.principal
        self._drop_upstream()
        verdict = Verdict.CANNOT_DECIDE if isinstance(because, CannotDecide) else Verdict.REFUSED
        self._answer(because, verdict, route, principal, kind)

    def _answer(
        self,
        because: Refusal | CannotDecide,
        verdict: Verdict,
        route: Route | None,
        principal: Principal | None,
        kind: CredentialKind | None,
    ) -> None:
        """The answer that we make ourselves; it leaves the connection in order, or closes it."""
        assert self._snapshot is not None  # set by _begin
        if self._response is not None:
            self._abort(verdict, because.reason, because.detail)
            return
        facts = self._facts
        policy = self._snapshot.policy
        told = told_route(route, because.reason)
        answer = answer_to(
            because,
            ref=self._ref,
            shape=policy.errors if told is None else told.errors,
            profile=None if route is None or route.graphql is None else route.graphql.status_profile,
            accept=b"" if facts is None else facts.accept,
        )
        if answer.closes or facts is None or not self._body_ended:
            self._keeps_alive = False
        self._status = answer.status
        answers_head = self.method == b"HEAD"
        self._bytes_out = 0 if answers_head else len(answer.body)
        self._transport.write(our_own(answer, told, facts, keeps_alive=self._keeps_alive, answers_head=answers_head))
        self._record(verdict, because.reason, because.detail, route, principal, kind)
        self._finish()

    def _answer_preflight(self, preflight: Preflight) -> None:
        answer = preflight_answer(preflight.lines, ref=self._ref)
        self._status = answer.status
        self._transport.write(our_own(answer, None, None, keeps_alive=self._keeps_alive, answers_head=False))
        self._record(Verdict.PREFLIGHT, None, "", preflight.route)
        self._finish()

    def _finish(self) -> None:
        """The answer is out, and nothing of the request is held on to."""
        self._passed = None
        self._waits_for_body = None
        if self._held_bytes:
            self._let_go_of_body()
        self._answered()

    def _abort(self, verdict: Verdict, reason: Reason | None, detail: str) -> None:
        """Ends the connection so that nobody takes what was sent for a complete answer."""
        self._drop_upstream()
        self._record(verdict, reason, detail)
        if self._held_bytes:
            self._let_go_of_body()
        self._reset()

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.abandon()
            self._upstream = None

    def _record(
        self,
        verdict: Verdict,
        reason: Reason | None,
        detail: str,
        route: Route | None = None,
        principal: Principal | None = None,
        kind: CredentialKind | None = None,
    ) -> None:
        services = self._services
        facts, passed = self._facts, self._passed
        if passed is not None:
            route, principal = passed.allowed.route, passed.allowed.principal
        services.recorder.record(
            outcome_of(
                self._ref,
                verdict,
                reason,
                self._status,
                facts,
                route,
                principal,
                kind,
                self._client,
                self._started_at,
                self._forwarded_at,
                self._monotonic(),
                self._body_bytes,
                self._bytes_out,
                detail,
            )
        )
