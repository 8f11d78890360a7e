"""Whom a value names: one, everywhere, in one spelling; or nobody."""

from __future__ import annotations

from typing import Any

import pytest
from graphql.language import parse_value

from gateway.core.graphql.values import (
    ABSENT,
    OTHER,
    Declared,
    Items,
    Members,
    Named,
    Value,
    Variable,
    bytes_of,
    uses,
    value_of,
)

VARIABLES = {
    "v": Declared("ID"),
    "d": Declared("ID", "u1"),
    "n": Declared("ID", None),
    "l": Declared("[ID]", Items(())),
}


def value(text: str) -> Value:
    return value_of(parse_value(text, no_location=True), VARIABLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"u1"', "u1"),
        ('"""u1"""', "u1"),
        ('"\\u0075\\u{31}"', "u1"),
        ("u1", "u1"),
        ("17", 17),
        ("-3", -3),
        ("-0", OTHER),
        ("1.0", OTHER),
        ("true", OTHER),
        ("null", None),
        ("$v", Variable("v")),
        ("$d", Variable("d", "u1")),
        ("$undeclared", OTHER),
        ("[1, $v]", Items((1, Variable("v")))),
        ("{a: {b: []}}", Members((("a", Members((("b", Items(())),))),))),
    ],
)
def test_a_value_is_read_as_what_it_is(text: str, expected: Value) -> None:
    assert expected == value(text)


def test_a_variable_is_found_wherever_it_stands() -> None:
    assert uses(value("{a: [1, {b: $v}]}"), "v")
    assert not uses(value("{a: [1, {b: $v}]}"), "d")
    assert not uses("v", "v")


def test_a_value_weighs_more_the_more_it_holds() -> None:
    values = ["1", '"long text"', "[1, 2]", "{a: 1, b: [1]}"]

    assert sorted(values, key=lambda text: bytes_of(value(text))) == [*values[1:2], *values[:1], *values[2:]]


def names(text: str, given: dict[str, Any] | None = None, path: str = "id", *defaults: Value, who: str = "u1") -> bool:
    steps = path.split(".")
    fallbacks = (*defaults, *(ABSENT,) * (len(steps) - len(defaults)))
    return Named(steps, fallbacks, given or {}, who).is_all_of(value(text))


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('{id: "u1"}', {}),
        ("{id: u1}", {}),
        ("{id: $v}", {"v": "u1"}),
        ("{id: $d}", {}),
        ("{id: $d}", {"d": "u1", "v": "u2"}),
        ('{id: ["u1", "u1"]}', {}),
        ('{id: ["u1", $v, [$d]]}', {"v": ["u1"]}),
        ("{id: $v}", {"v": ["u1", ["u1"]]}),
    ],
)
def test_who_is_named_alone_is_named(text: str, given: dict[str, Any]) -> None:
    # G33, G34
    assert names(text, given)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('{id: "u2"}', {}),
        ('{id: "U1"}', {}),
        ('{id: "u1 "}', {}),
        ("{id: null}", {}),
        ("{id: {id: u1}}", {}),
        ("{}", {}),
        ('{other: "u1"}', {}),
        ("{id: $v}", {}),
        ("{id: $v}", {"v": None}),
        ("{id: $v}", {"v": "u2"}),
        ("{id: $v}", {"v": {"id": "u1"}}),
        ("{id: $d}", {"d": None}),
        ("{id: $d}", {"d": "u2"}),
        ("{id: $n}", {}),
        ("{id: $undeclared}", {"undeclared": "u1"}),
        ("{id: []}", {}),
        ("{id: [[]]}", {}),
        ("{id: $l}", {}),
        ("{id: $v}", {"v": []}),
        ('{id: ["u1", "u2"]}', {}),
        ('{id: ["u1", null]}', {}),
        ('{id: ["u1", $v]}', {}),
        ('{id: ["u1", $v]}', {"v": None}),
        ("{id: $v}", {"v": ["u1", "u2"]}),
        ("{id: $v}", {"v": True}),
        ("{id: $v}", {"v": 1.0}),
    ],
)
def test_anybody_else_and_nobody_are_not(text: str, given: dict[str, Any]) -> None:
    # G33, G34
    assert not names(text, given)


