"""A key and its successor as a story, over the store in memory and with a clock that the test moves."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.lifecycle import KeyState
from gateway.core.scopes import Scope, ScopeRegistry
from gateway.keys.book import KeyEntry, Standing
from gateway.keys.expiry import utc_text, year_after
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rotation import MAX_OVERLAP_DAYS, end_of, read_overlap
from gateway.keys.rules import KeyRules
from gateway.keys.secret import Secret
from gateway.keys.service import KeyService
from gateway.stores.memory import MemoryKeyStore
from tests.stores.contract import a_key
from tests.support.manual_clock import ManualClock

DAY = 86_400.0
REGISTRY = ScopeRegistry(
    [
        Scope("USER_READ", "read", aliases=("user.read",)),
        Scope("USER_LINK", "link"),
        Scope("FAKE_DATA_INSERT", "insert fake data", only_for="engagement"),
    ]
)


class Story:
    """A service, an App, and a key that is to be rotated."""

    def __init__(self, rules: KeyRules | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryKeyStore()
        random_bytes = random.Random(1).randbytes
        self.service = KeyService(self.store, rules=rules, now=self.clock.now, random_bytes=random_bytes)
        self.app = self.service.create_app("Fleet")
        self.old = self.create()

    def create(self, **changes: object) -> KeyEntry:
        asked: dict[str, object] = {"name": "nightly", "scopes": ["USER_READ", "USER_LINK"], **changes}
        return self.service.create_key(self.app.id, **asked).key  # type: ignore[arg-type]  # tests name the fields

    def fault_of_rotation(self, **changes: object) -> KeyRefused:
        """Why rotating the key with one thing wrong is refused; nothing may have changed then."""
        before = self.store.backup()
        with pytest.raises(KeyRefused) as refused:
            self.service.rotate_key(self.old.id, **changes)  # type: ignore[arg-type]  # tests name the fields
        assert before is self.store.backup()
        return refused.value


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_successor_has_the_same_name_and_scopes_and_a_fresh_year(story: Story) -> None:
    story.clock.advance(100 * DAY)

    rotation = story.service.rotate_key(story.old.id)

    new, token = rotation.new.key, rotation.new.token.reveal()
    assert (story.app.id, "nightly", story.old.scopes) == (new.app_id, new.name, new.scopes)
    assert (story.clock.now(), year_after(story.clock.now())) == (new.created_at, new.expires_at)
    assert (new.id, new.hint) == (token.split(".")[0], token[-4:])
    assert new.id != story.old.id
    assert [rotation.old, new] == story.service.list_keys()


def test_the_old_key_ends_after_the_overlap_to_the_instant(story: Story) -> None:
    """E21"""
    now = story.clock.now()

    rotation = story.service.rotate_key(story.old.id, overlap=7 * DAY)

    assert replace(story.old, successor_id=rotation.new.key.id, expires_at=now + 7 * DAY) == rotation.old
    assert Standing.ACTIVE is rotation.old.standing(now + 7 * DAY - 0.000001)
    assert Standing.EXPIRED is rotation.old.standing(now + 7 * DAY)


def test_seven_days_is_the_overlap_where_none_was_asked_for(story: Story) -> None:
    assert story.clock.now() + 7 * DAY == story.service.rotate_key(story.old.id).old.expires_at


def test_a_key_that_would_end_before_the_overlap_ends_as_it_would_have(story: Story) -> None:
    story.clock.advance(0.25)
    short = story.create(expires_at=story.clock.now() + DAY)

    assert short.expires_at == story.service.rotate_key(short.id).old.expires_at


@given(st.floats(0, MAX_OVERLAP_DAYS * DAY), st.floats(0.000001, 400 * DAY))
def test_no_overlap_makes_a_key_live_longer(overlap: float, left: float) -> None:
    now = 1_800_000_000.0
    key = a_key(1, expires_at=round(now + left, 6))

    assert end_of(key, now, overlap) in {key.expires_at, round(now + overlap, 6)}
    assert end_of(key, now, overlap) <= key.expires_at


def test_without_an_overlap_the_old_key_is_revoked_in_the_same_transaction(story: Story) -> None:
    rotation = story.service.rotate_key(story.old.id, overlap=0, actor="ben")

    old, new = rotation.old, rotation.new.key
    assert replace(story.old, successor_id=new.id, state=KeyState.REVOKED) == old
    assert [old, new] == sorted(story.service.list_keys(), key=lambda key: key.id != old.id)
    ends = story.service.history(key_id=old.id)[-2:]
    assert [("rotated", "ben"), ("revoked", "ben")] == [(line.event, line.actor) for line in ends]
    assert {"reason": "rotated without an overlap", "successor": new.id} == ends[1].detail
    assert story.fault_of_rotation().fault is KeyFault.KEY_DEAD


def test_the_history_of_each_key_names_the_other(story: Story) -> None:
    story.clock.advance(60)
    rotation = story.service.rotate_key(story.old.id, overlap=3_600, scopes=["USER_LINK"], actor="ben")

    made, ended = rotation.new.key, rotation.old
    created, rotated = story.service.history()[-2:]
    assert [(made.id, "created", "ben"), (ended.id, "rotated", "ben")] == [
        (line.key_id, line.event, line.actor) for line in (created, rotated)
    ]
    assert created.happened_at == rotated.happened_at == story.clock.now()
    assert {
        "name": "nightly",
        "scopes": "USER_LINK",
        "expires_at": utc_text(made.expires_at),
        "predecessor": ended.id,
    } == created.detail
    assert {"successor": made.id, "ends_at": utc_text(ended.expires_at)} == rotated.detail
    assert rotation.new.token.reveal().split(".")[1] not in repr(story.service.history())


def test_a_successor_can_have_fewer_scopes_another_name_and_a_shorter_life(story: Story) -> None:
    end = story.clock.now() + 9 * DAY

    new = story.service.rotate_key(story.old.id, scopes=["USER_LINK"], name="weekly", expires_at=end).new.key

    assert (("USER_LINK",), "weekly", end) == (new.scopes, new.name, new.expires_at)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"overlap": -0.000001}, KeyFault.OVERLAP_INVALID),
        ({"overlap": 30 * DAY + 0.001}, KeyFault.OVERLAP_INVALID),
        ({"overlap": math.nan}, KeyFault.OVERLAP_INVALID),
        ({"overlap": math.inf}, KeyFault.OVERLAP_INVALID),
        ({"scopes": ["USER_READ", "USER_DELETE"]}, KeyFault.SCOPE_WIDER),
        ({"scopes": ["user_read"]}, KeyFault.SCOPE_WIDER),
        ({"scopes": []}, KeyFault.SCOPE_MISSING),
        ({"scopes": ["a b"]}, KeyFault.SCOPE_UNKNOWN),
        ({"name": ""}, KeyFault.NAME_INVALID),
        ({"expires_at": 1.0}, KeyFault.EXPIRY_PAST),
        ({"expires_at": 9e9}, KeyFault.EXPIRY_TOO_LATE),
        ({"expires_at": math.nan}, KeyFault.EXPIRY_PAST),
    ],
)
def test_a_faulty_rotation_is_refused_and_changes_nothing(
    story: Story, changes: dict[str, object], fault: KeyFault
) -> None:
    assert fault is story.fault_of_rotation(**changes).fault


def test_thirty_days_is_the_longest_overlap(story: Story) -> None:
    assert story.clock.now() + 30 * DAY == story.service.rotate_key(story.old.id, overlap=30 * DAY).old.expires_at


def test_the_refusal_of_a_wider_scope_says_what_the_key_has(story: Story) -> None:
    refused = story.fault_of_rotation(scopes=["USER_DELETE"])

    assert str(refused) == (
        f"scope `USER_DELETE` is not one of key `{story.old.id}`, which has `USER_READ`, `USER_LINK`; "
        "make a new key for it"
    )


def test_scopes_are_compared_by_their_canonical_names_where_the_policy_is_known(story: Story) -> None:
    story.old = story.create(scopes=["user.read"])

    assert story.fault_of_rotation(scopes=["USER_LINK"], registry=REGISTRY).fault is KeyFault.SCOPE_WIDER
    assert story.fault_of_rotation(scopes=["USER_READ"]).fault is KeyFault.SCOPE_WIDER
    new = story.service.rotate_key(story.old.id, scopes=["USER_READ"], registry=REGISTRY).new.key

    assert new.scopes == ("USER_READ",)


def test_a_scope_that_the_app_may_not_have_any_more_is_not_passed_on(story: Story) -> None:
    story.old = story.create(scopes=["FAKE_DATA_INSERT", "USER_READ"])

    assert story.fault_of_rotation(registry=REGISTRY).fault is KeyFault.SCOPE_NOT_FOR_APP
    assert story.service.rotate_key(story.old.id, scopes=["USER_READ"], registry=REGISTRY).new.key.scopes


@pytest.mark.parametrize("ending", ["revoked", "expired"])
def test_a_dead_key_gets_no_successor(story: Story, ending: str) -> None:
    if ending == "revoked":
        story.service.revoke_key(story.old.id)
    else:
        story.clock.advance(story.old.expires_at - story.clock.now())

    refused = story.fault_of_rotation()

    assert KeyFault.KEY_DEAD is refused.fault
    assert f"key `{story.old.id}` is {ending}" in str(refused)
    assert str(refused).endswith("make a new key")


def test_a_key_is_alive_until_the_instant_of_its_expiry_for_a_rotation_too(story: Story) -> None:
    story.clock.advance(story.old.expires_at - story.clock.now() - 0.001)

    assert story.service.rotate_key(story.old.id).old.expires_at == story.old.expires_at


def test_a_key_that_has_a_successor_gets_no_second_one(story: Story) -> None:
    successor = story.service.rotate_key(story.old.id).new.key

    refused = story.fault_of_rotation()

    assert KeyFault.KEY_ROTATED is refused.fault
    assert str(refused) == f"key `{story.old.id}` was rotated already; its successor is `{successor.id}`"
    assert story.service.rotate_key(successor.id).old.id == successor.id


def test_a_disabled_app_rotates_no_key(story: Story) -> None:
    story.service.disable_app(story.app.id)

    assert KeyFault.APP_DISABLED is story.fault_of_rotation().fault


def test_both_keys_count_so_at_the_limit_only_a_swap_is_possible(story: Story) -> None:
    for _ in range(9):
        story.create()

    refused = story.fault_of_rotation()
    rotation = story.service.rotate_key(story.old.id, overlap=0)

    assert KeyFault.TOO_MANY_KEYS is refused.fault
    assert len(refused.candidates) == 10
    assert str(refused) == (
        f"App `{story.app.id}` has 10 active keys of 10 allowed; end one with `keys revoke ID`, "
        "or rotate with an overlap of 0, as both keys would count"
    )
    standings = [key.standing(story.clock.now()) for key in story.service.list_keys()]
    assert [10, 1] == [standings.count(Standing.ACTIVE), standings.count(Standing.REVOKED)]
    assert Standing.ACTIVE is rotation.new.key.standing(story.clock.now())


def test_the_end_of_the_overlap_frees_a_place_at_once(story: Story) -> None:
    for _ in range(8):
        story.create()
    story.service.rotate_key(story.old.id, overlap=DAY)
    story.clock.advance(DAY - 0.001)
    with pytest.raises(KeyRefused, match="10 active keys of 10"):
        story.create()

    story.clock.advance(0.001)

    story.create()


def test_the_rules_of_today_hold_for_a_successor() -> None:
    story = Story()
    stricter = KeyService(story.store, rules=KeyRules(max_days=30), now=story.clock.now)

    new = stricter.rotate_key(story.old.id).new.key

    assert story.clock.now() + 30 * DAY == new.expires_at


def test_the_successor_of_a_legacy_key_is_an_api_key(story: Story) -> None:
    token = Secret("e5c3b842284045d98ed042814f31543f")
    legacy = story.service.import_legacy_key(story.app.id, token, name="old", scopes=["USER_READ"])

    rotation = story.service.rotate_key(legacy.id)

    assert (CredentialKind.API_KEY, CredentialKind.LEGACY_KEY) == (rotation.new.key.kind, rotation.old.kind)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("0d", 0.0), ("7d", 7 * DAY), ("12h", 43_200.0), ("9999d", 9999 * DAY)]
)
def test_an_overlap_is_read_in_days_or_hours(text: str, seconds: float) -> None:
    assert seconds == read_overlap(text)


@pytest.mark.parametrize("text", ["", "7", "7 d", "-1d", "1w", "7D", "\u0667d", "7d\n", "99999d", "1.5d"])
def test_another_overlap_is_not_understood(text: str) -> None:
    with pytest.raises(KeyRefused, match="is not understood; write `7d`, `12h` or `0`") as refused:
        read_overlap(text)

    assert KeyFault.OVERLAP_INVALID is refused.value.fault
