"""Active health checks of one endpoint: a GET now and then, on a connection of its own that never serves a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import Reason
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.dialling import Dialler
from gateway.upstreams.health import EndpointHealth
from gateway.wire.limits import Timeouts


class _Checked(asyncio.Future[bool]):
    """A `ResponseSink` that wants to know the status alone."""

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        self._end(200 <= facts.status < 400)

    def response_data(self, data: bytes) -> None:
        """Not looked at."""

    def response_ended(self) -> None:
        """The head has said it."""

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        self._end(False)

    def request_paused(self) -> None:
        """The head is all there is to send."""

    def request_resumed(self) -> None:
        """Likewise."""

    def _end(self, is_good: bool) -> None:
        if not self.done():
            self.set_result(is_good)


class _Alone:
    """The `Owner` of one connection that is used once."""

    def __init__(self, timeouts: Timeouts, now: Callable[[], float]) -> None:
        self.timeouts = timeouts
        self.now = now
        self.health = EndpointHealth(eject_after=0)

    def opened(self, connection: UpstreamConnection) -> None:
        """Nothing is counted."""

    def closed(self, connection: UpstreamConnection) -> None:
        """Likewise."""

    def give_back(self, connection: UpstreamConnection) -> None:
        connection.close_idle()

    def failed(self, detail: str) -> None:
        """The sink hears it too."""

    def answered(self) -> None:
        """Likewise."""


class Checks:
    """Asks one endpoint every `interval_seconds`, one check at a time, and says how each ended."""

    def __init__(
        self,
        dialler: Dialler,
        *,
        request: bytes,
        interval_seconds: float,
        timeout_seconds: float,
        timeouts: Timeouts,
        now: Callable[[], float],
        ended: Callable[[bool], None],
    ) -> None:
        self._dialler = dialler
        self._request = request
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._timeouts = timeouts
        self._now = now
        self._ended = ended
        self._next = now()
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self) -> None:
        """Called again and again, by a sweep, in the event loop."""
        now = self._now()
        if now >= self._next and (self._task is None or self._task.done()):
            self._next = now + self._interval_seconds
            self._task = asyncio.get_running_loop().create_task(self._check())

    def close(self) -> None:
        """Ends a check that is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _check(self) -> None:
        is_good = False
        with suppress(OSError, ValueError):
            is_good = await self._answer()
        self._ended(is_good)

    async def _answer(self) -> bool:
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                places = await self._dialler.places()
                connection = UpstreamConnection(_Alone(self._timeouts, self._now), places[0])
                made = connection
                await self._dialler.dial(lambda: made, places[0])
                checked = _Checked()
                connection.send(self._request, checked, answers_head=False, ends=True)
                return await checked
        finally:
            if connection is not None:
                connection.abandon()


def check_request(path: str, authority: bytes) -> bytes:
    """The bytes of one check."""
    return b"GET %s HTTP/1.1\r\nhost: %s\r\nuser-agent: bearergate-health\r\nconnection: close\r\n\r\n" % (
        path.encode("ascii"),
        authority,
    )
