"""The store in a SQLite file: the contract, and what a file, other processes and damage add to it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing as closing_now
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from gateway.core.credential import Credential, CredentialKind, KeyId
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.service import NewKey
from gateway.ports import StoreUnavailable
from gateway.stores import open_key_service, open_key_store
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from gateway.stores.sqlite import SqliteKeyBook, SqliteKeyStore
from gateway.stores.sqlite_file import prepare
from tests.stores.contract import (
    KeyStoreContract,
    Stored,
    a_digest,
    closing,
    credential_of,
    rotate_at_once,
    service_over,
)
from tests.support.manual_clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite3"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
async def stored(path: Path) -> AsyncIterator[Stored]:
    async with closing(
        Stored(SqliteKeyBook(prepare(path)), SqliteKeyStore(path, lookup_timeout_seconds=10.0))
    ) as opened:
        yield opened


class TestSqliteKeyStore(KeyStoreContract):
    """The contract."""


def new_key(stored: Stored) -> NewKey:
    service = service_over(stored.book)
    return service.create_key(service.create_app("A").id, name="k", scopes=["USER_READ"])


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as a vandal, or a backup program, has it."""
    with closing_now(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# -- what the file is


async def test_the_file_and_its_logs_are_readable_by_their_owner_alone(stored: Stored, path: Path) -> None:
    new_key(stored)
    with raw(path) as held:
        held.execute("SELECT count(*) FROM keys").fetchall()
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert modes == {"keys.sqlite3": 0o600, "keys.sqlite3-wal": 0o600, "keys.sqlite3-shm": 0o600}


def test_a_file_that_others_could_read_is_closed_to_them(path: Path, url: str) -> None:
    open_key_service(url, create=True).close()
    path.chmod(0o644)

    open_key_service(url).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_writer_has_a_log_full_synchronisation_foreign_keys_and_patience(path: Path) -> None:
    engine = prepare(path)
    with engine.connect() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked}

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


async def test_no_file_of_the_store_ever_holds_a_secret(stored: Stored, path: Path) -> None:
    service = service_over(stored.book)
    app = service.create_app("A")
    tokens = [service.create_key(app.id, name=f"key {n}", scopes=["S"]).token.reveal() for n in range(10)]
    for key in service.list_keys()[:5]:
        service.revoke_key(key.id, reason="spring cleaning")

    with raw(path) as held:
        held.execute("SELECT count(*) FROM keys").fetchall()
        dump = b"".join(file.read_bytes() for file in path.parent.iterdir())

    assert b"spring cleaning" in dump
    for token in tokens:
        key_id, secret = token.split(".")
        assert key_id.encode() in dump
        assert secret.encode() not in dump
        # Not a part of it either, but for the four characters that tell keys apart.
        assert not any(secret[at : at + 8].encode() in dump for at in range(41))


