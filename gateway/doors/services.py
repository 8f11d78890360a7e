"""What the doors share: the judge, the upstreams, the recorder, and the connections that a sweep looks after."""

from __future__ import annotations

from typing import Final, Protocol, final

from gateway.doors.refs import References
from gateway.judge import Judge
from gateway.ports import Clock, Recorder, Upstream
from gateway.wire.forwarded import TrustedProxies
from gateway.wire.limits import Timeouts

UNIX_PEER: Final = "unix"
"""What stands for the address of a client on a Unix socket."""
CROWDED: Final = 0.8
"""From this share of its places taken, idle connections make room."""
TURNED_AWAY: Final = 1.1
"""Up to this share, connections without a place are told so; beyond it they are only closed."""


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
        "clock",
        "connections",
        "draining",
        "in_flight",
        "judge",
        "max_connections",
        "max_connections_per_peer",
        "max_websockets",
        "peers",
        "recorder",
        "references",
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
        max_websockets: int = 512,
        trusted: TrustedProxies | None = None,
        takes_proxy_protocol: bool = False,
    ) -> None:
        """`max_connections_per_peer` counts by address; 0 is any number."""
        self.judge = judge
        self.upstreams = upstreams
        self.recorder = recorder
        self.clock = clock
        self.references = references
        self.timeouts = timeouts
        self.scheme = scheme
        self.max_connections = max_connections
        self.max_connections_per_peer = max_connections_per_peer
        self.max_websockets = max_websockets
        self.tunnels: dict[str, int] = {}
        self.trusted = trusted
        self.takes_proxy_protocol = takes_proxy_protocol
        self.in_flight = 0
        self.draining = False
        self.connections: set[Sweepable] = set()
        self.peers: dict[str, int] = {}

    def enter(self, connection: Sweepable, peer: str) -> bool:
        """Counts a new connection of `peer`; returns whether there is a place for it."""
        self.connections.add(connection)
        has_place = len(self.connections) <= self.max_connections
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

    def has_place_for_tunnel(self, upstream: str) -> bool:
        """Whether one more WebSocket may be opened to an upstream: they stay for long, and others want its places."""
        return self.tunnels.get(upstream, 0) < self.max_websockets

    def tunnel_opened(self, upstream: str) -> None:
        """A WebSocket to `upstream` was opened."""
        self.tunnels[upstream] = self.tunnels.get(upstream, 0) + 1

    def tunnel_ended(self, upstream: str) -> None:
        """It is over."""
        self.tunnels[upstream] -= 1

    def sweep(self) -> None:
        """Ends connections that have passed their deadline, and looks at the others."""
        now = self.clock.monotonic()
        crowded = len(self.connections) > self.max_connections * CROWDED
        for connection in list(self.connections):
            if connection.deadline < now:
                connection.timed_out()
            else:
                connection.swept(now, crowded)
