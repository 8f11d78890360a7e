"""A store made ready: from nothing, from an older step, and not from what is not ours."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import gateway.stores.migrations
from gateway.core.lifecycle import KeyState
from gateway.ports import StoreUnavailable
from gateway.stores import open_key_service
from gateway.stores.schema import SCHEMA_REVISION, metadata
from gateway.stores.sqlite_file import prepare, sqlite_path

MIGRATIONS = Path(gateway.stores.migrations.__file__).parent


def shape_of(path: Path) -> dict[str, str]:
    """Everything in the file by name, with its SQL in one layout."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s+", " ", sql).replace(", )", ")") for name, sql in rows}


def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    prepare(tmp_path / "migrated").dispose()
    engine = create_engine(f"sqlite:///{tmp_path / 'declared'}")
    metadata.create_all(engine)
    engine.dispose()

    migrated = shape_of(tmp_path / "migrated")
    del migrated["alembic_version"]
    assert shape_of(tmp_path / "declared") == migrated


def test_the_migrations_are_one_line_of_numbers_that_ends_at_the_schema() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)

    steps = [step.revision for step in reversed(list(script.walk_revisions()))]
    assert [f"{number:04}" for number in range(1, len(steps) + 1)] == steps
    assert steps[-1] == SCHEMA_REVISION


def test_a_store_that_is_ready_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    prepare(path).dispose()
    before = path.read_bytes()

    prepare(path).dispose()

    assert before == path.read_bytes()


def test_a_store_is_made_with_the_mode_of_a_secret_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    umask = os.umask(0)
    try:
        prepare(path).dispose()
    finally:
        os.umask(umask)

    assert path.stat().st_mode & 0o777 == 0o600


def sql(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def make_newer(path: Path) -> None:
    prepare(path).dispose()
    sql(path, "UPDATE alembic_version SET version_num = '9999'")


def make_foreign(path: Path) -> None:
    sql(path, "CREATE TABLE recipes (name TEXT)")


def make_text(path: Path) -> None:
    path.write_text("this is not a database, however long one looks at it\n" * 100)


def make_truncated(path: Path) -> None:
    prepare(path).dispose()
    sql(path, "PRAGMA journal_mode = DELETE")
    path.write_bytes(path.read_bytes()[:5_000])


BAD_STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a newer schema": (make_newer, "schema is newer than this program or not ours; upgrade the program"),
    "another program's database": (make_foreign, "is a SQLite database of something else; name another one"),
    "a text": (make_text, r"the key store is not a SQLite database \(SQLITE_NOTADB\)"),
    "the first half of a store": (make_truncated, r"the key store is damaged \(SQLITE_CORRUPT\)"),
    "a folder": (Path.mkdir, r"the key store cannot be opened \(SQLITE_CANTOPEN"),
}


@pytest.mark.parametrize("state", BAD_STATES)
def test_what_is_not_a_store_is_refused_and_left_alone(tmp_path: Path, state: str) -> None:
    make, message = BAD_STATES[state]
    path = tmp_path / "keys.sqlite3"
    make(path)
    before = path.read_bytes() if path.is_file() else b""

    for create in (False, True):
        with pytest.raises(StoreUnavailable, match=message):
            open_key_service(f"sqlite:///{path}", create=create)

    after = path.read_bytes() if path.is_file() else b""
    assert before == after


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    path.touch()

    with open_key_service(f"sqlite:///{path}", create=True) as service:
        assert service.list_apps() == []


@pytest.mark.parametrize("file", ["keys.sqlite3", "absent/keys.sqlite3", "empty"])
def test_only_who_may_make_a_store_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    (tmp_path / "empty").touch()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreUnavailable) as unavailable:
        open_key_service(f"sqlite:///{file}")

    message = f"there is no key store at `{tmp_path / file}`; set `BEARERGATE_STORE` or `--store`"
    assert message == str(unavailable.value)
    assert ["empty"] == [found.name for found in tmp_path.iterdir()]
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_store_that_was_made_is_told_once_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[Path] = []

    for _ in range(2):
        prepare(Path("keys.sqlite3"), on_made=told.append).dispose()

    assert [tmp_path / "keys.sqlite3"] == told


def test_a_store_in_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be made: No such file or directory; make the folder `"):
        open_key_service(f"sqlite:///{tmp_path / 'absent' / 'keys.sqlite3'}", create=True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///keys.sqlite3", "keys.sqlite3"),
        ("sqlite:////var/lib/bearergate/keys.sqlite3", "/var/lib/bearergate/keys.sqlite3"),
        ("sqlite:///a folder/keys", "a folder/keys"),
    ],
)
def test_a_store_url_names_a_file(url: str, path: str) -> None:
    assert Path(path) == sqlite_path(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is not understood; write `sqlite:///FILE`"),
        ("keys.sqlite3", "is not understood; write `sqlite:///FILE`"),
        ("sqlite://", "must name a file and nothing else"),
        ("sqlite:///", "must name a file and nothing else"),
        ("sqlite:///:memory:", "must name a file and nothing else"),
        ("sqlite:///keys?mode=ro", "must name a file and nothing else"),
        ("sqlite:///file:keys?uri=true", "must name a file and nothing else"),
        ("sqlite://host/keys", "must name a file and nothing else"),
        ("sqlite+pysqlite:///keys", "stores of the kind `sqlite\\+pysqlite` are not known"),
        ("mysql://root:canary@db/keys", "stores of the kind `mysql` are not known"),
        ("postgresql://root:canary@db:nonsense/keys", "store"),
    ],
)
def test_another_url_is_refused_without_quoting_it(url: str, message: str) -> None:
    with pytest.raises(StoreUnavailable, match=message) as unavailable:
        sqlite_path(url)

    assert "canary" not in str(unavailable.value)


def at_step(path: Path, revision: str) -> None:
    """A store as a program of that revision made it."""
    sql(path, "PRAGMA journal_mode = WAL")
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_keys_from_before_peppers_are_revoked_with_a_line_of_history_each(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    at_step(path, "0001")
    sql(
        path,
        "INSERT INTO apps VALUES ('app1', 'A', '[]', 'active', NULL, 0);"
        "INSERT INTO keys VALUES ('k1', 'app1', 'api_key', zeroblob(32), 'n', '[\"S\"]', 1, 'active', 0, 'abcd');"
        "INSERT INTO keys VALUES ('k2', 'app1', 'api_key', randomblob(32), 'n', '[\"S\"]', 1, 'revoked', 0, 'abcd');",
    )

    with open_key_service(f"sqlite:///{path}") as service:
        assert [KeyState.REVOKED, KeyState.REVOKED] == [key.state for key in service.list_keys()]
        [line] = service.history()

    assert ("k1", "revoked", "migration") == (line.key_id, line.event, line.actor)
    assert "make it anew" in line.detail["reason"]


def test_keys_from_before_rotation_go_on_as_they_are_and_can_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    at_step(path, "0002")
    sql(
        path,
        "INSERT INTO apps VALUES ('app1', 'A', '[]', 'active', NULL, 0);"
        "INSERT INTO keys VALUES "
        "('key00001', 'app1', 'api_key', randomblob(32), 'n', '[\"S\"]', 9e15, 'active', 0, 'abcd', '');",
    )

    with open_key_service(f"sqlite:///{path}") as service:
        [key] = service.list_keys()
        rotation = service.rotate_key("key00001")

    assert (KeyState.ACTIVE, None) == (key.state, key.successor_id)
    assert rotation.new.key.id == rotation.old.successor_id
