"""Brings a store's schema up to date by numbered steps, on a connection whose transaction excludes others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from gateway.ports import StoreUnavailable

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """To the newest step. The caller commits. Raises: StoreUnavailable"""
    # Only here, because a store that is ready, which is nearly every time, need not wait 0.15 s for alembic to load.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        message = "the key store's schema is newer than this program or not ours; upgrade the program"
        raise StoreUnavailable(message) from error
