"""What the doors share: the judge, the upstreams, the recorder, and the connections that a sweep looks after."""

from __future__ import annotations

from typing import Protocol, final

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


@final
class Services:
    """The parts behind the doors, and what they hold open now."""

    __slots__ = (
        "clock",
        "connections",
        "draining",
        "in_flight",
        "judge",
        "recorder",
        "references",
        "scheme",
        "timeouts",
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
    ) -> None:
        self.judge = judge
        self.upstreams = upstreams
        self.recorder = recorder
        self.clock = clock
        self.references = references
        self.timeouts = timeouts
        self.scheme = scheme
        self.in_flight = 0
        self.draining = False
        self.connections: set[Sweepable] = set()

    def sweep(self) -> None:
        """Ends connections that have passed their deadline."""
        now = self.clock.monotonic()
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            connection.timed_out()
