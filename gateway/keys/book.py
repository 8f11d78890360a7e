"""Apps, keys and their history as the control plane sees them, and the port by which a store keeps them.

No secret and no digest is in a `KeyEntry`: what can be listed cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState, is_expired
from gateway.ports import TokenRevocation


class AppState(Enum):
    """What the store says of an App. A disabled App's keys are refused until it is enabled again."""

    ACTIVE = "active"
    DISABLED = "disabled"


class AppEvent(Enum):
    """What may happen to an App, as the history names it; what happens to keys is in `core.lifecycle.KeyEvent`."""

    CREATED = "app_created"
    DISABLED = "app_disabled"
    ENABLED = "app_enabled"


class StoreEvent(Enum):
    """What may happen that concerns no key and no App by itself, as the history names it."""

    TOKENS_REVOKED = "tokens_revoked"
    PEPPER_FORGOTTEN = "pepper_forgotten"


class Standing(Enum):
    """Whether a key works now: derived, never stored."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class App:
    """The owner of keys."""

    id: AppId
    name: str
    features: frozenset[str]
    state: AppState
    key_limit: int | None
    """How many active keys it may have; None: the default of the rules."""
    created_at: float


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key as its owner may see it at any time. Instants are seconds since the epoch, UTC."""

    id: KeyId
    app_id: AppId
    kind: CredentialKind
    name: str
    scopes: tuple[str, ...]
    expires_at: float
    state: KeyState
    created_at: float
    hint: str
    """The last four characters of the token, to tell keys apart."""
    successor_id: KeyId | None = None
    """The key that was made to replace it. None: it was never rotated."""

    def standing(self, now: float) -> Standing:
        """The one place that derives it."""
        if self.state is KeyState.REVOKED:
            return Standing.REVOKED

        return Standing.EXPIRED if is_expired(self.expires_at, now) else Standing.ACTIVE


@dataclass(frozen=True, slots=True)
class PepperUse:
    """How many keys stand under one pepper."""

    pepper_id: str
    active: int
    dead: int
    """Revoked or expired."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the history, before the store has given it a position. Required with every change."""

    event: str
    happened_at: float
    actor: str
    detail: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A line of the append-only history."""

    position: int
    app_id: AppId
    key_id: KeyId | None
    event: str
    happened_at: float
    actor: str
    detail: Mapping[str, str]


class KeyTaken(Exception):
    """A key with this id or digest is in the store already."""


class Writing(Protocol):
    """One transaction that excludes every other writer. A change cannot be made without its line of history."""

    def app(self, app_id: AppId) -> App | None: ...

    def key(self, key_id: KeyId) -> KeyEntry | None: ...

    def active_keys(self, app_id: AppId, now: float) -> list[KeyEntry]:
        """Neither revoked nor expired at `now`, the soonest to expire first."""
        ...

    def add_app(self, app: App, note: Note) -> None: ...

    def set_app_state(self, app_id: AppId, state: AppState, note: Note) -> None: ...

    def add_key(self, key: KeyEntry, digest: KeyDigest, note: Note) -> None:
        """Raises: KeyTaken"""
        ...

    def set_key_state(self, key: KeyEntry, state: KeyState, note: Note) -> None: ...

    def set_key_name(self, key: KeyEntry, name: str, note: Note) -> None: ...

    def set_successor(self, key: KeyEntry, successor_id: KeyId, expires_at: float, note: Note) -> None:
        """Links the two, and lets `key` end at `expires_at`."""
        ...

    def revoke_tokens(self, revocation: TokenRevocation, note: Note) -> TokenRevocation:
        """Writes it at the position of its line of history, and forgets some of those that have expired by then."""
        ...

    def pepper_uses(self, now: float) -> list[PepperUse]:
        """Of each pepper that keys were ever made under and that was not forgotten, by its id."""
        ...

    def forget_pepper(self, pepper_id: str, note: Note) -> None:
        """Makes its keys, which must be dead, such that no token is ever recognised as one of them."""
        ...


class KeyBook(Protocol):
    """The control plane's side of a store. Every method raises `StoreUnavailable` when the store cannot do it."""

    def writing(self) -> AbstractContextManager[Writing]:
        """Commits when the block ends well; an exception out of the block undoes all of it."""
        ...

    def apps(self) -> list[App]:
        """Oldest first."""
        ...

    def keys(self, app_id: AppId | None = None) -> list[KeyEntry]:
        """Of one App or of all, oldest first, revoked and expired ones included."""
        ...

    def history(self, *, app_id: AppId | None = None, key_id: KeyId | None = None) -> list[HistoryEntry]:
        """Oldest first."""
        ...

    def live_token_revocations(self, now: float) -> list[TokenRevocation]:
        """Those that have not expired at `now`, oldest first."""
        ...

    def pepper_uses(self, now: float) -> list[PepperUse]:
        """As in `Writing`."""
        ...

    def close(self) -> None: ...
