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
        self._environment = {"BEARERGATE_STORE": store, "LOGNAME": "ann", "COLUMNS": "200", "BEARERGATE_POLICY": ""}
        self.app_id = CliRunner().invoke(apps.app, ["create", "Fleet"], env=self._environment).stdout.strip()

    def keys(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(keys.app, arguments, env={**self._environment, **environment})

    def create(self, *arguments: str, **environment: str) -> Result:
        return self.keys("create", "--app", self.app_id, "--name", "nightly", *arguments, **environment)


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
        (("--scope", "a b"), 1, "bearergate: scope 'a b' is not a name: "),
        (("--scope", "A", "--expires", "soon"), 1, "bearergate: expiry 'soon' is not understood; write `90d`, "),
        (("--scope", "A", "--expires", "0d"), 1, "bearergate: the expiry is in the past; choose a later one\n"),
        (
            ("--scope", "A", "--expires", "400d"),
            1,
            "bearergate: the expiry is too late: a key lives one year at most, here",
        ),
        (("--scope", "A", "--app", "nobody"), 1, "bearergate: there is no App with the id `nobody` in the key store `"),
        (
            ("--scope", "A", "--expires", "2027-13-01"),
            1,
            "bearergate: expiry '2027-13-01' is not a day of the calendar",
        ),
        (("--scope", "A,B"), 1, "bearergate: scope 'A,B' is not a name: "),
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


def test_a_create_without_a_scope_shows_how_one_is_given(terminal: Terminal) -> None:
    refused = terminal.create()

    assert refused.exit_code == 2
    assert "a key needs at least one, such as `--scope USER_READ`" in refused.stderr


@pytest.mark.parametrize(
    "command",
    [("list",), ("revoke", "a"), ("rotate", "a"), ("rename", "a", "b"), ("history",), ("create", "--scope", "A")],
)
def test_no_command_makes_a_store(terminal: Terminal, tmp_path: Path, command: tuple[str, ...]) -> None:
    before = sorted(tmp_path.iterdir())
    call = terminal.create if command[0] == "create" else terminal.keys
    arguments = command[1:] if command[0] == "create" else command

    refused = call(*arguments, "--store", f"sqlite:///{tmp_path / 'typo.sqlite3'}")

    message = f"there is no key store at `{tmp_path / 'typo.sqlite3'}`; set `BEARERGATE_STORE` or `--store`"
    assert (1, "", f"bearergate: {message}\n") == (refused.exit_code, refused.stdout, refused.stderr)
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("list", "--app", "nope"), "App"),
        (("history", "--app", "nope"), "App"),
        (("history", "--key", "nope"), "key"),
        (("revoke", "nope"), "key"),
        (("rotate", "nope"), "key"),
        (("rename", "nope", "n"), "key"),
    ],
)
def test_what_is_unknown_is_said_with_the_store_that_was_asked(
    terminal: Terminal, tmp_path: Path, command: tuple[str, ...], what: str
) -> None:
    refused = terminal.keys(*command)

    place = tmp_path / "keys.sqlite3"
    message = f"there is no {what} with the id `nope` in the key store `{place}`; see `{what.lower()}s list`"
    assert (1, "", f"bearergate: {message}\n") == (refused.exit_code, refused.stdout, refused.stderr)


def test_the_eleventh_key_is_refused_with_a_line_for_each_candidate(terminal: Terminal) -> None:
    ids = [terminal.create("--scope", "A").stdout.split(".")[0] for _ in range(10)]

    refused = terminal.create("--scope", "A")

    assert (refused.exit_code, refused.stdout) == (1, "")
    first, *candidates = refused.stderr.splitlines()
    assert (
        f"bearergate: App `{terminal.app_id}` has 10 active keys of 10 allowed; end one with `keys revoke ID`" == first
    )
    shown = [re.fullmatch(r"bearergate:   (\w+)  until \S+Z  nightly", line) for line in candidates]
    assert sorted(ids) == sorted(line[1] for line in shown if line)


def test_a_policy_checks_the_scopes_and_makes_them_canonical(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)

    created = terminal.create("--scope", "user.read", "--policy", str(policy), "--json")
    unknown = terminal.create("--scope", "USER_REED", "--policy", str(policy))
    not_for_all = terminal.create("--scope", "FAKE_DATA_INSERT", "--policy", str(policy))

    assert json.loads(created.stdout)["scopes"] == ["USER_READ"]
    assert (unknown.exit_code, not_for_all.exit_code) == (1, 1)
    assert "bearergate: scope `USER_REED` is not known; did you mean `USER_READ`? known scopes: " in unknown.stderr
    assert "bearergate: scope `FAKE_DATA_INSERT` is only for Apps with the feature `engagement`" in not_for_all.stderr


