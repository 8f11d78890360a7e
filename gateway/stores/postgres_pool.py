"""A few connections to PostgreSQL for reading: bounded in number, in time, and in how often a new one is tried.

An answer that does not come in time costs its connection, which is closed at once and never used again. After a
connection that could not be opened nobody else tries for a moment: what is asked meanwhile fails at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.rows import namedtuple_row

from gateway.ports import StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.rows import Row

CONNECTIONS: Final = 4
"""One answers some thousand look-ups a second; the change feed has its turn among them."""

CONNECT_SECONDS: Final = 1.0
"""With the wait before it, a store that returns is found within 1.5 s also where an attempt got lost on the way."""

RETRY_SECONDS: Final = 0.25
"""The shortest time between two attempts to connect after one has failed; as much again at most is added by chance,
so that many gateways do not come at once (R3)."""

_Result = TypeVar("_Result")


class ReadConnection(psycopg.AsyncConnection[Any]):
    """A connection that can be given up at any moment; whoever does so closes it."""

    async def wait(
        self,
        gen: PQGen[_Result],
        interval: float = 0.1,
        timeout: float | None = None,
    ) -> _Result:
        """Facts: psycopg's own, when cancelled, asks the server to cancel and waits for it: one that hangs holds us."""
        return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)


class ReadPool:
    """For one event loop. Close it with `aclose`."""

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        size: int = CONNECTIONS,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._parameters = parameters
        self._monotonic = monotonic
        self._chance = chance
        self._places = asyncio.Semaphore(size)
        self._size = size
        self._attempt: asyncio.Task[None] | None = None
        self._idle: list[ReadConnection] = []
        self._fault = ""
        """Why the last attempt to connect failed; empty when it did not."""
        self._next_attempt = 0.0
        self._is_closed = False
        self.attempts = 0
        """To connect, since the start."""

    async def rows(self, statement: str, parameters: Mapping[str, object], timeout_seconds: float) -> list[Row]:
        """Everything that `statement` gives. Raises: StoreUnavailable"""
        self._fail_while_down()
        try:
            async with asyncio.timeout(timeout_seconds):
                async with self._places:
                    return await self._ask(statement, parameters)
        except TimeoutError as error:
            raise StoreUnavailable(f"the key store did not answer within {timeout_seconds} s") from error
        except psycopg.Error as error:
            raise unavailable(error) from error

    async def aclose(self) -> None:
        """Those in use are closed when they come back."""
        self._is_closed = True
        self._drop_idle()
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)

    async def _ask(self, statement: str, parameters: Mapping[str, object]) -> list[Row]:
        if self._idle:
            connection = self._idle.pop()
            try:
                return await self._answer(connection, statement, parameters)
            except psycopg.OperationalError:
                if not connection.closed:
                    raise
                # It ended while nobody used it, and so have the others most likely: a read can be asked again.
                self._drop_idle()

        return await self._answer(await self._open(), statement, parameters)

    async def _answer(self, connection: ReadConnection, statement: str, parameters: Mapping[str, object]) -> list[Row]:
        is_whole = False
        try:
            # Not prepared on the server: behind PgBouncer the next statement may meet another one.
            cursor = await connection.execute(statement, parameters, prepare=False)
            rows = await cursor.fetchall()
            is_whole = True
            return rows
        except psycopg.Error:
            is_whole = connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
            raise
        finally:
            if is_whole:
                self._keep(connection)
            else:
                connection.pgconn.finish()

    async def _open(self) -> ReadConnection:
        while not self._idle:
            self._fail_while_down()
            # One attempt at a time, so that a store that is down hears of one and not of one for each place. It goes
            # on when its look-up has given up: a server that is slow to take connections would else never be reached.
            if self._attempt is None:
                self._attempt = asyncio.create_task(self._connect())
            await asyncio.shield(self._attempt)
        return self._idle.pop()

    async def _connect(self) -> None:
        self.attempts += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection: ReadConnection = await ReadConnection.connect(
                    **self._parameters, autocommit=True, prepare_threshold=None, row_factory=namedtuple_row
                )
        except TimeoutError:
            self._fault = f"the key store took no connection within {CONNECT_SECONDS} s"
        # Whatever it is, those who wait need to hear of it.
        except Exception as error:
            self._fault = str(unavailable(error))
        else:
            self._fault = ""
            self._keep(connection)
        finally:
            self._attempt = None
            self._next_attempt = self._monotonic() + RETRY_SECONDS * (1 + self._chance())

    def _fail_while_down(self) -> None:
        """Raises: StoreUnavailable"""
        if self._is_closed:
            raise StoreUnavailable("the key store was closed")

        is_waiting = self._attempt is not None or self._monotonic() < self._next_attempt
        if self._fault and not self._idle and is_waiting:
            raise StoreUnavailable(self._fault)

    def _keep(self, connection: ReadConnection) -> None:
        if self._is_closed or len(self._idle) >= self._size:
            connection.pgconn.finish()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.pgconn.finish()
        self._idle.clear()
