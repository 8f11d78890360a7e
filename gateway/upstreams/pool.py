"""The connections to one endpoint: idle ones newest first, a cap on all, a line behind it, one sweep for all deadlines.

A request that finds the cap reached waits in the line of its upstream, first come first served, for a connection that
is given back or for the place of one that has closed, at any endpoint; a full line, or too long a wait, is `OVERLOADED`
(K14).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, final

from gateway.core.reasons import Reason
from gateway.ports import UpstreamFailed
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.dialling import Dialler
from gateway.upstreams.health import EndpointHealth
from gateway.upstreams.tls import told_of
from gateway.wire.limits import Timeouts

MAX_CONNECTIONS: Final = 1024
MAX_IDLE: Final = 256
MAX_WAITING: Final = 64
WAIT_SECONDS: Final = 1.0

_LOG: Final = logging.getLogger("bearergate")


@final
class Waiter:
    """A request in line. Its turn is a connection, or the pool that keeps a place for one."""

    __slots__ = ("deadline", "turn")

    def __init__(self, turn: asyncio.Future[UpstreamConnection | EndpointPool], deadline: float) -> None:
        self.turn: Final = turn
        self.deadline: Final = deadline


@final
class Line:
    """The requests that wait for a connection to one upstream. `now` is monotonic seconds."""

    __slots__ = ("_detail", "_limit", "_now", "_seconds", "pools", "turned_away", "waiting")

    def __init__(
        self, detail: str, *, now: Callable[[], float], limit: int = MAX_WAITING, seconds: float = WAIT_SECONDS
    ) -> None:
        self._detail = detail
        self._now = now
        self._limit = limit
        self._seconds = seconds
        self.pools: list[EndpointPool] = []
        """Those that it is for."""
        self.waiting: deque[Waiter] = deque()
        self.turned_away = 0
        """Requests that found the line full, or waited in it too long."""

    async def turn(self) -> UpstreamConnection | EndpointPool:
        """Waits for a connection that is given back, or for a pool that keeps the place of one for the caller.

        Raises: UpstreamFailed
        """
        if len(self.waiting) >= self._limit:
            self.turned_away += 1
            detail = f"{self._detail}: all connections are in use and {len(self.waiting)} requests wait"
            raise UpstreamFailed(Reason.OVERLOADED, detail)
        deadline = self._now() + self._seconds
        was_called = False
        while True:
            waiter = Waiter(asyncio.get_running_loop().create_future(), deadline)
            if was_called:
                self.waiting.appendleft(waiter)
            else:
                self.waiting.append(waiter)
            try:
                given = await waiter.turn
            except asyncio.CancelledError:
                self._left_by(waiter)
                raise
            if isinstance(given, EndpointPool) or given.is_clean():
                return given
            # It broke between its turn and now: first in line again, unless its place is free by now.
            given.close_idle()
            was_called = True
            pool = given.pool
            if isinstance(pool, EndpointPool) and pool.keep_place():
                return pool

    def call(self, given: UpstreamConnection | EndpointPool) -> bool:
        """Gives to who waits longest. Returns False where nobody waits."""
        while self.waiting:
            turn = self.waiting.popleft().turn
            # Else its client has just left, and has not been heard of here yet.
            if not turn.done():
                turn.set_result(given)
                return True
        return False

    def sweep(self) -> None:
        """Turns away those who wait too long; the longest come first."""
        now = self._now()
        while self.waiting and self.waiting[0].deadline < now:
            turn = self.waiting.popleft().turn
            if not turn.done():
                self.turned_away += 1
                detail = f"{self._detail}: all connections are in use, and none became free in {self._seconds:g} s"
                turn.set_exception(UpstreamFailed(Reason.OVERLOADED, detail))

    def is_served_by(self, pool: EndpointPool) -> bool:
        """Whether `pool` may call who waits: not where it is left out, and another one is not."""
        return not pool.health.is_out or all(other.health.is_out for other in self.pools)

    def _left_by(self, waiter: Waiter) -> None:
        """The client has left: nobody waits for it, and what it was just given goes to the next."""
        turn = waiter.turn
        if turn.cancelled():
            if waiter in self.waiting:
                self.waiting.remove(waiter)
        elif turn.exception() is None:
            given = turn.result()
            if isinstance(given, EndpointPool):
                given.give_up_place()
            else:
                given.pool.give_back(given)


class EndpointPool:
    """The connections to one endpoint, on asyncio transports. `now` is monotonic seconds.

    `label` names it in the log, and `detail` in what operators read of a failed request: never by its address.
    """

    def __init__(
        self,
        label: str,
        detail: str,
        dialler: Dialler,
        *,
        now: Callable[[], float],
        timeouts: Timeouts,
        health: EndpointHealth,
        line: Line,
        max_connections: int = MAX_CONNECTIONS,
        max_idle: int = MAX_IDLE,
    ) -> None:
        self._label = label
        self._detail = detail
        self._dialler = dialler
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._line = line
        line.pools.append(self)
        self._connecting = 0
        self._promised = 0
        self._max_connections = max_connections
        self._max_idle = max_idle
        self.now = now
        self.timeouts = timeouts
        self.health = health
        self.connects: Counter[str] = Counter()

    @property
    def label(self) -> str:
        """The endpoint as the configuration writes it."""
        return self._label

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def open_count(self) -> int:
        return len(self._open)

    def load(self) -> int:
        """Requests that are with the endpoint, or on their way to it."""
        return len(self._open) - len(self._idle) + self._connecting + self._promised

    def take(self) -> UpstreamConnection | None:
        # Who waits in line is not passed by: while anybody does, no connection is idle.
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_clean():
                connection.reuse()
                return connection
            connection.close_idle()
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection, or in its turn one that another request gives back. Raises: UpstreamFailed"""
        if self._is_full():
            # One may have been given back since the caller took none.
            taken = self.take()
            if taken is not None:
                return taken
            given = await self._line.turn()
            if isinstance(given, UpstreamConnection):
                return given
            given._promised -= 1
            return await given._open_one()
        return await self._open_one()

    def opened(self, connection: UpstreamConnection) -> None:
        """Called by a connection that is open."""
        self._open.add(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """Called by a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._call_next()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Called by a connection whose answer ended cleanly."""
        if self._line.waiting:
            connection.reuse()
            if self._line.call(connection):
                return
        if len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.close_idle()

    def failed(self, detail: str) -> None:
        """A request got no answer from the endpoint."""
        health = self.health
        if health.failed(self.now()):
            count, seconds = health.failures_in_a_row, health.ejected_seconds
            _LOG.warning(
                "%s is left out for %g s: %d requests in a row got no answer, the last: %s",
                self._label, seconds, count, detail,
            )  # fmt: skip

    def answered(self) -> None:
        """It has answered again."""
        if self.health.answered():
            _LOG.info("%s answers again, and is sent requests again", self._label)
            self._call_next()

    def checked(self, is_good: bool) -> None:
        """A health check has ended."""
        if self.health.checked(is_good):
            if is_good:
                _LOG.info("%s passes its health checks again", self._label)
                self._call_next()
            else:
                _LOG.warning("%s fails its health checks", self._label)

    def sweep(self) -> None:
        """Ends what has passed its deadline, and closes what leads to an address that is gone."""
        now = self.now()
        for connection in [connection for connection in self._open if connection.deadline < now]:
            connection.timed_out()
        addresses = self._dialler.addresses
        if addresses.refresh():
            known = addresses.known
            for connection in [connection for connection in self._idle if connection.address not in known]:
                self._idle.remove(connection)
                connection.close_idle()

    def close(self) -> None:
        """Closes the idle connections; those under way end with their answers."""
        self._dialler.addresses.close()
        for connection in self._idle:
            connection.close_idle()
        self._idle.clear()

    # -- opening

    async def _open_one(self) -> UpstreamConnection:
        """A new connection. Raises: UpstreamFailed"""
        self._connecting += 1
        try:
            return await self._open_at_some_place()
        except TimeoutError as fault:
            self.connects["timeout"] += 1
            self.failed("no connection in time")
            raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, f"{self._detail}: no connection in time") from fault
        except (OSError, ValueError) as fault:  # ssl.SSLError is the one, a name that cannot be encoded the other
            self.connects["failed"] += 1
            told = told_of(fault)
            self.failed(told)
            raise UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, f"{self._detail}: {told}") from fault
        finally:
            self._connecting -= 1
            self._call_next()

    async def _open_at_some_place(self) -> UpstreamConnection:
        """A connection to one of the addresses. Raises: TimeoutError, OSError"""
        places = await self._dialler.places()
        for place in range(len(places)):
            # An address that does not answer leaves time for the others.
            connection = await self._dial(places[place], len(places) - place, place + 1 == len(places))
            if connection is not None:
                self.connects["opened"] += 1
                return connection
        raise OSError("the name has no address")

    async def _dial(self, address: str, share: int, is_last: bool) -> UpstreamConnection | None:
        """A connection to `address`, or None where there are others to try. Raises: TimeoutError, OSError"""
        connection = UpstreamConnection(self, address)
        has_failed = True
        try:
            await self._dialler.dial(lambda: connection, address, share)
            has_failed = False
        except OSError:
            if is_last:
                raise
        finally:
            if has_failed:
                # Facts: uvloop closes a connection that was made and then cancelled, and does not say so to its
                # protocol. A client that leaves at that moment would take a place in the pool for good.
                connection.close_idle()
                self.closed(connection)
        return None if has_failed else connection

    # -- places

    def keep_place(self) -> bool:
        """Keeps a place for who waits, if there is one."""
        if self._is_full():
            return False
        self._promised += 1
        return True

    def give_up_place(self) -> None:
        """Who a place was kept for has left."""
        self._promised -= 1
        self._call_next()

    def _is_full(self) -> bool:
        return len(self._open) + self._connecting + self._promised >= self._max_connections

    def _call_next(self) -> None:
        """Keeps the places that are free for those who wait longest."""
        while self._line.waiting and self._line.is_served_by(self) and self.keep_place():
            if not self._line.call(self):
                self._promised -= 1
