"""Hears from PostgreSQL that something was written, so that the change feed need not wait for its next poll.

Only a wake-up: the poll is the truth, and nothing is missed when this hears nothing. It has a connection of its own,
which always reads, and which is asked for a sign of life when it has been silent: a dead one is replaced within 5 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final

import psycopg

from gateway.stores.faults import unavailable
from gateway.stores.postgres import CHANNEL
from gateway.stores.postgres_database import PostgresPlace
from gateway.stores.postgres_pool import ReadConnection

SILENCE_SECONDS: Final = 2.0
"""After so long without a word the server is asked for one."""

ANSWER_SECONDS: Final = 2.0
"""How long that, or connecting, may take."""

FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 2.0

_LOG: Final = logging.getLogger("bearergate")


class ChangeListener:
    """`listen` runs in a task that somebody else owns and cancels."""

    def __init__(
        self,
        place: PostgresPlace,
        on_change: Callable[[], None],
        *,
        silence_seconds: float = SILENCE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._parameters = place.parameters(statement_seconds=answer_seconds)
        self._on_change = on_change
        self._silence = silence_seconds
        self._answer = answer_seconds
        self.is_listening = False
        self.attempts = 0
        """To connect, since the start."""

    async def listen(self) -> None:
        """Listens for ever, on one connection after the other. Ends only when cancelled."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, OSError, TimeoutError) as error:
                # After a connection that worked, the first wait is short again.
                wait = FIRST_WAIT_SECONDS if self.is_listening else min(2 * wait, LONGEST_WAIT_SECONDS)
                if self.is_listening:
                    _LOG.warning("the key store's listener was lost (%s); polls go on", type(error).__name__)
                elif self.attempts == 1:
                    why = unavailable(error) if isinstance(error, psycopg.Error) else type(error).__name__
                    _LOG.warning("the key store cannot be listened to: %s; polls go on, and so do the attempts", why)
            finally:
                self.is_listening = False
            await asyncio.sleep(wait * (1 + random.random()) / 2)  # noqa: S311 - only spreads the attempts

    async def _listen_once(self) -> None:
        """Ends with an exception alone."""
        self.attempts += 1
        async with asyncio.timeout(self._answer):
            connection: ReadConnection = await ReadConnection.connect(
                **self._parameters, autocommit=True, prepare_threshold=None
            )
        try:
            async with asyncio.timeout(self._answer):
                await connection.execute(f"LISTEN {CHANNEL}")
            self.is_listening = True
            # What was written before this moment was told to nobody.
            self._on_change()
            while True:
                await self._hear(connection)
        finally:
            connection.pgconn.finish()

    async def _hear(self, connection: ReadConnection) -> None:
        """Reads until there was a silence, and ends that with a sign of life."""
        heard: Any = None
        # The payload is not looked at: anybody who may connect can send one (H20).
        async for heard in connection.notifies(timeout=self._silence, stop_after=1):  # noqa: B007
            self._on_change()
        if heard is None:
            async with asyncio.timeout(self._answer):
                await connection.execute("SELECT 1")
