"""The control plane's side of a store of SQL, the same for each engine but for how a transaction begins and ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.core.credential import AppId, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState
from gateway.keys.book import App, AppState, HistoryEntry, KeyEntry, KeyTaken, Note, PepperUse
from gateway.keys.peppers import NO_PEPPER, NO_PEPPERS, Peppers, unknown_pepper
from gateway.ports import REVOCATION_GRACE_SECONDS, TokenRevocation
from gateway.stores.faults import unavailable
from gateway.stores.rows import (
    Row,
    app_of,
    detail_to_text,
    history_of,
    key_of,
    to_micros,
    to_text,
    token_revocation_of,
)
from gateway.stores.schema import apps, key_events, keys, peppers, token_revocations

Value = TypeVar("Value")

PURGED_AT_ONCE: Final = 1_000
"""Expired revocations of tokens that are forgotten by the writer of a new one."""


class SqlKeyBook:
    """`KeyBook` over an engine that `prepare` has made ready."""

    def __init__(self, engine: Engine, peppers: Peppers = NO_PEPPERS) -> None:
        self._engine = engine
        self._peppers = peppers

    @contextmanager
    def writing(self) -> Iterator[SqlWriting]:
        """Raises: StoreUnavailable"""
        with self._connected() as connection:
            self._begin(connection)
            try:
                yield SqlWriting(connection, self._peppers)
                self._tell(connection)
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

    def live_token_revocations(self, now: float) -> list[TokenRevocation]:
        """Those that have not expired at `now`, oldest first. Raises: StoreUnavailable"""
        statement = select(token_revocations).where(token_revocations.c.expires_at > to_micros(now))
        return self._listed(statement.order_by(token_revocations.c.position), token_revocation_of)

    def pepper_uses(self, now: float) -> list[PepperUse]:
        """Of each pepper that keys were ever made under and that was not forgotten. Raises: StoreUnavailable"""
        with self._connected() as connection:
            return _pepper_uses(connection, now)

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def _begin(self, connection: Connection) -> None:
        """Begins a transaction that excludes other writers before it reads anything."""
        raise NotImplementedError

    def _tell(self, connection: Connection) -> None:
        """Wakes those who follow the history, where the engine can, with the commit that comes next."""

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


class SqlWriting:
    """What may be done inside one transaction."""

    def __init__(self, connection: Connection, peppers: Peppers) -> None:
        self._connection = connection
        self._peppers = peppers

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
        self._use_pepper()
        # The unique index sees a digest under one pepper only; no other writer can come between.
        under_each = list(self._peppers.all_keyed(digest).values())
        taken = select(keys.c.id).where((keys.c.id == key.id) | keys.c.digest.in_(under_each))
        if self._connection.execute(taken).first() is not None:
            raise KeyTaken(key.id)

        keyed = self._peppers.keyed(digest)
        statement = insert(keys).values(
            id=key.id,
            app_id=key.app_id,
            kind=key.kind.value,
            digest=keyed.digest,
            pepper_id=keyed.pepper_id,
            name=key.name,
            scopes=to_text(key.scopes),
            expires_at=to_micros(key.expires_at),
            state=key.state.value,
            created_at=to_micros(key.created_at),
            hint=key.hint,
            successor_id=key.successor_id,
        )
        try:
            self._connection.execute(statement)
        except IntegrityError as error:
            raise KeyTaken(key.id) from error
        self._append(key.app_id, key.id, note)

    def set_key_state(self, key: KeyEntry, state: KeyState, note: Note) -> None:
        self._connection.execute(update(keys).where(keys.c.id == key.id).values(state=state.value))
        self._append(key.app_id, key.id, note)

    def set_key_name(self, key: KeyEntry, name: str, note: Note) -> None:
        self._connection.execute(update(keys).where(keys.c.id == key.id).values(name=name))
        self._append(key.app_id, key.id, note)

    def set_successor(self, key: KeyEntry, successor_id: KeyId, expires_at: float, note: Note) -> None:
        changed = {"successor_id": successor_id, "expires_at": to_micros(expires_at)}
        self._connection.execute(update(keys).where(keys.c.id == key.id).values(changed))
        self._append(key.app_id, key.id, note)

    def revoke_tokens(self, revocation: TokenRevocation, note: Note) -> TokenRevocation:
        position = self._append(revocation.app_id, None, note)
        self._connection.execute(
            insert(token_revocations).values(
                position=position,
                issuer=revocation.issuer,
                app_id=revocation.app_id,
                user_id=revocation.user_id,
                token_id=revocation.token_id,
                not_before=to_micros(revocation.not_before),
                expires_at=to_micros(revocation.expires_at),
            )
        )
        expired = (
            select(token_revocations.c.position)
            .where(token_revocations.c.expires_at <= to_micros(note.happened_at - REVOCATION_GRACE_SECONDS))
            .order_by(token_revocations.c.expires_at)
            .limit(PURGED_AT_ONCE)
        )
        self._connection.execute(delete(token_revocations).where(token_revocations.c.position.in_(expired)))
        return replace(revocation, position=position)

    def pepper_uses(self, now: float) -> list[PepperUse]:
        return _pepper_uses(self._connection, now)

    def forget_pepper(self, pepper_id: str, note: Note) -> None:
        under = select(keys.c.id).where(keys.c.pepper_id == pepper_id)
        # Random bytes are the digest of no token that anybody will find, and keep the index unique.
        key_ids = self._connection.execute(under).scalars()
        changes = [{"b_id": key_id, "b_digest": secrets.token_bytes(32)} for key_id in key_ids]
        if changes:
            statement = (
                update(keys)
                .where(keys.c.id == bindparam("b_id"))
                .values(pepper_id=NO_PEPPER, digest=bindparam("b_digest"))
            )
            self._connection.execute(statement, changes)
        self._connection.execute(delete(peppers).where(peppers.c.id == pepper_id))
        self._append(AppId(""), None, note)

    def _use_pepper(self) -> None:
        known = set(self._connection.execute(select(peppers.c.id)).scalars())
        # A writer without the store's peppers would make keys that are protected less than the others, unnoticed.
        for pepper_id in sorted(known):
            if not self._peppers.knows(pepper_id):
                raise unknown_pepper(pepper_id)
        if self._peppers.current not in {NO_PEPPER, *known}:
            self._connection.execute(insert(peppers).values(id=self._peppers.current))

    def _append(self, app_id: AppId, key_id: KeyId | None, note: Note) -> int:
        statement: Executable = (
            insert(key_events)
            .values(
                app_id=app_id,
                key_id=key_id,
                event=note.event,
                happened_at=to_micros(note.happened_at),
                actor=note.actor,
                detail=detail_to_text(note.detail),
            )
            .returning(key_events.c.position)
        )
        return int(self._connection.execute(statement).scalar_one())


def _pepper_uses(connection: Connection, now: float) -> list[PepperUse]:
    is_active = and_(keys.c.state == KeyState.ACTIVE.value, keys.c.expires_at > to_micros(now))
    active = func.sum(case((is_active, 1), else_=0))
    counted = connection.execute(select(keys.c.pepper_id, func.count(), active).group_by(keys.c.pepper_id))
    uses = {str(row[0]): PepperUse(str(row[0]), int(row[2]), int(row[1]) - int(row[2])) for row in counted}
    for pepper_id in connection.execute(select(peppers.c.id)).scalars():
        uses.setdefault(pepper_id, PepperUse(pepper_id, 0, 0))
    return [uses[pepper_id] for pepper_id in sorted(uses)]
