"""The tables, as SQLAlchemy Core. The numbered migrations make them; tests hold the two together, on each engine.

Instants are whole microseconds since the epoch, UTC: SQLite would drop a time zone, and a float would not compare
exactly. Sets and maps are JSON text, decoded in `rows.py`, which trusts nothing that it reads.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    text,
)

SCHEMA_REVISION: Final = "0003"
"""The newest migration. A store at this revision is not touched by one."""

metadata: Final = MetaData()

# Facts: SQLite numbers rows by itself only where the column is INTEGER, which has eight bytes there.
_POSITION: Final = BigInteger().with_variant(Integer, "sqlite")

apps: Final = Table(
    "apps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("features", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("key_limit", Integer),
    Column("created_at", BigInteger, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("app_id", Text, ForeignKey("apps.id", name="fk_keys_app_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("hint", Text, nullable=False),
    Column("pepper_id", Text, nullable=False, server_default=text("''")),
    Column("successor_id", Text),
    CheckConstraint("length(digest) = 32", name="ck_keys_digest"),
    CheckConstraint("length(hint) <= 4", name="ck_keys_hint"),
    Index("ix_keys_digest", "digest", unique=True),
    Index("ix_keys_app_id", "app_id"),
)

key_events: Final = Table(
    "key_events",
    metadata,
    # A position is never given twice, and writers are serial, so none is seen out of order.
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("key_id", Text),
    Column("app_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("happened_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_key_events_key_id", "key_id"),
    Index("ix_key_events_app_id", "app_id"),
    sqlite_autoincrement=True,
)

token_revocations: Final = Table(
    "token_revocations",
    metadata,
    Column(
        "position",
        _POSITION,
        ForeignKey("key_events.position", name="fk_token_revocations_position"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("issuer", Text, nullable=False),
    Column("app_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_token_revocations_expires_at", "expires_at"),
)

peppers: Final = Table(
    "peppers",
    metadata,
    # The ids alone, of those that keys were made under: small, where counting keys would not be.
    Column("id", Text, primary_key=True),
)

APPEND_ONLY: Final = {
    "sqlite": (
        "CREATE TRIGGER key_events_no_update BEFORE UPDATE ON key_events "
        "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END",
        "CREATE TRIGGER key_events_no_delete BEFORE DELETE ON key_events "
        "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION key_events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'key_events is append-only'; END $$",
        "CREATE TRIGGER key_events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON key_events "
        "EXECUTE FUNCTION key_events_append_only()",
    ),
}
"""Statements by the engine's name."""

for _engine, _statements in APPEND_ONLY.items():
    for _statement in _statements:
        _guard = DDL(_statement).execute_if(dialect=_engine)  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
        event.listen(key_events, "after_create", _guard)
