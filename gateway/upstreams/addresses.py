"""The addresses of an endpoint's name: looked up in the background, and kept for a while when look-ups fail (K19, R30).

A connection waits for a look-up only while no address is known. A look-up never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.upstreams.location import Location

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of (host, port), as text. Raises: OSError"""

RETRY_SECONDS: Final = 2.0
"""Between two look-ups while they fail."""
MAX_ADDRESSES: Final = 64

_LOG: Final = logging.getLogger("bearergate")


async def system_resolve(host: str, port: int) -> list[str]:
    """What the machine's resolver says, in its order. Raises: OSError"""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as fault:  # a label that is too long, or empty
        raise OSError("the name is no name of a host") from fault
    return [str(entry[4][0]) for entry in found]


class Addresses:
    """Where new connections to one endpoint go. `now` is monotonic seconds."""

    def __init__(
        self,
        location: Location,
        *,
        now: Callable[[], float],
        resolve: Resolve = system_resolve,
        refresh_seconds: float = 30.0,
        keep_seconds: float = 300.0,
    ) -> None:
        self._location = location
        self._now = now
        self._resolve = resolve
        self._refresh_seconds = refresh_seconds
        self._keep_seconds = keep_seconds
        self._is_name = location.is_name
        self._known: tuple[str, ...] = () if self._is_name else (location.host,)
        self._known_since = 0.0
        self._next_look = 0.0
        self._turn = 0
        self._refused: set[str] = set()
        self._look: asyncio.Task[None] | None = None
        self._fault: OSError | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """The addresses that are good now; empty when nothing is known."""
        if self._is_name and self._now() - self._known_since > self._keep_seconds:
            return ()
        return self._known

    async def in_turn(self) -> list[str]:
        """The addresses to try for one connection: another first each time, those that failed last.

        Raises: OSError
        """
        known = self.known
        if not known:
            # Shielded: others may wait for the same look-up.
            await asyncio.shield(self._looking())
            known = self.known
            if not known:
                raise self._fault or OSError("the name has no address")
        first = self._turn % len(known)
        self._turn += 1
        order = [*known[first:], *known[:first]]
        if self._refused:
            order.sort(key=self._refused.__contains__)
        return order

    def failed(self, address: str) -> None:
        """No connection could be made there: it is tried last until the next look-up."""
        self._refused.add(address)

    def refresh(self) -> bool:
        """Begins a look-up when it is time for one. Returns whether one has ended since the last call."""
        if not self._is_name:
            return False
        has_ended = self._look is not None and self._look.done()
        if has_ended:
            self._look = None
        if self._look is None and self._now() >= self._next_look:
            self._looking()
        return has_ended

    def close(self) -> None:
        """Ends a look-up that is under way."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _looking(self) -> asyncio.Task[None]:
        """The look-up that is under way, one for all who wait."""
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self._look_up())
        return self._look

    async def _look_up(self) -> None:
        location = self._location
        try:
            found = await self._resolve(location.host, location.port)
        except OSError as fault:
            if self._fault is None:
                _LOG.warning("the name of the endpoint `%s` is not found; known addresses stay in use", location.url)
            self._fault = fault
            self._next_look = self._now() + min(RETRY_SECONDS, self._refresh_seconds)
            return
        if self._fault is not None:
            _LOG.info("the name of the endpoint `%s` is found again", location.url)
        self._fault = None
        self._refused.clear()
        self._known = tuple(dict.fromkeys(found))[:MAX_ADDRESSES]
        self._known_since = self._now()
        self._next_look = self._known_since + self._refresh_seconds
