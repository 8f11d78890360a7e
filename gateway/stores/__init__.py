"""Where keys are kept: one SQLite file behind two engines, a bounded cache before it, and the feed that empties that.

`gateway.assembly` alone imports this package and hands its parts to the rest.
"""

from __future__ import annotations

from gateway.keys.rules import KeyRules
from gateway.keys.service import KeyService
from gateway.stores.sqlite import SqliteKeyBook, SqliteKeyStore
from gateway.stores.sqlite_file import prepare, sqlite_path


def open_key_service(store_url: str, *, rules: KeyRules | None = None) -> KeyService:
    """The control plane over the store at `store_url`, made and migrated if need be. Raises: StoreUnavailable"""
    return KeyService(SqliteKeyBook(prepare(sqlite_path(store_url))), rules=rules)


def open_key_store(store_url: str, *, lookup_timeout_seconds: float = 0.5) -> SqliteKeyStore:
    """The data plane's reader of the same store, made and migrated if need be. Raises: StoreUnavailable"""
    path = sqlite_path(store_url)
    prepare(path).dispose()
    return SqliteKeyStore(path, lookup_timeout_seconds=lookup_timeout_seconds)
