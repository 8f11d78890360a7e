"""What the demo prints and writes: commands that a shell runs as they stand, and a file that is whole."""

from __future__ import annotations

import json
import shlex
import stat
from pathlib import Path

import pytest

from gateway.demo.announce import Announcement, UpstreamAddresses, curl, page, write_announcement
from gateway.demo.cast import DemoApp, DemoKey, RevokedKey
from gateway.demo.example import Example, ExampleApp, GraphQLExample, Trial
from gateway.demo.issuer import UserToken

_APP = DemoApp(
    id="app-1",
    name="One",
    users=("u1", "u2"),
    keys=(DemoKey("k1", ("READ",), "k1.read"), DemoKey("k2", ("READ", "WRITE"), "k2.both")),
    revoked=(RevokedKey("k3", "k3.revoked"),),
)
_ANNOUNCEMENT = Announcement(
    "http://127.0.0.1:1",
    "http://127.0.0.1:2",
    UpstreamAddresses("http://127.0.0.1:3", "http://127.0.0.1:4"),
    (_APP,),
    "sqlite:////5",
    (UserToken("app-1", "u1", "e.y.u1"), UserToken("app-1", "u2", "e.y.u2")),
)


def _example(*trials: Trial) -> Example:
    return Example(
        version=1,
        apps=(ExampleApp(name="One", users=("u1",), keys=()),),
        rest={},
        graphql=GraphQLExample(paths=(), sdl="", fields={}),
        trials=trials,
        unknown_token="unknown.token",
    )


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (Trial("", "GET /users/{user}", 401), ["curl", "-si", "http://127.0.0.1:1/users/u1"]),
        (
            Trial("", "GET /a", 200, ("READ",)),
            ["curl", "-si", "-H", "Authorization: Bearer k1.read", "http://127.0.0.1:1/a"],
        ),
        (
            Trial("", "GET /users/{other}", 404, ("user",)),
            ["curl", "-si", "-H", "Authorization: Bearer e.y.u1", "http://127.0.0.1:1/users/u2"],
        ),
        (
            Trial("", "GET /a", 400, ("unknown", "revoked")),
            [
                "curl",
                "-si",
                "-H",
                "Authorization: Bearer unknown.token",
                "-H",
                "Authorization: Bearer k3.revoked",
                "http://127.0.0.1:1/a",
            ],
        ),
        (Trial("", "DELETE /a", 200), ["curl", "-si", "-X", "DELETE", "http://127.0.0.1:1/a"]),
        (
            Trial("", "POST /gql", 200, (), {"query": '{ it\'s(id: "{user}") }'}),
            [
                "curl",
                "-si",
                "-H",
                "Content-Type: application/json",
                "-d",
                '{"query": "{ it\'s(id: \\"u1\\") }"}',
                "http://127.0.0.1:1/gql",
            ],
        ),
    ],
)
def test_a_trial_becomes_a_command_that_a_shell_takes_apart_again(trial: Trial, words: list[str]) -> None:
    command = curl(trial, _ANNOUNCEMENT, _example())

    assert words == shlex.split(command)


def test_the_page_shows_every_address_every_key_and_every_trial() -> None:
    text = page(_ANNOUNCEMENT, _example(Trial("read it", "GET /a", 200, ("READ",))))

    for expected in (
        *(f"http://127.0.0.1:{port}" for port in (1, 2, 3, 4)),
        "k1.read",
        "k2.both",
        "k3.revoked",
        "e.y.u1",
        "e.y.u2",
    ):
        assert expected in text
    assert "# 200: read it\ncurl -si -H 'Authorization: Bearer k1.read' http://127.0.0.1:1/a\n" in text


def test_the_file_has_the_addresses_and_the_keys_of_each_app(tmp_path: Path) -> None:
    write_announcement(_ANNOUNCEMENT, tmp_path / "demo.json")

    assert json.loads((tmp_path / "demo.json").read_text()) == {
        "gateway": "http://127.0.0.1:1",
        "admin": "http://127.0.0.1:2",
        "upstreams": {"rest": "http://127.0.0.1:3", "graphql": "http://127.0.0.1:4"},
        "store": "sqlite:////5",
        "apps": [
            {
                "id": "app-1",
                "name": "One",
                "users": ["u1", "u2"],
                "keys": [
                    {"id": "k1", "scopes": ["READ"], "token": "k1.read"},
                    {"id": "k2", "scopes": ["READ", "WRITE"], "token": "k2.both"},
                ],
                "revoked": [{"id": "k3", "token": "k3.revoked"}],
            }
        ],
        "users": [
            {"app": "app-1", "user": "u1", "token": "e.y.u1"},
            {"app": "app-1", "user": "u2", "token": "e.y.u2"},
        ],
    }


def test_the_file_can_be_read_by_its_owner_alone_for_it_holds_tokens(tmp_path: Path) -> None:
    write_announcement(_ANNOUNCEMENT, tmp_path / "demo.json")

    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600


def test_the_file_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("old")

    write_announcement(_ANNOUNCEMENT, tmp_path / "demo.json")

    assert [file.name for file in tmp_path.iterdir()] == ["demo.json"]
    assert "app-1" in (tmp_path / "demo.json").read_text()


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "demo.json").mkdir()

    with pytest.raises(OSError, match=r"demo\.json"):
        write_announcement(_ANNOUNCEMENT, tmp_path / "demo.json")

    assert [file.name for file in tmp_path.iterdir()] == ["demo.json"]


def test_no_token_is_in_the_repr_of_what_holds_it() -> None:
    assert "k1.read" not in repr(_ANNOUNCEMENT)
    assert "k3.revoked" not in repr(_ANNOUNCEMENT)
    assert "e.y.u1" not in repr(_ANNOUNCEMENT)
