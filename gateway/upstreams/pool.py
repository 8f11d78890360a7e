"""The connections to one upstream: idle ones newest first, a cap on all, one sweep for every deadline."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from gateway.core.reasons import Reason
from gateway.ports import UpstreamFailed
from gateway.upstreams.connection import UpstreamConnection
from gateway.wire.limits import Timeouts

MAX_CONNECTIONS = 1024
MAX_IDLE = 256


class UpstreamPool:
    """Implements `ports.Upstream` on asyncio transports.

    `url` is `http://host[:port]` or `https://host[:port]` without path, query or user info. `now` is monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        now: Callable[[], float],
        timeouts: Timeouts | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_idle: int = MAX_IDLE,
    ) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or parts.fragment
            or parts.username is not None
        ):
            raise ValueError(f"upstream `{name}`: `{url}` is not `http://host:port` or `https://host:port`")
        self._name = name
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._authority = parts.netloc.encode("ascii")
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting = 0
        self._max_connections = max_connections
        self._max_idle = max_idle
        self.now = now
        self.timeouts = timeouts or Timeouts()
        self.connects: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._name

    @property
    def authority(self) -> bytes:
        return self._authority

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def open_count(self) -> int:
        return len(self._open)

    def take(self) -> UpstreamConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_clean():
                connection.reuse()
                return connection
            connection.close_idle()
        return None

    async def connect(self) -> UpstreamConnection:
        if len(self._open) + self._connecting >= self._max_connections:
            raise UpstreamFailed(Reason.OVERLOADED, f"upstream `{self._name}` has all its connections in use")
        self._connecting += 1
        connection = UpstreamConnection(self)
        has_failed = True
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self.timeouts.connect):
                await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._ssl)
            has_failed = False
        except TimeoutError as fault:
            self.connects["timeout"] += 1
            raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, f"upstream `{self._name}`: no connection in time") from fault
        except OSError as fault:  # ssl.SSLError is one
            self.connects["failed"] += 1
            detail = f"upstream `{self._name}`: {type(fault).__name__}"
            raise UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, detail) from fault
        finally:
            self._connecting -= 1
            if has_failed:
                # Facts: uvloop closes a connection that was made and then cancelled, and does not say so to its
                # protocol. A client that leaves at that moment would take a place in the pool for good.
                connection.close_idle()
                self.closed(connection)
        self.connects["opened"] += 1
        return connection

    def opened(self, connection: UpstreamConnection) -> None:
        """Called by a connection that is open."""
        self._open.add(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """Called by a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Called by a connection whose answer ended cleanly."""
        if len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.close_idle()

    def sweep(self) -> None:
        """Ends what has passed its deadline."""
        now = self.now()
        for connection in [connection for connection in self._open if connection.deadline < now]:
            connection.timed_out()

    def close(self) -> None:
        """Closes the idle connections; those under way end with their answers."""
        for connection in self._idle:
            connection.close_idle()
        self._idle.clear()
