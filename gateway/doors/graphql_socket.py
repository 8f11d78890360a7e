"""A WebSocket of a GraphQL route: its messages end here, and each operation is judged before anything of it goes on.

The client is answered at once. Nothing is connected before its `connection_init` has come, with the credential where
the opening had none; then the upstream is spoken to in frames and messages of our own (G39, G40). A message waits for
the judgement of the one before it. Once a second the request is judged anew, and with another policy every operation
that is open: a key that was revoked or has expired ends the WebSocket, an operation that is no longer allowed ends by
itself.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, final

import msgspec

from gateway.core.answers import answer_to
from gateway.core.decision import Preflight
from gateway.core.facts import RequestFacts, value_of, with_authorization, with_fields
from gateway.core.graphql.socket import (
    BAD_MESSAGE,
    FORBIDDEN,
    INIT_TIMEOUT,
    UNAUTHORIZED,
    Action,
    Ask,
    Begin,
    Conversation,
    End,
    ToClient,
    ToUpstream,
    chosen_protocol,
)
from gateway.core.outgoing import ResponseFacts, request_head, without_fields
from gateway.core.policy.routes import ErrorShape, Route
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from gateway.core.websocket import EXTENSIONS, KEY, PROTOCOL, VERSION, accept_of, own_answer_fault
from gateway.doors.faults import log_fault
from gateway.doors.outcomes import outcome_of
from gateway.doors.services import NO_ROOM, TOO_MANY_STREAMS, Services, tighten
from gateway.doors.tunnel import JUDGED_EVERY_SECONDS, NEVER, TOLD
from gateway.doors.writing import opened
from gateway.judge import AwaitingBody, AwaitingInit, AwaitingKey, Passed, Stopped
from gateway.ports import UpstreamExchange, UpstreamFailed
from gateway.wire.limits import (
    GRAPHQL_OPERATIONS_PER_WEBSOCKET,
    GRAPHQL_WEBSOCKET_ANSWER_BYTES,
    HEAD_LIMIT_BYTES,
    LINGER_LIMIT_BYTES,
    PIPELINE_LIMIT_BYTES,
    WEBSOCKET_FLOOD_SECONDS,
)
from gateway.wire.websocket_frames import GOING_AWAY, NOT_ALLOWED, TOO_LARGE, TRY_LATER, close_frame
from gateway.wire.websocket_messages import CLOSE, PING, PONG, TEXT, Message, MessageReader, frame, said_in_close

BAD_GATEWAY: Final = 1014
"""Of the registry of close codes: a gateway has met an upstream that failed. Clients try again."""

_OURS: Final = frozenset((KEY, VERSION, PROTOCOL, EXTENSIONS))
_TOO_MANY: Final = CannotDecide(Reason.OVERLOADED, "as many operations as one WebSocket may have")
_NO_PLACE: Final = CannotDecide(Reason.OVERLOADED, "no place for another WebSocket")
_CLOSED_UPGRADE: Final = Refusal(Reason.UPGRADE_REFUSED, "the route takes no GraphQL over WebSockets any more")

Step = Passed | Stopped | AwaitingBody | AwaitingInit | AwaitingKey | Preflight


class Opener(Protocol):
    """The connection that the handshake came on."""

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
        """The one outcome of the opening. 0 of `forwarded_at`: nothing was forwarded."""
        ...


@final
class GraphQLSocket(asyncio.Protocol):
    """The client's protocol and the upstream's `ResponseSink`, from our 101 to the end."""

    __slots__ = (
        "_all_granted",
        "_bytes_in",
        "_bytes_out",
        "_client",
        "_client_lines",
        "_conversation",
        "_counted_from",
        "_counted_since",
        "_exchange",
        "_facts",
        "_flood_frames",
        "_forwarded_at",
        "_from_client",
        "_from_upstream",
        "_granted",
        "_has_ended",
        "_held_bytes",
        "_init",
        "_is_closing",
        "_judged_at",
        "_key",
        "_lingered_bytes",
        "_monotonic",
        "_opener",
        "_peer",
        "_protocol",
        "_reads",
        "_ref",
        "_request_paused",
        "_route",
        "_server_connections",
        "_services",
        "_task",
        "_transport",
        "_upstream_is_open",
        "_waiting",
        "_waits",
        "_write_paused",
        "deadline",
    )

    def __init__(
        self,
        opener: Opener,
        services: Services,
        server_connections: set[Any],
        transport: asyncio.Transport,
        facts: RequestFacts,
        route: Route,
        peer: str,
        client: str,
        client_lines: bytes,
        ref: str,
    ) -> None:
        """`peer` is who has connected, `client` whom it speaks for. The handshake has no fault."""
        self._opener = opener
        self._services = services
        self._server_connections = server_connections
        self._transport = transport
        self._facts = facts
        self._route = route
        protocol = chosen_protocol(value_of(facts.fields, PROTOCOL))
        assert protocol is not None  # or the judge would have refused it
        self._protocol = protocol
        self._peer = peer
        self._client = client
        self._client_lines = client_lines
        self._ref = ref
        self._monotonic = services.clock.monotonic
        self._conversation = Conversation(protocol, takes_token=facts.authorization is None)
        most = services.max_websocket_message_bytes
        # Who has not said who it is may say no more than a head has place for.
        self._from_client = MessageReader(from_client=True, limit_bytes=min(HEAD_LIMIT_BYTES, most), largest_bytes=most)
        self._from_upstream = MessageReader(
            from_client=False,
            limit_bytes=GRAPHQL_WEBSOCKET_ANSWER_BYTES,
            largest_bytes=GRAPHQL_WEBSOCKET_ANSWER_BYTES,
        )
        self._flood_frames = int(services.max_websocket_frames_per_second * WEBSOCKET_FLOOD_SECONDS)
        self._exchange: UpstreamExchange | None = None
        self._upstream_is_open = False
        self._granted: AwaitingBody | None = None
        """By whom and by which policy the newest judgement was that let it go on."""
        self._all_granted: AwaitingBody | None = None
        """The same of the newest that all operations that are open have been through."""
        self._init = b""
        self._key = b""
        self._waiting: deque[Message] = deque()
        """Messages of the client that wait for what goes on now."""
        self._waits = False
        self._task: asyncio.Task[None] | None = None
        self._held_bytes = 0
        self._counted_from = 0
        self._lingered_bytes = 0
        self._bytes_in = self._bytes_out = 0
        self._forwarded_at = 0.0
        self._has_ended = self._is_closing = False
        self._reads = True
        self._request_paused = self._write_paused = False
        now = self._monotonic()
        self._judged_at = self._counted_since = now
        self.deadline = now + services.timeouts.head

    def begin(self, from_client: bytes, *, write_paused: bool) -> None:
        """Takes over, in the place that the opener had, and answers the client's handshake."""
        services = self._services
        services.connections.discard(self._opener)
        services.connections.add(self)
        self._server_connections.discard(self._opener)
        self._server_connections.add(self)
        self._transport.set_protocol(self)
        key = value_of(self._facts.fields, KEY) or b""
        self._write(opened(accept_of(key), self._protocol.value.encode(), self._route, self._ref.encode()))
        if write_paused:
            self.pause_writing()
        if from_client:
            self.data_received(from_client)

    # -- the client

    def data_received(self, data: bytes) -> None:
        if self._has_ended:
            self._read_on(data)
            return
        if self._is_closing:
            return
        self._bytes_in += len(data)
        now, reader = self._monotonic(), self._from_client
        frames_before = reader.frames
        messages = reader.feed(data)
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
        self._waiting += messages
        self._go_on()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.leave(self, self._peer)
        self._server_connections.discard(self)
        said_so = self._from_client.is_closed
        verdict = Verdict.ALLOWED if said_so else Verdict.CLIENT_GONE
        self._end(verdict, None, "" if said_so else "the client closed the connection", 0)
        self.deadline = NEVER

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._monotonic() + self._services.timeouts.write_idle
        if self._upstream_is_open and self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._has_ended:
            self._goes_on(self._monotonic())
            if self._upstream_is_open and self._exchange is not None:
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
        elif self._is_closing:
            self._end(Verdict.ALLOWED, None, "", 1000)
        elif not self._init:
            detail = "no `connection_init` in time"
            self._end(Verdict.REFUSED, Reason.HEAD_TIMEOUT, detail, INIT_TIMEOUT, "no connection_init in time")
        else:
            detail = f"no byte either way in {self._services.timeouts.websocket_idle:g} s"
            self._end(Verdict.CLIENT_GONE, None, detail, GOING_AWAY, "no byte either way for too long")

    def swept(self, now: float, crowded: bool) -> None:
        """Judges the request anew, once a second."""
        granted = self._granted
        if self._has_ended or granted is None:
            return
        if not self._services.may_last(granted.principal):
            self._cannot(TOO_MANY_STREAMS)
        elif self._task is None and now >= self._judged_at + JUDGED_EVERY_SECONDS:
            self._judged_at = now
            self._judge(self._judge_operations_anew)

    # -- judging

    def _judge(self, then: Callable[[AwaitingBody], None]) -> None:
        """Who is it, by the policy of this moment? Goes on with `then`, at once where memory can answer."""
        self._judged(self._services.judge.on_head(self._facts), then)

    def _judged(self, step: Step, then: Callable[[AwaitingBody], None]) -> None:
        if isinstance(step, AwaitingKey):
            self._start(self._find_key(step, then))
        elif isinstance(step, Stopped):
            self._refuse(step.because)
        elif isinstance(step, AwaitingInit):
            self._refuse(Refusal(Reason.CREDENTIAL_MISSING))
        elif isinstance(step, AwaitingBody):
            then(step)
        else:
            # The path belongs to another kind of route now.
            self._refuse(_CLOSED_UPGRADE)

    async def _find_key(self, awaiting: AwaitingKey, then: Callable[[AwaitingBody], None]) -> None:
        step = await self._services.judge.on_key(awaiting)
        self._task = None
        self._judged(step, then)
        self._go_on()

    def _judge_operations_anew(self, granted: AwaitingBody) -> None:
        before, self._all_granted = self._all_granted, granted
        self._granted = granted
        if before is not None and before.snapshot is granted.snapshot and before.principal is granted.principal:
            return
        conversation = self._conversation
        for ask in list(conversation.live.values()):
            step = self._services.judge.on_operation(granted, ask.body)
            if isinstance(step, Stopped):
                self._refuse_operation(ask, step.because)
                self._send(conversation.taken_back(ask.id))
        self._count_held()

    # -- messages of the client

    def _go_on(self) -> None:
        """Takes what waits, as far as it goes without waiting."""
        while self._waiting and not (self._waits or self._task is not None or self._has_ended or self._is_closing):
            kind, said = self._waiting.popleft()
            if kind == TEXT:
                self._act(self._conversation.from_client(said))
            elif kind == PING:
                self._write(frame(PONG, said))
            elif kind == CLOSE:
                self._client_closes(said)
        self._read_or_not()

    def _act(self, action: Action | None) -> None:
        if isinstance(action, Ask):
            self._judge(lambda granted: self._operate(granted, action))
        elif isinstance(action, ToUpstream):
            self._count_held()
            self._send(action.message)
        elif isinstance(action, ToClient):
            self._write(frame(TEXT, action.message))
        elif isinstance(action, Begin):
            self._init = action.message
            self.deadline = self._monotonic() + self._services.timeouts.websocket_idle
            if action.authorization is not None:
                self._facts = with_authorization(self._facts, action.authorization)
            self._judge(self._connect)
        elif isinstance(action, End):
            if action.code == 1000:
                self._client_closes(b"")
                return
            self._end(Verdict.REFUSED, Reason.GRAPHQL_MESSAGE_INVALID, action.text, action.code, action.text)

    def _operate(self, granted: AwaitingBody, ask: Ask) -> None:
        """Lets an operation through, or tells the client why not; the WebSocket stays."""
        self._granted = granted
        services, conversation = self._services, self._conversation
        if len(conversation.live) >= GRAPHQL_OPERATIONS_PER_WEBSOCKET:
            self._refuse_operation(ask, _TOO_MANY)
            return
        if 0 < granted.route.body_limit_bytes < len(ask.body):
            self._refuse_operation(ask, Refusal(Reason.BODY_TOO_LARGE))
            return
        if services.held_bytes + len(ask.body) > services.most_held_bytes:
            self._refuse_operation(ask, NO_ROOM)
            return
        step = services.judge.on_operation(granted, ask.body)
        if isinstance(step, Stopped):
            self._refuse_operation(ask, step.because)
            return
        assert step.allowed.body is not None  # of a GraphQL route
        message = conversation.let_through(ask, step.allowed.body)
        self._count_held()
        self._send(message)

    def _refuse_operation(self, ask: Ask, because: Refusal | CannotDecide) -> None:
        """Told as by POST, counted and logged as a request of its own."""
        granted = self._granted
        assert granted is not None  # it was judged
        ref = self._services.references.new()
        rules = granted.route.graphql
        profile = None if rules is None else rules.status_profile
        answer = answer_to(because, ref=ref, shape=ErrorShape.GRAPHQL, profile=profile)
        errors: list[object] = msgspec.json.decode(answer.body)["errors"]
        message = self._conversation.refused(ask.id, errors)
        self._write(frame(TEXT, message))
        now = self._monotonic()
        verdict = Verdict.CANNOT_DECIDE if isinstance(because, CannotDecide) else Verdict.REFUSED
        self._services.recorder.record(
            outcome_of(
                ref,
                verdict,
                because.reason,
                answer.status,
                self._facts,
                granted.route,
                granted.principal,
                None,
                self._client,
                now,
                0.0,
                now,
                len(ask.body),
                len(message),
                because.detail,
            )
        )

    def _client_closes(self, said: bytes) -> None:
        """The upstream is told, and may answer; then both are done."""
        closing = said_in_close(said)
        if closing is None:
            reason = Reason.WEBSOCKET_MALFORMED
            self._end(Verdict.REFUSED, reason, "a close frame with no code of one", 1002, reason.sentence)
            return
        if not self._upstream_is_open:
            self._end(Verdict.ALLOWED, None, "", 1000)
            return
        self._is_closing = True
        self._waiting.clear()
        self.deadline = self._monotonic() + self._services.timeouts.linger
        code, text = closing
        self._send_frame(CLOSE, code.to_bytes(2, "big") + text)

    # -- the upstream

    def _connect(self, granted: AwaitingBody) -> None:
        services, principal = self._services, granted.principal
        self._granted = self._all_granted = granted
        self._route = granted.route
        if not services.may_begin(principal):
            self._cannot(TOO_MANY_STREAMS)
        elif not services.has_place_for_tunnel(granted.route.upstream):
            self._cannot(_NO_PLACE)
        else:
            self._from_client.limit_bytes = services.max_websocket_message_bytes
            services.tunnel_opened(granted.route.upstream)
            self._forwarded_at = self._monotonic()
            self._waits = True
            self._start(self._open(granted))

    async def _open(self, granted: AwaitingBody) -> None:
        services, route = self._services, granted.route
        upstream = services.upstreams[route.upstream]
        try:
            exchange = await upstream.connect()
        except UpstreamFailed as fault:
            self._task = None
            self._upstream_failed(fault.reason, fault.detail)
            return
        self._task = None
        self._exchange = exchange
        self._key = base64.b64encode(self._services.random_bytes(16))
        fields = without_fields(self._facts.fields, _OURS)
        fields += (KEY, self._key, b"\r\n", VERSION, b"13", b"\r\n", PROTOCOL, self._protocol.value.encode(), b"\r\n")
        assertion = b""
        if route.assertion:
            assert services.assertions is not None  # or the policy would not be in force
            scopes = granted.snapshot.policy.scopes
            assertion = services.assertions.line(granted.principal, route, scopes, services.clock.now())
        head = request_head(
            with_fields(self._facts, fields),
            upstream.authority,
            self._client_lines,
            granted.snapshot.identity.of(granted.principal),
            self._ref.encode(),
            None,
            assertion,
        )
        tighten(exchange, route, NEVER)
        exchange.send(head, self, answers_head=False, ends=True)
        exchange.await_switch()

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        fault = own_answer_fault(facts.status, facts.fields, self._key, self._protocol.value.encode())
        if fault:
            self._upstream_failed(Reason.UPSTREAM_INVALID, fault)
            return
        exchange.tunnel_to(self)
        self._upstream_is_open = True
        self._waits = False
        self._send(self._init)
        if self._write_paused:
            exchange.pause()
        if data:
            self.response_data(data)
        self._go_on()

    def response_data(self, data: bytes) -> None:
        reader = self._from_upstream
        messages = reader.feed(data)
        self._goes_on(self._monotonic())
        for kind, said in messages:
            if self._has_ended:
                return
            if kind == TEXT:
                self._on_answer(said)
            elif kind == PING:
                self._send_frame(PONG, said)
            elif kind == CLOSE:
                self._upstream_closes(said)
        if reader.code:
            self._upstream_failed(Reason.UPSTREAM_INVALID, reader.fault)

    def _on_answer(self, said: bytes) -> None:
        live = len(self._conversation.live)
        action = self._conversation.from_upstream(said)
        if isinstance(action, End):
            self._upstream_failed(Reason.UPSTREAM_INVALID, action.text)
        elif action is not None:
            if len(self._conversation.live) != live:
                self._count_held()
            self._write(frame(TEXT, action.message))

    def _upstream_closes(self, said: bytes) -> None:
        closing = said_in_close(said)
        if closing is None:
            self._upstream_failed(Reason.UPSTREAM_INVALID, "a close frame with no code of one")
            return
        code, text = closing
        self._end(Verdict.ALLOWED, None, "", frame(CLOSE, code.to_bytes(2, "big") + text))

    def response_ended(self) -> None:
        self._exchange = None
        self._upstream_failed(Reason.UPSTREAM_CLOSED, "the upstream closed the connection")

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        self._exchange = None
        self._upstream_failed(reason, detail)

    def _upstream_failed(self, reason: Reason, detail: str) -> None:
        if self._is_closing:
            self._end(Verdict.ALLOWED, None, "", 1000)
        elif reason is Reason.OVERLOADED:
            self._cannot(CannotDecide(reason, detail))
        else:
            self._end(Verdict.UPSTREAM_FAILED, reason, detail, BAD_GATEWAY, reason.sentence)

    def request_paused(self) -> None:
        self._request_paused = True
        self._read_or_not()

    def request_resumed(self) -> None:
        self._request_paused = False
        self._read_or_not()

    # -- bytes

    def _write(self, data: bytes) -> None:
        self._bytes_out += len(data)
        self._transport.write(data)

    def _send(self, message: bytes) -> None:
        self._send_frame(TEXT, message)

    def _send_frame(self, kind: int, said: bytes) -> None:
        if self._exchange is not None and self._upstream_is_open:
            # RFC 6455 5.3: a fresh mask for each frame, that nobody can foresee.
            self._exchange.send_body(frame(kind, said, self._services.random_bytes(4)), is_chunked=False)

    def _read_or_not(self) -> None:
        # What waits is read on for a while, or nobody would hear that the client has gone.
        waits_much = sum(len(said) for _, said in self._waiting) > PIPELINE_LIMIT_BYTES
        reads = self._has_ended or not (self._request_paused or waits_much)
        if reads is not self._reads and not self._transport.is_closing():
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _count_held(self) -> None:
        """The operations that are open are held, to be judged again (R29)."""
        held = sum(len(ask.body) for ask in self._conversation.live.values())
        self._services.held_bytes += held - self._held_bytes
        self._held_bytes = held

    def _goes_on(self, now: float) -> None:
        """A byte has come. Who has still to say who it is, or takes nothing, is timed for that."""
        if self._init and not self._write_paused and not self._is_closing:
            self.deadline = now + self._services.timeouts.websocket_idle

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Owns `work` until it ends or the client leaves."""
        self._task = task = asyncio.ensure_future(work)
        task.add_done_callback(self._work_ended)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self._task = None
            log_fault(fault, self._ref)
            self._cannot(CannotDecide(Reason.INTERNAL_FAULT, type(fault).__name__))

    # -- ends

    def _refuse(self, because: Refusal | CannotDecide) -> None:
        """Who may not go on, or could not be judged. What a token is, its holder is told only once it was good."""
        if isinstance(because, CannotDecide):
            self._cannot(because)
            return
        reason = because.reason
        if self._forwarded_at:
            self._end(Verdict.REFUSED, reason, because.detail, FORBIDDEN, TOLD.get(reason, reason.sentence))
            return
        code = UNAUTHORIZED if reason.status == 401 else BAD_MESSAGE if reason.status == 400 else FORBIDDEN
        self._end(Verdict.REFUSED, reason, because.detail, code, reason.sentence)

    def _cannot(self, because: CannotDecide) -> None:
        self._end(Verdict.CANNOT_DECIDE, because.reason, because.detail, TRY_LATER, because.reason.sentence)

    def _end(self, verdict: Verdict, reason: Reason | None, detail: str, code: int | bytes, text: str = "") -> None:
        """Ends both sides, once. With a `code`, or a whole close frame, the client is told."""
        if self._has_ended:
            return
        self._has_ended = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._waiting.clear()
        self._conversation.live.clear()
        self._count_held()
        if self._forwarded_at:
            self._services.tunnel_ended(self._route.upstream)
        if not self._transport.is_closing():
            if code:
                self._say(close_frame(code, text) if isinstance(code, int) else code)
            else:
                self._close()
        principal = None if self._granted is None else self._granted.principal
        self._opener.socket_ended(
            verdict, reason, detail, self._bytes_in, self._bytes_out, self._route, principal, self._forwarded_at
        )

    def _say(self, data: bytes) -> None:
        """Our last frame. The client is read on for a while: a reset for what it still sends would take it away."""
        self._transport.write(data)
        if self._from_client.is_closed:
            self._close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._reads = True
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
