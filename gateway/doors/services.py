"""What the doors share: the judge, the upstreams, the recorder, and the connections that a sweep looks after."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol, final

from gateway.core.assertion import Assertions
from gateway.core.policy.routes import Route
from gateway.core.principal import Principal
from gateway.core.reasons import CannotDecide, Reason
from gateway.doors.faults import log_fault
from gateway.doors.refs import References
from gateway.judge import Judge, Passed
from gateway.ports import Clock, Recorder, Upstream, UpstreamExchange
from gateway.wire.forwarded import TrustedProxies
from gateway.wire.limits import WEBSOCKET_FRAMES_PER_SECOND, WEBSOCKET_MESSAGE_BYTES, Timeouts

NEVER: Final = float("inf")
ANY_BYTES: Final = 1 << 50
NO_ROOM: Final = CannotDecide(Reason.OVERLOADED, "no memory for another body")
NO_TUNNEL: Final = CannotDecide(Reason.OVERLOADED, "no place for another WebSocket")
UNIX_PEER: Final = "unix"
"""What stands for the address of a client on a Unix socket."""
CROWDED: Final = 0.8
"""From this share of its places taken, idle connections make room."""
TURNED_AWAY: Final = 1.1
"""Up to this share, connections without a place are told so; beyond it they are only closed."""


TOO_MANY_STREAMS: Final = CannotDecide(Reason.OVERLOADED, "the caller has as many streams as it may")


def caller_of(principal: Principal) -> str:
    """What streams are counted by: the key, or the user of an App."""
    return principal.key_id or f"{principal.app_id} {principal.user_id}"


def tighten(exchange: UpstreamExchange, route: Route, ends_by: float) -> None:
    """Tells a connection, before it is sent a request, what this route allows it."""
    own = route.timeouts
    if own is not None:
        exchange.tighten(ends_by, own.response_head, own.response_idle)
    elif ends_by != NEVER:
        exchange.tighten(ends_by, 0.0, 0.0)


class Sweepable(Protocol):
    """A connection with a deadline: monotonic seconds, infinity for none."""

    deadline: float

    def timed_out(self) -> None:
        """The deadline has passed."""
        ...

    def swept(self, now: float, crowded: bool) -> None:
        """A look at the connection between two deadlines."""
        ...


@final
class Services:
    """The parts behind the doors, and what they hold open now."""

    __slots__ = (
        "assertions",
        "clock",
        "connections",
        "counted_streams",
        "draining",
        "full_callers",
        "held_bytes",
        "in_flight",
        "judge",
        "max_connections",
        "max_connections_per_peer",
        "max_streams_per_caller",
        "max_websocket_frames_per_second",
        "max_websocket_message_bytes",
        "max_websockets",
        "most_held_bytes",
        "peers",
        "places",
        "random_bytes",
        "recorder",
        "references",
        "room_bytes",
        "scheme",
        "takes_proxy_protocol",
        "timeouts",
        "trusted",
        "tunnels",
        "upstreams",
    )

    def __init__(
        self,
        *,
        judge: Judge,
        upstreams: dict[str, Upstream],
        recorder: Recorder,
        clock: Clock,
        references: References,
        timeouts: Timeouts,
        scheme: bytes = b"http",
        max_connections: int = 1_000_000,
        max_connections_per_peer: int = 0,
        max_streams_per_caller: int = 0,
        max_websockets: int = 512,
        max_websocket_message_bytes: int = WEBSOCKET_MESSAGE_BYTES,
        max_websocket_frames_per_second: int = WEBSOCKET_FRAMES_PER_SECOND,
        trusted: TrustedProxies | None = None,
        takes_proxy_protocol: bool = False,
        assertions: Assertions | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`max_connections_per_peer` counts by address, `max_streams_per_caller` by key or user; 0 is any number."""
        self.judge = judge
        self.upstreams = upstreams
        self.recorder = recorder
        self.clock = clock
        self.references = references
        self.timeouts = timeouts
        self.scheme = scheme
        self.max_connections = max_connections
        self.max_connections_per_peer = max_connections_per_peer
        self.places = max_connections
        """For connections now: fewer while memory is short."""
        self.room_bytes = self.most_held_bytes = ANY_BYTES
        """For bodies that are held whole, and the same now."""
        self.held_bytes = 0
        """Bytes of such bodies."""
        self.max_streams_per_caller = max_streams_per_caller
        self.counted_streams: dict[str, int] = {}
        """By caller: those that the sweep under way has met."""
        self.full_callers: set[str] = set()
        """Who had as many as they may at the last sweep."""
        self.max_websockets = max_websockets
        self.max_websocket_message_bytes = max_websocket_message_bytes
        self.max_websocket_frames_per_second = max_websocket_frames_per_second
        self.tunnels: dict[str, int] = {}
        self.trusted = trusted
        self.takes_proxy_protocol = takes_proxy_protocol
        self.assertions = assertions
        """None: no route may ask for one."""
        self.random_bytes = random_bytes
        """For the keys and masks of WebSockets that the gateway opens itself."""
        self.in_flight = 0
        self.draining = False
        self.connections: set[Sweepable] = set()
        self.peers: dict[str, int] = {}

    def enter(self, connection: Sweepable, peer: str) -> bool:
        """Counts a new connection of `peer`; returns whether there is a place for it."""
        self.connections.add(connection)
        has_place = len(self.connections) <= self.places
        if self.max_connections_per_peer and peer != UNIX_PEER:
            count = self.peers.get(peer, 0) + 1
            self.peers[peer] = count
            has_place = has_place and count <= self.max_connections_per_peer
        return has_place

    def leave(self, connection: Sweepable, peer: str) -> None:
        """The connection is gone."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if self.max_connections_per_peer and peer != UNIX_PEER:
            count = self.peers.get(peer, 1) - 1
            if count:
                self.peers[peer] = count
            else:
                self.peers.pop(peer, None)

    def assertion_line(self, passed: Passed) -> bytes:
        """What a route that asks for an assertion is sent of who is calling."""
        assert self.assertions is not None  # or the policy would not be in force
        allowed = passed.allowed
        return self.assertions.line(allowed.principal, allowed.route, passed.snapshot.policy.scopes, self.clock.now())

    def ends_by(self, route: Route, now: float) -> float:
        """When the answer to a request has to be whole that is forwarded `now`, however often it is tried."""
        own = route.timeouts
        seconds = self.timeouts.request if own is None or own.request == 0.0 else own.request
        return now + seconds if seconds > 0.0 else NEVER

    def has_place_for_tunnel(self, upstream: str) -> bool:
        """Whether one more WebSocket may be opened to an upstream: they stay for long, and others want its places."""
        return self.tunnels.get(upstream, 0) < self.max_websockets

    def may_begin(self, principal: Principal | None) -> bool:
        """Whether a caller may be forwarded another request: not while it has all the streams that it may (K16)."""
        return not self.full_callers or principal is None or caller_of(principal) not in self.full_callers

    def may_last(self, principal: Principal) -> bool:
        """Counts an answer that has lasted a second and more; whether its caller may have so many of them (K16)."""
        if not self.max_streams_per_caller:
            return True
        caller = caller_of(principal)
        count = self.counted_streams.get(caller, 0) + 1
        self.counted_streams[caller] = count
        return count <= self.max_streams_per_caller

    def tunnel_opened(self, upstream: str) -> None:
        """A WebSocket to `upstream` was opened."""
        self.tunnels[upstream] = self.tunnels.get(upstream, 0) + 1

    def tunnel_ended(self, upstream: str) -> None:
        """It is over."""
        self.tunnels[upstream] -= 1

    def room_for_bodies(self, limit_bytes: int) -> None:
        """From now on, bodies that are held take so much at most."""
        self.room_bytes = self.most_held_bytes = limit_bytes

    def memory_is_short(self) -> None:
        """No more connections than there are, the idle among them make room, and nothing more of a body is held."""
        self.places = min(self.max_connections, len(self.connections))
        self.most_held_bytes = 0

    def memory_is_back(self) -> None:
        """As it was before."""
        self.places = self.max_connections
        self.most_held_bytes = self.room_bytes

    def sweep(self) -> None:
        """Ends connections that have passed their deadline, and looks at the others."""
        now = self.clock.monotonic()
        crowded = len(self.connections) > self.places * CROWDED
        for connection in list(self.connections):
            try:
                if connection.deadline < now:
                    connection.timed_out()
                else:
                    connection.swept(now, crowded)
            except Exception as fault:
                # The time-outs of all others hang on the next turn of this loop.
                log_fault(fault, "")
        if self.max_streams_per_caller:
            counted, most = self.counted_streams, self.max_streams_per_caller
            self.full_callers = {caller for caller in counted if counted[caller] >= most}
            self.counted_streams = {}
