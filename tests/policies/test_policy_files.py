"""Policies on disk: plain UTF-8 YAML of bounded size, or a fault that says where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.core.policy.faults import Fault, PolicyInvalid
from gateway.core.policy.tree import Listing, Mapping, Scalar
from gateway.policy_files import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_NODES,
    compile_texts,
    load,
    policy_files,
    read_texts,
    read_tree,
    revision_of,
)

GOOD = "version: 1\nroutes:\n  - {name: a, match: GET /a, upstream: rest, allow: anyone}\n"


def told_about(content: bytes) -> str:
    faults: list[Fault] = []
    assert read_tree("p.yaml", content, faults) is None
    (fault,) = faults
    return str(fault)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "p.yaml:1:1: the file is empty; begin it with `version: 1`"),
        (b"# only a comment\n", "p.yaml:1:1: the file is empty; begin it with `version: 1`"),
        (b"\xef\xbb\xbfversion: 1\n",
         "p.yaml:1:1: the file begins with a byte order mark; save it as UTF-8 without one"),
        ("version: 1\n".encode("utf-16"), "p.yaml:1:1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        ("version: 1\n".encode("utf-16-be"), "p.yaml:1:1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        ("version: 1\n".encode("utf-32"), "p.yaml:1:1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        ("version: 1\nname: é\n".encode("latin-1"),
         "p.yaml:2:7: the file is not UTF-8 from here on; save it as UTF-8"),
        (b"a:\n\tb: 1\n", "p.yaml:2:1: a tab stands in the indentation; use spaces"),
        (b"a:\n  \tb: 1\n", "p.yaml:2:3: a tab stands in the indentation; use spaces"),
        (b"a: b\x07\n", "p.yaml:1:5: the character U+0007 cannot stand here; take it out"),
        ("a: b\u2028c: d\n".encode(), "p.yaml:1:5: the character U+2028 cannot stand here; take it out"),
        ("a: b\u202egnp\n".encode(), "p.yaml:1:5: the character U+202E cannot stand here; take it out"),
        (b"a: &x 1\n", "p.yaml:1:4: the anchor `&x` is not accepted; write the value out wherever it is needed"),
        (b"a: *x\n", "p.yaml:1:4: the alias `*x` is not accepted; write the value out here"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
         "p.yaml:1:4: the anchor `&a` is not accepted; write the value out wherever it is needed"),
        (b"a: !!python/object/apply:os.system [x]\n",
         "p.yaml:1:4: the tag `!!python/object/apply:os.system` is not accepted; write the plain value"),
        (b"a: !!str yes\n", "p.yaml:1:4: the tag `!!str` is not accepted; write the plain value"),
        (b"a: !secret x\n", "p.yaml:1:4: the tag `!secret` is not accepted; write the plain value"),
        (b"!!map {a: b}\n", "p.yaml:1:1: the tag `!!map` is not accepted; write the plain value"),
        (b"a: 1\n---\nb: 2\n", "p.yaml:2:1: the file has a second document; put it into a file of its own"),
        (b"%YAML 1.1\n---\na: 1\n", "p.yaml:1:1: a line that begins with `%` is a YAML directive; take it out"),
        (b"%TAG ! tag:example.com,2026:\n---\na: 1\n",
         "p.yaml:1:1: a line that begins with `%` is a YAML directive; take it out"),
        (b"[a, b]: c\n", "p.yaml:1:1: a key is a list or a mapping; write a plain word as the key"),
        (b"a: b: c\n",
         "p.yaml:1:5: this is not YAML from here on (mapping values are not allowed here); "
         "check the indentation, colons and quotes of this line and the one before"),
        (b"a: [b\n",
         "p.yaml:2:1: this is not YAML from here on (expected ',' or ']', but got '<stream end>'); "
         "check the indentation, colons and quotes of this line and the one before"),
        (b"a: 'b\n",
         "p.yaml:1:4: the quote that is opened here is never closed; close it at the end of its text"),
        (b"a: {match: GET /a/{id}, b: c}\n",
         "p.yaml:1:19: a brace stands in a text without quotes, within `{…}`; "
         'put the text in quotes, such as `match: "GET /users/{user_id}"`'),
        (b"a" * (MAX_FILE_BYTES + 1),
         "p.yaml:1:1: the file is larger than 4 MiB; split it into several files in one folder"),
        (b"[" + b"a," * (2 * MAX_NODES) + b"]",
         "p.yaml:1:1: the file has too many parts; split it into several files in one folder"),
        (b"[" * 100_000, f"p.yaml:1:{MAX_DEPTH + 1}: this is nested deeper than {MAX_DEPTH} levels; make it flatter"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)  # fmt: skip
def test_a_file_that_is_not_plain_yaml_is_refused(content: bytes, told: str) -> None:
    assert told == told_about(content)


def test_a_file_may_have_a_number_of_parts_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.policy_files.MAX_NODES", 4)
    faults: list[Fault] = []

    assert read_tree("p.yaml", b"[a, b, c]", faults) is not None
    assert told_about(b"[a, b, c, d]").startswith("p.yaml:1:11: the file has too many parts")


def test_the_tree_is_what_was_written_with_places() -> None:
    faults: list[Fault] = []
    tree = read_tree("p.yaml", b"# note\r\na: yes\r\nb: ['x', {}]\r\nc:\r\na: 1e3\r\n", faults)

    assert isinstance(tree, Mapping)
    assert faults == []
    assert [key.text for key, _ in tree.entries] == ["a", "b", "c", "a"]
    assert [(key.place.line, key.place.column) for key, _ in tree.entries] == [(2, 1), (3, 1), (4, 1), (5, 1)]
    yes, listing, nothing, number = (value for _, value in tree.entries)
    assert isinstance(yes, Scalar)
    assert (yes.text, yes.is_plain) == ("yes", True)
    assert isinstance(listing, Listing)
    assert [isinstance(item, Mapping) for item in listing.items] == [False, True]
    assert isinstance(nothing, Scalar)
    assert (nothing.text, str(nothing.place)) == ("", "p.yaml:4:1")
    assert isinstance(number, Scalar)
    assert number.text == "1e3"


def test_the_deepest_file_and_one_deeper() -> None:
    faults: list[Fault] = []

    assert read_tree("p.yaml", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, faults) is not None
    assert read_tree("p.yaml", b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), faults) is None


def test_a_policy_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(GOOD)

    loaded = load(file)

    assert [route.name for route in loaded.policy.routes] == ["a"]
    assert loaded.files == (file,)
    assert loaded.advice == ()


def test_a_folder_is_one_policy_in_order_of_names_without_companions_and_hidden_files(tmp_path: Path) -> None:
    for name, path in (("b.yaml", "b"), ("a.yaml", "a")):
        (tmp_path / name).write_text(GOOD.replace("name: a", f"name: {path}").replace("/a", f"/{path}"))
    for other in ("a.cases.yaml", "a.demo.yaml", ".hidden.yaml", "notes.md"):
        (tmp_path / other).write_text("- not a policy")
    (tmp_path / "sub").mkdir()

    loaded = load(tmp_path)

    assert [route.name for route in loaded.policy.routes] == ["a", "b"]
    assert [file.name for file in loaded.files] == ["a.yaml", "b.yaml"]


def test_scopes_of_one_file_serve_the_routes_of_another(tmp_path: Path) -> None:
    (tmp_path / "scopes.yaml").write_text("version: 1\nscopes:\n  READ: {means: read}\n")
    (tmp_path / "users.yaml").write_text(GOOD.replace("anyone", "{api_key: READ}"))

    assert len(load(tmp_path).policy.routes) == 1


def test_the_revision_follows_contents_and_neither_names_nor_order() -> None:
    # What `printf x | sha256sum` begins with.
    assert revision_of([b"x"]) == "2d711642b726b044"
    assert revision_of([b"x"]) != revision_of([b"y"])
    assert revision_of([b"x", b"y"]) == revision_of([b"y", b"x"])
    assert len({revision_of(contents) for contents in ([b"xy"], [b"x", b"y"], [b"x"], [b"x", b"x"], [b"", b"xy"])}) == 5
    assert compile_texts([("p.yaml", GOOD.encode())])[0].revision == revision_of([GOOD.encode()])


def test_a_policy_that_is_renamed_or_moved_keeps_its_revision(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "a.yaml").write_text(GOOD)
    (folder / "b.yaml").write_text(GOOD)

    assert load(tmp_path / "a.yaml").policy.revision == load(folder / "b.yaml").policy.revision
    assert load(tmp_path / "a.yaml").policy.revision == load(folder).policy.revision


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("p.cases.yaml", "this is a file of cases, not a policy"),
        ("p.demo.yaml", "this is example data for the demo, not a policy"),
    ],
)
def test_what_lies_beside_a_policy_is_not_taken_for_one(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_text(GOOD)

    assert refused(tmp_path / name) == f"PATH:1:1: {what}; give the policy beside it, `p.yaml`"


def refused(path: Path) -> str:
    with pytest.raises(PolicyInvalid) as invalid:
        load(path)
    return str(invalid.value).replace(path.as_posix(), "PATH")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "folder.yaml").mkdir()

    assert refused(tmp_path / "none.yaml") == (
        "PATH:1:1: this cannot be read (no such file or directory); check the path and its permissions"
    )
    assert refused(empty) == "PATH:1:1: this folder has no policy files; add one whose name ends in `.yaml`"
    assert refused(tmp_path).endswith(
        "folder.yaml:1:1: this cannot be read (is a directory); check the path and its permissions"
    )


def test_a_file_that_would_be_overlooked_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)

    assert refused(tmp_path) == "PATH/b.yml:1:1: only files whose names end in `.yaml` are read; rename this one"


def test_a_folder_has_a_number_of_files_and_no_more(tmp_path: Path) -> None:
    for number in range(MAX_FILES):
        (tmp_path / f"{number}.yaml").write_text("")
    assert len(policy_files(tmp_path)) == MAX_FILES

    (tmp_path / "more.yaml").write_text("")
    assert "more than 200 policy files" in refused(tmp_path)


def test_a_folder_that_may_not_be_listed_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)

    assert refused(tmp_path) == "PATH:1:1: this cannot be read (permission denied); check the path and its permissions"


def test_files_that_are_not_yaml_are_told_of_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\ta")
    (tmp_path / "b.yaml").write_text("")

    assert len(refused(tmp_path).splitlines()) == 2


def test_a_bare_carriage_return_hides_no_route_from_who_reads_lines(tmp_path: Path) -> None:
    text = POLICY_START + "  # a note\r  - {name: b, match: GET /b, upstream: u, allow: anyone}\n"
    file = tmp_path / "policy.yaml"
    file.write_bytes(text.encode())

    with pytest.raises(PolicyInvalid, match=r"the character U\+000D cannot stand here"):
        load(file)


def test_a_pipe_is_no_policy_and_nobody_waits_for_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "policy.yaml"
    os.mkfifo(pipe)

    with pytest.raises(PolicyInvalid, match="this is not a regular file; name a file with a policy in it"):
        load(pipe)


POLICY_START = """version: 1
scopes: {S: {means: s}}
routes:
  - {name: a, match: GET /a, upstream: u, allow: {api_key: S}}
