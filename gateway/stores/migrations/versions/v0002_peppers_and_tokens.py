"""Keys under a pepper, and user tokens that were revoked. Keys made before have digests of another kind: they end."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_REASON = '{"reason":"made before keys were kept under a pepper; make it anew"}'


def upgrade() -> None:
    """From 0001."""
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "INSERT INTO key_events (key_id, app_id, event, happened_at, actor, detail) "
            "SELECT id, app_id, 'revoked', :now, 'migration', :detail FROM keys WHERE state = 'active' ORDER BY id"
        ),
        {"now": round(time.time() * 1_000_000), "detail": _REASON},
    )
    connection.execute(sa.text("UPDATE keys SET state = 'revoked' WHERE state = 'active'"))
    op.add_column("keys", sa.Column("pepper_id", sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_table(
        "token_revocations",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("key_events.position", name="fk_token_revocations_position"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("app_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_token_revocations_expires_at", "token_revocations", ["expires_at"])
    op.create_table("peppers", sa.Column("id", sa.Text, primary_key=True))
