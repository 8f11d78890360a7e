"""`bearergate tokens`: what is revoked is said, listed and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import apps, keys, tokens


class Terminal:
    """Runs commands against one store."""

    def __init__(self, store: str) -> None:
        self._environment = {"BEARERGATE_STORE": store, "LOGNAME": "ann", "COLUMNS": "200"}
        self.app_id = CliRunner().invoke(apps.app, ["create", "Fleet"], env=self._environment).stdout.strip()

    def tokens(self, *arguments: str) -> Result:
        return CliRunner().invoke(tokens.app, arguments, env=self._environment)

    def history(self) -> str:
        return CliRunner().invoke(keys.app, ["history"], env=self._environment).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(f"sqlite:///{tmp_path / 'keys.sqlite3'}")


def test_one_token_is_revoked_by_its_issuer_and_id(terminal: Terminal) -> None:
    done = terminal.tokens("revoke", "--issuer", "https://i.test", "--token-id", "j-1", "--reason", "lost")

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "revoked: token j-1 of issuer https://i.test\n"
    [listed] = json.loads(terminal.tokens("revocations", "--json").stdout)
    assert ("https://i.test", "j-1", None) == (listed["issuer"], listed["token_id"], listed["issued_before"])
    assert "tokens_revoked" in terminal.history()
    assert "reason='lost'" in terminal.history()


def test_tokens_of_a_user_of_an_app_are_revoked_up_to_an_instant(terminal: Terminal) -> None:
    done = terminal.tokens(
        "revoke", "--user", "u-1", "--app", terminal.app_id, "--before", "2026-01-01T12:00:00Z", "--expires", "30d"
    )

    assert done.exit_code == 0
    told = f"revoked: tokens of user u-1 of App {terminal.app_id} of every issuer that were issued before 2026-01-01T"
    assert done.stderr.startswith(told)
    shown = terminal.tokens("revocations").stdout.splitlines()
    assert shown[0].split()[:4] == ["ISSUER", "TOKEN", "USER", "APP"]
    assert shown[1].split()[:4] == ["every", "-", "u-1", terminal.app_id]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name either a token's id, or a user, an App, or both"),
        (("--token-id", "j"), "a token's id means something for its issuer only; name it"),
        (("--user", "u", "--before", "9999-01-01"), "tokens that are yet to be issued cannot be revoked"),
        (("--app", "nobody"), "there is no App with the id `nobody`"),
    ],
)
def test_what_cannot_be_revoked_is_told(terminal: Terminal, arguments: tuple[str, ...], told: str) -> None:
    refused = terminal.tokens("revoke", *arguments)

    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"bearergate: {told}")
