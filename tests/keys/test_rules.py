"""What may be asked of a new key."""

from __future__ import annotations

import pytest

from gateway.core.scopes import Scope, ScopeRegistry
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rules import checked_features, checked_limit, checked_name, checked_scopes

REGISTRY = ScopeRegistry(
    [
        Scope("USER_READ", "read user data", aliases=("user.read",)),
        Scope("USER_DELETE", "delete a user", aliases=("user.delete",), is_sensitive=True),
        Scope("FAKE_DATA_INSERT", "insert fake data", only_for="engagement"),
    ]
)
NO_FEATURES: frozenset[str] = frozenset()


@pytest.mark.parametrize("name", ["x", "x" * 100, "Ключ für 東京 №1", "' OR 1=1 --", "${jndi:ldap}", "<b>"])
def test_a_name_is_kept_as_it_is(name: str) -> None:
    assert name == checked_name(name, "a key")


@pytest.mark.parametrize(
    "name", ["", " ", "\u3000", "x" * 101, "two\nlines", "\x1b[31mred", "a\x00b", "right\u202eleft", "\ud800"]
)
def test_a_name_that_is_blank_too_long_or_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        checked_name(name, "a key")

    assert KeyFault.NAME_INVALID is refused.value.fault


def test_features_are_folded_and_checked() -> None:
    assert {"engagement"} == checked_features(["engagement", "engagement"])
    with pytest.raises(KeyRefused, match=r"feature 'two words' is not a name: .*; for several, repeat `--feature`"):
        checked_features(["two words"])


@pytest.mark.parametrize("limit", [None, 1, 1_000_000])
def test_a_limit_of_active_keys_is_none_or_a_number_that_leaves_room_for_one(limit: int | None) -> None:
    assert limit == checked_limit(limit)


@pytest.mark.parametrize("limit", [-1, 0, 1_000_001, 10**20])
def test_a_limit_that_allows_no_key_or_that_no_store_holds_is_refused(limit: int) -> None:
    with pytest.raises(KeyRefused, match="must be 1 to 1000000; `apps disable` refuses all keys") as refused:
        checked_limit(limit)

    assert KeyFault.LIMIT_INVALID is refused.value.fault


@pytest.mark.parametrize(("scope", "is_told"), [("A,B", True), ("A B", True), ("1A", False)])
def test_several_scopes_in_one_are_told_how_to_be_given(scope: str, is_told: bool) -> None:
    with pytest.raises(KeyRefused, match="is not a name: a letter, then up to 63 of ") as refused:
        checked_scopes([scope], NO_FEATURES)

    assert is_told is str(refused.value).endswith("; for several, repeat `--scope`")


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (["USER_READ"], ("USER_READ",)),
        (["user.read"], ("USER_READ",)),
        (["user.delete", "USER_READ", "user.read", "USER_DELETE"], ("USER_DELETE", "USER_READ")),
    ],
)
def test_aliases_become_canonical_and_duplicates_one(asked: list[str], granted: tuple[str, ...]) -> None:
    assert granted == checked_scopes(asked, NO_FEATURES, REGISTRY)


def test_without_a_registry_scopes_are_kept_as_they_are_spelled() -> None:
    assert checked_scopes(["user.read", "USER_READ", "user.read"], NO_FEATURES) == ("user.read", "USER_READ")


def test_a_key_needs_at_least_one_scope() -> None:
    with pytest.raises(KeyRefused, match="a key needs at least one scope") as refused:
        checked_scopes([], NO_FEATURES, REGISTRY)

    assert KeyFault.SCOPE_MISSING is refused.value.fault


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "USER_REED",
            "scope `USER_REED` is not known; did you mean `USER_READ`? "
            "known scopes: `USER_READ`, `USER_DELETE`, `FAKE_DATA_INSERT`",
        ),
        (
            "user_read",
            "scope `user_read` is not known; did you mean `USER_READ`? "
            "known scopes: `USER_READ`, `USER_DELETE`, `FAKE_DATA_INSERT`",
        ),
        (
            "zzz",
            "scope `zzz` is not known; known scopes: `USER_READ`, `USER_DELETE`, `FAKE_DATA_INSERT`",
        ),
    ],
)
def test_an_unknown_scope_is_refused_with_the_known_ones_and_a_guess(asked: str, message: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        checked_scopes(["USER_READ", asked], NO_FEATURES, REGISTRY)

    assert (KeyFault.SCOPE_UNKNOWN, message) == (refused.value.fault, str(refused.value))


@pytest.mark.parametrize("asked", ["", "*", "USER_READ ", "USER_READ\n", "USER READ", "ＵSER_READ", "1", "x" * 65])
@pytest.mark.parametrize("registry", [None, REGISTRY])
def test_what_is_not_spelled_like_a_scope_is_refused_with_or_without_a_registry(
    asked: str, registry: ScopeRegistry | None
) -> None:
    with pytest.raises(KeyRefused) as refused:
        checked_scopes([asked], NO_FEATURES, registry)

    assert KeyFault.SCOPE_UNKNOWN is refused.value.fault
    assert "\n" not in str(refused.value)


def test_a_scope_for_some_apps_is_refused_for_the_others() -> None:
    assert checked_scopes(["FAKE_DATA_INSERT"], frozenset({"engagement"}), REGISTRY) == ("FAKE_DATA_INSERT",)
    with pytest.raises(KeyRefused) as refused:
        checked_scopes(["FAKE_DATA_INSERT"], frozenset({"other"}), REGISTRY)

    assert KeyFault.SCOPE_NOT_FOR_APP is refused.value.fault
    assert (
        str(refused.value)
        == "scope `FAKE_DATA_INSERT` is only for Apps with the feature `engagement`, which this App lacks"
    )
