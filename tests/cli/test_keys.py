"""`bearergate keys`: the token is printed once, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import apps, keys

POLICY = """\
version: 1
scopes:
  USER_READ: {means: read user data, aliases: [user.read]}
  FAKE_DATA_INSERT: {means: insert fake data, only_for: engagement}
routes:
  - name: users.read
    match: GET /users
    upstream: rest
    allow: {api_key: USER_READ}
"""


class Terminal:
    """Runs commands against one store."""

    def __init__(self, store: str) -> None:
        self._environment = {"BEARERGATE_STORE": store, "LOGNAME": "ann", "COLUMNS": "200"}
        self.app_id = CliRunner().invoke(apps.app, ["create", "Fleet"], env=self._environment).stdout.strip()

    def keys(self, *arguments: str) -> Result:
        return CliRunner().invoke(keys.app, arguments, env=self._environment)

    def create(self, *arguments: str) -> Result:
        return self.keys("create", "--app", self.app_id, "--name", "nightly", *arguments)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(f"sqlite:///{tmp_path / 'keys.sqlite3'}")


def test_create_prints_the_token_alone_on_standard_output_and_advice_on_the_other(terminal: Terminal) -> None:
    created = terminal.create("--scope", "USER_READ", "--expires", "90d")

    assert created.exit_code == 0
    assert re.fullmatch(r"xk[A-Za-z0-9]{13}\.[A-Za-z0-9]{48}\n", created.stdout)
    key_id, secret = created.stdout.strip().split(".")
    assert f"key {key_id} expires at " in created.stderr
    assert "it is not shown again" in created.stderr
    assert "a key for each scope" not in created.stderr
    assert secret not in created.stderr


def test_several_scopes_bring_the_advice_to_make_several_keys(terminal: Terminal) -> None:
    created = terminal.create("--scope", "USER_READ", "--scope", "USER_LINK", "--scope", "USER_READ")

    assert created.exit_code == 0
    assert "a key for each scope is safer" in created.stderr


def test_create_for_programs_is_one_json_object(terminal: Terminal) -> None:
    created = json.loads(terminal.create("--scope", "A", "--scope", "B", "--json").stdout)

    assert (terminal.app_id, "nightly", ["A", "B"], "active", "api_key") == tuple(
        created[field] for field in ("app", "name", "scopes", "state", "kind")
    )
    assert created["token"].startswith(created["id"] + ".")
    assert created["token"].endswith(created["hint"])


def test_list_never_shows_the_secret(terminal: Terminal) -> None:
    token = terminal.create("--scope", "A").stdout.strip()
    key_id, secret = token.split(".")

    for listed in (terminal.keys("list"), terminal.keys("list", "--json"), terminal.keys("history", "--json")):
        assert listed.exit_code == 0
        assert key_id in listed.stdout
        assert secret not in listed.stdout
        assert "token" not in listed.stdout
    assert f"...{secret[-4:]}" in terminal.keys("list").stdout


def test_list_can_be_limited_to_an_app(terminal: Terminal) -> None:
    terminal.create("--scope", "A")

    assert len(json.loads(terminal.keys("list", "--app", terminal.app_id, "--json").stdout)) == 1
    assert (
        terminal.keys("list", "--app", "nobody").stderr
        == "error: there is no App with the id `nobody`; see `apps list`\n"
    )


def test_the_state_in_the_list_is_derived(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.create("--scope", "A", "--expires", "1d")
    revoked = terminal.create("--scope", "A").stdout.split(".")[0]
    terminal.keys("revoke", revoked)
    states = [key["state"] for key in json.loads(terminal.keys("list", "--json").stdout)]
    assert states == ["active", "revoked"]

    monkeypatch.setattr("gateway.cli.keys.time.time", lambda: 4_000_000_000.0)

    states = [key["state"] for key in json.loads(terminal.keys("list", "--json").stdout)]
    assert states == ["expired", "revoked"]
    assert "expired" in terminal.keys("list").stdout


def test_revoke_says_when_and_says_so_the_second_time(terminal: Terminal) -> None:
    key_id = terminal.create("--scope", "A").stdout.split(".")[0]

    first = terminal.keys("revoke", key_id, "--reason", "left in a notebook")
    second = terminal.keys("revoke", key_id)

    assert (first.exit_code, second.exit_code) == (0, 0)
    instant = first.stdout.removeprefix(f"key {key_id} is revoked as of ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", instant)
    assert f"key {key_id} was already revoked at {instant}" == second.stdout


def test_history_says_who_and_why(terminal: Terminal) -> None:
    key_id = terminal.create("--scope", "A").stdout.split(".")[0]
    terminal.keys("revoke", key_id, "--reason", "left in a notebook")

    lines = json.loads(terminal.keys("history", "--json").stdout)
    shown = terminal.keys("history", "--key", key_id).stdout

    assert [line["event"] for line in lines] == ["app_created", "created", "revoked"]
    assert {"cli:ann"} == {line["actor"] for line in lines}
    assert [line["position"] for line in lines] == [1, 2, 3]
    assert len(shown.splitlines()) == 3
    assert "reason='left in a notebook'" in shown


def test_a_name_cannot_act_on_the_terminal(terminal: Terminal) -> None:
    created = terminal.keys("create", "--app", terminal.app_id, "--name", "\x1b[31mred", "--scope", "A")

    assert (created.exit_code, created.stdout) == (1, "")
    assert "\x1b" not in created.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--scope", "a b"), 1, "error: scope 'a b' is not a name: "),
        (("--scope", "A", "--expires", "soon"), 1, "error: expiry 'soon' is not understood; write `90d`, "),
        (("--scope", "A", "--expires", "0d"), 1, "error: the expiry is in the past; choose a later one\n"),
        (("--scope", "A", "--expires", "400d"), 1, "error: the expiry is too late: a key lives one year at most, here"),
        (("--scope", "A", "--app", "nobody"), 1, "error: there is no App with the id `nobody`; see `apps list`\n"),
        ((), 2, "Usage: "),
        (("--scope",), 2, ""),
    ],
)
def test_a_faulty_create_is_one_line_on_standard_error(
    terminal: Terminal, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    created = terminal.create(*arguments)

    assert (exit_code, "") == (created.exit_code, created.stdout)
    assert created.stderr.startswith(message)
    assert exit_code == 2 or created.stderr.count("\n") == 1
    assert json.loads(terminal.keys("list", "--json").stdout) == []


def test_the_eleventh_key_is_refused_in_one_line_with_the_candidates(terminal: Terminal) -> None:
    ids = [terminal.create("--scope", "A").stdout.split(".")[0] for _ in range(10)]

    refused = terminal.create("--scope", "A")

    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "has 10 active keys of 10 allowed; revoke one of `" in refused.stderr
    assert all(key_id in refused.stderr for key_id in ids)


def test_a_policy_checks_the_scopes_and_makes_them_canonical(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)

    created = terminal.create("--scope", "user.read", "--policy", str(policy), "--json")
    unknown = terminal.create("--scope", "USER_REED", "--policy", str(policy))
    not_for_all = terminal.create("--scope", "FAKE_DATA_INSERT", "--policy", str(policy))

    assert json.loads(created.stdout)["scopes"] == ["USER_READ"]
    assert (unknown.exit_code, not_for_all.exit_code) == (1, 1)
    assert "error: scope `USER_REED` is not known; did you mean `USER_READ`? known scopes: " in unknown.stderr
    assert "error: scope `FAKE_DATA_INSERT` is only for Apps with the feature `engagement`" in not_for_all.stderr


def test_a_faulty_policy_makes_no_key(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrutes: []\n")

    refused = terminal.create("--scope", "USER_READ", "--policy", str(policy))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"error: {policy}:2:1: " in refused.stderr


def test_revoking_a_whole_token_does_not_print_it(terminal: Terminal) -> None:
    token = terminal.create("--scope", "A").stdout.strip()

    refused = terminal.keys("revoke", token)

    assert refused.exit_code == 1
    assert token not in refused.stderr
    assert "there is no key with the id that was given (ids are letters and digits, without a dot)" in refused.stderr
