"""What every store of keys must do, on both its sides. Run by the tests of each store over its own `Stored`."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId, digest_of
from gateway.core.lifecycle import KeyState
from gateway.keys.book import App, AppState, KeyBook, KeyEntry, KeyTaken, Note, PepperUse, StoreEvent
from gateway.keys.refused import KeyRefused
from gateway.keys.secret import Secret
from gateway.keys.service import KeyService, NewKey
from gateway.ports import REVOCATION_GRACE_SECONDS, KeyChange, KeyStore, TokenRevocation, TokenStore
from gateway.stores import open_key_service
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from tests.support.manual_clock import ManualClock


class Reader(KeyStore, TokenStore, Protocol):
    """The data plane's side."""


@dataclass(frozen=True)
class Stored:
    """One store from both sides."""

    book: KeyBook
    store: Reader


LEGACY_TOKEN = "e5c3b842284045d98ed042814f31543f"
NOTE = Note("tested", 1_800_000_000.25, "tester", {"why": "because"})


def credential_of(new: NewKey) -> Credential:
    """The credential that the token parser makes of the new key's token."""
    return Credential(CredentialKind.API_KEY, new.key.id, digest_of(new.token.reveal().encode()))


def replaced(credential: Credential, kind: CredentialKind) -> Credential:
    """The same as another kind of credential."""
    return Credential(kind, credential.key_id, credential.digest)


def service_over(book: KeyBook, clock: ManualClock | None = None) -> KeyService:
    """A service with its own clock and random bytes that are the same in each run."""
    return KeyService(book, now=(clock or ManualClock()).now, random_bytes=random.Random(1).randbytes)


def an_app(number: int, **changes: object) -> App:
    return replace(
        App(AppId(f"app{number}"), f"App {number}", frozenset(), AppState.ACTIVE, None, 1_800_000_000.5 + number),
        **changes,  # type: ignore[arg-type]  # each test names a field of its own
    )


def a_key(number: int, **changes: object) -> KeyEntry:
    return replace(
        KeyEntry(
            id=KeyId(f"xk{number:013}"),
            app_id=AppId("app1"),
            kind=CredentialKind.API_KEY,
            name=f"key {number}",
            scopes=("USER_READ",),
            expires_at=1_810_000_000.123456,
            state=KeyState.ACTIVE,
            created_at=1_800_000_000.654321 + number,
            hint="wxyz",
        ),
        **changes,  # type: ignore[arg-type]  # each test names a field of its own
    )


def a_digest(number: int) -> KeyDigest:
    return digest_of(str(number).encode())


def a_revocation(number: int, **changes: object) -> TokenRevocation:
    return replace(
        TokenRevocation(
            position=0,
            issuer="https://issuer.test",
            app_id=AppId(""),
            user_id=f"user {number}",
            token_id="",
            not_before=1_800_000_000.25,
            expires_at=1_800_000_000.25 + number,
        ),
        **changes,  # type: ignore[arg-type]  # each test names a field of its own
    )


REVOKED = replace(NOTE, event=StoreEvent.TOKENS_REVOKED.value)


