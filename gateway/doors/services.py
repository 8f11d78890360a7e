"""What the doors share: the judge, the upstreams, the recorder, and the connections that a sweep looks after."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.doors.refs import References
from gateway.judge import Judge
from gateway.ports import Clock, Recorder, Upstream
from gateway.wire.limits import Timeouts


class Sweepable(Protocol):
    """A connection with a deadline: monotonic seconds, infinity for none."""

    deadline: float

    def timed_out(self) -> None:
        """The deadline has passed."""
        ...


class Services(msgspec.Struct):
    """The parts behind the doors, and what they hold open now."""

    judge: Judge
    upstreams: dict[str, Upstream]
    recorder: Recorder
    clock: Clock
    references: References
    timeouts: Timeouts
    scheme: bytes = b"http"
    in_flight: int = 0
    draining: bool = False
    connections: set[Sweepable] = msgspec.field(default_factory=set)

    def sweep(self) -> None:
        """Ends connections that have passed their deadline."""
        now = self.clock.monotonic()
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            connection.timed_out()
