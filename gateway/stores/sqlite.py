"""Keys in one SQLite file: a book for the control plane, which writes, and a store for the data plane, which reads.

Writers take the file's one write lock before they read anything, so what they decide still holds when they commit.
Readers never wait for a writer (write-ahead log), and never longer than their own time-out for anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, Executable, Select, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord
from gateway.keys.book import App, AppState, HistoryEntry, KeyEntry, KeyTaken, Note
from gateway.ports import KeyChange, StoreUnavailable
from gateway.stores.faults import unavailable
from gateway.stores.rows import (
    Row,
    app_of,
    change_of,
    detail_to_text,
    history_of,
    key_of,
    record_of,
    to_micros,
    to_text,
)
from gateway.stores.schema import apps, key_events, keys
from gateway.stores.sqlite_file import driver_url

Value = TypeVar("Value")

CHANGES_AT_ONCE: Final = 1_000

READER_WAIT_SECONDS: Final = 0.1
"""How long SQLite itself may wait for a lock on the read side. A reader meets one only while a log is recovered."""

READ_CONNECTIONS: Final = 2
"""One for look-ups while the other serves the change feed."""

_RECORD: Final = select(
    keys.c.id,
    keys.c.app_id,
    keys.c.kind,
    keys.c.digest,
    keys.c.scopes,
    keys.c.expires_at,
    keys.c.state,
    apps.c.state.label("app_state"),
    apps.c.features.label("app_features"),
).join_from(keys, apps, keys.c.app_id == apps.c.id)

# One statement per kind, with the kind in it: a legacy key is not found by its id, nor an API key by digest alone.
_BY_ID: Final = _RECORD.where(keys.c.id == bindparam("id"), keys.c.kind == CredentialKind.API_KEY.value)
_BY_DIGEST: Final = _RECORD.where(keys.c.digest == bindparam("digest"), keys.c.kind == CredentialKind.LEGACY_KEY.value)

_POSITION: Final = select(func.coalesce(func.max(key_events.c.position), 0))

_CHANGES: Final = (
    select(key_events.c.position, key_events.c.app_id, key_events.c.key_id, key_events.c.happened_at)
    .where(key_events.c.position > bindparam("position"))
    .order_by(key_events.c.position)
    .limit(CHANGES_AT_ONCE)
)


class SqliteKeyStore:
    """The read side, for one event loop. Close it with `aclose`."""

    def __init__(self, path: Path, *, lookup_timeout_seconds: float = 0.5, feed_timeout_seconds: float = 2.0) -> None:
        self._path = path
        self._lookup_timeout = lookup_timeout_seconds
        self._feed_timeout = feed_timeout_seconds
        self._engine: AsyncEngine = create_async_engine(
            driver_url("sqlite+aiosqlite", path),
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            pool_size=READ_CONNECTIONS,
            max_overflow=0,
            pool_reset_on_return=None,
            connect_args={"timeout": READER_WAIT_SECONDS},
        )
        self._file: tuple[int, int] | None = None

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record with the credential's key id (by digest for legacy keys). Raises: StoreUnavailable"""
        match credential.kind:
            case CredentialKind.API_KEY:
                found = await self._read(_BY_ID, {"id": credential.key_id}, record_of, self._lookup_timeout)
            case CredentialKind.LEGACY_KEY:
                found = await self._read(_BY_DIGEST, {"digest": credential.digest}, record_of, self._lookup_timeout)
        return found[0] if found else None

    async def position(self) -> int:
        """The newest position of the change feed; 0 when nothing has happened yet. Raises: StoreUnavailable"""
        found: list[int] = await self._read(_POSITION, {}, lambda row: int(row[0]), self._feed_timeout)
        return found[0]

    async def changes_since(self, position: int) -> list[KeyChange]:
        """The changes after `position`, oldest first, at most 1,000. Raises: StoreUnavailable"""
        return await self._read(_CHANGES, {"position": position}, change_of, self._feed_timeout)

    async def aclose(self) -> None:
        """Gives the connections back."""
        await self._engine.dispose()

    async def _read(
        self,
        statement: Executable,
        parameters: dict[str, object],
        decode: Callable[[Row], Value],
        timeout_seconds: float,
    ) -> list[Value]:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._leave_replaced_file()
                async with self._engine.connect() as connection:
                    rows = (await connection.execute(statement, parameters)).all()
            return [decode(row) for row in rows]
        except StoreUnavailable:
            raise
        except TimeoutError as error:
            raise StoreUnavailable(f"the key store did not answer within {timeout_seconds} s") from error
        # Whatever else goes wrong between here and the disk means the same: the question has no answer.
        except Exception as error:
            raise unavailable(error) from error

    async def _leave_replaced_file(self) -> None:
        # Facts: an open connection goes on reading a file that was moved away, so a restored backup would go unseen.
        status = os.stat(self._path)
        found = (status.st_dev, status.st_ino)
        if found != self._file:
            self._file = found
            await self._engine.dispose()


