"""What a caller must hold, and what is named as lacking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.requirement import Requirement, ScopeNeed
from tests.core.policy.support import principal

READ = ScopeNeed("READ", frozenset(("READ", "read")))
WRITE = ScopeNeed("WRITE", frozenset(("WRITE",)))
FAKE = ScopeNeed("FAKE", frozenset(("FAKE",)), only_for="engagement")


@pytest.mark.parametrize(
    ("requirement", "scopes", "features", "missing"),
    [
        (Requirement((READ,)), ["READ"], [], ()),
        (Requirement((READ,)), ["read"], [], ()),
        (Requirement((READ,)), ["Read"], [], ("READ",)),
        (Requirement((READ,)), ["READ "], [], ("READ",)),
        (Requirement((READ,)), ["READ_ALL", "*"], [], ("READ",)),
        (Requirement((READ,)), [], [], ("READ",)),
        (Requirement((READ, WRITE)), ["READ", "WRITE"], [], ()),
        (Requirement((READ, WRITE)), ["READ"], [], ("WRITE",)),
        (Requirement((READ, WRITE)), [], [], ("READ", "WRITE")),
        (Requirement((READ, WRITE), any_of=True), ["WRITE"], [], ()),
        (Requirement((READ, WRITE), any_of=True), [], [], ("READ", "WRITE")),
        (Requirement((FAKE,)), ["FAKE"], [], ("FAKE",)),
        (Requirement((FAKE,)), ["FAKE"], ["engagement"], ()),
        (Requirement((FAKE,)), [], ["engagement"], ("FAKE",)),
        (Requirement((FAKE, READ), any_of=True), ["FAKE"], ["other"], ("FAKE", "READ")),
    ],
)
def test_what_is_missing(
    requirement: Requirement, scopes: list[str], features: list[str], missing: tuple[str, ...]
) -> None:
    assert missing == requirement.missing(principal(*scopes, features=features))


@given(
    st.lists(st.sampled_from([READ, WRITE, FAKE]), min_size=1, unique=True),
    st.sets(st.sampled_from(["READ", "WRITE", "FAKE"])),
)
def test_any_is_met_where_all_is_and_more_scopes_never_lack_more(needs: list[ScopeNeed], scopes: set[str]) -> None:
    every, one = Requirement(tuple(needs)), Requirement(tuple(needs), any_of=True)
    caller, richer = principal(*scopes), principal(*scopes, "READ")

    assert not every.missing(caller) <= () or not one.missing(caller)
    assert set(every.missing(richer)) <= set(every.missing(caller))
    assert set(one.missing(richer)) <= set(one.missing(caller))