def test_history_can_be_neither_changed_nor_deleted(path: Path, url: str) -> None:
    with open_key_service(url, create=True) as service:
        service.create_app("A")

    with raw(path) as vandal:
        for statement in ("UPDATE key_events SET actor = 'nobody'", "DELETE FROM key_events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                vandal.execute(statement)


# -- many at once


def test_fifty_creates_at_once_with_nine_active_keys_leave_exactly_ten(url: str) -> None:
    with open_key_service(url, create=True) as service:
        app = service.create_app("A")
        for number in range(9):
            service.create_key(app.id, name=f"key {number}", scopes=["S"])

    start = threading.Barrier(50)
    outcomes: list[str] = []

    def create() -> None:
        with open_key_service(url) as own:
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
    with open_key_service(url) as service:
        assert len(service.list_keys(app.id)) == 10
        assert len(service.history(app_id=app.id)) == 11


def test_of_twenty_rotations_of_a_key_at_once_exactly_one_wins(url: str) -> None:
    outcomes = rotate_at_once(url, 20)

    assert 19 * [KeyFault.KEY_ROTATED.value] + ["rotated"] == sorted(outcomes)


CREATE_IN_ANOTHER_PROCESS = """
import sys
from gateway.keys.refused import KeyRefused
from gateway.stores import open_key_service
with open_key_service(sys.argv[1]) as service:
    sys.stdin.read()
    for _ in range(5):
        try:
            service.create_key(sys.argv[2], name="from afar", scopes=["S"])
        except KeyRefused as refused:
            print(refused.fault.value)
"""


def test_four_processes_creating_at_once_do_not_exceed_the_limit(url: str) -> None:
    with open_key_service(url, create=True) as service:
        app = service.create_app("A")

    command = [sys.executable, "-c", CREATE_IN_ANOTHER_PROCESS, url, app.id]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = "".join(child.communicate(timeout=60)[0] for child in children)

    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert said.count(KeyFault.TOO_MANY_KEYS.value) == 10
    with open_key_service(url) as service:
        assert len(service.list_keys(app.id)) == 10


def test_many_that_open_a_new_store_at_once_all_find_it_ready(url: str) -> None:
    start = threading.Barrier(16)
    faults: list[BaseException] = []

    def open_it() -> None:
        start.wait()
        try:
            open_key_service(url, create=True).close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []


async def test_readers_do_not_wait_for_a_writer(stored: Stored, path: Path) -> None:
    new = new_key(stored)
    with raw(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE keys SET name = 'half done'")

        record = await stored.store.find(credential_of(new))

        assert record is not None
        assert await stored.store.position() == 2
        writer.execute("ROLLBACK")


REVOKE_IN_ANOTHER_PROCESS = """
import sys
from gateway.stores import open_key_service
with open_key_service(sys.argv[1]) as service:
    service.revoke_key(sys.argv[2], reason="leaked")
"""


async def test_a_revocation_by_another_process_reaches_a_running_finder_with_the_next_poll(
    stored: Stored, url: str
) -> None:
    new = new_key(stored)
    clock = ManualClock()
    finder = CachedKeyFinder(stored.store, clock)
    feed = ChangeFeed(stored.store, finder, clock)
    await feed.poll_once()
    before = await finder.find(credential_of(new))
    assert before is not None
    assert before == finder.cached(before.digest)

    command = [sys.executable, "-c", REVOKE_IN_ANOTHER_PROCESS, url, new.key.id]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
    await feed.poll_once()

    after = await finder.find(credential_of(new))
    assert after is not None
    assert (before.state.value, after.state.value) == ("active", "revoked")


# -- what cannot be read is not a grant

DAMAGES = {
    "digest too short": "UPDATE keys SET digest = x'00'",
    "digest too long": "UPDATE keys SET digest = digest || x'00'",
    "digest as text": "UPDATE keys SET digest = 'a text of thirty-two letters....'",
    "scopes not JSON": "UPDATE keys SET scopes = '[oops'",
    "scopes not a list": """UPDATE keys SET scopes = '{"USER_READ": true}'""",
    "scopes not strings": "UPDATE keys SET scopes = '[1]'",
    "scopes a number": "UPDATE keys SET scopes = 7",
    "scopes with bytes that are not UTF-8": "UPDATE keys SET scopes = CAST(x'5b22ff225d' AS TEXT)",
    "unknown state": "UPDATE keys SET state = 'ACTIVE'",
    "empty state": "UPDATE keys SET state = ''",
    "expiry as text": "UPDATE keys SET expires_at = 'never'",
    "expiry as a fraction": "UPDATE keys SET expires_at = 1e300",
    "unknown App state": "UPDATE apps SET state = 'paused'",
    "features not JSON": "UPDATE apps SET features = ''",
    "App id as bytes": "UPDATE keys SET app_id = x'00'; UPDATE apps SET id = x'00'",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_row_is_no_answer(stored: Stored, path: Path, damage: str) -> None:
    new = new_key(stored)
    with raw(path) as vandal:
        vandal.execute("PRAGMA ignore_check_constraints = ON")
        vandal.executescript(damage)

    with pytest.raises(StoreUnavailable) as unavailable:
        await stored.store.find(credential_of(new))

    assert "oops" not in str(unavailable.value)
    assert "\ufffd" not in str(unavailable.value)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE keys SET digest = NULL", "UPDATE keys SET scopes = NULL", "UPDATE keys SET expires_at = NULL"],
)
async def test_nothing_that_a_grant_needs_can_be_missing(stored: Stored, path: Path, damage: str) -> None:
    new_key(stored)

    with raw(path) as vandal, pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        vandal.execute(damage)


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT INTO key_events VALUES (9, 'k', x'00', 'created', 1, 'a', '{}')",
        "INSERT INTO key_events VALUES (9, x'00', 'app', 'created', 1, 'a', '{}')",
        "INSERT INTO key_events VALUES (9, 'k', 'app', 'created', 'noon', 'a', '{}')",
    ],
)
async def test_a_damaged_line_of_the_feed_is_no_answer(stored: Stored, path: Path, damage: str) -> None:
    with raw(path) as vandal:
        vandal.execute(damage)

    with pytest.raises(StoreUnavailable, match="a row of `key_events` is damaged: 9"):
        await stored.store.changes_since(0)


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        ("UPDATE apps SET key_limit = 'many'", "apps"),
        ("UPDATE keys SET kind = 'user_jwt'", "keys"),
        ("INSERT INTO key_events VALUES (9, 'k', 'app', 'created', 1, 'a', '[]')", "key_events"),
    ],
)
async def test_the_book_does_not_list_what_is_damaged(stored: Stored, path: Path, damage: str, table: str) -> None:
    new_key(stored)
    with raw(path) as vandal:
        vandal.execute(damage)

    with pytest.raises(StoreUnavailable, match=f"a row of `{table}` is damaged"):
        [*stored.book.apps(), *stored.book.keys(), *stored.book.history()]


