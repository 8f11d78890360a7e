"""The example data: read whole, or refused with one line that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo.example import ExampleInvalid, filled, read_example
from gateway.demo.shipped import shipped_policies

_SMALL = """
version: 1
apps: [{name: One, users: [u1], keys: [[READ]]}]
rest: {}
graphql: {paths: [/gql], sdl: "type Query { a: Int }", fields: {}}
trials: []
unknown_token: abcdefgh.0123456789abcdefghij
"""


def test_the_shipped_example_can_be_read() -> None:
    example = read_example(shipped_policies() / "reference.demo.yaml")

    assert [app.name for app in example.apps] == ["Fleet", "Insurance"]


def test_every_app_of_the_shipped_example_stays_within_ten_active_keys() -> None:
    example = read_example(shipped_policies() / "reference.demo.yaml")

    assert all(len(app.keys) < 10 for app in example.apps)


def test_no_user_of_the_shipped_example_belongs_to_two_apps() -> None:
    example = read_example(shipped_policies() / "reference.demo.yaml")

    users = [user for app in example.apps for user in app.users]

    assert len(users) == len(set(users))


def test_a_date_in_the_file_stays_the_text_that_json_can_carry(tmp_path: Path) -> None:
    file = _written(
        tmp_path, _SMALL.replace("rest: {}", "rest: {GET /a: {answer: {on: 2026-03-23, at: 2026-03-23T07:41:10Z}}}")
    )

    example = read_example(file)

    assert example.rest["GET /a"].answer == {"on": "2026-03-23", "at": "2026-03-23T07:41:10Z"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version: 1", "version: 2"), "demo.yaml: version 2 is not known; write `version: 1`"),
        (("users: [u1]", "users: []"), "demo.yaml: at least one App with one user is needed"),
        (
            ("rest: {}", "rests: {}"),
            "demo.yaml: Object contains unknown field `rests`",
        ),
        (("keys: [[READ]]", "keys: [READ]"), "demo.yaml: Expected `array`, got `str` - at `$.apps[0].keys[0]`"),
    ],
)
def test_a_file_with_a_fault_is_refused_and_the_fault_is_named(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file = _written(tmp_path, _SMALL.replace(*change))

    with pytest.raises(ExampleInvalid) as raised:
        read_example(file)

    assert message == str(raised.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"version: [", b"version: 1\nversion: 1\n"])
def test_what_is_no_utf_8_or_no_yaml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "demo.yaml"
    file.write_bytes(content)

    with pytest.raises(ExampleInvalid) as raised:
        read_example(file)

    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ExampleInvalid, match="cannot be read"):
        read_example(tmp_path / "demo.yaml")


def test_placeholders_are_filled_in_strings_at_any_depth_and_nothing_else_is_touched() -> None:
    answer = {"id": "{user_id}", "list": ["{user_id}-{day}", 7, None], "other": "{unknown}"}

    assert filled(answer, {"user_id": "u1", "day": "d2"}) == {
        "id": "u1",
        "list": ["u1-d2", 7, None],
        "other": "{unknown}",
    }


def _written(folder: Path, text: str) -> Path:
    file = folder / "demo.yaml"
    file.write_text(text)
    return file
