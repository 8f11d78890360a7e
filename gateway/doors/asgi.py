"""The ASGI door: the same judge behind a plain ASGI application, for any server that tells the truth about a request.

Everything that is judged is copied out of the scope before the first await and the scope is not read again: a server
that appends trailer fields to the headers later changes nothing (A22). What a server cannot give, this door cannot
make up: it relies on `raw_path`, and on the server's own reader for what a head was before it became a scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from gateway.core.answers import answer_to, preflight_answer
from gateway.core.decision import Preflight
from gateway.core.facts import RequestFacts, facts_of
from gateway.core.fields import has_control_bytes
from gateway.core.outgoing import ResponseFacts, peer_lines, request_head
from gateway.core.policy.cors import without_cors
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.doors.asgi_answer import AnswerQueue, Failure
from gateway.doors.faults import log_fault
from gateway.doors.outcomes import outcome_of
from gateway.doors.services import Services
from gateway.judge import AwaitingBody, AwaitingKey, Passed, Stopped
from gateway.ports import UpstreamExchange, UpstreamFailed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WATCH_AFTER_SECONDS: Final = 0.5
"""A request that takes longer than this is worth a task that notices when its client leaves."""

_NO_RAW_PATH: Final = CannotDecide(Reason.INTERNAL_FAULT, "the ASGI server gives no `raw_path`")
_NO_WEBSOCKET: Final = Refusal(Reason.UPGRADE_REFUSED, "`Upgrade: websocket`, which this door does not tunnel")
_NOT_HTTP_1: Final = Refusal(Reason.VERSION_UNSUPPORTED)
_CONTROL_BYTES: Final = Refusal(Reason.REQUEST_MALFORMED, "a control byte in a header value")


class AnswerBrokeOff(Exception):
    """Raised to the ASGI server so that it ends the connection: an answer that is not complete must not look so."""


class ClientLeft(Exception):
    """The client closed the connection before it was answered."""


class AsgiDoor:
    """The application. One instance serves all requests; each gets a `_Request` of its own."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(self._services, scope).serve(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4403})  # before accept: the server answers 403
        else:
            raise RuntimeError(f"scope type `{scope['type']}` is not served here")


