"""Where upstreams are and how they are spoken to, as the settings say it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import SettingsInvalid, UpstreamSettings, read_settings
from gateway.upstreams.options import UpstreamOptions

TWO = ("http://a:1", "http://b:2")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BEARERGATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("written", "endpoints"),
    [
        ("http://a:1", ("http://a:1",)),
        ("http://a:1,http://b:2", TWO),
        (" http://a:1 , http://b:2 ", TWO),
        ("http://a:1,http://b:2,", TWO),
        (["http://a:1", "http://b:2"], TWO),
        ([], ()),
        ("", ()),
    ],
)
def test_one_url_or_several(written: Any, endpoints: tuple[str, ...]) -> None:
    assert endpoints == read_settings(policy="p", upstreams={"rest": written}).endpoints("rest")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BEARERGATE_UPSTREAMS", '{"rest": ["http://a:1", "http://b:2"]}'),
        ("BEARERGATE_UPSTREAMS", '{"rest": "http://a:1,http://b:2"}'),
        ("BEARERGATE_UPSTREAMS__REST", "http://a:1,http://b:2"),
    ],
)
def test_the_environment_may_name_several(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    assert TWO == read_settings(policy="p").endpoints("rest")


def test_the_file_may_name_several_and_say_how_they_are_spoken_to(tmp_path: Path) -> None:
    file = tmp_path / "bearergate.toml"
    file.write_text(
        'policy = "p"\n[upstreams]\nrest = ["http://a:1", "http://b:2"]\ngql = "http://c:3"\n'
        "[upstream_defaults]\nqueue = 7\neject_after = 9\n"
        '[upstream_options.gql]\nqueue = 0\ncheck_path = "/health?a=b"\n'
    )

    settings = read_settings(file)

    assert TWO == settings.endpoints("rest")
    assert UpstreamSettings(queue=7, eject_after=9) == settings.options_of("rest")
    assert UpstreamSettings(queue=0, eject_after=9, check_path="/health?a=b") == settings.options_of("gql").model_copy()


def test_what_is_not_said_is_as_in_the_code() -> None:
    settings = read_settings(policy="p", upstreams={"rest": "http://a:1"})

    assert UpstreamOptions() == UpstreamOptions(**settings.options_of("rest").model_dump())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"queue": -1}, "queue"),
        ({"queue_timeout": 0}, "queue_timeout"),
        ({"retry_percent": 101}, "retry_percent"),
        ({"check_path": "health"}, "check_path"),
        ({"check_path": "/a b"}, "check_path"),
        ({"check_path": "/a\r\nx: y"}, "check_path"),
        ({"host": "a\r\nx: y"}, "host"),
        ({"host": ""}, "host"),
        ({"server_name": "a b"}, "server_name"),
        ({"server_name": ".example.com"}, "server_name"),
        ({"server_name": "a..b"}, "server_name"),
        ({"ca": "x"}, "ca"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], name: str) -> None:
    for place, given in (
        ("upstream_defaults", {"upstream_defaults": options}),
        ("upstream_options.rest", {"upstream_options": {"rest": options}}),
    ):
        with pytest.raises(SettingsInvalid) as refused:
            read_settings(policy="p", upstreams={"rest": "http://a:1"}, **given)
        assert str(refused.value).startswith(f"{place}.{name}: ")


@pytest.mark.parametrize("written", [3, ["http://a:1", 3], {"url": "http://a:1"}])
def test_what_is_no_url_is_one_fault(written: Any) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(policy="p", upstreams={"rest": written})

    assert "upstreams.rest: input should be a valid string" == str(refused.value)
