"""Keys that were rotated know the key that replaces them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From 0002."""
    op.add_column("keys", sa.Column("successor_id", sa.Text))
