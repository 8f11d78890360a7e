"""From a driver's exception to `StoreUnavailable`, in words for the operator and without anything that was stored."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING, Final

from gateway.ports import StoreUnavailable

if TYPE_CHECKING:
    import psycopg

_SENTENCES: Final = {
    "SQLITE_BUSY": "is locked by another writer",
    "SQLITE_LOCKED": "is locked by another writer",
    "SQLITE_FULL": "has no room left to write to",
    "SQLITE_READONLY": "may not be written",
    "SQLITE_PERM": "may not be opened",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_NOTADB": "is not a SQLite database",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_IOERR": "cannot be read or written",
}


_POSTGRES_SENTENCES: Final = {
    "57014": "did not answer in time",
    "57P01": "is shutting down",
    "57P02": "has crashed",
    "57P03": "is starting up",
    "55P03": "is locked by another writer",
    "53300": "takes no more connections",
    "53100": "has no room left to write to",
    "53200": "has no memory left",
    "42P01": "lacks one of our tables",
    "42703": "lacks one of our columns",
    "42501": "may not be read or written by this user",
    "25006": "is read-only",
    "28P01": "refused the password",
    "3D000": "has no such database",
}


def unavailable(error: BaseException) -> StoreUnavailable:
    """What to raise instead of `error`. Its own text is not used: SQLite quotes stored text in some of its messages."""
    cause = getattr(error, "orig", None) or error
    # Only where it was loaded can an error be one of its own; loading it takes a while.
    driver = sys.modules.get("psycopg")
    if driver is not None and isinstance(cause, driver.Error):
        return _postgres_unavailable(cause)

    name = _sqlite_name(error)
    if name is None and isinstance(error, OSError):
        return StoreUnavailable(f"the key store's file cannot be reached: {error.strerror}")

    if name is None:
        return StoreUnavailable(f"the key store failed ({type(error).__name__})")

    # SQLITE_IOERR_READ and its like are refinements of the two-word name.
    sentence = _SENTENCES.get("_".join(name.split("_")[:2]), "failed")
    return StoreUnavailable(f"the key store {sentence} ({name})")


def _postgres_unavailable(error: psycopg.Error) -> StoreUnavailable:
    if error.sqlstate is not None:
        return StoreUnavailable(
            f"the key store {_POSTGRES_SENTENCES.get(error.sqlstate, 'failed')} (SQLSTATE {error.sqlstate})"
        )

    # Facts: without a SQLSTATE it is libpq that speaks, of hosts and sockets, before or after any row.
    if isinstance(error, sys.modules["psycopg"].OperationalError):
        return StoreUnavailable(f"the key store cannot be reached: {' '.join(str(error).split())[:300]}")
    return StoreUnavailable(f"the key store failed ({type(error).__name__})")


def _sqlite_name(error: BaseException) -> str | None:
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlite_errorname", None) if isinstance(cause, sqlite3.Error) else None
