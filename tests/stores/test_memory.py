"""The store in memory keeps the contract, and fails when it is told to."""

from __future__ import annotations

import pytest

from gateway.core.credential import Credential as Asked
from gateway.core.credential import CredentialKind
from gateway.ports import StoreUnavailable
from gateway.stores.memory import MemoryKeyStore
from tests.stores.contract import KeyStoreContract, Stored, a_digest, a_key, service_over


@pytest.fixture
def stored() -> Stored:
    store = MemoryKeyStore()
    return Stored(book=store, store=store)


class TestMemoryKeyStore(KeyStoreContract):
    """The contract."""


async def test_a_store_that_is_down_answers_nothing() -> None:
    store = MemoryKeyStore()
    store.is_down = True

    with pytest.raises(StoreUnavailable):
        await store.find(Asked(CredentialKind.API_KEY, a_key(1).id, a_digest(1)))
    with pytest.raises(StoreUnavailable):
        await store.position()
    with pytest.raises(StoreUnavailable):
        await store.changes_since(0)
    with pytest.raises(StoreUnavailable):
        store.apps()
    with pytest.raises(StoreUnavailable), store.writing():
        pass


def test_a_restored_backup_is_the_store_as_it_was() -> None:
    store = MemoryKeyStore()
    service = service_over(store)
    app = service.create_app("A")
    backup = store.backup()
    service.create_key(app.id, name="k", scopes=["S"])

    store.restore(backup)

    assert [app] == store.apps()
    assert store.keys() == []