class SqliteKeyBook:
    """The write side. Any number of threads and processes may have one each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def writing(self) -> Iterator[_SqliteWriting]:
        """One transaction under the write lock. Raises: StoreUnavailable"""
        with self._connected() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield _SqliteWriting(connection)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def apps(self) -> list[App]:
        """Oldest first. Raises: StoreUnavailable"""
        return self._listed(select(apps).order_by(apps.c.created_at, apps.c.id), app_of)

    def keys(self, app_id: AppId | None = None) -> list[KeyEntry]:
        """Of one App or of all, oldest first. Raises: StoreUnavailable"""
        statement = select(keys).order_by(keys.c.created_at, keys.c.id)
        return self._listed(statement if app_id is None else statement.where(keys.c.app_id == app_id), key_of)

    def history(self, *, app_id: AppId | None = None, key_id: KeyId | None = None) -> list[HistoryEntry]:
        """Oldest first. Raises: StoreUnavailable"""
        statement = select(key_events).order_by(key_events.c.position)
        if app_id is not None:
            statement = statement.where(key_events.c.app_id == app_id)
        if key_id is not None:
            statement = statement.where(key_events.c.key_id == key_id)
        return self._listed(statement, history_of)

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def _listed(self, statement: Select[*tuple[Row, ...]], decode: Callable[[Row], Value]) -> list[Value]:
        with self._connected() as connection:
            return [decode(row) for row in connection.execute(statement)]

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise unavailable(error) from error


class _SqliteWriting:
    """What may be done inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def app(self, app_id: AppId) -> App | None:
        row = self._connection.execute(select(apps).where(apps.c.id == app_id)).one_or_none()
        return None if row is None else app_of(row)

    def key(self, key_id: KeyId) -> KeyEntry | None:
        row = self._connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
        return None if row is None else key_of(row)

    def active_keys(self, app_id: AppId, now: float) -> list[KeyEntry]:
        statement = (
            select(keys)
            .where(
                keys.c.app_id == app_id,
                keys.c.state == KeyState.ACTIVE.value,
                keys.c.expires_at > to_micros(now),
            )
            .order_by(keys.c.expires_at, keys.c.id)
        )
        return [key_of(row) for row in self._connection.execute(statement)]

    def add_app(self, app: App, note: Note) -> None:
        self._connection.execute(
            insert(apps).values(
                id=app.id,
                name=app.name,
                features=to_text(sorted(app.features)),
                state=app.state.value,
                key_limit=app.key_limit,
                created_at=to_micros(app.created_at),
            )
        )
        self._append(app.id, None, note)

    def set_app_state(self, app_id: AppId, state: AppState, note: Note) -> None:
        self._connection.execute(update(apps).where(apps.c.id == app_id).values(state=state.value))
        self._append(app_id, None, note)

    def add_key(self, key: KeyEntry, digest: KeyDigest, note: Note) -> None:
        statement = insert(keys).values(
            id=key.id,
            app_id=key.app_id,
            kind=key.kind.value,
            digest=digest,
            name=key.name,
            scopes=to_text(key.scopes),
            expires_at=to_micros(key.expires_at),
            state=key.state.value,
            created_at=to_micros(key.created_at),
            hint=key.hint,
        )
        try:
            self._connection.execute(statement)
        except IntegrityError as error:
            raise KeyTaken(key.id) from error
        self._append(key.app_id, key.id, note)

    def set_key_state(self, key: KeyEntry, state: KeyState, note: Note) -> None:
        self._connection.execute(update(keys).where(keys.c.id == key.id).values(state=state.value))
        self._append(key.app_id, key.id, note)

    def _append(self, app_id: AppId, key_id: KeyId | None, note: Note) -> None:
        self._connection.execute(
            insert(key_events).values(
                app_id=app_id,
                key_id=key_id,
                event=note.event,
                happened_at=to_micros(note.happened_at),
                actor=note.actor,
                detail=detail_to_text(note.detail),
            )
        )