def rotate_at_once(store_url: str, writers: int) -> list[str]:
    """What as many writers as that are told who rotate one key at the same time; the key is left as they left it."""
    with open_key_service(store_url, create=True) as service:
        key = service.create_key(service.create_app("A", key_limit=100).id, name="k", scopes=["S"]).key

    start = threading.Barrier(writers)
    outcomes: list[str] = []

    def rotate() -> None:
        with open_key_service(store_url) as own:
            start.wait()
            try:
                outcomes.append(own.rotate_key(key.id).new.key.id)
            except KeyRefused as refused:
                outcomes.append(refused.fault.value)

    threads = [threading.Thread(target=rotate) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with open_key_service(store_url) as service:
        old, new = service.list_keys()
        assert old.successor_id == new.id
        assert [line.event for line in service.history()] == ["app_created", "created", "created", "rotated"]
    return ["rotated" if outcome == new.id else outcome for outcome in outcomes]


class KeyStoreContract:
    """Subclass it and give it a fixture `stored`."""

    # -- the book

    async def test_an_app_and_a_key_are_listed_as_they_were_added(self, stored: Stored) -> None:
        app = an_app(1, name="Ключ № 1", features=frozenset({"engagement", "beta"}), key_limit=3)
        key = a_key(1, name="' OR 1=1 --", scopes=("USER_READ", "user.link"))
        with stored.book.writing() as writing:
            writing.add_app(app, NOTE)
            writing.add_key(key, a_digest(1), NOTE)

        assert [app] == stored.book.apps()
        assert [key] == stored.book.keys()

    async def test_a_transaction_sees_its_own_changes(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_key(a_key(1), a_digest(1), NOTE)
            writing.set_key_state(a_key(1), KeyState.REVOKED, NOTE)
            writing.set_app_state(AppId("app1"), AppState.DISABLED, NOTE)

            assert an_app(1, state=AppState.DISABLED) == writing.app(AppId("app1"))
            assert a_key(1, state=KeyState.REVOKED) == writing.key(a_key(1).id)
            assert writing.app(AppId("app2")) is None
            assert writing.key(a_key(2).id) is None

    async def test_an_exception_undoes_the_whole_transaction(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)

        def break_off() -> None:
            with stored.book.writing() as writing:
                writing.add_key(a_key(1), a_digest(1), NOTE)
                writing.set_app_state(AppId("app1"), AppState.DISABLED, NOTE)
                raise LookupError

        with pytest.raises(LookupError):
            break_off()

        assert [an_app(1)] == stored.book.apps()
        assert stored.book.keys() == []
        assert len(stored.book.history()) == 1
        assert await stored.store.position() == 1

    async def test_every_change_has_its_line_of_history(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), replace(NOTE, event="one"))
            writing.add_key(a_key(1), a_digest(1), replace(NOTE, event="two", detail={}))
        with stored.book.writing() as writing:
            writing.set_key_state(a_key(1), KeyState.REVOKED, replace(NOTE, event="three"))
            writing.set_app_state(AppId("app1"), AppState.DISABLED, replace(NOTE, event="four", detail={"a": "ü\n"}))

        lines = stored.book.history()
        assert [(line.position, line.event) for line in lines] == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]
        assert [None, a_key(1).id, a_key(1).id, None] == [line.key_id for line in lines]
        assert {("app1", NOTE.happened_at, "tester")} == {(line.app_id, line.happened_at, line.actor) for line in lines}
        assert [dict(line.detail) for line in lines] == [{"why": "because"}, {}, {"why": "because"}, {"a": "ü\n"}]

    async def test_history_is_listed_by_app_and_by_key(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            for number in (1, 2):
                writing.add_app(an_app(number), NOTE)
                writing.add_key(a_key(number, app_id=AppId(f"app{number}")), a_digest(number), NOTE)

        assert [line.position for line in stored.book.history(app_id=AppId("app2"))] == [3, 4]
        assert [line.position for line in stored.book.history(key_id=a_key(1).id)] == [2]
        assert stored.book.history(app_id=AppId("app2"), key_id=a_key(1).id) == []

    async def test_keys_are_listed_by_app_oldest_first(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            for number in (2, 1):
                writing.add_app(an_app(number), NOTE)
            for number in (3, 1, 2):
                writing.add_key(a_key(number), a_digest(number), NOTE)
            writing.add_key(a_key(4, app_id=AppId("app2")), a_digest(4), NOTE)

        assert [app.id for app in stored.book.apps()] == ["app1", "app2"]
        assert [a_key(1), a_key(2), a_key(3)] == stored.book.keys(AppId("app1"))
        assert [a_key(1), a_key(2), a_key(3), a_key(4, app_id=AppId("app2"))] == stored.book.keys()

    async def test_active_keys_are_neither_revoked_nor_expired_at_that_instant(self, stored: Stored) -> None:
        now = 1_800_000_000.5
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_app(an_app(2), NOTE)
            writing.add_key(a_key(1, expires_at=now + 0.000001), a_digest(1), NOTE)
            writing.add_key(a_key(2, expires_at=now), a_digest(2), NOTE)
            writing.add_key(a_key(3, expires_at=now - 1), a_digest(3), NOTE)
            writing.add_key(a_key(4), a_digest(4), NOTE)
            writing.set_key_state(a_key(4), KeyState.REVOKED, NOTE)
            writing.add_key(a_key(5, app_id=AppId("app2")), a_digest(5), NOTE)
            writing.add_key(a_key(6), a_digest(6), NOTE)
            active = writing.active_keys(AppId("app1"), now)

        assert [a_key(1, expires_at=now + 0.000001), a_key(6)] == active

    @pytest.mark.parametrize("again", [(1, 2), (2, 1)], ids=["the same id", "the same digest"])
    async def test_an_id_or_a_digest_is_never_stored_twice(self, stored: Stored, again: tuple[int, int]) -> None:
        key, digest = again
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_key(a_key(1), a_digest(1), NOTE)

        with pytest.raises(KeyTaken), stored.book.writing() as writing:
            writing.add_key(a_key(key), a_digest(digest), NOTE)

        assert [a_key(1)] == stored.book.keys()
        assert await stored.store.position() == 2

    async def test_a_name_and_a_successor_are_listed_as_they_were_written(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_key(a_key(1), a_digest(1), NOTE)
            writing.add_key(a_key(2), a_digest(2), NOTE)
        with stored.book.writing() as writing:
            writing.set_key_name(a_key(1), "Ü", replace(NOTE, event="one"))
            writing.set_successor(a_key(1), a_key(2).id, 1_805_000_000.654321, replace(NOTE, event="two"))
            kept = writing.key(a_key(1).id)

        changed = a_key(1, name="Ü", successor_id=a_key(2).id, expires_at=1_805_000_000.654321)
        assert [changed, a_key(2)] == stored.book.keys()
        assert changed == kept
        lines = stored.book.history(key_id=a_key(1).id)[-2:]
        assert [(line.event, dict(line.detail)) for line in lines] == [("one", NOTE.detail), ("two", NOTE.detail)]

    # -- the store

    async def test_a_key_is_found_by_its_id_and_proved_by_its_secret(self, stored: Stored) -> None:
        service = service_over(stored.book)
        app = service.create_app("A", ["engagement"])
        new = service.create_key(app.id, name="k", scopes=["USER_READ", "USER_LINK"])
        good = credential_of(new)
        wrong = Credential(CredentialKind.API_KEY, new.key.id, a_digest(9))

        record = await stored.store.find(good)

        assert record is not None
        assert (good.digest, KeyState.ACTIVE, True) == (record.digest, record.state, record.app_is_active)
        assert new.key.expires_at == record.expires_at
        principal = record.principal
        assert (CredentialKind.API_KEY, new.key.id, app.id) == (principal.kind, principal.key_id, principal.app_id)
        assert {"USER_READ", "USER_LINK"} == principal.scopes
        assert {"engagement"} == principal.app_features
        unproved = await stored.store.find(wrong)
        assert unproved is None or unproved.digest != wrong.digest

    async def test_a_legacy_key_is_found_by_its_digest_and_by_nothing_else(self, stored: Stored) -> None:
        service = service_over(stored.book)
        app = service.create_app("A")
        key = service.import_legacy_key(app.id, Secret(LEGACY_TOKEN.upper()), name="old", scopes=["user.read"])
        digest = digest_of(LEGACY_TOKEN.encode())

        record = await stored.store.find(Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest))

        assert record is not None
        assert (key.id, CredentialKind.LEGACY_KEY) == (record.principal.key_id, record.principal.kind)
        assert await stored.store.find(Credential(CredentialKind.LEGACY_KEY, key.id, a_digest(1))) is None
        assert await stored.store.find(Credential(CredentialKind.API_KEY, key.id, digest)) is None

    async def test_an_api_key_is_not_found_as_a_legacy_key(self, stored: Stored) -> None:
        service = service_over(stored.book)
        new = service.create_key(service.create_app("A").id, name="k", scopes=["S"])

        found = await stored.store.find(Credential(CredentialKind.LEGACY_KEY, KeyId(""), credential_of(new).digest))

        assert found is None

    async def test_each_key_of_many_is_found_and_no_neighbour_of_it(self, stored: Stored) -> None:
        """E1: a store may look at the row next to an id that no key has."""
        service = service_over(stored.book)
        app = service.create_app("A", key_limit=50)
        made = [service.create_key(app.id, name="k", scopes=["S"]) for _ in range(20)]

        for new in made:
            asked = credential_of(new)
            record = await stored.store.find(asked)
            assert record is not None
            assert (new.key.id, asked.digest) == (record.principal.key_id, record.digest)
            for key_id in (new.key.id[:-1], new.key.id + "0", new.key.id.swapcase()):
                assert await stored.store.find(Credential(CredentialKind.API_KEY, KeyId(key_id), asked.digest)) is None

    @pytest.mark.parametrize("key_id", ["xk0000000000000", "", "' OR '1'='1", "%", "x" * 10_000, "\x00", "zz"])
    async def test_an_unknown_id_is_not_found(self, stored: Stored, key_id: str) -> None:
        service = service_over(stored.book)
        service.create_key(service.create_app("A").id, name="k", scopes=["S"])

        assert await stored.store.find(Credential(CredentialKind.API_KEY, KeyId(key_id), a_digest(1))) is None

    async def test_a_revoked_key_and_a_disabled_app_are_found_as_such(self, stored: Stored) -> None:
        service = service_over(stored.book)
        app = service.create_app("A")
        new = service.create_key(app.id, name="k", scopes=["S"])
        service.revoke_key(new.key.id)
        service.disable_app(app.id)

        record = await stored.store.find(credential_of(new))

        assert record is not None
        assert (record.state, record.app_is_active) == (KeyState.REVOKED, False)

    async def test_what_is_cached_of_a_rotated_key_learns_when_it_ends(self, stored: Stored) -> None:
        """E21"""
        clock = ManualClock()
        service = service_over(stored.book, clock)
        first = service.create_key(service.create_app("A").id, name="k", scopes=["S"])
        finder = CachedKeyFinder(stored.store, clock, lookup_timeout_seconds=10.0)
        feed = ChangeFeed(stored.store, finder, clock)
        await feed.poll_once()
        before = await finder.find(credential_of(first))
        assert before is not None
        assert before == finder.cached(before.digest)

        second = service.rotate_key(first.key.id, overlap=60)
        assert before == finder.cached(before.digest)
        assert await finder.find(credential_of(second.new)) is not None
        await feed.poll_once()
        learned = await finder.find(credential_of(first))
        third = service.rotate_key(second.new.key.id, overlap=0)
        await feed.poll_once()
        swapped = await finder.find(credential_of(second.new))

        assert learned is not None
        assert (KeyState.ACTIVE, clock.now() + 60) == (learned.state, learned.expires_at)
        assert swapped is not None
        assert swapped.state is KeyState.REVOKED
        assert await finder.find(credential_of(third.new)) is not None
        assert [(line.key_id, line.event) for line in stored.book.history()[2:]] == [
            (second.new.key.id, "created"),
            (first.key.id, "rotated"),
            (third.new.key.id, "created"),
            (second.new.key.id, "rotated"),
            (second.new.key.id, "revoked"),
        ]

    async def test_the_feed_gives_what_happened_after_a_position_oldest_first(self, stored: Stored) -> None:
        clock = ManualClock()
        service = service_over(stored.book, clock)
        assert (await stored.store.position(), await stored.store.changes_since(0)) == (0, [])

        app = service.create_app("A")
        clock.advance(1.25)
        new = service.create_key(app.id, name="k", scopes=["S"])
        clock.advance(1.25)
        service.revoke_key(new.key.id)

        first = KeyChange(1, app.id, None, clock.now() - 2.5)
        second = KeyChange(2, app.id, new.key.id, clock.now() - 1.25)
        third = KeyChange(3, app.id, new.key.id, clock.now())
        assert await stored.store.position() == 3
        assert [first, second, third] == await stored.store.changes_since(0)
        assert [third] == await stored.store.changes_since(2)
        assert await stored.store.changes_since(3) == []
        assert await stored.store.changes_since(99) == []

    async def test_a_user_token_is_no_key(self, stored: Stored) -> None:
        service = service_over(stored.book)
        new = service.create_key(service.create_app("A").id, name="k", scopes=["S"])

        for kind in (CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE):
            assert await stored.store.find(replaced(credential_of(new), kind)) is None

    async def test_every_app_is_listed_with_whether_it_is_active(self, stored: Stored) -> None:
        assert await stored.store.app_states() == {}
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_app(an_app(2, state=AppState.DISABLED), NOTE)

        assert await stored.store.app_states() == {"app1": True, "app2": False}

    # -- user tokens

    async def test_a_revocation_of_tokens_has_the_position_of_its_line_of_history(self, stored: Stored) -> None:
        one = a_revocation(9, app_id=AppId("app1"), user_id="Ü", token_id="' OR 1=1 --")
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            written = writing.revoke_tokens(one, REVOKED)

        assert replace(one, position=2) == written
        assert [written] == await stored.store.token_revocations(0, NOTE.happened_at)
        assert [written] == stored.book.live_token_revocations(NOTE.happened_at)
        line = stored.book.history()[-1]
        assert (2, "app1", None, "tokens_revoked") == (line.position, line.app_id, line.key_id, line.event)
        changes = await stored.store.changes_since(0)
        assert [(1, False), (2, True)] == [(change.position, change.concerns_tokens) for change in changes]

    async def test_revocations_of_tokens_are_given_after_a_position_until_they_expire(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            first, second, third = (writing.revoke_tokens(a_revocation(number), REVOKED) for number in (3, 1, 2))
        now = NOTE.happened_at

        assert [first, second, third] == await stored.store.token_revocations(0, now)
        assert [second, third] == await stored.store.token_revocations(first.position, now)
        assert [first, third] == await stored.store.token_revocations(0, now + 1)
        assert [first] == stored.book.live_token_revocations(now + 2)
        assert await stored.store.token_revocations(0, now + 3) == []

    async def test_a_revocation_of_tokens_is_undone_with_its_transaction(self, stored: Stored) -> None:
        def break_off() -> None:
            with stored.book.writing() as writing:
                writing.revoke_tokens(a_revocation(1), REVOKED)
                raise LookupError

        with pytest.raises(LookupError):
            break_off()

        assert await stored.store.token_revocations(0, NOTE.happened_at) == []
        assert stored.book.history() == []

    async def test_revocations_of_tokens_that_have_expired_are_forgotten_by_the_next_writer(
        self, stored: Stored
    ) -> None:
        with stored.book.writing() as writing:
            writing.revoke_tokens(a_revocation(1), REVOKED)
        with stored.book.writing() as writing:
            # A while after the first has expired, and the one beside it not yet.
            writing.revoke_tokens(a_revocation(2), REVOKED)
            later = replace(REVOKED, happened_at=NOTE.happened_at + 1 + REVOCATION_GRACE_SECONDS)
            kept = writing.revoke_tokens(a_revocation(5), later)

        found = await stored.store.token_revocations(0, 0.0)
        assert [2, 3] == [each.position for each in found]
        assert kept == found[-1]
        assert len(stored.book.history()) == 3

    async def test_at_most_a_thousand_revocations_are_given_at_once(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            for _ in range(1_001):
                writing.revoke_tokens(a_revocation(9), REVOKED)

        first = await stored.store.token_revocations(0, NOTE.happened_at)
        assert len(first) == 1_000
        assert len(await stored.store.token_revocations(first[-1].position, NOTE.happened_at)) == 1

    # -- peppers

    async def test_keys_are_counted_by_their_pepper(self, stored: Stored) -> None:
        now = 1_800_000_000.5
        assert stored.book.pepper_uses(now) == []
        with stored.book.writing() as writing:
            writing.add_app(an_app(1), NOTE)
            writing.add_key(a_key(1), a_digest(1), NOTE)
            writing.add_key(a_key(2, expires_at=now), a_digest(2), NOTE)
            writing.add_key(a_key(3), a_digest(3), NOTE)
            writing.set_key_state(a_key(3), KeyState.REVOKED, NOTE)

            assert [PepperUse("", 1, 2)] == writing.pepper_uses(now)
        assert [PepperUse("", 1, 2)] == stored.book.pepper_uses(now)

    async def test_the_feed_gives_at_most_a_thousand_changes_at_once(self, stored: Stored) -> None:
        with stored.book.writing() as writing:
            for number in range(1_001):
                writing.add_app(an_app(number), NOTE)

        assert list(range(1, 1_001)) == [change.position for change in await stored.store.changes_since(0)]
        assert [change.position for change in await stored.store.changes_since(1_000)] == [1_001]


@asynccontextmanager
async def closing(stored: Stored) -> AsyncIterator[Stored]:
    """Closes both sides."""
    try:
        yield stored
    finally:
        stored.book.close()
        close = getattr(stored.store, "aclose", None)
        if close is not None:
            await close()
