"""Keys in a PostgreSQL database, for many gateways: a book for the control plane and a store for the data plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from gateway.core.credential import Credential
from gateway.core.principal import KeyRecord
from gateway.keys.peppers import NO_PEPPERS, Peppers
from gateway.ports import StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.postgres_database import PostgresPlace, exclude_writers
from gateway.stores.postgres_pool import CONNECTIONS, ReadPool
from gateway.stores.reading import Question, SqlKeyReader, Value
from gateway.stores.rows import Row
from gateway.stores.sql_book import SqlKeyBook

CHANNEL: Final = "bearergate_keys"
"""What is notified with every commit. It only wakes: what has changed is read from the history."""

_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here


class PostgresKeyBook(SqlKeyBook):
    """The write side: one writer at a time, from all machines."""

    def _begin(self, connection: Connection) -> None:
        exclude_writers(connection)

    def _tell(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"NOTIFY {CHANNEL}")


class PostgresKeyStore(SqlKeyReader):
    """The read side, for one event loop. Close it with `aclose`."""

    LESSER = "least"

    def __init__(
        self,
        place: PostgresPlace,
        peppers: Peppers = NO_PEPPERS,
        *,
        region: str = "",
        lookup_timeout_seconds: float = 0.5,
        feed_timeout_seconds: float = 2.0,
        connections: int = CONNECTIONS,
    ) -> None:
        super().__init__(
            peppers,
            region=region,
            lookup_timeout_seconds=lookup_timeout_seconds,
            feed_timeout_seconds=feed_timeout_seconds,
        )
        self.pool = ReadPool(place.parameters(statement_seconds=feed_timeout_seconds), size=connections)
        self._compiled: dict[Question, tuple[str, dict[str, object]]] = {}

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record that the credential proves to be its own, or None. Raises: StoreUnavailable"""
        # Facts: PostgreSQL has no text with a NUL in it, so no id is one, and asking would be an error.
        return None if "\x00" in credential.key_id else await super().find(credential)

    async def aclose(self) -> None:
        """Gives the connections back."""
        await self.pool.aclose()

    async def _read(
        self,
        statement: Question,
        parameters: Mapping[str, object],
        decode: Callable[[Row], Value],
        timeout_seconds: float,
    ) -> list[Value]:
        try:
            rows = await self.pool.rows(*self._asked(statement, parameters), timeout_seconds)
            return [decode(row) for row in rows]
        except StoreUnavailable:
            raise
        # Whatever else goes wrong means the same: the question has no answer.
        except Exception as error:
            raise unavailable(error) from error

    def _asked(self, statement: Question, parameters: Mapping[str, object]) -> tuple[str, dict[str, object]]:
        """(the text, every parameter), with those that the statement brings itself."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            built = statement.compile(dialect=_DIALECT)
            compiled = self._compiled[statement] = (str(built), dict(built.params))
        text, own = compiled
        return text, {**own, **parameters}
