"""Keys in one SQLite file: a book for the control plane, which writes, and a store for the data plane, which reads.

Writers take the file's one write lock before they read anything, so what they decide still holds when they commit.
Readers never wait for a writer (write-ahead log), and never longer than their own time-out for anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine

from gateway.keys.peppers import NO_PEPPERS, Peppers
from gateway.ports import StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.reading import Question, SqlKeyReader, Value
from gateway.stores.rows import Row
from gateway.stores.sql_book import SqlKeyBook
from gateway.stores.sqlite_file import driver_url

READER_WAIT_SECONDS: Final = 0.1
"""How long SQLite itself may wait for a lock on the read side. A reader meets one only while a log is recovered."""

READ_CONNECTIONS: Final = 2
"""Each with a thread of its own: one for look-ups while the other serves the change feed.

Plain threads and no asyncio driver: SQLAlchemy's asyncio part loads its ORM, 7 MiB of which nothing is used.
"""


class SqliteKeyBook(SqlKeyBook):
    """The write side: one writer at a time, from all processes."""

    def _begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class SqliteKeyStore(SqlKeyReader):
    """The read side, for one event loop. Close it with `aclose`."""

    LESSER = "min"

    def __init__(
        self,
        path: Path,
        peppers: Peppers = NO_PEPPERS,
        *,
        region: str = "",
        lookup_timeout_seconds: float = 0.5,
        feed_timeout_seconds: float = 2.0,
    ) -> None:
        super().__init__(
            peppers,
            region=region,
            lookup_timeout_seconds=lookup_timeout_seconds,
            feed_timeout_seconds=feed_timeout_seconds,
        )
        self._path = path
        self._engine = create_engine(
            driver_url("sqlite+pysqlite", path),
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            pool_size=READ_CONNECTIONS,
            max_overflow=0,
            pool_reset_on_return=None,
            # A connection is used by one thread at a time, but not always by the one that opened it.
            connect_args={"timeout": READER_WAIT_SECONDS, "check_same_thread": False},
        )
        self._threads = ThreadPoolExecutor(READ_CONNECTIONS, thread_name_prefix="sqlite")
        self._file: tuple[int, int] | None = None

    async def aclose(self) -> None:
        """Gives the connections back."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._engine.dispose()

    async def _read(
        self,
        statement: Question,
        parameters: Mapping[str, object],
        decode: Callable[[Row], Value],
        timeout_seconds: float,
    ) -> list[Value]:
        try:
            async with asyncio.timeout(timeout_seconds):
                self._leave_replaced_file()
                loop = asyncio.get_running_loop()
                rows = await loop.run_in_executor(self._threads, self._ask, statement, parameters)
            return [decode(row) for row in rows]
        except StoreUnavailable:
            raise
        except TimeoutError as error:
            raise StoreUnavailable(f"the key store did not answer within {timeout_seconds} s") from error
        # Whatever else goes wrong between here and the disk means the same: the question has no answer.
        except Exception as error:
            raise unavailable(error) from error

    def _ask(self, statement: Question, parameters: Mapping[str, object]) -> Sequence[Row]:
        with self._engine.connect() as connection:
            return connection.execute(statement, dict(parameters)).all()

    def _leave_replaced_file(self) -> None:
        # Facts: an open connection goes on reading a file that was moved away, so a restored backup would go unseen.
        status = os.stat(self._path)
        found = (status.st_dev, status.st_ino)
        if found != self._file:
            self._file = found
            self._engine.dispose()