"""


SDL = "type Query { user: Int }"
GQL = (
    "version: 1\nscopes: {A: {means: a}}\nroutes:\n  - name: gql\n    match: POST /gql\n    upstream: rest\n"
    "    graphql: {schema: api.graphql, fields: {Query.user: {api_key: A}}}  # not other.graphqls\n"
)


def test_a_schema_beside_a_policy_is_read_with_it_and_others_are_not_part_of_it(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(GQL)
    (tmp_path / "api.graphql").write_text(SDL)
    (tmp_path / "unheard.graphql").write_text("type Query {")
    alone = load(policy).policy
    (tmp_path / "other.graphqls").write_text("type Query {")

    loaded, folder = load(policy), load(tmp_path)

    assert loaded.files == (policy,)
    assert alone.revision == loaded.policy.revision == folder.policy.revision
    assert loaded.policy.revision == revision_of([GQL.encode(), SDL.encode()])
    rules = loaded.policy.routes[0].graphql
    assert rules is not None
    assert rules.schema is not None
    assert [name for name, _ in read_texts(policy)[1]] == [
        policy.as_posix(),
        (tmp_path / "api.graphql").as_posix(),
        (tmp_path / "other.graphqls").as_posix(),
    ]


def test_a_schema_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "api.graphql").write_text(SDL)

    with pytest.raises(PolicyInvalid, match="this is a schema, not a policy; give the policy that names it"):
        load(tmp_path / "api.graphql")


def test_a_schema_has_a_size(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(GQL)
    (tmp_path / "api.graphql").write_bytes(b"#" * (MAX_FILE_BYTES + 1))

    with pytest.raises(PolicyInvalid, match=r"api\.graphql:1:1: the schema is larger than 4 MiB"):
        load(tmp_path / "policy.yaml")


def test_a_schema_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.yaml").write_text(GQL)
    (tmp_path / "api.graphql").write_text(SDL)
    real = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "api.graphql":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(PolicyInvalid, match=r"api\.graphql:1:1: this cannot be read \(permission denied\)"):
        load(tmp_path / "policy.yaml")
