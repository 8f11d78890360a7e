"""The store in PostgreSQL: the contract, and what many writers, other owners and damage add to it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import create_engine

from gateway.core.credential import Credential, CredentialKind, KeyId
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.service import NewKey
from gateway.ports import StoreUnavailable
from gateway.stores import open_key_service, open_key_store
from gateway.stores.postgres import PostgresKeyBook, PostgresKeyStore
from gateway.stores.postgres_database import WRITER_LOCK, postgres_place, prepare_postgres
from gateway.stores.schema import metadata
from tests.stores.contract import (
    NOTE,
    KeyStoreContract,
    Stored,
    a_digest,
    an_app,
    closing,
    credential_of,
    rotate_at_once,
    service_over,
)
from tests.support.postgres import PostgresServer


@pytest.fixture
async def stored(postgres_url: str) -> AsyncIterator[Stored]:
    place = postgres_place(postgres_url)
    store = PostgresKeyStore(place, lookup_timeout_seconds=5.0)
    async with closing(Stored(PostgresKeyBook(prepare_postgres(place)), store)) as opened:
        yield opened


class TestPostgresKeyStore(KeyStoreContract):
    """The contract."""


def new_key(stored: Stored) -> NewKey:
    service = service_over(stored.book)
    return service.create_key(service.create_app("A").id, name="k", scopes=["USER_READ"])


# -- many at once


def test_fifty_creates_at_once_with_nine_active_keys_leave_exactly_ten(postgres_url: str) -> None:
    with open_key_service(postgres_url) as service:
        app = service.create_app("A")
        for number in range(9):
            service.create_key(app.id, name=f"key {number}", scopes=["S"])

    start = threading.Barrier(50)
    outcomes: list[str] = []

    def create() -> None:
        with open_key_service(postgres_url) as own:
            start.wait()
            try:
                own.create_key(app.id, name="one more", scopes=["S"])
                outcomes.append("created")
            except KeyRefused as refused:
                outcomes.append(refused.fault.value)

    threads = [threading.Thread(target=create) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["created"] + 49 * [KeyFault.TOO_MANY_KEYS.value] == sorted(outcomes)
    with open_key_service(postgres_url) as service:
        assert len(service.list_keys(app.id)) == 10
        assert len(service.history(app_id=app.id)) == 11


def test_of_twenty_rotations_of_a_key_at_once_exactly_one_wins(postgres_url: str) -> None:
    outcomes = rotate_at_once(postgres_url, 20)

    assert 19 * [KeyFault.KEY_ROTATED.value] + ["rotated"] == sorted(outcomes)


def test_many_that_open_an_empty_database_at_once_all_find_it_ready(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.empty_database())
    start = threading.Barrier(8)
    faults: list[BaseException] = []

    def open_it() -> None:
        start.wait()
        try:
            open_key_service(url, create=True).close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []


async def test_a_position_is_seen_only_when_all_before_it_are(stored: Stored, postgres_url: str) -> None:
    """Two writers at once: the second draws no position before the first has committed."""
    first = stored.book.writing()
    writing = first.__enter__()
    writing.add_app(an_app(1), NOTE)

    def second() -> None:
        with open_key_service(postgres_url) as service:
            service.create_app("B")

    waiting = asyncio.create_task(asyncio.to_thread(second))
    with psycopg.connect(postgres_url, autocommit=True) as watcher:
        asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while watcher.execute(asked).fetchone() != (1,):
            await asyncio.sleep(0.01)
        assert await stored.store.position() == 0
        first.__exit__(None, None, None)
    await waiting

    assert [1, 2] == [change.position for change in await stored.store.changes_since(0)]


async def test_readers_do_not_wait_for_a_writer(stored: Stored) -> None:
    new = new_key(stored)
    with stored.book.writing() as writing:
        writing.add_app(an_app(1), NOTE)

        assert await stored.store.find(credential_of(new)) is not None
        assert await stored.store.position() == 2


def test_a_writer_that_waits_too_long_says_so(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stores.postgres_database.WRITER_WAIT_SECONDS", 0.05)
    with psycopg.connect(postgres_url) as hog:
        hog.execute("SELECT pg_advisory_xact_lock(%s)", [WRITER_LOCK])

        with (
            open_key_service(postgres_url) as service,
            pytest.raises(StoreUnavailable, match="is locked by another writer"),
        ):
            service.create_app("A")


# -- what is ours and what is not


def shape_of(url: str) -> set[tuple[object, ...]]:
    """Every column, constraint, index and trigger."""
    asked = (
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT tgname::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    )
    with psycopg.connect(url) as connection:
        return {row for statement in asked for row in connection.execute(statement) if row[0] != "alembic_version"}


def test_the_migrations_make_exactly_the_tables_of_the_schema(postgres: PostgresServer, postgres_url: str) -> None:
    declared = postgres.url(postgres.empty_database())
    engine = create_engine(declared.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()

    assert shape_of(declared) == shape_of(postgres_url)


def test_keys_from_before_rotation_go_on_as_they_are_and_can_be_rotated(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """The step is taken back by hand: it added a column and nothing else."""
    with open_key_service(postgres_url) as service:
        made = service.create_key(service.create_app("A").id, name="k", scopes=["S"]).key
    postgres.execute(
        postgres_url, "ALTER TABLE keys DROP COLUMN successor_id; UPDATE alembic_version SET version_num = '0002'"
    )

    with open_key_service(postgres_url) as service:
        assert [made] == service.list_keys()
        rotation = service.rotate_key(made.id)

    assert rotation.new.key.id == rotation.old.successor_id


def test_the_history_can_be_neither_changed_nor_deleted(postgres: PostgresServer, postgres_url: str) -> None:
    with open_key_service(postgres_url) as service:
        service.create_app("A")

    for statement in (
        "UPDATE key_events SET actor = 'nobody'",
        "DELETE FROM key_events",
        "TRUNCATE key_events CASCADE",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            postgres.execute(postgres_url, statement)


def test_a_store_is_made_by_its_first_app_and_by_nothing_else(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.empty_database())

    with pytest.raises(StoreUnavailable, match=r"there is no key store in keys_[0-9]+ at 127\.0\.0\.1"):
        open_key_service(url)
    with open_key_service(url, create=True) as service:
        assert service.list_apps() == []


def test_a_database_of_something_else_is_left_alone(postgres: PostgresServer) -> None:
    name = postgres.empty_database()
    postgres.execute(name, "CREATE TABLE keys (id int)")

    with pytest.raises(StoreUnavailable, match="tables of something else"):
        open_key_service(postgres.url(name), create=True)


def test_a_newer_schema_is_left_alone(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.execute(postgres_url, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreUnavailable, match="newer than this program"):
        open_key_service(postgres_url)


async def test_whoever_makes_the_tables_is_told_of_it(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.empty_database())
    told: list[object] = []

    for _ in range(2):
        await open_key_store(url, on_made=told.append).aclose()

    assert [str(postgres_place(url))] == told


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cret@[::1/db",
        "postgresql://u:s3cret@h/db?port=x&nonsense=1",
        "postgresql://u:a@s3cret@h/db",
        "postgresql://u:a/s3cret@h/db",
        "postgresql://u:12/s3cret@h:1/db",
    ],
)
def test_a_url_that_is_not_understood_is_not_quoted(url: str) -> None:
    with pytest.raises(StoreUnavailable) as unavailable:
        open_key_service(url)

    assert "s3cret" not in str(unavailable.value)
    assert unavailable.value.__cause__ is None


def test_a_place_is_shown_without_its_password() -> None:
    place = postgres_place("postgresql://user:s3cret@db.internal/keys")

    assert str(place) == "keys at db.internal"
    assert "s3cret" not in repr(place)


def test_a_store_that_only_reads_is_refused(postgres: PostgresServer, postgres_url: str) -> None:
    """R5: a replica says of itself that it takes no writes, and lags."""
    database = postgres_url.rpartition("/")[2]
    postgres.execute("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")

    with pytest.raises(StoreUnavailable, match="session is read-only"):
        open_key_service(postgres_url)


# -- what cannot be read is not a grant

DAMAGES = {
    "scopes not JSON": "UPDATE keys SET scopes = '[oops'",
    "scopes not a list": """UPDATE keys SET scopes = '{"USER_READ": true}'""",
    "unknown state": "UPDATE keys SET state = 'ACTIVE'",
    "unknown App state": "UPDATE apps SET state = 'paused'",
    "features not JSON": "UPDATE apps SET features = ''",
    "no digest": "ALTER TABLE keys ALTER digest DROP NOT NULL; UPDATE keys SET digest = NULL",
    "digest too short": "ALTER TABLE keys DROP CONSTRAINT ck_keys_digest; UPDATE keys SET digest = '\\x00'",
    "no expiry": "ALTER TABLE keys ALTER expires_at DROP NOT NULL; UPDATE keys SET expires_at = NULL",
    "digest as text": "ALTER TABLE keys DROP CONSTRAINT ck_keys_digest; ALTER TABLE keys ALTER digest TYPE text",
    "a column less": "ALTER TABLE keys DROP COLUMN scopes",
    "a table less": "DROP TABLE keys",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_row_is_no_answer(
    stored: Stored, postgres: PostgresServer, postgres_url: str, damage: str
) -> None:
    """R4"""
    new = new_key(stored)
    postgres.execute(postgres_url, damage)

    with pytest.raises(StoreUnavailable) as unavailable:
        await stored.store.find(credential_of(new))

    assert "oops" not in str(unavailable.value)


async def test_a_faulty_statement_does_not_quote_its_parameters(
    stored: Stored, postgres: PostgresServer, postgres_url: str
) -> None:
    new = new_key(stored)
    postgres.execute(postgres_url, "ALTER TABLE keys RENAME digest TO other")

    with pytest.raises(StoreUnavailable, match="lacks one of our columns") as unavailable:
        await stored.store.find(credential_of(new))

    assert new.key.id not in str(unavailable.value)


async def test_no_table_holds_a_token_or_its_digest(stored: Stored, postgres_url: str) -> None:
    """E24, E27"""
    new = new_key(stored)
    credential = credential_of(new)

    with psycopg.connect(postgres_url) as thief:
        kept = [
            row[0]
            for table in ("apps", "keys", "key_events")
            for row in thief.execute(f"SELECT t::text FROM {table} t")
        ]

    assert any(new.key.id in row for row in kept)
    assert not any(new.token.reveal()[16:48] in row or credential.digest.hex() in row for row in kept)


# -- connections


async def test_look_ups_that_are_cancelled_half_way_leave_no_connection_behind(
    stored: Stored, postgres: PostgresServer, postgres_url: str
) -> None:
    asked = credential_of(new_key(stored))
    dice = random.Random(3)
    for _ in range(8):
        tasks = [asyncio.create_task(stored.store.find(asked)) for _ in range(6)]
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An attempt that was given up counts as one that failed: the next waits a moment.
        while True:
            try:
                assert await stored.store.find(asked) is not None
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)

    found = await asyncio.gather(*(stored.store.find(asked) for _ in range(20)))
    assert all(record is not None for record in found)
    # Those that were given up end as soon as their server processes notice.
    async with asyncio.timeout(5):
        while len(postgres.backends(postgres_url)) > 4:
            await asyncio.sleep(0.02)


async def test_an_unwritten_digest_is_not_found_in_an_empty_store(postgres_url: str) -> None:
    store = open_key_store(postgres_url)

    assert await store.find(Credential(CredentialKind.LEGACY_KEY, KeyId(""), a_digest(1))) is None
    await store.aclose()
