"""How a connection to one endpoint is opened: an address of its name, then TLS where its URL asks for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.upstreams.addresses import Addresses
from gateway.upstreams.location import Location


class Dialler:
    """Opens connections to one endpoint. Never without TLS where the URL says `https` (R31)."""

    def __init__(
        self,
        location: Location,
        addresses: Addresses,
        *,
        connect_seconds: float,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        if location.is_tls and tls is None:
            raise ValueError(f"`{location.url}` needs a TLS context")
        self._location = location
        self._tls = tls if location.is_tls else None
        self._server_name = (server_name or location.host) if location.is_tls else None
        self._connect_seconds = connect_seconds
        self.addresses = addresses

    async def places(self) -> list[str]:
        """The addresses to try, in their order. Raises: TimeoutError, OSError"""
        async with asyncio.timeout(self._connect_seconds):
            return await self.addresses.in_turn()

    async def dial(self, make: Callable[[], asyncio.Protocol], address: str, share: int = 1) -> None:
        """Opens one connection, for the protocol that `make` makes; with one of `share` equal parts of the time.

        Raises: TimeoutError, OSError
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds / share):
                await loop.create_connection(
                    make, address, self._location.port, ssl=self._tls, server_hostname=self._server_name
                )
        except OSError:
            self.addresses.failed(address)
            raise
