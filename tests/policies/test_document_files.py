"""The documents beside a policy: read with it, part of its revision, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.policy.faults import PolicyInvalid
from gateway.policy_files import MAX_FILE_BYTES, load, read_texts

POLICY = """\
version: 1
scopes: {A: {means: a}}
routes:
  - name: gql
    match: POST /gql
    upstream: graphql
    graphql: {documents: app.documents.json, fields: {Query.user: {api_key: A}}}
"""


def test_documents_beside_a_policy_are_read_with_it(tmp_path: Path) -> None:
    policy, manifest = tmp_path / "policy.yaml", tmp_path / "app.documents.json"
    policy.write_text(POLICY)
    manifest.write_text('{"user-1": "{user}"}')
    (tmp_path / "other.documents.json").write_text("{")

    one = load(policy).policy
    manifest.write_text('{"user-1": "{user user}"}')
    other = load(tmp_path).policy

    assert [policy.as_posix(), manifest.as_posix()] == [name for name, _ in read_texts(policy)[1]]
    assert one.revision != other.revision
    rules = other.routes[0].graphql
    assert rules is not None
    assert rules.transports is not None
    assert rules.transports.documents is not None
    assert "{user user}" == rules.transports.documents.text_by_id("user-1")


def test_documents_that_are_not_there_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)

    with pytest.raises(PolicyInvalid, match=r"policy\.yaml:7:26: there is no file `app\.documents\.json` beside"):
        load(tmp_path)


def test_documents_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "app.documents.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))

    with pytest.raises(PolicyInvalid, match=r"app\.documents\.json:1:1: the documents are larger than 4 MiB"):
        load(tmp_path)