def test_the_policy_is_taken_from_the_environment(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)

    refused = terminal.create("--scope", "USER_RAED", BEARERGATE_POLICY=str(policy))
    created = terminal.create("--scope", "USER_READ", BEARERGATE_POLICY=str(policy))

    assert (refused.exit_code, created.exit_code) == (1, 0)
    assert "scope `USER_RAED` is not known; did you mean `USER_READ`?" in refused.stderr
    assert "not checked" not in created.stderr


def test_without_a_policy_it_is_said_that_the_scopes_were_not_checked(terminal: Terminal) -> None:
    created = terminal.create("--scope", "USER_RAED")

    assert created.exit_code == 0
    assert "scopes were not checked; give `--policy`, or set `BEARERGATE_POLICY`\n" in created.stderr


def test_a_faulty_policy_makes_no_key(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrutes: []\n")

    refused = terminal.create("--scope", "USER_READ", "--policy", str(policy))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"bearergate: {policy}:2:1: " in refused.stderr


# -- rotation and names


def test_rotate_prints_the_successors_token_alone_and_says_when_the_old_key_ends(terminal: Terminal) -> None:
    old = terminal.create("--scope", "A").stdout.split(".")[0]

    rotated = terminal.keys("rotate", old, "--overlap", "12h")

    assert rotated.exit_code == 0
    assert re.fullmatch(r"xk[A-Za-z0-9]{13}\.[A-Za-z0-9]{48}\n", rotated.stdout)
    new, secret = rotated.stdout.strip().split(".")
    assert f"key {new} expires at " in rotated.stderr
    assert re.search(rf"^key {old}, which it replaces, ends at \S+Z$", rotated.stderr, re.MULTILINE)
    assert "it is not shown again" in rotated.stderr
    assert secret not in rotated.stderr


def test_rotate_without_an_overlap_revokes_the_old_key(terminal: Terminal) -> None:
    old = terminal.create("--scope", "A").stdout.split(".")[0]

    rotated = terminal.keys("rotate", old, "--overlap", "0")

    assert f"key {old}, which it replaces, is revoked\n" in rotated.stderr
    assert [("revoked"), ("active")] == [key["state"] for key in json.loads(terminal.keys("list", "--json").stdout)]


def test_rotate_for_programs_is_one_json_object_with_both_keys(terminal: Terminal) -> None:
    old = terminal.create("--scope", "A", "--scope", "B").stdout.split(".")[0]

    rotated = terminal.keys("rotate", old, "--scope", "B", "--name", "weekly", "--expires", "90d", "--json")

    shown = json.loads(rotated.stdout)
    assert (["B"], "weekly", old, None) == tuple(
        shown[field] for field in ("scopes", "name", "predecessor", "successor")
    )
    assert shown["token"].startswith(shown["id"] + ".")
    assert (old, shown["id"], "active") == tuple(shown["old"][field] for field in ("id", "successor", "state"))


def test_list_shows_who_replaces_whom_and_until_when(terminal: Terminal) -> None:
    old = terminal.create("--scope", "A").stdout.split(".")[0]
    new = terminal.keys("rotate", old).stdout.split(".")[0]

    first, second = json.loads(terminal.keys("list", "--json").stdout)
    rows = [line.split() for line in terminal.keys("list").stdout.splitlines()]

    assert (old, None, new) == (first["id"], first["predecessor"], first["successor"])
    assert (new, old, None) == (second["id"], second["predecessor"], second["successor"])
    assert first["expires_at"] < second["expires_at"]
    assert ["REPLACES", "SUCCESSOR"] == rows[0][-3:-1]
    assert [["-", new], [old, "-"]] == [row[-3:-1] for row in rows[1:]]
    assert [first["expires_at"], second["expires_at"]] == [row[3] for row in rows[1:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--overlap", "31d"), "bearergate: the overlap must be 0 to 30 days; 0 revokes the old key at once\n"),
        (("--overlap", "soon"), "bearergate: overlap 'soon' is not understood; write `7d`, `12h` or `0`\n"),
        (("--scope", "B"), "bearergate: scope `B` is not one of key `"),
        (("--expires", "400d"), "bearergate: the expiry is too late: "),
    ],
)
def test_a_faulty_rotation_is_one_line_on_standard_error(
    terminal: Terminal, arguments: tuple[str, ...], message: str
) -> None:
    old = terminal.create("--scope", "A").stdout.split(".")[0]

    refused = terminal.keys("rotate", old, *arguments)

    assert (1, "") == (refused.exit_code, refused.stdout)
    assert refused.stderr.startswith(message)
    assert refused.stderr.count("\n") == 1
    assert len(json.loads(terminal.keys("list", "--json").stdout)) == 1


def test_the_scopes_of_a_rotation_are_checked_against_the_policy(terminal: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    old = terminal.create("--scope", "user.read").stdout.split(".")[0]

    rotated = terminal.keys("rotate", old, "--policy", str(policy), "--json")

    assert json.loads(rotated.stdout)["scopes"] == ["USER_READ"]
    assert "not checked" not in rotated.stderr


def test_rename_changes_the_name_in_the_list(terminal: Terminal) -> None:
    key_id = terminal.create("--scope", "A").stdout.split(".")[0]
    [before] = json.loads(terminal.keys("list", "--json").stdout)

    renamed = terminal.keys("rename", key_id, "weekly report")

    assert (0, f"key {key_id} is named 'weekly report'\n") == (renamed.exit_code, renamed.stdout)
    assert [{**before, "name": "weekly report"}] == json.loads(terminal.keys("list", "--json").stdout)


def test_revoking_a_whole_token_does_not_print_it(terminal: Terminal) -> None:
    token = terminal.create("--scope", "A").stdout.strip()

    refused = terminal.keys("revoke", token)

    assert refused.exit_code == 1
    assert token not in refused.stderr
    assert "there is no key with the id that was given (ids are letters and digits, without a dot)" in refused.stderr


# -- peppers and imports


@pytest.fixture
def peppers(tmp_path: Path) -> str:
    """The setting for one pepper, `2026`."""
    file = tmp_path / "pepper"
    file.write_bytes(bytes(range(32)))
    return json.dumps({"2026": str(file)})


def test_keys_are_counted_by_pepper_and_one_without_active_keys_can_go(terminal: Terminal, peppers: str) -> None:
    terminal.create("--scope", "A")
    key_id = terminal.create("--scope", "A", BEARERGATE_PEPPERS=peppers).stdout.split(".")[0]

    counted = json.loads(terminal.keys("peppers", "--json").stdout)
    too_early = terminal.keys("peppers", "--forget", "2026")
    terminal.keys("revoke", key_id)
    gone = terminal.keys("peppers", "--forget", "2026")

    assert [{"id": "", "active": 1, "dead": 0}, {"id": "2026", "active": 1, "dead": 0}] == counted
    assert too_early.exit_code == 1
    assert "1 active keys are under the pepper `2026`" in too_early.stderr
    assert gone.stderr == "pepper 2026 is forgotten: its file can be deleted\n"
    assert terminal.keys("peppers").stdout.splitlines()[1].split() == ["-", "1", "1"]


def test_the_peppers_of_the_settings_file_are_the_commands_too(
    terminal: Terminal, peppers: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'listen = "127.0.0.1:80"\n[peppers]\n2026 = "{json.loads(peppers)["2026"]}"\n')

    created = terminal.create("--scope", "A", BEARERGATE_CONFIG=str(config))
    without = terminal.create("--scope", "A")

    assert created.exit_code == 0
    assert without.exit_code == 1
    assert "the store has keys under the pepper `2026`, which is not configured here" in without.stderr


@pytest.mark.parametrize(
    ("peppers", "told"),
    [
        ("{", "BEARERGATE_PEPPERS: this is not JSON"),
        ('{"2026": "/nowhere"}', "`/nowhere` of `2026` cannot be read: No such file"),
    ],
)
def test_peppers_that_cannot_be_read_end_the_command(terminal: Terminal, peppers: str, told: str) -> None:
    refused = terminal.create("--scope", "A", BEARERGATE_PEPPERS=peppers)

    assert refused.exit_code == 1
    assert told in refused.stderr


def test_digests_are_imported_from_a_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text(f"digest,app,name,scopes\n{'ab' * 32},{terminal.app_id},old,USER_READ\n")

    done = terminal.keys("import-digests", str(file))
    again = terminal.keys("import-digests", str(file))

    assert (done.exit_code, done.stderr) == (0, "1 keys were imported\n")
    assert again.exit_code == 1
    assert again.stderr == "bearergate: line 2: this key is in the store already; nothing was imported\n"
    assert terminal.keys("list").stdout.splitlines()[1].split()[1] == "-"


def test_a_file_that_cannot_be_imported_is_told(terminal: Terminal, tmp_path: Path) -> None:
    tmp_path.joinpath("latin").write_bytes(b"digest\xff")

    assert "is not UTF-8, at byte 7" in terminal.keys("import-digests", str(tmp_path / "latin")).stderr
    assert "cannot be read: No such file" in terminal.keys("import-digests", str(tmp_path / "none")).stderr
