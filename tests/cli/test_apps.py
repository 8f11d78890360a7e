"""`bearergate apps`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.assembly.keys import open_key_service
from gateway.cli.apps import app


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keys.sqlite3'}"


def run(*arguments: str, store: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"BEARERGATE_STORE": store, "LOGNAME": "ann", "COLUMNS": "200"})


def test_create_prints_the_id_alone_and_list_shows_the_app(store: str) -> None:
    created = run("create", "Fleet", "--feature", "engagement", "--feature", "beta", "--key-limit", "3", store=store)
    assert (created.exit_code, created.stderr) == (0, "")
    app_id = created.stdout.strip()

    listed = run("list", store=store)
    assert [["ID", "STATE", "FEATURES", "NAME"], [app_id, "active", "beta", "engagement", "Fleet"]] == [
        line.split() for line in listed.stdout.splitlines()
    ]

    (described,) = json.loads(run("list", "--json", store=store).stdout)
    assert {"features": ["beta", "engagement"], "id": app_id, "key_limit": 3, "name": "Fleet", "state": "active"} == {
        name: value for name, value in described.items() if name != "created_at"
    }


def test_a_disabled_app_is_listed_as_such_until_it_is_enabled(store: str) -> None:
    app_id = run("create", "Fleet", store=store).stdout.strip()

    assert f"App {app_id} is disabled: gateways refuse its keys\n" == run("disable", app_id, store=store).stderr
    again = run("disable", app_id, store=store)
    assert (0, f"App {app_id} was already disabled: gateways refuse its keys\n") == (again.exit_code, again.stderr)
    assert "disabled" in run("list", store=store).stdout
    assert f"App {app_id} is enabled\n" == run("enable", app_id, store=store).stderr
    assert f"App {app_id} was already enabled\n" == run("enable", app_id, store=store).stderr
    assert "disabled" not in run("list", store=store).stdout


def test_an_empty_store_lists_nothing(store: str) -> None:
    open_key_service(store, create=True).close()

    assert run("list", store=store).stdout == "ID  STATE  FEATURES  NAME\n"
    assert json.loads(run("list", "--json", store=store).stdout) == []


@pytest.mark.parametrize("command", [("list",), ("disable", "a"), ("enable", "a")])
def test_only_create_makes_a_store(tmp_path: Path, store: str, command: tuple[str, ...]) -> None:
    result = run(*command, store=store)

    message = f"there is no key store at `{tmp_path / 'keys.sqlite3'}`; set `BEARERGATE_STORE` or `--store`"
    assert (1, "", f"bearergate: {message}\n") == (result.exit_code, result.stdout, result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_app_is_said_with_the_store_that_was_asked(tmp_path: Path, store: str) -> None:
    run("create", "Fleet", store=store)

    result = run("disable", "nobody", store=store)

    message = f"there is no App with the id `nobody` in the key store `{tmp_path / 'keys.sqlite3'}`; see `apps list`"
    assert (1, "", f"bearergate: {message}\n") == (result.exit_code, result.stdout, result.stderr)


def test_the_option_wins_over_the_environment(store: str, tmp_path: Path) -> None:
    run("create", "Fleet", "--store", f"sqlite:///{tmp_path / 'other.sqlite3'}", store=store)

    assert (tmp_path / "other.sqlite3").exists()
    assert not (tmp_path / "keys.sqlite3").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("create", ""), 1, "bearergate: the name of an App must have 1 to 100 characters and not be blank\n"),
        (
            ("create", "A", "--feature", "a b"),
            1,
            "bearergate: feature 'a b' is not a name: a letter, then up to 63 of ",
        ),
        (("create", "A", "--key-limit", "0"), 1, "bearergate: the limit of active keys must be 1 to 1000000; "),
        (
            ("list", "--store", "redis://x"),
            1,
            "bearergate: stores of the kind `redis` are not known; write `sqlite:///FILE` or `postgresql://…`\n",
        ),
        (("list", "--store", "sqlite:////nowhere/x"), 1, "bearergate: there is no key store at `/nowhere/x`; set "),
        (
            ("create", "A", "--store", "sqlite:////nowhere/x"),
            1,
            "bearergate: the key store `/nowhere/x` cannot be made: No such file or directory; make the folder ",
        ),
        (("create",), 2, "Usage: "),
        (("create", "A", "--key-limit", "many"), 2, "Usage: "),
        (("rename", "A"), 2, "Usage: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line_on_standard_error(
    store: str, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    result = run(*arguments, store=store)

    assert (exit_code, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(message)
    assert exit_code == 2 or result.stderr.count("\n") == 1