@pytest.mark.parametrize(
    ("text", "given", "is_named"),
    [
        ("{id: 17}", {}, True),
        ('{id: "17"}', {}, True),
        ("{id: $v}", {"v": 17}, True),
        ("{id: $v}", {"v": "17"}, True),
        ('{id: "017"}', {}, False),
        ("{id: 17.0}", {}, False),
        ("{id: $v}", {"v": 17.0}, False),
        ("{id: $v}", {"v": "17.0"}, False),
        ("{id: 18}", {}, False),
    ],
)
def test_whole_numbers_are_compared_by_their_digits(text: str, given: dict[str, Any], is_named: bool) -> None:
    assert is_named == names(text, given, who="17")


def test_a_number_that_is_zero_has_two_spellings_and_names_nobody() -> None:
    assert not names("{id: 0}", who="0")
    assert not names("{id: $v}", {"v": 0}, who="0")
    assert not names("{id: -0}", who="-0")
    assert names('{id: "0"}', who="0")


def test_nobody_is_never_named() -> None:
    assert not names('{id: ""}', who="")
    assert not names("{id: $v}", {"v": ""}, who="")


@pytest.mark.parametrize(
    ("text", "given", "defaults", "is_named"),
    [
        ("{}", {}, ("u1",), True),
        ("{}", {}, (None,), False),
        ("{}", {}, ("u2",), False),
        ("{}", {}, (Items(("u1", "u1")),), True),
        ("{id: $v}", {}, ("u1",), True),
        ("{id: $v}", {"v": None}, ("u1",), False),
        ("{id: null}", {}, ("u1",), False),
        ("{id: [$v]}", {}, ("u1",), False),
        ("{id: $d}", {}, ("u2",), True),
    ],
)
def test_a_default_of_the_schema_stands_for_what_is_not_given(
    text: str, given: dict[str, Any], defaults: tuple[Value, ...], is_named: bool
) -> None:
    assert is_named == names(text, given, "id", *defaults)


@pytest.mark.parametrize(
    ("text", "given", "defaults", "is_named"),
    [
        ('{f: {user: {id: "u1"}}}', {}, (), True),
        ('{f: {user: {id: "u1"}}, id: "u2"}', {}, (), True),
        ('{f: [{user: {id: "u1"}}, {user: [{id: u1}]}]}', {}, (), True),
        ('{f: [{user: {id: "u1"}}, {user: [{id: u2}]}]}', {}, (), False),
        ('{f: {user: "u1"}}', {}, (), False),
        ("{f: {user: {}}}", {}, (), False),
        ("{f: {}}", {}, (), False),
        ("{f: $v}", {"v": {"user": {"id": "u1"}}}, (), True),
        ("{f: $v}", {"v": {"user": [{"id": "u1"}, {"id": "u1"}]}}, (), True),
        ("{f: $v}", {"v": {"user": [{"id": "u1"}, {}]}}, (), False),
        ("{f: $v}", {"v": {"user": "u1"}}, (), False),
        ("{f: $v}", {"v": {"id": "u1"}}, (), False),
        ("{f: {user: $v}}", {"v": {"id": "u1"}}, (), True),
        ("{f: {user: {id: $v}}}", {"v": "u1"}, (), True),
        ("{}", {}, (Members((("user", Members((("id", "u1"),))),)),), True),
        ("{f: {}}", {}, (ABSENT, Members((("id", "u1"),))), True),
        ("{f: {user: {}}}", {}, (ABSENT, ABSENT, "u1"), True),
        ("{f: {user: {id: $v}}}", {}, (ABSENT, ABSENT, "u1"), True),
        ("{f: $v}", {"v": {"user": {}}}, (ABSENT, ABSENT, "u1"), True),
        ("{f: $v}", {"v": {"user": {"id": None}}}, (ABSENT, ABSENT, "u1"), False),
        ("{f: $v}", {"v": {}}, (ABSENT, ABSENT, "u1"), False),
    ],
)
def test_a_path_leads_into_inputs(
    text: str, given: dict[str, Any], defaults: tuple[Value, ...], is_named: bool
) -> None:
    assert is_named == names(text, given, "f.user.id", *defaults)
