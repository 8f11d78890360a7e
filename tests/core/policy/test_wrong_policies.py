"""Wrong policy files, each with every word of what its author is told: where, what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.policy.faults import PolicyInvalid
from gateway.policy_files import compile_texts


def read_table() -> list[tuple[str, str, list[str]]]:
    """(name, file, what is told) of each section of the table beside this file."""
    table = Path(__file__).with_name("wrong_policies.txt").read_text(encoding="utf-8")
    start, *sections = (section.partition("\n")[::2] for section in table.split("\n== ")[1:])
    rows: list[tuple[str, str, list[str]]] = []
    for name, section in sections:
        text, _, told = section.partition("\n--\n")
        rows.append((name, text.replace("START\n", start[1]), told.strip("\n").splitlines()))
    return rows


WRONG = read_table()
BY_NAME = [pytest.param(text, told, id=name) for name, text, told in WRONG]


def told_about(*texts: tuple[str, str]) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        compile_texts([(name, text.encode()) for name, text in texts])
    return str(refused.value).splitlines()


@pytest.mark.parametrize(("text", "expected"), BY_NAME)
def test_a_wrong_policy_is_refused_with_these_words(text: str, expected: list[str]) -> None:
    told = told_about(("p.yaml", text + "\n"))

    assert expected == [line.removeprefix("p.yaml:") for line in told]


@pytest.mark.parametrize(("text", "told"), BY_NAME)
def test_what_is_told_reads_well_and_quotes_no_secret(text: str, told: list[str]) -> None:
    for message in told:
        what, todo = message.split(":", 2)[2].strip().split("; ", 1)

        assert not what[0].isupper()
        assert not todo[0].isupper()
        assert not message.endswith(".")
        assert len(message) < 260
        assert "mGCUhfi0uI4J" not in message
        assert "e5c3b8422" not in message


def test_the_table_has_its_rows_and_each_a_name_of_its_own() -> None:
    assert len(WRONG) > 140
    assert len({name for name, _, _ in WRONG}) == len(WRONG)


def test_a_path_that_is_too_long_for_any_request_is_refused() -> None:
    long = "a" * 2000
    text = f"version: 1\nroutes:\n  - {{name: a, match: GET /{long}, upstream: rest, allow: anyone}}\n"

    assert told_about(("p.yaml", text)) == [
        "p.yaml:3:22: the path is longer than 2000 characters; shorten it: no request could match it"
    ]


def test_all_faults_of_all_files_come_at_once_in_order_of_place() -> None:
    first = "version: 1\nroutes:\n  - {name: a, match: get /a, upstream: rest, allow: anyone}\n"
    second = "version: 2\nroutes:\n  - {name: b, match: GET b, upstream: rest, allow: anyone}\n"

    assert told_about(("b.yaml", second), ("a.yaml", first)) == [
        "a.yaml:3:22: the method `get` is not in capital letters; write `GET`",
        "b.yaml:1:10: version 2 of the policy language is newer than this gateway; write `version: 1`, "
        "or upgrade the gateway",
        "b.yaml:3:22: the path `b` does not begin with a slash; write `/b`",
    ]


def test_names_that_collide_across_files_say_where_the_other_one_stands() -> None:
    text = (
        "version: 1\n"
        "errors: problem\n"
        "scopes:\n"
        "  A: {means: a}\n"
        "routes:\n"
        "  - {name: a, match: GET /a, upstream: rest, allow: {api_key: A}}\n"
    )

    assert told_about(("a.yaml", text), ("b.yaml", text)) == [
        "b.yaml:2:9: `errors` is said already, in a.yaml on line 2; keep one of the two",
        "b.yaml:4:3: scope `A` is declared already, in a.yaml on line 4; keep one of the two",
        "b.yaml:6:12: route `a` is here already, in a.yaml on line 6, with the same path; keep one of the two",
    ]


def test_what_one_file_says_for_all_is_said_once() -> None:
    text = (
        "version: 1\ncors: pass\nhosts: [{name}.example]\nsubject_mismatch: 403\n"
        "routes:\n  - {{name: {name}, match: GET /{name}, upstream: rest, allow: anyone}}\n"
    )

    assert told_about(("a.yaml", text.format(name="a")), ("b.yaml", text.format(name="b"))) == [
        "b.yaml:2:1: `cors` is said already, in a.yaml on line 2; keep one of the two",
        "b.yaml:3:1: `hosts` is said already, in a.yaml on line 3; keep one of the two",
        "b.yaml:4:1: `subject_mismatch` is said already, in a.yaml on line 4; keep one of the two",
    ]


def test_at_most_five_overlaps_of_one_route_are_told() -> None:
    others = "".join(
        f"  - {{name: r{number}, match: 'GET /{{x}}/{number}', upstream: rest, allow: anyone}}\n" for number in range(9)
    )
    text = f"version: 1\nroutes:\n{others}  - {{name: z, match: 'GET /a/{{y}}', upstream: rest, allow: anyone}}\n"

    assert len(told_about(("p.yaml", text))) == 5
