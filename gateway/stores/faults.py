"""From a driver's exception to `StoreUnavailable`, in words for the operator and without anything that was stored."""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.ports import StoreUnavailable

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


def unavailable(error: BaseException) -> StoreUnavailable:
    """What to raise instead of `error`. Its own text is not used: SQLite quotes stored text in some of its messages."""
    name = _sqlite_name(error)
    if name is None and isinstance(error, OSError):
        return StoreUnavailable(f"the key store's file cannot be reached: {error.strerror}")

    if name is None:
        return StoreUnavailable(f"the key store failed ({type(error).__name__})")

    # SQLITE_IOERR_READ and its like are refinements of the two-word name.
    sentence = _SENTENCES.get("_".join(name.split("_")[:2]), "failed")
    return StoreUnavailable(f"the key store {sentence} ({name})")


def _sqlite_name(error: BaseException) -> str | None:
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlite_errorname", None) if isinstance(cause, sqlite3.Error) else None
