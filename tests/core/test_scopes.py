"""Scopes: whole names, byte for byte, by any declared spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.scopes import SCOPE_NAME, Scope, ScopeRegistry

READ = Scope("users:read", "read users", aliases=("read_users", "user.read"))
WRITE = Scope("users:write", "change users", is_sensitive=True)
FILES = Scope("files", "read files", only_for="files")
REGISTRY = ScopeRegistry((WRITE, READ, FILES))


@pytest.mark.parametrize(
    ("spelling", "found"),
    [
        ("users:read", READ),
        ("read_users", READ),
        ("user.read", READ),
        ("users:write", WRITE),
        ("files", FILES),
        # E17: no prefix, wildcard, case folding or trimming.
        ("users", None),
        ("users:", None),
        ("users:read:all", None),
        ("users:*", None),
        ("*", None),
        ("USERS:READ", None),
        (" users:read", None),
        ("users:read\n", None),
        ("", None),
        ("\uff55sers:read", None),
    ],
)
def test_a_scope_is_found_by_a_whole_spelling_and_by_nothing_else(spelling: str, found: Scope | None) -> None:
    assert found == REGISTRY.find(spelling)


def test_grants_become_canonical_names_in_order_of_declaration_each_once() -> None:
    assert ("users:write", "users:read") == REGISTRY.canonical(["user.read", "read_users", "users:write", "users:read"])


def test_no_grant_is_no_scope() -> None:
    assert () == REGISTRY.canonical([])


def test_spellings_are_the_name_and_its_aliases() -> None:
    assert {"users:read", "read_users", "user.read"} == READ.spellings
    assert {"users:write"} == WRITE.spellings


@pytest.mark.parametrize("name", ["a", "users:read", "A.b_c-d:e", "x" * 64])
def test_these_are_names(name: str) -> None:
    assert SCOPE_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "1a", ":a", "a b", 'a"', "a\\", "a\n", "x" * 65, "\u00e4", "a\u0663"])
def test_these_are_no_names(name: str) -> None:
    assert SCOPE_NAME.fullmatch(name) is None


NAMES = st.from_regex(r"[a-c][a-c:]{0,2}", fullmatch=True)


@given(st.dictionaries(NAMES, st.just(()), max_size=6), st.lists(st.one_of(NAMES, st.text(max_size=4))))
def test_canonical_names_are_exactly_the_declared_ones_among_the_grants(
    declared: dict[str, tuple[()]], granted: list[str]
) -> None:
    registry = ScopeRegistry(Scope(name, "means") for name in declared)

    assert tuple(name for name in declared if name in granted) == registry.canonical(granted)
    assert {name for name in granted if registry.find(name)} == set(granted) & set(declared)
