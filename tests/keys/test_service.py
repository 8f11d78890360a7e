"""Issuing, listing and revoking, over the store in memory and with a clock that the test moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.core.credential import CredentialKind, digest_of
from gateway.core.lifecycle import MOVES, KeyEvent, KeyState
from gateway.core.scopes import Scope, ScopeRegistry
from gateway.keys.book import App, AppState, Standing
from gateway.keys.expiry import year_after
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rules import KeyRules
from gateway.keys.secret import Secret
from gateway.keys.service import KeyService
from gateway.ports import StoreUnavailable
from gateway.stores.memory import MemoryKeyStore
from tests.support.manual_clock import ManualClock

DAY = 86_400.0
LEGACY_TOKEN = "e5c3b842284045d98ed042814f31543f"


class Story:
    """A service, what is under it, and an App to begin with."""

    def __init__(self, rules: KeyRules | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryKeyStore()
        random_bytes = random.Random(1).randbytes
        self.service = KeyService(self.store, rules=rules, now=self.clock.now, random_bytes=random_bytes)
        self.app: App = self.service.create_app("Fleet", ["engagement"], actor="ann")

    def fault_of_create(self, **changes: object) -> KeyRefused:
        """Why creating a key with one thing wrong is refused; nothing may have changed then."""
        asked: dict[str, object] = {"app_id": self.app.id, "name": "k", "scopes": ["S"], **changes}
        before = self.store.backup()
        with pytest.raises(KeyRefused) as refused:
            self.service.create_key(**asked)  # type: ignore[arg-type]  # the table below names the fields
        assert before is self.store.backup()
        return refused.value


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_new_key_is_active_and_has_what_was_asked(story: Story) -> None:
    end = story.clock.now() + 9
    new = story.service.create_key(story.app.id, name="nightly", scopes=["A", "B", "A"], expires_at=end)

    key, token = new.key, new.token.reveal()
    assert (story.app.id, "nightly", ("A", "B")) == (key.app_id, key.name, key.scopes)
    assert (key.state, key.kind) == (KeyState.ACTIVE, CredentialKind.API_KEY)
    assert (story.clock.now(), end) == (key.created_at, key.expires_at)
    assert (key.id, key.hint) == (token.split(".")[0], token[-4:])
    assert [key] == story.service.list_keys()


def test_a_key_lives_a_calendar_year_where_nothing_else_was_asked(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])

    assert year_after(story.clock.now()) == new.key.expires_at


def test_another_maximum_changes_new_keys_and_no_old_one() -> None:
    story = Story(KeyRules(max_days=90))
    old = story.service.create_key(story.app.id, name="old", scopes=["S"]).key
    stricter = KeyService(story.store, rules=KeyRules(max_days=30), now=story.clock.now)

    new = stricter.create_key(story.app.id, name="new", scopes=["S"]).key

    assert story.clock.now() + 90 * DAY == old.expires_at
    assert story.clock.now() + 30 * DAY == new.expires_at
    assert old in stricter.list_keys()


def test_history_says_who_did_what_when_and_nothing_secret(story: Story) -> None:
    story.clock.advance(1)
    new = story.service.create_key(story.app.id, name="k", scopes=["A", "B"], actor="ben")
    story.clock.advance(1)
    story.service.revoke_key(new.key.id, reason="leaked", actor="cat")

    made, created, revoked = story.service.history()
    start = story.clock.now() - 2
    assert [
        ("app_created", start, "ann", None),
        ("created", start + 1, "ben", new.key.id),
        ("revoked", start + 2, "cat", new.key.id),
    ] == [(line.event, line.happened_at, line.actor, line.key_id) for line in (made, created, revoked)]
    assert [line.detail for line in (made, created, revoked)] == [
        {"name": "Fleet", "features": "engagement"},
        {"name": "k", "scopes": "A B", "expires_at": "2028-01-15T08:00:01Z"},
        {"reason": "leaked"},
    ]
    assert new.token.reveal().split(".")[1] not in repr((made, created, revoked))


def test_scopes_are_canonical_where_the_policy_is_known(story: Story) -> None:
    registry = ScopeRegistry([Scope("USER_READ", "read", aliases=("user.read",))])

    new = story.service.create_key(story.app.id, name="k", scopes=["user.read"], registry=registry)

    assert new.key.scopes == ("USER_READ",)


def test_a_scope_for_some_apps_asks_the_app_for_its_feature(story: Story) -> None:
    registry = ScopeRegistry([Scope("FAKE_DATA_INSERT", "insert fake data", only_for="engagement")])
    other = story.service.create_app("Other")

    story.service.create_key(story.app.id, name="k", scopes=["FAKE_DATA_INSERT"], registry=registry)
    refused = story.fault_of_create(app_id=other.id, scopes=["FAKE_DATA_INSERT"], registry=registry)

    assert KeyFault.SCOPE_NOT_FOR_APP is refused.fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"app_id": "nobody"}, KeyFault.APP_UNKNOWN),
        ({"name": ""}, KeyFault.NAME_INVALID),
        ({"name": "x" * 101}, KeyFault.NAME_INVALID),
        ({"scopes": []}, KeyFault.SCOPE_MISSING),
        ({"scopes": ["a b"]}, KeyFault.SCOPE_UNKNOWN),
        ({"scopes": ["S"], "registry": ScopeRegistry([])}, KeyFault.SCOPE_UNKNOWN),
        ({"expires_at": 1.0}, KeyFault.EXPIRY_PAST),
        ({"expires_at": 9e9}, KeyFault.EXPIRY_TOO_LATE),
    ],
)
def test_a_faulty_request_is_refused_and_changes_nothing(
    story: Story, changes: dict[str, object], fault: KeyFault
) -> None:
    assert fault is story.fault_of_create(**changes).fault


def test_the_eleventh_active_key_is_refused_with_the_count_and_the_candidates(story: Story) -> None:
    keys = [
        story.service.create_key(
            story.app.id, name=f"key {number}", scopes=["S"], expires_at=story.clock.now() + (20 - number) * DAY
        ).key
        for number in range(10)
    ]

    refused = story.fault_of_create()

    assert KeyFault.TOO_MANY_KEYS is refused.fault
    assert tuple(reversed(keys)) == refused.candidates
    assert str(refused) == (f"App `{story.app.id}` has 10 active keys of 10 allowed; end one with `keys revoke ID`")


def test_expiry_and_revocation_free_a_place_at_once(story: Story) -> None:
    short = story.service.create_key(story.app.id, name="short", scopes=["S"], expires_at=story.clock.now() + DAY)
    keys = [story.service.create_key(story.app.id, name="k", scopes=["S"]) for _ in range(9)]

    story.clock.advance(DAY - 1)
    assert KeyFault.TOO_MANY_KEYS is story.fault_of_create().fault
    story.clock.advance(1)
    story.service.create_key(story.app.id, name="after the expiry", scopes=["S"])
    assert KeyFault.TOO_MANY_KEYS is story.fault_of_create().fault
    story.service.revoke_key(keys[0].key.id)
    story.service.create_key(story.app.id, name="after the revocation", scopes=["S"])

    assert Standing.EXPIRED is short.key.standing(story.clock.now())
    assert len(story.service.list_keys()) == 12


@pytest.mark.parametrize("limit", [1, 2, 12])
def test_an_app_may_have_a_limit_of_its_own(story: Story, limit: int) -> None:
    app = story.service.create_app("Other", key_limit=limit)
    for _ in range(limit):
        story.service.create_key(app.id, name="k", scopes=["S"])

    refused = story.fault_of_create(app_id=app.id)

    assert (KeyFault.TOO_MANY_KEYS, limit) == (refused.fault, len(refused.candidates))


def test_the_keys_of_one_app_do_not_count_for_another() -> None:
    story = Story(KeyRules(active_keys=1))
    story.service.create_key(story.app.id, name="k", scopes=["S"])
    other = story.service.create_app("Other")

    assert story.service.create_key(other.id, name="k", scopes=["S"]).key in story.service.list_keys(other.id)


def test_revoking_twice_is_revoking_once_and_says_so(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])
    story.clock.advance(5)
    first = story.service.revoke_key(new.key.id)
    story.clock.advance(5)
    before = story.store.backup()
    second = story.service.revoke_key(new.key.id)

    assert (first.was_already_revoked, second.was_already_revoked) == (False, True)
    assert {story.clock.now() - 5} == {first.revoked_at, second.revoked_at}
    assert [first.key] == [second.key] == story.service.list_keys()
    assert before.history == story.store.backup().history


def test_an_expired_key_can_be_revoked(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"], expires_at=story.clock.now() + 1)
    story.clock.advance(2)

    story.service.revoke_key(new.key.id)

    assert Standing.REVOKED is story.service.list_keys()[0].standing(story.clock.now())


def test_revoking_changes_the_state_and_no_other_column(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])
    story.clock.advance(5)

    after = story.service.revoke_key(new.key.id).key

    same = ("id", "app_id", "kind", "name", "scopes", "expires_at", "created_at", "hint")
    assert [getattr(new.key, field) for field in same] == [getattr(after, field) for field in same]


@pytest.mark.parametrize("key_id", ["xk0000000000000", "", "nobody"])
def test_an_unknown_key_is_a_clear_error(story: Story, key_id: str) -> None:
    calls: list[Callable[[str], object]] = [
        story.service.revoke_key,
        story.service.rotate_key,
        lambda key_id: story.service.rename_key(key_id, "n"),
    ]
    for call in calls:
        with pytest.raises(KeyRefused, match="there is no key with the id") as refused:
            call(key_id)
        assert KeyFault.KEY_UNKNOWN is refused.value.fault


def test_a_whole_token_given_for_an_id_is_not_quoted(story: Story) -> None:
    token = story.service.create_key(story.app.id, name="k", scopes=["S"]).token.reveal()

    for given in (token, LEGACY_TOKEN, token.split(".")[1]):
        with pytest.raises(KeyRefused) as refused:
            story.service.revoke_key(given)
        assert given not in str(refused.value)


def test_every_move_of_the_table_is_a_call_of_the_service(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])
    renamed = story.service.rename_key(new.key.id, "j")
    rotated = story.service.rotate_key(new.key.id)
    revoked = story.service.revoke_key(new.key.id)
    renamed_again = story.service.rename_key(new.key.id, "i")

    assert {
        (None, KeyEvent.CREATED): new.key.state,
        (new.key.state, KeyEvent.RENAMED): renamed.state,
        (new.key.state, KeyEvent.ROTATED): rotated.old.state,
        (new.key.state, KeyEvent.REVOKED): revoked.key.state,
        (revoked.key.state, KeyEvent.RENAMED): renamed_again.state,
    } == MOVES


def test_renaming_changes_the_name_and_no_other_column(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="nightly", scopes=["S"])
    story.clock.advance(5)

    renamed = story.service.rename_key(new.key.id, "weekly", actor="ben")

    assert replace(new.key, name="weekly") == renamed
    assert [renamed] == story.service.list_keys()
    line = story.service.history(key_id=new.key.id)[-1]
    assert ("renamed", "ben", story.clock.now()) == (line.event, line.actor, line.happened_at)
    assert {"name": "weekly", "was": "nightly"} == line.detail


def test_the_name_that_a_key_has_is_no_change(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="nightly", scopes=["S"])
    before = story.store.backup().history

    assert new.key == story.service.rename_key(new.key.id, "nightly")
    assert before == story.store.backup().history


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", "\u202eabc"])
def test_a_name_that_cannot_be_shown_is_refused_for_a_rename_too(story: Story, name: str) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])

    with pytest.raises(KeyRefused) as refused:
        story.service.rename_key(new.key.id, name)

    assert KeyFault.NAME_INVALID is refused.value.fault
    assert [new.key] == story.service.list_keys()


def test_a_disabled_app_gets_no_keys_until_it_is_enabled(story: Story) -> None:
    assert [True, False] == [story.service.disable_app(story.app.id, actor="ann") for _ in range(2)]
    assert KeyFault.APP_DISABLED is story.fault_of_create().fault

    assert [True, False] == [story.service.enable_app(story.app.id, actor="ann") for _ in range(2)]
    story.service.create_key(story.app.id, name="k", scopes=["S"])

    assert [line.event for line in story.service.history()] == ["app_created", "app_disabled", "app_enabled", "created"]
    assert [app.state for app in story.service.list_apps()] == [AppState.ACTIVE]


def test_an_unknown_app_is_a_clear_error(story: Story) -> None:
    service = story.service
    calls: list[Callable[[str], object]] = [
        service.disable_app,
        service.enable_app,
        service.list_keys,
        lambda app_id: service.history(app_id=app_id),
    ]
    for call in calls:
        with pytest.raises(KeyRefused, match="there is no App with the id `nobody`; see `apps list`"):
            call("nobody")


def test_the_history_of_a_key_that_is_unknown_or_of_another_app_is_a_clear_error(story: Story) -> None:
    new = story.service.create_key(story.app.id, name="k", scopes=["S"])
    other = story.service.create_app("Other")

    for app_id, key_id in ((None, "nope"), (story.app.id, "nope"), (other.id, new.key.id)):
        with pytest.raises(KeyRefused, match=f"there is no key with the id `{key_id}`") as refused:
            story.service.history(app_id=app_id, key_id=key_id)
        assert KeyFault.KEY_UNKNOWN is refused.value.fault
    assert [line.event for line in story.service.history(app_id=story.app.id, key_id=new.key.id)] == ["created"]


def test_what_is_not_there_is_said_with_the_place_that_was_searched(story: Story) -> None:
    service = KeyService(story.store, place="/srv/keys.sqlite3")

    with pytest.raises(KeyRefused, match=r"no App with the id `nobody` in the key store `/srv/keys\.sqlite3`; see"):
        service.list_keys("nobody")
    with pytest.raises(KeyRefused, match=r"no key with the id `nobody` in the key store `/srv/keys\.sqlite3`; see"):
        service.revoke_key("nobody")


@pytest.mark.parametrize(
    ("name", "features", "limit", "fault"),
    [
        ("", [], None, KeyFault.NAME_INVALID),
        ("A", ["a b"], None, KeyFault.FEATURE_INVALID),
        ("A", [], -1, KeyFault.LIMIT_INVALID),
        ("A", [], 0, KeyFault.LIMIT_INVALID),
        ("A", [], 10**20, KeyFault.LIMIT_INVALID),
    ],
)
def test_a_faulty_app_is_refused(
    story: Story, name: str, features: list[str], limit: int | None, fault: KeyFault
) -> None:
    with pytest.raises(KeyRefused) as refused:
        story.service.create_app(name, features, key_limit=limit)

    assert fault is refused.value.fault
    assert [story.app] == story.service.list_apps()


def test_a_legacy_key_is_stored_by_its_lower_case_spelling(story: Story) -> None:
    key = story.service.import_legacy_key(story.app.id, Secret(LEGACY_TOKEN.upper()), name="old", scopes=["user.read"])

    assert CredentialKind.LEGACY_KEY is key.kind
    assert {key.id: digest_of(LEGACY_TOKEN.encode())} == story.store.backup().digests
    assert key.id.startswith("xl")
    with pytest.raises(KeyRefused, match="this key is in the store already") as refused:
        story.service.import_legacy_key(story.app.id, Secret(LEGACY_TOKEN), name="again", scopes=["S"])
    assert KeyFault.KEY_TAKEN is refused.value.fault


@pytest.mark.parametrize("token", ["", LEGACY_TOKEN[1:], LEGACY_TOKEN + "0", "g" * 32, "٣" * 32, LEGACY_TOKEN + "\n"])
def test_what_is_not_32_hex_is_no_legacy_key(story: Story, token: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        story.service.import_legacy_key(story.app.id, Secret(token), name="old", scopes=["S"])

    assert KeyFault.TOKEN_INVALID is refused.value.fault


def test_a_store_that_is_down_is_said_to_be_and_nothing_is_changed(story: Story) -> None:
    before = story.store.backup()
    story.store.is_down = True

    with pytest.raises(StoreUnavailable), story.service as service:
        service.create_key(story.app.id, name="k", scopes=["S"])

    assert before is story.store.backup()


# -- user tokens


def test_a_revocation_of_tokens_counts_until_the_last_of_them_has_expired(story: Story) -> None:
    now = story.clock.now()
    one = story.service.revoke_tokens(issuer="https://i.test", token_id="j-1", expires_at=now + 10, reason="lost")
    users = story.service.revoke_tokens(user_id="u", app_id=story.app.id, before=now - 5, actor="ann")

    assert ("https://i.test", "j-1", now + 10) == (one.issuer, one.token_id, one.expires_at)
    assert ("", "u", story.app.id, now - 5) == (users.issuer, users.user_id, users.app_id, users.not_before)
    assert users.expires_at == now + 366 * DAY
    assert [one, users] == story.service.list_token_revocations()
    story.clock.advance(10)
    assert [users] == story.service.list_token_revocations()
    lines = story.service.history()[-2:]
    assert [line.event for line in lines] == ["tokens_revoked", "tokens_revoked"]
    assert [one.position, users.position] == [line.position for line in lines]
    assert {"issuer": "https://i.test", "token_id": "j-1", "reason": "lost"} == lines[0].detail
    assert {"user_id": "u", "before": "2027-01-15T07:59:55Z"} == lines[1].detail
    assert ("ann", story.app.id) == (lines[1].actor, lines[1].app_id)


def test_without_an_instant_the_tokens_until_now_are_revoked(story: Story) -> None:
    assert story.clock.now() == story.service.revoke_tokens(issuer="i", user_id="u").not_before


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, KeyFault.REVOCATION_INVALID),
        ({"token_id": "j"}, KeyFault.REVOCATION_INVALID),
        ({"issuer": "i", "token_id": "j", "user_id": "u"}, KeyFault.REVOCATION_INVALID),
        ({"issuer": "i"}, KeyFault.REVOCATION_INVALID),
        ({"user_id": "a\nb"}, KeyFault.REVOCATION_INVALID),
        ({"user_id": "u" * 513}, KeyFault.REVOCATION_INVALID),
        ({"user_id": "u", "before": 4e9}, KeyFault.REVOCATION_INVALID),
        ({"user_id": "u", "before": float("nan")}, KeyFault.REVOCATION_INVALID),
        ({"user_id": "u", "expires_at": 1.0}, KeyFault.REVOCATION_INVALID),
        ({"app_id": "nobody"}, KeyFault.APP_UNKNOWN),
    ],
)
def test_a_faulty_revocation_of_tokens_is_refused(story: Story, changes: dict[str, object], fault: KeyFault) -> None:
    with pytest.raises(KeyRefused) as refused:
        story.service.revoke_tokens(**changes)  # type: ignore[arg-type]  # the table names the fields

    assert fault is refused.value.fault
    assert story.service.list_token_revocations() == []
