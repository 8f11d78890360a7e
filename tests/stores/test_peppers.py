"""Keys under peppers, on each engine: rotation, a pepper that is missing, and one that is let go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.keys.book import PepperUse
from gateway.keys.imports import read_imports
from gateway.keys.peppers import Peppers
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rules import KeyRules
from gateway.keys.secret import Secret
from gateway.ports import StoreUnavailable
from gateway.stores import open_key_service, open_key_store
from tests.stores.contract import LEGACY_TOKEN, credential_of

NONE = Peppers()
OLD = Peppers({"old": bytes(32)}, "old")
BOTH = Peppers({"old": bytes(32), "new": bytes(range(32))}, "new")
NEW = Peppers({"new": bytes(range(32))}, "new")
LEGACY = Credential(CredentialKind.LEGACY_KEY, KeyId(""), digest_of(LEGACY_TOKEN.encode()))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each engine."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    address = f"sqlite:///{tmp_path / 'keys.sqlite3'}"
    open_key_service(address, create=True).close()
    return address


async def found(url: str, peppers: Peppers, *asked: Credential) -> list[bool]:
    """Whether each is found as its own. Raises: StoreUnavailable"""
    store = open_key_store(url, peppers=peppers, lookup_timeout_seconds=5.0)
    try:
        records = [await store.find(credential) for credential in asked]
        return [record is not None and record.digest == one.digest for record, one in zip(records, asked, strict=True)]
    finally:
        await store.aclose()


def made(url: str, peppers: Peppers, make: Callable[[Any, str], Any]) -> Any:
    with open_key_service(url, peppers=peppers) as service:
        apps = service.list_apps() or [service.create_app("A")]
        return make(service, apps[0].id)


def a_key(service: Any, app: str) -> Credential:
    return credential_of(service.create_key(app, name="k", scopes=["S"]))


async def test_keys_stay_under_the_pepper_that_they_were_made_with(url: str) -> None:
    bare = made(url, NONE, a_key)
    old = made(url, OLD, a_key)
    new = made(url, BOTH, a_key)

    assert [True, True, True] == await found(url, BOTH, bare, old, new)
    with open_key_service(url, peppers=BOTH) as service:
        assert [PepperUse("", 1, 0), PepperUse("new", 1, 0), PepperUse("old", 1, 0)] == service.list_peppers()


async def test_a_missing_pepper_is_no_unknown_key(url: str) -> None:
    old = made(url, OLD, a_key)

    with pytest.raises(StoreUnavailable, match="`old`, which is not configured"):
        await found(url, NEW, old)
    with pytest.raises(StoreUnavailable, match="`old`, which is not configured"):
        await found(url, NEW, LEGACY)
    with pytest.raises(StoreUnavailable, match="`old`, which is not configured"):
        made(url, NEW, a_key)


async def test_an_unknown_id_is_unknown_whatever_its_neighbours_stand_under(url: str) -> None:
    made(url, OLD, a_key)
    unknown = Credential(CredentialKind.API_KEY, KeyId("xk0000000000000"), digest_of(b"anything"))

    assert [False] == await found(url, NEW, unknown)


async def test_the_wrong_bytes_under_the_right_id_recognise_nobody(url: str) -> None:
    old = made(url, OLD, a_key)

    assert [False] == await found(url, Peppers({"old": b"\x01" * 32}, "old"), old)


async def test_a_legacy_key_is_found_under_each_pepper_and_stored_under_one(url: str) -> None:
    def import_it(service: Any, app: str) -> object:
        return service.import_legacy_key(app, Secret(LEGACY_TOKEN), name="legacy", scopes=["S"])

    made(url, OLD, import_it)

    assert [True] == await found(url, BOTH, LEGACY)
    with pytest.raises(KeyRefused) as refused:
        made(url, BOTH, import_it)
    assert refused.value.fault is KeyFault.KEY_TAKEN


async def test_a_pepper_goes_once_no_active_key_stands_under_it(url: str) -> None:
    old = made(url, OLD, a_key)
    with open_key_service(url, peppers=BOTH) as service:
        with pytest.raises(KeyRefused, match="1 active keys are under the pepper `old`"):
            service.forget_pepper("old")
        with pytest.raises(KeyRefused, match="no key was made under a pepper `never`"):
            service.forget_pepper("never")
        service.revoke_key(old.key_id)
        service.forget_pepper("old")

        assert [PepperUse("", 0, 1)] == service.list_peppers()
        assert service.history()[-1].event == "pepper_forgotten"
    assert [False, False] == await found(url, NEW, old, LEGACY)
    made(url, NEW, a_key)


async def test_digests_of_another_system_are_taken_over(url: str) -> None:
    token = b"importedid.0123456789012345678901234567890123456789"
    imported = Credential(CredentialKind.API_KEY, KeyId("importedid"), digest_of(token))

    with open_key_service(url, peppers=BOTH) as service:
        app = service.create_app("A")
        lines = (
            "digest,app,name,scopes,expires,id",
            f'{LEGACY.digest.hex().upper()},{app.id},"old, but good",READ WRITE,,',
            f"{imported.digest.hex()},{app.id},with an id,READ,30d,importedid",
        )
        first, second = service.import_digests(read_imports("\n".join(lines), round(time.time())))

    assert (CredentialKind.LEGACY_KEY, ("READ", "WRITE"), "") == (first.kind, first.scopes, first.hint)
    assert (CredentialKind.API_KEY, "importedid", ("READ",)) == (second.kind, second.id, second.scopes)
    assert second.expires_at < first.expires_at
    assert [True, True] == await found(url, BOTH, LEGACY, imported)


async def test_an_import_with_one_fault_imports_nothing(url: str) -> None:
    with open_key_service(url) as service:
        app = service.create_app("A")
        rows = read_imports(
            "\n".join(
                f'{{"digest": "{number:064x}", "app": "{owner}", "name": "n", "scopes": ["READ"]}}'
                for number, owner in enumerate((app.id, "nobody"))
            ),
            0.0,
        )

        with pytest.raises(KeyRefused, match=r"line 2: there is no App with the id `nobody`.*nothing was imported"):
            service.import_digests(rows)
        assert service.list_keys() == []


async def test_a_key_of_another_region_is_unknown_where_the_store_is_a_copy(url: str) -> None:
    """E16"""
    with open_key_service(url, rules=KeyRules(region="e", active_keys=5)) as service:
        mine = credential_of(service.create_key(service.create_app("A").id, name="k", scopes=["S"]))

    answers = []
    for region in ("", "e", "u"):
        store = open_key_store(url, region=region, lookup_timeout_seconds=5.0)
        answers.append(await store.find(mine) is not None)
        await store.aclose()
    assert mine.key_id[:2] == "ek"
    assert answers == [True, True, False]


async def test_ids_of_no_region_and_of_other_systems_are_looked_up_in_every_region(url: str) -> None:
    everywhere = made(url, NONE, a_key)
    imported = Credential(CredentialKind.API_KEY, KeyId("importedid"), digest_of(b"importedid.secret"))
    with open_key_service(url) as service:
        app = service.list_apps()[0]
        row = f"digest,app,name,scopes,id\n{imported.digest.hex()},{app.id},n,S,importedid\n"
        service.import_digests(read_imports(row, time.time()))
    store = open_key_store(url, region="u", lookup_timeout_seconds=5.0)

    assert [True, True] == [await store.find(each) is not None for each in (everywhere, imported)]
    await store.aclose()
