"""Where keys are kept: a SQLite file or a PostgreSQL database, a bounded cache before it, and the feed that empties it.

`gateway.assembly` alone imports this package and hands its parts to the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.keys.peppers import NO_PEPPERS, Peppers
from gateway.keys.rules import KeyRules
from gateway.keys.service import KeyService
from gateway.stores.sqlite import SqliteKeyBook, SqliteKeyStore
from gateway.stores.sqlite_file import prepare, sqlite_path

# The driver of PostgreSQL takes longer to load than all else here: only where there is such a store.
if TYPE_CHECKING:
    from gateway.stores.postgres import PostgresKeyStore
    from gateway.stores.postgres_listener import ChangeListener

_POSTGRES: Final = ("postgresql://", "postgres://")


def open_key_service(
    store_url: str, *, create: bool = False, rules: KeyRules | None = None, peppers: Peppers = NO_PEPPERS
) -> KeyService:
    """The control plane over the store at `store_url`, migrated if need be; made only with `create`, so that a
    mistyped place is an error and not an empty store. Raises: StoreUnavailable
    """
    if store_url.startswith(_POSTGRES):
        from gateway.stores.postgres import PostgresKeyBook  # noqa: PLC0415
        from gateway.stores.postgres_database import postgres_place, prepare_postgres  # noqa: PLC0415

        place = postgres_place(store_url)
        book = PostgresKeyBook(prepare_postgres(place, create=create), peppers)
        return KeyService(book, rules=rules, place=str(place))

    path = sqlite_path(store_url).absolute()
    return KeyService(SqliteKeyBook(prepare(path, create=create), peppers), rules=rules, place=str(path))


def open_key_store(
    store_url: str,
    *,
    peppers: Peppers = NO_PEPPERS,
    region: str = "",
    lookup_timeout_seconds: float = 0.5,
    on_made: Callable[[Path | str], None] = lambda _: None,
) -> SqliteKeyStore | PostgresKeyStore:
    """The data plane's reader of the same store, migrated if need be, or made: then `on_made` is told where.

    Raises: StoreUnavailable
    """
    if store_url.startswith(_POSTGRES):
        from gateway.stores.postgres import PostgresKeyStore  # noqa: PLC0415
        from gateway.stores.postgres_database import postgres_place, prepare_postgres  # noqa: PLC0415

        place = postgres_place(store_url)
        prepare_postgres(place, on_made=on_made).dispose()
        return PostgresKeyStore(place, peppers, region=region, lookup_timeout_seconds=lookup_timeout_seconds)

    path = sqlite_path(store_url)
    prepare(path, on_made=on_made).dispose()
    return SqliteKeyStore(path, peppers, region=region, lookup_timeout_seconds=lookup_timeout_seconds)


def open_change_listener(
    store_url: str, on_change: Callable[[], None], *, listen_url: str = ""
) -> ChangeListener | None:
    """What tells of changes at once, where the store can; `listen_url` is for a pooler that lets nobody listen.

    Raises: StoreUnavailable
    """
    if not store_url.startswith(_POSTGRES):
        return None

    from gateway.stores.postgres_database import postgres_place  # noqa: PLC0415
    from gateway.stores.postgres_listener import ChangeListener  # noqa: PLC0415

    return ChangeListener(postgres_place(listen_url or store_url), on_change)
