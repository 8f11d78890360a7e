"""The policy language is documented: every example can be used as it stands, and every word is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli.case_judge import differences, judge_case
from gateway.cli.cases import CASE_KEYS, EXPECT_KEYS, TOKEN_KEYS, TOKEN_WORDS, read_cases
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.policy import graphql_entries, reader, route_entries, rules
from gateway.core.policy.routes import METHODS
from gateway.policy_files import compile_texts

DOCS = Path(__file__).resolve().parents[2] / "docs" / "policy.md"
TEXT = DOCS.read_text(encoding="utf-8")
POLICIES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CASES = re.findall(r"^```yaml cases\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_an_example_can_be_loaded_and_needs_no_advice(number: int) -> None:
    assert compile_texts([("docs/policy.md", POLICIES[number].encode())])[1] == ()


def test_the_example_cases_hold_for_the_first_example(tmp_path: Path) -> None:
    (text,) = CASES
    (tmp_path / "p.cases.yaml").write_text(text)
    policy = compile_texts([("p.yaml", POLICIES[0].encode())])[0]

    for case in read_cases(tmp_path / "p.cases.yaml"):
        assert differences(case.expect, judge_case(policy, case)) == [], case.it


WORDS = (
    *reader.FILE_KEYS,
    *reader.SCOPE_KEYS,
    *route_entries.ROUTE_KEYS,
    *route_entries.DEPRECATED_KEYS,
    *route_entries.ERRORS,
    *graphql_entries.GRAPHQL_KEYS[1:],
    *graphql_entries.HIGHEST_LIMITS,
    *CASE_KEYS,
    *EXPECT_KEYS,
    *TOKEN_WORDS,
    *(method.decode() for method in METHODS),
)


@pytest.mark.parametrize("word", sorted({*WORDS} - {"fields", "limits"}))
def test_a_word_of_the_language_is_documented(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("word", ["fields:", "limits:", "{all:", "{any:", "api_key:", "user_token:", *TOKEN_KEYS])
def test_a_word_that_stands_with_others_is_shown(word: str) -> None:
    assert word in TEXT
    assert {"api_key", "user_token"} == set(rules.KINDS)


@pytest.mark.parametrize("limit", sorted(graphql_entries.HIGHEST_LIMITS))
def test_a_limit_is_documented_with_its_numbers(limit: str) -> None:
    assert f"| `{limit}` | {getattr(GraphQLLimits(), limit)} | {graphql_entries.HIGHEST_LIMITS[limit]} |" in TEXT


PATHS = [
    (path, answer)
    for paths, answer in re.findall(r"^\| (`/.*) \| (matches|404|400)\b", TEXT, re.MULTILINE)
    for path in re.findall("`([^`]+)`", paths)
]


@pytest.mark.parametrize(("path", "answer"), PATHS)
def test_a_path_is_answered_as_the_table_says(tmp_path: Path, path: str, answer: str) -> None:
    policy = compile_texts([("p.yaml", POLICIES[0].encode())])[0]
    file = tmp_path / "p.cases.yaml"
    file.write_text(f"- {{it: x, token: {{api_key: NOTES_READ}}, send: 'GET {path}', expect: allowed}}\n")

    (case,) = read_cases(file)

    assert {"matches": None, "404": 404, "400": 400}[answer] == judge_case(policy, case).status


def test_the_table_of_paths_has_its_rows() -> None:
    assert len(PATHS) == 14