async def test_a_faulty_statement_does_not_quote_its_parameters(stored: Stored, path: Path) -> None:
    new = new_key(stored)
    with raw(path) as vandal:
        vandal.execute("DROP TABLE keys")

    with pytest.raises(StoreUnavailable) as unavailable:
        await stored.store.find(credential_of(new))

    chain = [unavailable.value, unavailable.value.__cause__]
    assert not any(new.key.id in str(error) for error in chain)


# -- the file goes away, and another comes


async def test_a_moved_file_is_no_answer_and_its_return_is_noticed(stored: Stored, path: Path) -> None:
    new = new_key(stored)
    assert await stored.store.find(credential_of(new)) is not None

    moved = path.rename(path.with_name("moved"))
    with pytest.raises(StoreUnavailable, match="file cannot be reached: No such file or directory"):
        await stored.store.find(credential_of(new))
    with pytest.raises(StoreUnavailable):
        await stored.store.changes_since(0)
    assert not path.exists()

    moved.rename(path)
    assert await stored.store.find(credential_of(new)) is not None


async def test_a_restored_backup_is_read_and_empties_the_cache(stored: Stored, path: Path) -> None:
    service = service_over(stored.book)
    app = service.create_app("A")
    kept = service.create_key(app.id, name="kept", scopes=["S"])
    backup = path.with_name("backup")
    with raw(path) as source, raw(backup) as target:
        source.backup(target)
    lost = service.create_key(app.id, name="made after the backup", scopes=["S"])
    clock = ManualClock()
    finder = CachedKeyFinder(stored.store, clock)
    feed = ChangeFeed(stored.store, finder, clock)
    await feed.poll_once()
    assert await finder.find(credential_of(lost)) is not None

    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.replace(backup, path)
    await feed.poll_once()

    assert await finder.find(credential_of(lost)) is None
    assert await finder.find(credential_of(kept)) is not None
    assert feed.position == 2


async def test_a_store_that_does_not_answer_in_time_is_unavailable_and_recovers(
    stored: Stored, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = new_key(stored)
    hurried = SqliteKeyStore(path, lookup_timeout_seconds=0.0)

    with pytest.raises(StoreUnavailable, match="did not answer within"):
        await hurried.find(credential_of(new))

    monkeypatch.setattr(hurried, "_lookup_timeout", 5.0)
    assert await hurried.find(credential_of(new)) is not None
    await hurried.aclose()


async def test_a_reader_that_is_locked_out_says_so_and_does_not_wait_for_the_lock(path: Path) -> None:
    prepare(path).dispose()
    store = SqliteKeyStore(path, lookup_timeout_seconds=60.0)
    with raw(path) as hog:
        hog.execute("PRAGMA locking_mode = EXCLUSIVE")
        hog.execute("BEGIN EXCLUSIVE")

        with pytest.raises(StoreUnavailable, match=r"is locked by another writer \(SQLITE_BUSY\)"):
            await store.position()

        hog.execute("ROLLBACK")
    assert 0 == await store.position()
    await store.aclose()


async def test_look_ups_that_are_cancelled_half_way_leave_the_store_as_it_was(stored: Stored) -> None:
    asked = credential_of(new_key(stored))
    dice = random.Random(3)
    for _ in range(30):
        tasks = [asyncio.create_task(stored.store.find(asked)) for _ in range(4)]
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    found = await asyncio.gather(*(stored.store.find(asked) for _ in range(4)))
    assert all(record is not None for record in found)


async def test_a_full_disk_refuses_writes_and_still_answers_reads(path: Path) -> None:
    engine = prepare(path)
    book = SqliteKeyBook(engine)
    store = SqliteKeyStore(path)
    service = service_over(book)
    app = service.create_app("A")
    new = service.create_key(app.id, name="k", scopes=["S"])
    # The limit stands in for the disk: SQLite reports both alike.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))

    with pytest.raises(StoreUnavailable, match=r"no room left to write to \(SQLITE_FULL\)"):
        service.create_app("B" * 100, [f"feature{number}" for number in range(2_000)])

    assert await store.find(credential_of(new)) is not None
    assert [app] == service.list_apps()
    await store.aclose()
    book.close()


def test_a_writer_that_waits_too_long_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stores.sqlite_file.WRITER_WAIT_SECONDS", 0.0)
    book = SqliteKeyBook(prepare(path))
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable, match=r"is locked by another writer \(SQLITE_BUSY\)"):
            service_over(book).create_app("A")

        other.execute("ROLLBACK")
    book.close()


async def test_an_unwritten_digest_is_not_found_in_an_empty_store(url: str) -> None:
    store = open_key_store(url)

    assert await store.find(Credential(CredentialKind.LEGACY_KEY, KeyId(""), a_digest(1))) is None
    await store.aclose()


async def test_a_copied_store_works_where_it_was_put(stored: Stored, path: Path) -> None:
    new = new_key(stored)
    stored.book.close()
    elsewhere = path.with_name("a name with spaces, %41, ? and #.sqlite3")
    with raw(path) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, elsewhere)

    store = SqliteKeyStore(elsewhere)
    assert await store.find(credential_of(new)) is not None
    await store.aclose()