class _Request:
    """One request, from scope to outcome."""

    __slots__ = (
        "_answer_queue",
        "_began",
        "_body_bytes",
        "_bytes_out",
        "_facts",
        "_forwarded",
        "_method",
        "_peer",
        "_read",
        "_ref",
        "_services",
        "_status",
        "_task",
        "_timer",
    )

    def __init__(self, services: Services, scope: Scope) -> None:
        self._services = services
        self._began = services.clock.monotonic()
        self._ref = services.references.new()
        client = scope.get("client")
        self._peer = client[0] if client else "unix"
        self._method = scope["method"].encode("latin-1")
        self._read = _facts_of_scope(scope, self._method)
        self._facts: RequestFacts | None = None
        self._body_bytes = self._bytes_out = self._status = 0
        self._forwarded = 0.0
        self._answer_queue: AnswerQueue | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def serve(self, receive: Receive, send: Send) -> None:
        services = self._services
        services.in_flight += 1
        try:
            await self._walk(receive, send)
        finally:
            services.in_flight -= 1
            self._cancel_side()
            if self._answer_queue is not None:
                self._answer_queue.abandon()

    async def _walk(self, receive: Receive, send: Send) -> None:
        judge = self._services.judge
        facts = self._read
        if not isinstance(facts, RequestFacts):
            await self._answer(send, Stopped(facts, judge.snapshot))
            return

        self._facts = facts
        if facts.upgrades:
            await self._answer(send, Stopped(_NO_WEBSOCKET, judge.snapshot))
            return
        step: Passed | Stopped | AwaitingKey | AwaitingBody | Preflight = judge.on_head(facts)
        route: Route | None = None
        principal: Principal | None = None
        try:
            if isinstance(step, AwaitingKey):
                step = await judge.on_key(step)
            if isinstance(step, AwaitingBody):
                route, principal = step.route, step.principal
                body = await self._whole_body(receive, step.route.body_limit_bytes)
                step = (
                    judge.on_body(step, body)
                    if isinstance(body, bytes)
                    else Stopped(body, step.snapshot, route, None, principal)
                )
            if isinstance(step, Stopped):
                await self._answer(send, step)
                return
            if isinstance(step, Preflight):
                await self._answer_preflight(send, step)
                return
            route, principal = step.allowed.route, step.allowed.principal
            await self._forward(step, facts, receive, send)
        except ClientLeft:
            self._record(Verdict.CLIENT_GONE, None, route, principal, "the client closed the connection")
        except AnswerBrokeOff:
            raise
        except Exception as fault:
            # A bug of ours: said by its type and place, because its text may quote what a client sent.
            log_fault(fault, self._ref)
            if self._status:
                self._record(Verdict.CANNOT_DECIDE, Reason.INTERNAL_FAULT, route, principal, type(fault).__name__)
                raise AnswerBrokeOff(Reason.INTERNAL_FAULT.sentence) from None
            because = CannotDecide(Reason.INTERNAL_FAULT, type(fault).__name__)
            await self._answer(send, Stopped(because, judge.snapshot, route, None, principal))

    async def _whole_body(self, receive: Receive, limit: int) -> bytes | Refusal:
        assert self._facts is not None  # set before
        if 0 < limit < self._facts.content_length:
            return Refusal(Reason.BODY_TOO_LARGE)
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            self._body_bytes += len(piece)
            if 0 < limit < self._body_bytes:
                return Refusal(Reason.BODY_TOO_LARGE)
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    # -- forwarding

    async def _forward(self, passed: Passed, facts: RequestFacts, receive: Receive, send: Send) -> None:
        allowed, services = passed.allowed, self._services
        upstream = services.upstreams[allowed.route.upstream]
        head = request_head(
            facts,
            upstream.authority,
            peer_lines(self._peer.encode("ascii", "replace"), services.scheme),
            passed.snapshot.identity.of(allowed.principal),
            self._ref.encode(),
            allowed.body,
        )
        streams = allowed.body is None and facts.content_length != 0
        self._forwarded = services.clock.monotonic()
        exchange = upstream.take()
        may_retry = self._method in (b"GET", b"HEAD", b"OPTIONS") and not streams
        failed: UpstreamExchange | None = None
        while True:
            try:
                exchange = exchange or await upstream.connect(failed)
            except UpstreamFailed as fault:
                await self._upstream_failed(send, passed, Failure(fault.reason, fault.detail))
                return
            self._answer_queue = queue = AnswerQueue()
            queue.exchange = exchange
            data = head if allowed.body is None else head + allowed.body
            exchange.send(data, queue, answers_head=self._method == b"HEAD", ends=not streams)
            self._side(receive, passed, exchange if streams else None)
            await self._relay(send, passed, queue)
            if queue.failure is None:
                self._record(Verdict.ALLOWED, None, allowed.route, allowed.principal, "")
                return
            if queue.failure.retriable and may_retry and upstream.may_retry():
                # RFC 9110 9.2.2: once more, on a new connection, to another endpoint where there is one (R9).
                may_retry, failed, exchange = False, exchange, None
                continue
            await self._upstream_failed(send, passed, queue.failure)
            return

    def _side(self, receive: Receive, passed: Passed, exchange: UpstreamExchange | None) -> None:
        """What runs beside the answer: the body being sent, or a look whether the client is still there."""
        self._cancel_side()
        if exchange is not None:
            self._task = asyncio.ensure_future(self._send_body(exchange, receive, passed))
        else:
            # A task costs more than most requests take: only a request that lasts gets one.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._watch, receive)

    def _cancel_side(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _send_body(self, exchange: UpstreamExchange, receive: Receive, passed: Passed) -> None:
        queue, facts = self._answer_queue, self._facts
        assert queue is not None  # made before
        assert facts is not None
        is_chunked = facts.content_length < 0
        limit = passed.allowed.route.body_limit_bytes
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                # Not complete, so it is never completed upstream either (A20, A21).
                queue.give_up(Failure(None))
                return
            piece = message.get("body", b"")
            self._body_bytes += len(piece)
            if 0 < limit < self._body_bytes:
                queue.give_up(Failure(Reason.BODY_TOO_LARGE))
                return
            if queue.is_over:
                return
            if piece:
                exchange.send_body(piece, is_chunked=is_chunked)
            if not message.get("more_body", False):
                exchange.end_body(is_chunked=is_chunked)
                return
            await queue.writable()

    def _watch(self, receive: Receive) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self._until_disconnect(receive))

    async def _until_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if self._answer_queue is not None:
            self._answer_queue.give_up(Failure(None))

    async def _relay(self, send: Send, passed: Passed, queue: AnswerQueue) -> None:
        """Passes the answer on as it comes, at the client's pace."""
        await queue.started()
        if queue.facts is None:
            return
        await send(self._start_message(queue.facts, passed.allowed.route))
        while True:
            data = await queue.take()
            if queue.failure is not None:
                return
            ended = queue.has_ended
            self._bytes_out += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": not ended})
            if ended:
                return

    def _start_message(self, facts: ResponseFacts, route: Route) -> Message:
        self._status = facts.status
        cors, request = route.cors, self._facts
        assert request is not None  # set before
        pieces = facts.fields if cors is None else without_cors(facts.fields)
        headers = [(pieces[at][:-2].lower(), pieces[at + 1]) for at in range(0, len(pieces), 3)]
        if facts.has_length:
            headers.append((b"content-length", b"%d" % facts.content_length))
        if not facts.says_cache_control and not route.is_public:
            headers.append((b"cache-control", b"private"))
        headers += route.deprecated
        if cors is not None:
            headers += cors.lines_for(request.fields)
        headers.append((b"x-gateway-request-id", self._ref.encode()))
        return {"type": "http.response.start", "status": facts.status, "headers": headers}

    # -- ends

    async def _upstream_failed(self, send: Send, passed: Passed, failure: Failure) -> None:
        route, principal, reason = passed.allowed.route, passed.allowed.principal, failure.reason
        if reason is None:
            raise ClientLeft
        if self._status:
            self._record(Verdict.UPSTREAM_FAILED, reason, route, principal, failure.detail)
            raise AnswerBrokeOff(reason.sentence)
        because: Refusal | CannotDecide = Refusal(reason, failure.detail)
        verdict = Verdict.UPSTREAM_FAILED
        if reason is Reason.OVERLOADED:
            because, verdict = CannotDecide(reason, failure.detail), Verdict.CANNOT_DECIDE
        elif reason is Reason.BODY_TOO_LARGE:
            verdict = Verdict.REFUSED
        await self._answer(send, Stopped(because, passed.snapshot, route, None, principal), verdict)

    async def _answer(self, send: Send, stopped: Stopped, verdict: Verdict | None = None) -> None:
        because, route = stopped.because, stopped.route
        facts = self._facts
        answer = answer_to(
            because,
            ref=self._ref,
            shape=stopped.snapshot.policy.errors if route is None else route.errors,
            profile=None if route is None or route.graphql is None else route.graphql.status_profile,
            accept=b"" if facts is None else facts.accept,
        )
        self._status = answer.status
        headers = [*answer.fields, *(route.deprecated if route else ()), (b"content-length", b"%d" % len(answer.body))]
        if route is not None and route.cors is not None and facts is not None:
            headers += route.cors.lines_for(facts.fields)
        if answer.closes or facts is None or facts.content_length != 0:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if self._method == b"HEAD" else answer.body
        self._bytes_out = len(body)
        await send({"type": "http.response.body", "body": body})
        if verdict is None:
            verdict = Verdict.CANNOT_DECIDE if isinstance(because, CannotDecide) else Verdict.REFUSED
        kind = None if stopped.credential is None else stopped.credential.kind
        self._record(verdict, because.reason, route, stopped.principal, because.detail, kind)

    async def _answer_preflight(self, send: Send, preflight: Preflight) -> None:
        answer = preflight_answer(preflight.lines, ref=self._ref)
        self._status = answer.status
        await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.fields)})
        await send({"type": "http.response.body", "body": b""})
        self._record(Verdict.PREFLIGHT, None, preflight.route, None, "")

    def _record(
        self,
        verdict: Verdict,
        reason: Reason | None,
        route: Route | None,
        principal: Principal | None,
        detail: str,
        kind: Any = None,
    ) -> None:
        services = self._services
        services.recorder.record(
            outcome_of(
                self._ref,
                verdict,
                reason,
                self._status,
                self._facts,
                route,
                principal,
                kind,
                self._peer,
                self._began,
                self._forwarded,
                services.clock.monotonic(),
                self._body_bytes,
                self._bytes_out,
                detail,
            )
        )


def _facts_of_scope(scope: Scope, method: bytes) -> RequestFacts | Refusal | CannotDecide:
    """The facts, from a scope that is read here and nowhere else."""
    if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
        # HTTP/2 frames a body without saying so in the head, and the head is all that is judged here.
        return _NOT_HTTP_1
    raw_path = scope.get("raw_path")
    if not isinstance(raw_path, bytes):
        return _NO_RAW_PATH
    query = scope.get("query_string", b"")
    target = raw_path if not query else raw_path + b"?" + query
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    if has_control_bytes(headers):
        return _CONTROL_BYTES
    if scope.get("root_path"):
        return CannotDecide(
            Reason.INTERNAL_FAULT, "mounted under a `root_path`: the target judged would not be the one sent"
        )
    return facts_of(method, target, headers, scope.get("http_version", "1.1") != "1.0")
