"""A PostgreSQL store: where it is, and how it is made ready. Safe to do at once from many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.ports import StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.migrating import upgrade
from gateway.stores.schema import SCHEMA_REVISION

WRITER_LOCK: Final = 0x6267_6B65_7973
"""The advisory lock of whoever writes: `bgkeys`. It lasts as long as a transaction, so PgBouncer may stand between."""

WRITER_WAIT_SECONDS: Final = 10
WRITER_CONNECT_SECONDS: Final = 5

_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "bearergate",
    # A replica lags behind its primary, and a revocation would be seen late (R5).
    "target_session_attrs": "read-write",
    "connect_timeout": WRITER_CONNECT_SECONDS,
    # Facts: a peer that vanished is told by nothing but the keep-alive of TCP, by default after two hours.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5_000,
    "gssencmode": "disable",
}


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """A database, as libpq is told of it. Its password is in `_parameters` and in no text."""

    _parameters: dict[str, Any] = field(repr=False)

    def parameters(self, *, statement_seconds: float) -> dict[str, Any]:
        """For a connection whose statements the server ends after that time, so that none outlives who asked."""
        # Facts: later options win, so what the URL says about any of it holds.
        timeout = f"-c statement_timeout={round(statement_seconds * 1000)}"
        return {**self._parameters, "options": f"{timeout} {self._parameters.get('options', '')}".strip()}

    def __str__(self) -> str:
        host = self._parameters.get("host") or "the local socket"
        return f"{self._parameters.get('dbname') or 'default database'} at {host}"


def postgres_place(store_url: str) -> PostgresPlace:
    """What a URL as libpq reads it names. Raises: StoreUnavailable"""
    try:
        given = conninfo_to_dict(store_url)
    except psycopg.Error:
        # Not chained: the message quotes the URL, with the password.
        raise _not_understood() from None
    # Facts: libpq takes what follows the first `@` for the host, and what follows a `/` for the database: of a password
    # with one in it, the rest would be told to everybody who reads of a host or a database that is not there.
    if any("@" in str(given.get(name, "")) for name in ("host", "dbname")):
        raise _not_understood()
    return PostgresPlace({**_DEFAULTS, **given})


def _not_understood() -> StoreUnavailable:
    example = "`postgresql://USER:PASSWORD@HOST/DATABASE`, with %40 for an @ and %2F for a / in the password"
    return StoreUnavailable(f"the store's URL is not understood; write {example}")


def prepare_postgres(
    place: PostgresPlace, *, create: bool = True, on_made: Callable[[str], None] = lambda _: None
) -> Engine:
    """The engine for writers of the store at `place`, which is ready when this returns.

    `create` allows tables in an empty database, of which `on_made` is told. Raises: StoreUnavailable
    """
    parameters = place.parameters(statement_seconds=3 * WRITER_WAIT_SECONDS)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**parameters),
        poolclass=NullPool,
        hide_parameters=True,
        # Each statement after the lock has to see what others committed before it.
        isolation_level="READ COMMITTED",
    )
    try:
        with engine.connect() as connection:
            if _revision(connection) is None and not create:
                raise StoreUnavailable(f"there is no key store in {place}; `apps create` makes one")

            is_new = _upgrade(connection)
    except SQLAlchemyError as error:
        raise unavailable(error) from error

    if is_new:
        on_made(str(place))
    return engine


def exclude_writers(connection: Connection) -> None:
    """Until the transaction ends; its first statement."""
    # INVARIANT: taken before a position is drawn and given back after the commit can be seen, so positions are seen
    # in the order of their numbers, and a follower of the history skips none.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WRITER_WAIT_SECONDS}s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def _upgrade(connection: Connection) -> bool:
    """Brings the schema up to date; whether there was none."""
    if _revision(connection) == SCHEMA_REVISION:
        return False

    connection.rollback()
    # The lock comes first, so of many that start at once one upgrades and the others find it done.
    exclude_writers(connection)
    found = _revision(connection)
    if found == SCHEMA_REVISION:
        connection.rollback()
        return False

    upgrade(connection)
    connection.commit()
    return found is None


def _revision(connection: Connection) -> str | None:
    # In this order: who makes the tables makes the other one with them, so it is seen if they were.
    ours = "SELECT to_regclass('apps') IS NOT NULL OR to_regclass('keys') IS NOT NULL"
    has_tables = connection.exec_driver_sql(ours).scalar_one()
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version') IS NOT NULL").scalar_one():
        revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return revision

    if has_tables:
        raise StoreUnavailable("the database has tables of something else; name another one")

    return None
