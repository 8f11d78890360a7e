"""The ASGI door: the same judge behind a plain ASGI application, for any server that tells the truth about a request.

Everything that is judged is copied out of the scope before the first await and the scope is not read again: a server
that appends trailer fields to the headers later changes nothing (A22). What a server cannot give, this door cannot
make up: it relies on `raw_path`, and on the server's own reader for what a head was before it became a scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final, final

from gateway.core.answers import answer_to, preflight_answer, told_route
from gateway.core.decision import Preflight
from gateway.core.facts import RequestFacts, facts_of
from gateway.core.fields import has_control_bytes
from gateway.core.outgoing import ResponseFacts, peer_lines, request_head
from gateway.core.policy.cors import without_cors
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.doors.asgi_answer import AnswerQueue, Failure
from gateway.doors.connecting import connected_by
from gateway.doors.faults import log_fault
from gateway.doors.outcomes import outcome_of
from gateway.doors.services import NEVER, NO_ROOM, TOO_MANY_STREAMS, Services, caller_of, tighten
from gateway.doors.tunnel import JUDGED_EVERY_SECONDS
from gateway.judge import AwaitingBody, AwaitingInit, AwaitingKey, Passed, Stopped
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
_LATE_BODY: Final = Refusal(Reason.BODY_TIMEOUT)
_CONTROL_BYTES: Final = Refusal(Reason.REQUEST_MALFORMED, "a control byte in a header value")


class AnswerBrokeOff(Exception):
    """Raised to the ASGI server so that it ends the connection: an answer that is not complete must not look so."""


class ClientLeft(Exception):
    """The client closed the connection before it was answered."""


@final
class AsgiDoor:
    """The application. One instance serves all requests; each gets a `_Request` of its own."""

    __slots__ = ("_lasting", "_looks", "_loop", "_services", "_waiting", "full_callers")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[_Request, Receive] = {}
        """Requests that nothing is read of any more, and that are not answered yet."""
        self._lasting: set[_Request] = set()
        """Those that were sent half a second ago and are not over, and all whose body is still coming."""
        self._looks = False
        self.full_callers: set[str] = set()
        """Who had as many streams as they may at the last look (K16)."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that it serves on, asked for once: in CPython 3.11, asking is a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if scope["type"] == "http":
            return _Request(self, self._services, scope).serve(receive, send)
        if scope["type"] == "websocket":
            return _refuse_websocket(receive, send)
        raise RuntimeError(f"scope type `{scope['type']}` is not served here")

    def waits(self, request: _Request, receive: Receive) -> None:
        """`request` is sent, and its answer awaited."""
        self._waiting[request] = receive
        self._look_soon()

    def lasts(self, request: _Request) -> None:
        """It may take any time: from now on it is judged anew, as often as a WebSocket is."""
        self._lasting.add(request)
        self._look_soon()

    def is_over(self, request: _Request) -> None:
        """Nobody looks at it any more."""
        self._waiting.pop(request, None)
        self._lasting.discard(request)

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self.loop.call_later(WATCH_AFTER_SECONDS, self._look)

    def _look(self) -> None:
        """One timer for all requests: one for each, which nearly all would cancel, costs more than the look at them."""
        now = self._services.clock.monotonic()
        for request, receive in list(self._waiting.items()):
            if request.forwarded_at <= now - WATCH_AFTER_SECONDS:
                del self._waiting[request]
                self._lasting.add(request)
                request.watch(receive)
        for request in list(self._lasting):
            try:
                request.look(now)
            except Exception as fault:
                request.faulted(fault)
        if self._services.max_streams_per_caller:
            self._count_streams(now)
        self._looks = False
        if self._waiting or self._lasting:
            self._look_soon()

    def _count_streams(self, now: float) -> None:
        most = self._services.max_streams_per_caller
        counts: dict[str, int] = {}
        for request in self._lasting:
            caller = request.streams_to(now)
            if caller:
                counts[caller] = count = counts.get(caller, 0) + 1
                if count > most:
                    request.cut(TOO_MANY_STREAMS)
        self.full_callers = {caller for caller in counts if counts[caller] >= most}


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4403})  # before accept: the server answers 403


