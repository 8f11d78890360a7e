"""Makes a SQLite store ready: the file with mode 0600, the write-ahead log, the newest schema. Safe to run at once
from many processes, and cheap when there is nothing to do.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from gateway.ports import StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.migrating import upgrade
from gateway.stores.schema import SCHEMA_REVISION

WRITER_WAIT_SECONDS: Final = 10.0
"""How long a writer waits for the others. Fifty waiting at once need well under a second."""


def sqlite_path(store_url: str) -> Path:
    """The file that `sqlite:///FILE` names. Raises: StoreUnavailable"""
    try:
        url = make_url(store_url)
    except (ArgumentError, ValueError):
        # Not chained: the URL of another kind of store may hold a password.
        todo = "write `sqlite:///FILE` or `postgresql://…`"
        raise StoreUnavailable(f"the store's URL is not understood; {todo}") from None

    if url.drivername != "sqlite":
        raise StoreUnavailable(
            f"stores of the kind `{url.drivername}` are not known; write `sqlite:///FILE` or `postgresql://…`"
        )

    if not url.database or url.database == ":memory:" or url.database.startswith("file:") or url.query or url.host:
        raise StoreUnavailable("the store's URL must name a file and nothing else: `sqlite:///FILE`")

    return Path(url.database)


def driver_url(driver: str, path: Path) -> URL:
    """Opens `path` for reading and writing, and never makes a file: `prepare` does, with the right mode."""
    return URL.create(driver, database=f"file:{quote(str(path.absolute()))}", query={"mode": "rw", "uri": "true"})


def prepare(path: Path, *, create: bool = True, on_made: Callable[[Path], None] = lambda _: None) -> Engine:
    """The engine for writers of the store at `path`, which is ready when this returns.

    `create` allows a new store, of which `on_made` is told with its absolute path. Raises: StoreUnavailable
    """
    path = path.absolute()
    if create:
        _make_file(path)
    _close_to_others(path)
    engine = create_engine(
        driver_url("sqlite+pysqlite", path),
        poolclass=NullPool,
        hide_parameters=True,
        # isolation_level None: the driver begins no transaction by itself; writers say BEGIN IMMEDIATE.
        connect_args={"isolation_level": None, "timeout": WRITER_WAIT_SECONDS},
    )
    event.listen(engine, "connect", _set_up)
    try:
        with engine.connect() as connection:
            # What is not ours is refused before anything in it is touched.
            if _revision(connection) is None and not create:
                raise _absent(path)

            _keep_log(connection)
            is_new = _upgrade(connection)
    except SQLAlchemyError as error:
        raise unavailable(error) from error

    if is_new:
        on_made(path)
    return engine


def _make_file(path: Path) -> None:
    """INVARIANT: a file that exists is not opened here: closing it would drop the locks that SQLite, elsewhere in this
    process, holds on it (POSIX locks belong to the process, not to the descriptor).
    """
    try:
        if not path.exists():
            # Facts: SQLite gives the -wal and -shm files the mode of the database file.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # another process was faster, and made it just so
    except OSError as error:
        todo = f"make the folder `{path.parent}`, and let the user who runs this write there"
        raise StoreUnavailable(f"the key store `{path}` cannot be made: {error.strerror}; {todo}") from error


def _close_to_others(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            path.chmod(0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _absent(path) from error
    except OSError as error:
        raise StoreUnavailable(f"the key store `{path}` cannot be opened: {error.strerror}") from error


def _absent(path: Path) -> StoreUnavailable:
    return StoreUnavailable(f"there is no key store at `{path}`; set `BEARERGATE_STORE` or `--store`")


def _set_up(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # SQLAlchemy hands over the driver's own connection
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        # FULL: with the write-ahead log, NORMAL could lose a revocation to a power cut after it was reported done.
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _keep_log(connection: Connection) -> None:
    """Readers and the writer do not wait for each other from here on; the file remembers it."""
    give_up_at = time.monotonic() + WRITER_WAIT_SECONDS
    while connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError:
            # Facts: two that switch a new file at once block each other, and SQLite fails one of them without waiting.
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _upgrade(connection: Connection) -> bool:
    """Brings the schema up to date; whether there was none."""
    if _revision(connection) == SCHEMA_REVISION:
        return False

    connection.rollback()
    # The lock comes first, so of many that start at once one upgrades and the others find it done.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    found = _revision(connection)
    if found == SCHEMA_REVISION:
        connection.rollback()
        return False

    upgrade(connection)
    connection.commit()
    return found is None


def _revision(connection: Connection) -> str | None:
    tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    if not tables:
        return None

    if "alembic_version" not in tables:
        raise StoreUnavailable("the file is a SQLite database of something else; name another one")

    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
