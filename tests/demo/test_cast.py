"""Who plays in a demo: created through the key service, each key with the scopes that were asked for."""

from __future__ import annotations

import pytest

from gateway.demo.cast import DemoApp, create_cast
from gateway.demo.example import Example, ExampleApp, GraphQLExample
from gateway.keys.book import Standing
from gateway.keys.service import KeyService
from gateway.stores.memory import MemoryKeyStore
from tests.support.manual_clock import ManualClock

_EXAMPLE = Example(
    version=1,
    apps=(
        ExampleApp(
            name="One",
            users=("u1", "u2"),
            keys=(("READ",), ("READ", "WRITE")),
            revoked=(("READ",),),
            features=("engagement",),
        ),
        ExampleApp(name="Two", users=("u3",), keys=(("READ",),)),
    ),
    rest={},
    graphql=GraphQLExample(paths=(), sdl="", fields={}),
    trials=(),
    unknown_token="abcdefgh.0123456789abcdefghij",
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service(clock: ManualClock) -> KeyService:
    return KeyService(MemoryKeyStore(), now=clock.now)


@pytest.fixture
def apps(service: KeyService) -> tuple[DemoApp, ...]:
    return create_cast(service, _EXAMPLE)


def test_each_app_is_there_with_its_features_and_users(service: KeyService, apps: tuple[DemoApp, ...]) -> None:
    stored = {str(app.id): (app.name, app.features) for app in service.list_apps()}

    assert [stored[app.id] for app in apps] == [("One", {"engagement"}), ("Two", frozenset())]
    assert [app.users for app in apps] == [("u1", "u2"), ("u3",)]


def test_each_key_is_active_with_the_scopes_that_were_asked_for(
    service: KeyService, apps: tuple[DemoApp, ...], clock: ManualClock
) -> None:
    stored = {str(key.id): key for key in service.list_keys()}

    for app in apps:
        for key in app.keys:
            assert (stored[key.id].app_id, stored[key.id].scopes) == (app.id, key.scopes)
            assert stored[key.id].standing(clock.now()) is Standing.ACTIVE


def test_a_key_that_is_to_be_revoked_is(service: KeyService, apps: tuple[DemoApp, ...], clock: ManualClock) -> None:
    stored = {str(key.id): key for key in service.list_keys()}

    assert [stored[key.id].standing(clock.now()) for key in apps[0].revoked] == [Standing.REVOKED]
    assert apps[1].revoked == ()


def test_every_token_begins_with_the_id_of_its_key(apps: tuple[DemoApp, ...]) -> None:
    named = [(key.id, key.token) for app in apps for key in app.keys]
    named += [(key.id, key.token) for app in apps for key in app.revoked]

    assert all(token.partition(".")[0] == key_id for key_id, token in named)
