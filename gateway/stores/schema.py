"""The tables, as SQLAlchemy Core. The numbered migrations make them; a test holds the two together.

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
)

SCHEMA_REVISION: Final = "0001"
"""The newest migration. A store at this revision is not touched by one."""

metadata: Final = MetaData()

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
    CheckConstraint("length(digest) = 32", name="ck_keys_digest"),
    CheckConstraint("length(hint) <= 4", name="ck_keys_hint"),
    Index("ix_keys_digest", "digest", unique=True),
    Index("ix_keys_app_id", "app_id"),
)

key_events: Final = Table(
    "key_events",
    metadata,
    # AUTOINCREMENT: a position is never given twice, and writers are serial, so none is seen out of order.
    Column("position", Integer, primary_key=True, autoincrement=True),
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

APPEND_ONLY: Final = tuple(
    f"CREATE TRIGGER key_events_no_{change.lower()} BEFORE {change} ON key_events "
    "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END"
    for change in ("UPDATE", "DELETE")
)

for _trigger in APPEND_ONLY:
    event.listen(key_events, "after_create", DDL(_trigger))  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