@final
class _Request:
    """One request, from scope to outcome."""

    __slots__ = (
        "_answer_queue",
        "_began",
        "_body_by",
        "_body_bytes",
        "_body_comes",
        "_body_since",
        "_bytes_out",
        "_door",
        "_facts",
        "_held_bytes",
        "_judged_at",
        "_judging",
        "_method",
        "_passed",
        "_peer",
        "_read",
        "_ref",
        "_services",
        "_serving",
        "_status",
        "_task",
        "forwarded_at",
    )

    def __init__(self, door: AsgiDoor, services: Services, scope: Scope) -> None:
        self._door = door
        self._services = services
        self._began = services.clock.monotonic()
        self._ref = services.references.new()
        client = scope.get("client")
        self._peer = client[0] if client else "unix"
        self._method = scope["method"].encode("latin-1")
        self._read = _facts_of_scope(scope, self._method)
        self._facts: RequestFacts | None = None
        self._body_bytes = self._bytes_out = self._status = 0
        self._held_bytes = 0
        self._body_comes = False
        self._body_since = 0.0
        self._body_by = NEVER
        self._serving: asyncio.Task[Any] | None = None
        """Set while a body is read that is held."""
        self.forwarded_at = self._judged_at = 0.0
        self._passed: Passed | None = None
        self._judging: asyncio.Task[None] | None = None
        self._answer_queue: AnswerQueue | None = None
        self._task: asyncio.Task[None] | None = None

    async def serve(self, receive: Receive, send: Send) -> None:
        services = self._services
        services.in_flight += 1
        try:
            await self._walk(receive, send)
        finally:
            services.in_flight -= 1
            services.held_bytes -= self._held_bytes
            self._cancel_side()
            if self._judging is not None:
                self._judging.cancel()
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
        step: Passed | Stopped | AwaitingKey | AwaitingBody | AwaitingInit | Preflight = judge.on_head(facts)
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
            assert isinstance(step, Passed)  # only a WebSocket waits for its init
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

    async def _whole_body(self, receive: Receive, limit: int) -> bytes | Refusal | CannotDecide:
        assert self._facts is not None  # set before
        services, length = self._services, self._facts.content_length
        if 0 < limit < length:
            return Refusal(Reason.BODY_TOO_LARGE)
        if length != 0 and services.held_bytes + length > services.most_held_bytes:
            return NO_ROOM
        self._body_since = services.clock.monotonic()
        self._await_body()
        self._serving = serving = asyncio.current_task()
        self._door.lasts(self)
        try:
            body = await self._pieces_joined(receive, limit)
        except asyncio.CancelledError:
            if self._serving is not None or serving is None:
                raise
            serving.uncancel()
            body = _LATE_BODY
        finally:
            self._serving = None
            self._body_by = NEVER
        return body

    async def _pieces_joined(self, receive: Receive, limit: int) -> bytes | Refusal | CannotDecide:
        services = self._services
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            self._body_bytes += len(piece)
            if 0 < limit < self._body_bytes:
                return Refusal(Reason.BODY_TOO_LARGE)
            # Counted until the request has ended (R29).
            services.held_bytes += len(piece)
            self._held_bytes += len(piece)
            if services.held_bytes > services.most_held_bytes:
                return NO_ROOM
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)
            self._await_body()

    def _await_body(self) -> None:
        """By when the next piece of the body has to be there: neither late nor too little (K2)."""
        timeouts = self._services.timeouts
        self._body_by = self._services.clock.monotonic() + timeouts.body_idle
        if timeouts.body_rate:
            slowest = self._body_since + timeouts.body_idle + self._body_bytes / timeouts.body_rate
            self._body_by = min(self._body_by, slowest)

    def _body_is_late(self) -> None:
        serving, self._serving = self._serving, None
        self._body_by = NEVER
        if serving is not None:
            serving.cancel()
        else:
            self.cut(_LATE_BODY)

    # -- forwarding

    async def _forward(self, passed: Passed, facts: RequestFacts, receive: Receive, send: Send) -> None:
        self._passed = passed
        allowed, services = passed.allowed, self._services
        full = self._door.full_callers
        if full and allowed.principal is not None and caller_of(allowed.principal) in full:
            await self._answer(send, Stopped(TOO_MANY_STREAMS, passed.snapshot, allowed.route, None, allowed.principal))
            return
        upstream = services.upstreams[allowed.route.upstream]
        head = request_head(
            allowed.head or facts,
            upstream.authority,
            peer_lines(self._peer.encode("ascii", "replace"), services.scheme),
            passed.snapshot.identity.of(allowed.principal),
            self._ref.encode(),
            allowed.body,
            services.assertion_line(passed) if allowed.route.assertion else b"",
        )
        streams = allowed.body is None and facts.content_length != 0
        self.forwarded_at = services.clock.monotonic()
        ends_by = services.ends_by(allowed.route, self.forwarded_at)
        exchange = upstream.take()
        may_retry = self._method in (b"GET", b"HEAD", b"OPTIONS") and not streams
        failed: UpstreamExchange | None = None
        while True:
            try:
                if exchange is None and ends_by == NEVER:
                    exchange = await upstream.connect(failed)
                elif exchange is None:
                    exchange = await connected_by(upstream, failed, ends_by - services.clock.monotonic())
            except UpstreamFailed as fault:
                await self._upstream_failed(send, passed, Failure(fault.reason, fault.detail))
                return
            self._answer_queue = queue = AnswerQueue(exchange, self._door.loop)
            data = head if allowed.body is None else head + allowed.body
            tighten(exchange, allowed.route, ends_by)
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
            self._body_comes = True
            self._body_since = self._services.clock.monotonic()
            self._await_body()
            self._task = asyncio.ensure_future(self._send_body(exchange, receive, passed))
            self._door.lasts(self)
        else:
            # A task costs more than most requests take: only a request that lasts gets one.
            self._door.waits(self, receive)

    def _cancel_side(self) -> None:
        self._door.is_over(self)
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
                self._body_comes = False
                self._body_by = NEVER
                exchange.end_body(is_chunked=is_chunked)
                return
            if queue.is_full:
                # Nobody is late but the upstream.
                now = self._services.clock.monotonic
                self._body_by = NEVER
                paused_at = now()
                await queue.writable()
                self._body_since += now() - paused_at
            self._await_body()

    def watch(self, receive: Receive) -> None:
        """Hears from now on when the client leaves."""
        self._task = asyncio.ensure_future(self._until_disconnect(receive))

    def look(self, now: float) -> None:
        """Judges a request whose answer lasts, or whose body does, anew, once a second.

        Its key or token may end before (E11, F21).
        """
        if self._body_by < now:
            self._body_is_late()
            return
        passed, queue, facts = self._passed, self._answer_queue, self._facts
        if (
            passed is None
            or passed.allowed.principal is None
            or facts is None
            or queue is None
            or (queue.facts is None and not self._body_comes)
            or self._judging is not None
            or now < max(self.forwarded_at, self._judged_at) + JUDGED_EVERY_SECONDS
        ):
            return
        self._judged_at = now
        step = self._services.judge.on_head(facts)
        if isinstance(step, Stopped):
            self.cut(step.because)
        elif isinstance(step, AwaitingKey):
            self._judging = asyncio.ensure_future(self._find_key_again(step))

    async def _find_key_again(self, awaiting: AwaitingKey) -> None:
        try:
            step = await self._services.judge.on_key(awaiting)
        except Exception as fault:
            self.faulted(fault)
            return
        self._judging = None
        if isinstance(step, Stopped):
            self.cut(step.because)

    def streams_to(self, now: float) -> str:
        """Who gets an answer that has lasted a second and more; empty where there is none, or it is nobody's."""
        passed, queue = self._passed, self._answer_queue
        if passed is None or queue is None or queue.facts is None or queue.is_over:
            return ""
        principal = passed.allowed.principal
        lasts = now >= self.forwarded_at + JUDGED_EVERY_SECONDS
        return caller_of(principal) if principal is not None and lasts else ""

    def faulted(self, fault: Exception) -> None:
        """It cannot be judged anew, because of a bug of ours."""
        log_fault(fault, self._ref)
        self.cut(CannotDecide(Reason.INTERNAL_FAULT, type(fault).__name__))

    def cut(self, because: Refusal | CannotDecide) -> None:
        """Ends it from our side, whatever of its answer has been sent."""
        verdict = Verdict.CANNOT_DECIDE if isinstance(because, CannotDecide) else Verdict.REFUSED
        if self._answer_queue is not None:
            self._answer_queue.give_up(Failure(because.reason, because.detail, verdict=verdict))

    async def _until_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if self._answer_queue is not None:
            self._answer_queue.give_up(Failure(None))

    async def _relay(self, send: Send, passed: Passed, queue: AnswerQueue) -> None:
        """Passes the answer on as it comes, at the client's pace."""
        while not queue.has_started:
            await queue.coming()
        if queue.facts is None:
            return
        await send(self._start_message(queue.facts, passed.allowed.route))
        while True:
            while not queue.has_more:
                await queue.coming()
            data = queue.take()
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
            self._record(failure.verdict, reason, route, principal, failure.detail)
            raise AnswerBrokeOff(reason.sentence)
        because: Refusal | CannotDecide = Refusal(reason, failure.detail)
        verdict = failure.verdict
        if reason is Reason.OVERLOADED or verdict is Verdict.CANNOT_DECIDE:
            because, verdict = CannotDecide(reason, failure.detail), Verdict.CANNOT_DECIDE
        elif reason in (Reason.BODY_TOO_LARGE, Reason.BODY_TIMEOUT):
            verdict = Verdict.REFUSED
        await self._answer(send, Stopped(because, passed.snapshot, route, None, principal), verdict)

    async def _answer(self, send: Send, stopped: Stopped, verdict: Verdict | None = None) -> None:
        because = stopped.because
        route = told_route(stopped.route, because.reason)
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
        self._record(verdict, because.reason, stopped.route, stopped.principal, because.detail, kind)

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
                self.forwarded_at,
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
