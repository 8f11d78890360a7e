"""A first policy from a schema: it can be used as it is, and opens nothing that the schema closes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.policy import app
from gateway.policy_files import load

SDL = """\
type Query {
  user(id: ID!): User @requiresScopes(scopes: [["user.read"]])
  me: User @authenticated
  reports: [Report!]! @requiresScopes(scopes: [["a", "b"], ["c"]])
  either: Int @requiresScopes(scopes: [["a"], ["b"]])
  open: Int
}
type Mutation { drop: Int @policy(policies: [["admin"]]) }
type User { id: ID! mail: String @requiresScopes(scopes: ["pii"]) }
type Report @requiresScopes(scopes: [["reports"]]) { id: ID! }
"""
POLICY = """\
version: 1

scopes:
  a: {means: say what a key with it may do}
  admin: {means: say what a key with it may do}
  b: {means: say what a key with it may do}
  c: {means: say what a key with it may do}
  pii: {means: say what a key with it may do}
  reports: {means: say what a key with it may do}
  user.read: {means: say what a key with it may do}

routes:
  - name: graphql
    match: POST /graphql
    upstream: graphql
    graphql:
      schema: api.graphql
      fields:
        Mutation.drop: {api_key: admin}
        Query.either: {api_key: {any: [a, b]}}
        Query.me: {user_token: {}}
        Query.reports: {api_key: {all: [a, b, c]}}
        Query.user: {api_key: user.read}
        Report: {api_key: reports}
        User.mail: {api_key: pii}
        # Query.open: the schema does not say who may
"""


def test_a_schema_becomes_a_policy_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "api.graphql").write_text(SDL)

    result = CliRunner().invoke(app, ["import", "--sdl", str(tmp_path / "api.graphql")])

    assert (0, POLICY) == (result.exit_code, result.stdout)
    (tmp_path / "policy.yaml").write_text(result.stdout)
    assert load(tmp_path / "policy.yaml").advice == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"type Query {a: X}", "api.graphql:1:16: the schema is not valid (Unknown type `X`); mend it\n"),
        (b"\xff", "api.graphql: this cannot be read as UTF-8; check the path and its permissions\n"),
        (None, "api.graphql: this cannot be read as UTF-8; check the path and its permissions\n"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "api.graphql").write_bytes(content)

    result = CliRunner().invoke(app, ["import", "--sdl", str(tmp_path / "api.graphql")])

    assert result.exit_code == 1
    assert result.stderr.endswith(told)


def test_a_schema_that_says_nothing_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "api.graphql").write_text("type Query {a: Int}")

    result = CliRunner().invoke(app, ["import", "--sdl", str(tmp_path / "api.graphql")])

    assert "      fields:\n        {}\n        # Query.a: the schema does not say who may\n" in result.stdout


def test_no_scope_of_the_schema_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "api.graphql").write_text('type Query {a: Int @requiresScopes(scopes: [["a b", "1", "c: d"]])}')

    result = CliRunner().invoke(app, ["import", "--sdl", str(tmp_path / "api.graphql")])

    assert "Query.a: {api_key: {all: [S_1, a_b, c:_d]}}" in result.stdout
