"""Keys in memory: the store of tests, held to the same contract as the real ones. Book and store in one.

It can be told to fail (`is_down`), and it counts the look-ups that reach it (`finds`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState, is_expired
from gateway.core.principal import KeyRecord, Principal
from gateway.keys.book import App, AppState, HistoryEntry, KeyEntry, KeyTaken, Note, PepperUse, StoreEvent
from gateway.keys.peppers import NO_PEPPER
from gateway.ports import REVOCATION_GRACE_SECONDS, KeyChange, StoreUnavailable, TokenRevocation

CHANGES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class _Contents:
    """Everything that is stored. Replaced whole at a commit, so a reader sees one transaction or the next."""

    apps: dict[AppId, App]
    keys: dict[KeyId, KeyEntry]
    digests: dict[KeyId, KeyDigest]
    history: tuple[HistoryEntry, ...]
    revocations: tuple[TokenRevocation, ...] = ()


class MemoryKeyStore:
    """`KeyStore`, `TokenStore` and `KeyBook` over plain dicts."""

    def __init__(self) -> None:
        self._contents = _Contents({}, {}, {}, ())
        self._writer = threading.Lock()
        self.is_down = False
        self.finds = 0

    async def find(self, credential: Credential) -> KeyRecord | None:
        """Raises: StoreUnavailable"""
        self.finds += 1
        contents = self._read()
        match credential.kind:
            case CredentialKind.API_KEY:
                key = contents.keys.get(credential.key_id)
            case CredentialKind.LEGACY_KEY:
                named = (key_id for key_id, digest in contents.digests.items() if digest == credential.digest)
                key = contents.keys.get(next(named, KeyId("")))
            case CredentialKind.USER_JWT | CredentialKind.USER_OPAQUE:
                return None
        if key is None or key.kind is not credential.kind:
            return None

        app = contents.apps[key.app_id]
        return KeyRecord(
            digest=contents.digests[key.id],
            state=key.state,
            app_is_active=app.state is AppState.ACTIVE,
            expires_at=key.expires_at,
            principal=Principal(
                kind=key.kind,
                key_id=key.id,
                app_id=key.app_id,
                scopes=frozenset(key.scopes),
                app_features=app.features,
            ),
        )

    async def position(self) -> int:
        """Raises: StoreUnavailable"""
        return len(self._read().history)

    async def changes_since(self, position: int) -> list[KeyChange]:
        """Raises: StoreUnavailable"""
        later = [line for line in self._read().history if line.position > position][:CHANGES_AT_ONCE]
        return [
            KeyChange(
                line.position,
                line.app_id,
                line.key_id,
                line.happened_at,
                concerns_tokens=line.event == StoreEvent.TOKENS_REVOKED.value,
            )
            for line in later
        ]

    async def app_states(self) -> dict[AppId, bool]:
        """Raises: StoreUnavailable"""
        return {app.id: app.state is AppState.ACTIVE for app in self._read().apps.values()}

    async def token_revocations(self, position: int, now: float) -> list[TokenRevocation]:
        """Raises: StoreUnavailable"""
        return [each for each in self.live_token_revocations(now) if each.position > position][:CHANGES_AT_ONCE]

    @contextmanager
    def writing(self) -> Iterator[_MemoryWriting]:
        """Raises: StoreUnavailable"""
        with self._writer:
            kept = self._read()
            writing = _MemoryWriting(
                replace(kept, apps=dict(kept.apps), keys=dict(kept.keys), digests=dict(kept.digests))
            )
            yield writing
            self._contents = writing.contents

    def apps(self) -> list[App]:
        """Raises: StoreUnavailable"""
        return sorted(self._read().apps.values(), key=lambda app: (app.created_at, app.id))

    def keys(self, app_id: AppId | None = None) -> list[KeyEntry]:
        """Raises: StoreUnavailable"""
        listed = (key for key in self._read().keys.values() if app_id in {None, key.app_id})
        return sorted(listed, key=lambda key: (key.created_at, key.id))

    def history(self, *, app_id: AppId | None = None, key_id: KeyId | None = None) -> list[HistoryEntry]:
        """Raises: StoreUnavailable"""
        return [
            line
            for line in self._read().history
            if app_id in {None, line.app_id} and (key_id is None or key_id == line.key_id)
        ]

    def live_token_revocations(self, now: float) -> list[TokenRevocation]:
        """Raises: StoreUnavailable"""
        return [each for each in self._read().revocations if not is_expired(each.expires_at, now)]

    def pepper_uses(self, now: float) -> list[PepperUse]:
        """Raises: StoreUnavailable"""
        return _pepper_uses(self._read(), now)

    def close(self) -> None:
        """Nothing is held."""

    async def aclose(self) -> None:
        """Nothing is held."""

    def restore(self, backup: _Contents) -> None:
        """Puts everything back to an earlier `backup()`, as an operator would."""
        self._contents = backup

    def backup(self) -> _Contents:
        """All that is stored, for `restore`."""
        return self._contents

    def _read(self) -> _Contents:
        if self.is_down:
            raise StoreUnavailable("the key store is down")
        return self._contents


class _MemoryWriting:
    """What may be done inside one transaction."""

    def __init__(self, contents: _Contents) -> None:
        self.contents = contents

    def app(self, app_id: AppId) -> App | None:
        return self.contents.apps.get(app_id)

    def key(self, key_id: KeyId) -> KeyEntry | None:
        return self.contents.keys.get(key_id)

    def active_keys(self, app_id: AppId, now: float) -> list[KeyEntry]:
        active = (
            key
            for key in self.contents.keys.values()
            if key.app_id == app_id and key.state is KeyState.ACTIVE and not is_expired(key.expires_at, now)
        )
        return sorted(active, key=lambda key: (key.expires_at, key.id))

    def add_app(self, app: App, note: Note) -> None:
        self.contents.apps[app.id] = app
        self._append(app.id, None, note)

    def set_app_state(self, app_id: AppId, state: AppState, note: Note) -> None:
        self.contents.apps[app_id] = replace(self.contents.apps[app_id], state=state)
        self._append(app_id, None, note)

    def add_key(self, key: KeyEntry, digest: KeyDigest, note: Note) -> None:
        if key.id in self.contents.keys or digest in self.contents.digests.values():
            raise KeyTaken(key.id)
        self.contents.keys[key.id] = key
        self.contents.digests[key.id] = digest
        self._append(key.app_id, key.id, note)

    def set_key_state(self, key: KeyEntry, state: KeyState, note: Note) -> None:
        self.contents.keys[key.id] = replace(self.contents.keys[key.id], state=state)
        self._append(key.app_id, key.id, note)

    def set_key_name(self, key: KeyEntry, name: str, note: Note) -> None:
        self.contents.keys[key.id] = replace(self.contents.keys[key.id], name=name)
        self._append(key.app_id, key.id, note)

    def set_successor(self, key: KeyEntry, successor_id: KeyId, expires_at: float, note: Note) -> None:
        kept = self.contents.keys[key.id]
        self.contents.keys[key.id] = replace(kept, successor_id=successor_id, expires_at=expires_at)
        self._append(key.app_id, key.id, note)

    def revoke_tokens(self, revocation: TokenRevocation, note: Note) -> TokenRevocation:
        self._append(revocation.app_id, None, note)
        placed = replace(revocation, position=len(self.contents.history))
        purged = note.happened_at - REVOCATION_GRACE_SECONDS
        live = (each for each in self.contents.revocations if not is_expired(each.expires_at, purged))
        self.contents = replace(self.contents, revocations=(*live, placed))
        return placed

    def pepper_uses(self, now: float) -> list[PepperUse]:
        return _pepper_uses(self.contents, now)

    def forget_pepper(self, pepper_id: str, note: Note) -> None:
        self._append(AppId(""), None, note)

    def _append(self, app_id: AppId, key_id: KeyId | None, note: Note) -> None:
        kept = self.contents.history
        line = HistoryEntry(len(kept) + 1, app_id, key_id, note.event, note.happened_at, note.actor, dict(note.detail))
        self.contents = replace(self.contents, history=(*kept, line))


def _pepper_uses(contents: _Contents, now: float) -> list[PepperUse]:
    """Memory needs no pepper: all keys stand under none."""
    if not contents.keys:
        return []

    active = sum(key.state is KeyState.ACTIVE and not is_expired(key.expires_at, now) for key in contents.keys.values())
    return [PepperUse(NO_PEPPER, active, len(contents.keys) - active)]
