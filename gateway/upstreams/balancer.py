"""One upstream: the pools of its endpoints, the choice between them, and what may be tried again.

A request goes to the endpoint with the fewest requests under way, in turn among equals. Endpoints that are left out
are passed over, unless that is all of them: then all are used, because a guess is better than a certain failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.core.reasons import Reason
from gateway.ports import UpstreamExchange, UpstreamFailed
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.pool import EndpointPool, Line
from gateway.upstreams.retries import RetryBudget


class Check(Protocol):
    """The health checks of one endpoint."""

    def begin_if_due(self) -> None: ...

    def close(self) -> None: ...


class BalancedUpstream:
    """Implements `ports.Upstream` over the pools of its endpoints. `now` is monotonic seconds."""

    def __init__(
        self,
        name: str,
        authority: bytes,
        pools: Sequence[EndpointPool],
        line: Line,
        *,
        now: Callable[[], float],
        budget: RetryBudget,
        checks: Sequence[Check] = (),
    ) -> None:
        self._name = name
        self._authority = authority
        self._pools = list(pools)
        self._only: EndpointPool | None = self._pools[0] if len(self._pools) == 1 else None
        self._line = line
        self._turn = 0
        self._now = now
        self._budget = budget
        self._checks = list(checks)

    @property
    def name(self) -> str:
        return self._name

    @property
    def authority(self) -> bytes:
        return self._authority

    @property
    def pools(self) -> list[EndpointPool]:
        return self._pools

    @property
    def line(self) -> Line:
        return self._line

    @property
    def budget(self) -> RetryBudget:
        return self._budget

    @property
    def idle_count(self) -> int:
        return sum(pool.idle_count for pool in self._pools)

    @property
    def open_count(self) -> int:
        return sum(pool.open_count for pool in self._pools)

    def take(self) -> UpstreamConnection | None:
        self._budget.requests += 1
        only = self._only
        if only is not None:
            return only.take()
        pool = self._choose(None)
        if pool.health.is_out and pool.health.is_due(self._now()):
            return None  # who tries an endpoint that was left out does so on a new connection
        connection = pool.take()
        if connection is not None:
            # Else it is still this one's turn, when `connect` is called.
            self._turn += 1
        return connection

    async def connect(self, instead_of: UpstreamExchange | None = None) -> UpstreamConnection:
        """A new connection; where none can be opened, one to another endpoint: nothing has been sent yet (R8).

        Raises: UpstreamFailed
        """
        if isinstance(instead_of, UpstreamConnection):
            return await self._connect_last(instead_of.pool)
        pool = self._choose(None)
        self._turn += 1
        if pool.health.is_out:
            pool.health.try_now(self._now())
        try:
            return await pool.connect()
        except UpstreamFailed as fault:
            if self._only is not None or fault.reason is Reason.OVERLOADED or not self.may_retry():
                raise
        return await self._connect_last(pool)

    def may_retry(self) -> bool:
        """Whether one more attempt at a request is within the budget. If so, it is counted."""
        return self._budget.allows(self._now())

    def sweep(self) -> None:
        """What is done now and then: deadlines, look-ups, checks."""
        self._budget.mark(self._now())
        self._line.sweep()
        for pool in self._pools:
            pool.sweep()
        for check in self._checks:
            check.begin_if_due()

    def close(self) -> None:
        """Closes the idle connections; those under way end with their answers."""
        for check in self._checks:
            check.close()
        for pool in self._pools:
            pool.close()

    async def _connect_last(self, but_not: object) -> UpstreamConnection:
        pool = self._choose(but_not)
        if pool.health.is_out:
            pool.health.try_now(self._now())
        connection = await pool.connect()
        connection.try_last()
        return connection

    def _choose(self, but_not: object) -> EndpointPool:
        """The pool for the next request, first of all one that is to be tried; `but_not` only if there is no other."""
        only = self._only
        if only is not None:
            return only
        pools = self._pools
        count = len(pools)
        first = self._turn % count
        chosen: EndpointPool | None = None
        last_resort: EndpointPool | None = None
        least = least_of_all = 0
        for step in range(count):
            place = first + step
            pool = pools[place if place < count else place - count]
            if pool is but_not:
                continue
            load = pool.load()
            if last_resort is None or load < least_of_all:
                last_resort, least_of_all = pool, load
            health = pool.health
            if health.is_out:
                if health.is_due(self._now()):
                    return pool
            elif chosen is None or load < least:
                chosen, least = pool, load
        if chosen is not None:
            return chosen
        assert last_resort is not None  # there are two endpoints at least
        return last_resort
