"""Apps, their keys, and the append-only history that is also the change feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


_APPEND_ONLY = {
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


def upgrade() -> None:
    """From an empty store."""
    op.create_table(
        "apps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("key_limit", sa.Integer),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("app_id", sa.Text, sa.ForeignKey("apps.id", name="fk_keys_app_id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.CheckConstraint("length(digest) = 32", name="ck_keys_digest"),
        sa.CheckConstraint("length(hint) <= 4", name="ck_keys_hint"),
    )
    op.create_index("ix_keys_digest", "keys", ["digest"], unique=True)
    op.create_index("ix_keys_app_id", "keys", ["app_id"])
    op.create_table(
        "key_events",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("key_id", sa.Text),
        sa.Column("app_id", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("happened_at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_key_events_key_id", "key_events", ["key_id"])
    op.create_index("ix_key_events_app_id", "key_events", ["app_id"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
