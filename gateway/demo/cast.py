"""Who plays in a demo: the Apps, their users and keys, created through the key service like any others."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.demo.example import Example
from gateway.keys.service import KeyService


class DemoKey(msgspec.Struct, frozen=True):
    """A key with its token, which only a demo keeps."""

    id: str
    scopes: tuple[str, ...]
    token: str

    def __repr__(self) -> str:
        return f"DemoKey(id={self.id!r}, scopes={self.scopes!r})"


class RevokedKey(msgspec.Struct, frozen=True):
    """A key that is refused."""

    id: str
    token: str

    def __repr__(self) -> str:
        return f"RevokedKey(id={self.id!r})"


class DemoApp(msgspec.Struct, frozen=True):
    """An App as it was created."""

    id: str
    name: str
    users: tuple[str, ...]
    keys: tuple[DemoKey, ...]
    revoked: tuple[RevokedKey, ...]


def create_cast(service: KeyService, example: Example) -> tuple[DemoApp, ...]:
    """The example's Apps in the store, with a key for each of their sets of scopes. Raises: KeyRefused"""
    return tuple(_created(service, example))


def _created(service: KeyService, example: Example) -> Iterator[DemoApp]:
    for wanted in example.apps:
        app = service.create_app(wanted.name, wanted.features, actor="demo")
        keys = [_key(service, app.id, scopes) for scopes in wanted.keys]
        revoked = [_key(service, app.id, scopes) for scopes in wanted.revoked]
        for key in revoked:
            service.revoke_key(key.id, reason="to show how a revoked key is refused", actor="demo")
        ended = tuple(RevokedKey(key.id, key.token) for key in revoked)
        yield DemoApp(app.id, app.name, wanted.users, tuple(keys), ended)


def _key(service: KeyService, app_id: str, scopes: tuple[str, ...]) -> DemoKey:
    made = service.create_key(app_id, name=f"demo {' '.join(scopes)}"[:100], scopes=scopes, actor="demo")
    return DemoKey(made.key.id, made.key.scopes, made.token.reveal())
