"""Process configuration: arguments before environment before file, and every fault told at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Settings, SettingsInvalid, address, read_settings
from gateway.wire.limits import Timeouts

WHOLE: dict[str, Any] = {"policy": Path("policies"), "upstreams": {"rest": "http://127.0.0.1:9000"}}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BEARERGATE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bearergate.toml"
    path.write_text(
        'policy = "from-file"\nlisten = "127.0.0.1:1"\n'
        '[upstreams]\nrest = "http://file:1"\ngql = "http://file:2"\n'
        "[timeouts]\nconnect = 1.0\nhead = 4.0\n"
    )
    return path


def faults(*args: Path, **arguments: Any) -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(*args, **arguments)
    return str(refused.value).split("\n")


def test_what_is_not_said_has_its_documented_value() -> None:
    settings = read_settings(**WHOLE)

    assert (Path("policies"), {"rest": "http://127.0.0.1:9000"}) == (settings.policy, settings.upstreams)
    assert ("127.0.0.1:8080", "127.0.0.1:9090") == (settings.listen, settings.admin_listen)
    assert ("sqlite:///bearergate.sqlite3", "-") == (settings.store, settings.access_log)
    assert Timeouts() == settings.timeouts.wire()
    assert 30.0 == settings.key_cache.ttl


def test_settings_are_read_once_and_not_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings(**WHOLE).listen = "127.0.0.1:1"


def test_the_file_is_read(file: Path) -> None:
    settings = read_settings(file)

    assert (Path("from-file"), "127.0.0.1:1") == (settings.policy, settings.listen)
    assert {"rest": "http://file:1", "gql": "http://file:2"} == settings.upstreams
    assert Timeouts(connect=1.0, head=4.0) == settings.timeouts.wire()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGATE_POLICY", "p")
    monkeypatch.setenv("BEARERGATE_UPSTREAMS__REST", "http://a:1")
    monkeypatch.setenv("BEARERGATE_TIMEOUTS__CONNECT", "9")
    monkeypatch.setenv("BEARERGATE_KEY_CACHE__TTL", "7")

    settings = read_settings()

    assert (Path("p"), {"rest": "http://a:1"}) == (settings.policy, settings.upstreams)
    assert (9.0, 7.0) == (settings.timeouts.connect, settings.key_cache.ttl)


@pytest.mark.parametrize(
    ("name", "value", "listen", "rest", "connect", "head"),
    [
        ("BEARERGATE_LISTEN", "127.0.0.1:2", "127.0.0.1:2", "http://file:1", 1.0, 4.0),
        ("BEARERGATE_UPSTREAMS__REST", "http://env:1", "127.0.0.1:1", "http://env:1", 1.0, 4.0),
        ("BEARERGATE_UPSTREAMS", '{"rest": "http://env:1"}', "127.0.0.1:1", "http://env:1", 1.0, 4.0),
        ("BEARERGATE_TIMEOUTS__CONNECT", "9", "127.0.0.1:1", "http://file:1", 9.0, 4.0),
        # An empty variable is as good as none, so that a compose file may leave it open.
        ("BEARERGATE_LISTEN", "", "127.0.0.1:1", "http://file:1", 1.0, 4.0),
        ("BEARERGATE_UPSTREAMS__REST", "", "127.0.0.1:1", "http://file:1", 1.0, 4.0),
    ],
)
def test_the_environment_is_stronger_than_the_file_member_by_member(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    listen: str,
    rest: str,
    connect: float,
    head: float,
) -> None:
    monkeypatch.setenv(name, value)

    settings = read_settings(file)

    assert (listen, rest, "http://file:2") == (settings.listen, settings.upstreams["rest"], settings.upstreams["gql"])
    assert (connect, head) == (settings.timeouts.connect, settings.timeouts.head)


def test_an_argument_is_stronger_than_both_unless_it_is_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGATE_LISTEN", "127.0.0.1:2")

    assert "127.0.0.1:3" == read_settings(file, listen="127.0.0.1:3").listen
    assert "127.0.0.1:2" == read_settings(file, listen=None).listen


# -- faults


def test_all_faults_are_told_together() -> None:
    told = faults(listen="nowhere", drain=-1.0, timeouts={"head": 0})

    assert 5 == len(told)
    assert "listen: `nowhere` is not `host:port`" in told
    assert "policy: is missing; set it as an argument, in the file or as `BEARERGATE_POLICY`" in told
    assert [True] * 2 == [any(fault.startswith(name) for fault in told) for name in ("drain: ", "timeouts.head: ")]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"listen": "127.0.0.1"}, "listen"),
        ({"admin_listen": "127.0.0.1:99999"}, "admin_listen"),
        ({"key_cache": {"ttl": 301}}, "key_cache.ttl"),
        ({"key_cache": {"unknown_ttl": 31}}, "key_cache.unknown_ttl"),
        ({"key_cache": {"max_entries": 0}}, "key_cache.max_entries"),
        ({"timeouts": {"connect": -1}}, "timeouts.connect"),
        ({"timeouts": {"conect": 1}}, "timeouts.conect"),
        ({"timeouts": {"connect": float("inf")}}, "timeouts.connect"),
        ({"timeouts": {"head": float("nan")}}, "timeouts.head"),
        ({"timeouts": {"sweep": 6}}, "timeouts.sweep"),
        ({"timeouts": {"websocket_idle": 0}}, "timeouts.websocket_idle"),
        ({"max_websocket_message_bytes": 0}, "max_websocket_message_bytes"),
        ({"max_websocket_frames_per_second": 0}, "max_websocket_frames_per_second"),
        ({"drain": float("inf")}, "drain"),
        ({"drain_delay": 601}, "drain_delay"),
        ({"public_scheme": "ftp"}, "public_scheme"),
        ({"upstream_max_connections": 0}, "upstream_max_connections"),
        ({"upstreams": "http://a"}, "upstreams"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(arguments: dict[str, object], name: str) -> None:
    told = faults(**{**WHOLE, **arguments})

    assert [name] == [fault.partition(": ")[0] for fault in told]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("BEARERGATE_LISTN", "there is no such setting; did you mean `BEARERGATE_LISTEN`?"),
        ("BEARERGATE_TIMEOUT__HEAD", "there is no such setting; did you mean `BEARERGATE_TIMEOUTS__HEAD`?"),
        ("BEARERGATE_TIMEOUTS__CONECT", "there is no such setting; did you mean `BEARERGATE_TIMEOUTS__CONNECT`?"),
        ("BEARERGATE_ZZZZZZZZ", "there is no such setting"),
        ("BEARERGATE_", "there is no such setting"),
        ("bearergate_listen", "write it in capitals: `BEARERGATE_LISTEN`"),
        ("Bearergate_Listn", "there is no such setting; did you mean `BEARERGATE_LISTEN`?"),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_guess(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    monkeypatch.setenv(name, "127.0.0.1:1" if name.lower().endswith("listen") else "1")

    assert [f"{name}: {told}"] == faults(**WHOLE)


def test_the_name_of_an_upstream_is_no_setting_that_could_be_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGATE_UPSTREAMS__Rest", "http://a:1")

    assert {"rest": "http://a:1"} == read_settings(policy="p").upstreams


def test_misspelt_variables_and_bad_values_and_a_bad_file_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARERGATE_LISTN", "1")
    monkeypatch.setenv("BEARERGATE_UPSTREAMS", "rest=http://a:1")
    monkeypatch.setenv("BEARERGATE_TIMEOUTS__HEAD", "soon")
    absent = tmp_path / "absent.toml"

    told = faults(absent, policy="p", drain=-1)

    assert [
        "BEARERGATE_LISTN: there is no such setting; did you mean `BEARERGATE_LISTEN`?",
        f"{absent}: there is no such file",
        'BEARERGATE_UPSTREAMS: this is not JSON; write `{"notes": "http://127.0.0.1:9000"}`',
    ] == told[:3]
    assert ["drain", "BEARERGATE_TIMEOUTS__HEAD"] == [fault.partition(": ")[0] for fault in told[3:]]


def test_a_fault_is_told_by_the_name_that_its_user_wrote(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(file.read_text() + "heaad = 1.0\nlinger = 0\n[key_cache]\nttl = 1000\n")
    monkeypatch.setenv("BEARERGATE_TIMEOUTS__CONNECT", "0")
    monkeypatch.setenv("BEARERGATE_UPSTREAMS", '{"rest": 3}')

    told = faults(file, listen="nowhere", key_cache={"poll": 0})

    assert {
        "BEARERGATE_TIMEOUTS__CONNECT: input should be greater than 0",
        "BEARERGATE_UPSTREAMS: rest: input should be a valid string",
        f"{file}: key_cache.ttl: input should be less than or equal to 300",
        f"{file}: timeouts.heaad: there is no such setting; did you mean `timeouts.head`?",
        f"{file}: timeouts.linger: input should be greater than 0",
        "key_cache.poll: input should be greater than 0",
        "listen: `nowhere` is not `host:port`",
    } == set(told)


def test_variables_of_the_test_suite_and_of_the_command_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGATE_VECTORS", "x")
    monkeypatch.setenv("BEARERGATE_CONFIG", "y")

    assert isinstance(read_settings(**WHOLE), Settings)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("BEARERGATE_UPSTREAMS", '{"notes": "http://127.0.0.1:9000"}'),
        ("BEARERGATE_PEPPERS", '{"2026": "/etc/bearergate/pepper"}'),
        ("BEARERGATE_ISSUERS", '{"accounts": {"issuer": "https://id.example.org", …}}'),
        ("BEARERGATE_TIMEOUTS", '{"name": 1.0}'),
    ],
)
@pytest.mark.parametrize("value", ["rest=http://a:1", "{", "[]", "3"])
def test_a_mapping_that_is_not_json_is_told_like_any_other_fault(
    monkeypatch: pytest.MonkeyPatch, name: str, example: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    assert f"{name}: this is not JSON; write `{example}`" in faults(policy="p")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"listen = ", "this is not TOML: invalid value (at end of document)"),
        (b"[", "this is not TOML: "),
        (b'listn = "127.0.0.1:1"', "listn: there is no such setting; did you mean `listen`?"),
        (b"listen = 3", "listen: input should be a valid string"),
        (b"timeouts = 3", "timeouts: this is no table"),
        (b"a = '\xff'", "this is not UTF-8, at byte 6"),
    ],
)
def test_a_file_with_a_fault_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    path = tmp_path / "bearergate.toml"
    path.write_bytes(text)

    (fault,) = faults(path, **WHOLE)

    assert fault.startswith(f"{path}: {told}")


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    absent, loop = tmp_path / "absent.toml", tmp_path / "loop.toml"
    loop.symlink_to(loop)

    assert [f"{absent}: there is no such file"] == faults(absent, **WHOLE)
    assert [f"{tmp_path}: this is a folder; give the TOML file in it"] == faults(tmp_path, **WHOLE)
    (fault,) = faults(loop, **WHOLE)
    assert fault.startswith(f"{loop}: this cannot be read: ")


# -- addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":8080", ("0.0.0.0", 8080)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert expected == address(text)


@pytest.mark.parametrize(
    "text",
    ["", ":", "a", "8080", "a:", "a:b", "a:-1", "a:+1", "a: 1", "a:65536", "a:\u0663", "a:1_0", "a:" + "9" * 5000],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not `host:port`|digits"):
        address(text)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535
