"""A counted store answers as the one inside it does."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.credential import AppId, Credential, CredentialKind, KeyId, digest_of
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord, Principal
from gateway.observe.key_lookups import CountedKeyStore, KeyLookups
from gateway.ports import KeyChange, KeyStore, StoreUnavailable
from tests.observe.samples import NOW
from tests.support.manual_clock import ManualClock

CREDENTIAL = Credential(CredentialKind.API_KEY, KeyId("e5c3b842231543f"), digest_of(b"e5c3b842231543f.secret"))
RECORD = KeyRecord(
    CREDENTIAL.digest,
    KeyState.ACTIVE,
    True,
    2_000_000_000.0,
    Principal(CredentialKind.API_KEY, CREDENTIAL.key_id, AppId("app_1"), frozenset({"USER_READ"})),
)
CHANGE = KeyChange(position=7, app_id=AppId("app_1"), key_id=None, happened_at=1.0)


class ScriptedStore:
    """Answers what it is told to, after a time that passes on the test's clock."""

    def __init__(self, clock: ManualClock, answer: KeyRecord | BaseException | None) -> None:
        self._clock = clock
        self._answer = answer

    async def find(self, credential: Credential) -> KeyRecord | None:
        self._clock.advance(0.003)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    async def position(self) -> int:
        return 7

    async def changes_since(self, position: int) -> list[KeyChange]:
        return [CHANGE]


def counted(answer: KeyRecord | BaseException | None) -> tuple[KeyStore, KeyLookups]:
    clock = ManualClock(NOW)
    lookups = KeyLookups()
    return CountedKeyStore(ScriptedStore(clock, answer), lookups, clock), lookups


async def test_a_record_that_is_found_is_passed_on_and_counted() -> None:
    store, lookups = counted(RECORD)

    assert await store.find(CREDENTIAL) is RECORD
    assert (lookups.found, lookups.unknown, lookups.failed) == (1, 0, 0)
    assert lookups.seconds.total_seconds == pytest.approx(0.003)


async def test_a_key_that_is_unknown_is_counted_apart() -> None:
    store, lookups = counted(None)

    assert await store.find(CREDENTIAL) is None
    assert (lookups.found, lookups.unknown, lookups.failed) == (0, 1, 0)


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), asyncio.CancelledError()])
async def test_a_store_that_fails_or_takes_too_long_is_counted_and_still_fails(failure: BaseException) -> None:
    store, lookups = counted(failure)

    with pytest.raises(type(failure)):
        await store.find(CREDENTIAL)

    assert (lookups.found, lookups.unknown, lookups.failed) == (0, 0, 1)
    assert sum(lookups.seconds.counts) == 1


async def test_the_feed_is_passed_on() -> None:
    store, _ = counted(None)

    assert (await store.position(), await store.changes_since(6)) == (7, [CHANGE])
