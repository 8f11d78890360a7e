"""Where keys are kept: one SQLite file behind two engines, a bounded cache before it, and the feed that empties that.

`gateway.assembly` alone imports this package and hands its parts to the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.keys.rules import KeyRules
from gateway.keys.service import KeyService
from gateway.stores.sqlite import SqliteKeyBook, SqliteKeyStore
from gateway.stores.sqlite_file import prepare, sqlite_path


def open_key_service(store_url: str, *, create: bool = False, rules: KeyRules | None = None) -> KeyService:
    """The control plane over the store at `store_url`, migrated if need be; made only with `create`, so that a
    mistyped place is an error and not an empty store. Raises: StoreUnavailable
    """
    path = sqlite_path(store_url).absolute()
    return KeyService(SqliteKeyBook(prepare(path, create=create)), rules=rules, place=str(path))


def open_key_store(
    store_url: str, *, lookup_timeout_seconds: float = 0.5, on_made: Callable[[Path], None] = lambda _: None
) -> SqliteKeyStore:
    """The data plane's reader of the same store, migrated if need be, or made: then `on_made` is told its absolute
    path. Raises: StoreUnavailable
    """
    path = sqlite_path(store_url)
    prepare(path, on_made=on_made).dispose()
    return SqliteKeyStore(path, lookup_timeout_seconds=lookup_timeout_seconds)
