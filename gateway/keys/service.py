"""Issue, list and revoke keys. Each call is one transaction that carries the change and its line of history.

The order of a create: the request is checked, the App is read, its active keys are counted, the key is minted and
written, all while no other writer can come between; the token leaves once, in the answer.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from gateway.core.credential import AppId, CredentialKind, KeyId, digest_of
from gateway.core.lifecycle import MOVES, KeyEvent, KeyState
from gateway.core.scopes import ScopeRegistry
from gateway.keys.book import App, AppEvent, AppState, HistoryEntry, KeyBook, KeyEntry, KeyTaken, Note, Writing
from gateway.keys.expiry import expiry_for, utc_text
from gateway.keys.mint import HINT_LENGTH, LEGACY_KEY_LETTER, RandomBytes, mint, mint_app_id, mint_id
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rules import KeyRules, checked_features, checked_limit, checked_name, checked_scopes
from gateway.keys.secret import Secret

LOCAL: Final = "local"
"""The actor where nobody was named."""

_LEGACY_TOKEN: Final = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `token` is in no other answer, ever."""

    key: KeyEntry
    token: Secret


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key that is revoked now, and whether this call did it."""

    key: KeyEntry
    was_already_revoked: bool
    revoked_at: float


class KeyService:
    """The control plane's rules over a book of keys. Use as a context manager, or call `close`.

    Every method raises `StoreUnavailable` when the store cannot be asked, and those that change something raise
    `KeyRefused` when the rules say no; after either, nothing has changed.
    """

    def __init__(
        self,
        book: KeyBook,
        *,
        rules: KeyRules | None = None,
        now: Callable[[], float] = time.time,
        random_bytes: RandomBytes = secrets.token_bytes,
        place: str = "",
    ) -> None:
        """`place`: what to call the store where something is not in it, such as the absolute path of its file."""
        self._book = book
        self._in_store = f" in the key store `{place}`" if place else ""
        self._rules = rules or KeyRules()
        self._clock = now
        self._random_bytes = random_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the store's connections back."""
        self._book.close()

    def create_app(
        self, name: str, features: Iterable[str] = (), *, key_limit: int | None = None, actor: str = LOCAL
    ) -> App:
        """A new App; `key_limit` replaces the default number of active keys. Raises: KeyRefused"""
        checked_name(name, "an App")
        owned = checked_features(features)
        checked_limit(key_limit)

        now = self._now()
        app = App(mint_app_id(self._random_bytes), name, owned, AppState.ACTIVE, key_limit, created_at=now)
        detail = {"name": name, **({"features": " ".join(sorted(owned))} if owned else {})}
        note = Note(AppEvent.CREATED.value, now, actor, detail)
        with self._book.writing() as writing:
            writing.add_app(app, note)
        return app

    def list_apps(self) -> list[App]:
        """Every App, oldest first."""
        return self._book.apps()

    def disable_app(self, app_id: str, *, actor: str = LOCAL) -> bool:
        """Every key of the App stops working until the App is enabled. False: it was so already. Raises: KeyRefused"""
        return self._set_app_state(AppId(app_id), AppState.DISABLED, AppEvent.DISABLED, actor)

    def enable_app(self, app_id: str, *, actor: str = LOCAL) -> bool:
        """The App's keys that are neither revoked nor expired work again. False: they did. Raises: KeyRefused"""
        return self._set_app_state(AppId(app_id), AppState.ACTIVE, AppEvent.ENABLED, actor)

    def create_key(
        self,
        app_id: str,
        *,
        name: str,
        scopes: Iterable[str],
        expires_at: float | None = None,
        registry: ScopeRegistry | None = None,
        actor: str = LOCAL,
    ) -> NewKey:
        """A new key and, this once, its token. `registry` turns on the check of scope names. Raises: KeyRefused"""
        key_id, token = mint(self._random_bytes, region=self._rules.region)
        key = self._add_key(
            key_id,
            CredentialKind.API_KEY,
            token.reveal(),
            app_id=app_id,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            registry=registry,
            actor=actor,
        )
        return NewKey(key, token)

    def import_legacy_key(
        self,
        app_id: str,
        token: Secret,
        *,
        name: str,
        scopes: Iterable[str],
        expires_at: float | None = None,
        registry: ScopeRegistry | None = None,
        actor: str = LOCAL,
    ) -> KeyEntry:
        """Takes over a key of the old look, 32 hex characters; only its digest is kept. Raises: KeyRefused"""
        if not _LEGACY_TOKEN.fullmatch(token.reveal()):
            raise KeyRefused(KeyFault.TOKEN_INVALID, "a legacy key is 32 hex characters")

        # Stored by its lower-case spelling, the only one that the token parser reads.
        text = token.reveal().lower()
        key_id = mint_id(self._random_bytes, region=self._rules.region, letter=LEGACY_KEY_LETTER)
        return self._add_key(
            key_id,
            CredentialKind.LEGACY_KEY,
            text,
            app_id=app_id,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            registry=registry,
            actor=actor,
        )

    def list_keys(self, app_id: str | None = None) -> list[KeyEntry]:
        """The keys of one App or of all, oldest first, dead ones included. Raises: KeyRefused"""
        if app_id is not None and not any(app.id == app_id for app in self._book.apps()):
            raise self._unknown_app(app_id)

        return self._book.keys(None if app_id is None else AppId(app_id))

    def history(self, *, app_id: str | None = None, key_id: str | None = None) -> list[HistoryEntry]:
        """What happened, oldest first: of one App, of one key, or all. Raises: KeyRefused"""
        app = None if app_id is None else AppId(app_id)
        key = None if key_id is None else KeyId(key_id)
        lines = self._book.history(app_id=app, key_id=key)
        # Whatever exists has the line of its creation, so one that has none was never there.
        if app is not None and not lines and not self._book.history(app_id=app):
            raise self._unknown_app(app)

        if key is not None and not lines:
            raise self._unknown_key(key)

        return lines

    def revoke_key(self, key_id: str, *, reason: str = "", actor: str = LOCAL) -> Revocation:
        """Ends a key, expired or not. Revoking it again changes nothing and says so. Raises: KeyRefused"""
        with self._book.writing() as writing:
            key = writing.key(KeyId(key_id))
            if key is None:
                raise self._unknown_key(key_id)

            revoked = MOVES.get((key.state, KeyEvent.REVOKED))
            if revoked is not None:
                now = self._now()
                note = Note(KeyEvent.REVOKED.value, now, actor, {"reason": reason} if reason else {})
                writing.set_key_state(key, revoked, note)

        listed = self._book.history(key_id=key.id)
        happened = (line.happened_at for line in reversed(listed) if line.event == KeyEvent.REVOKED.value)
        revoked_at = next(happened, key.created_at)
        return Revocation(replace(key, state=KeyState.REVOKED), revoked is None, revoked_at)

    def _add_key(
        self,
        key_id: KeyId,
        kind: CredentialKind,
        token: str,
        *,
        app_id: str,
        name: str,
        scopes: Iterable[str],
        expires_at: float | None,
        registry: ScopeRegistry | None,
        actor: str,
    ) -> KeyEntry:
        checked_name(name, "a key")
        with self._book.writing() as writing:
            # Read inside the transaction: an instant taken while waiting for the lock could count a dead key.
            now = self._now()
            app = self._active_app(writing, app_id)
            granted = checked_scopes(scopes, app.features, registry)
            expiry = round(expiry_for(expires_at, now, self._rules.max_days), 6)
            self._check_room(writing, app, now)

            key = KeyEntry(
                key_id, app.id, kind, name, granted, expiry, MOVES[None, KeyEvent.CREATED], now, token[-HINT_LENGTH:]
            )
            detail = {"name": name, "scopes": " ".join(granted), "expires_at": utc_text(expiry)}
            note = Note(KeyEvent.CREATED.value, now, actor, detail)
            try:
                writing.add_key(key, digest_of(token.encode("ascii")), note)
            except KeyTaken as error:
                raise KeyRefused(KeyFault.KEY_TAKEN, "this key is in the store already") from error
        return key

    def _active_app(self, writing: Writing, app_id: str) -> App:
        app = writing.app(AppId(app_id))
        if app is None:
            raise self._unknown_app(app_id)

        if app.state is not AppState.ACTIVE:
            raise KeyRefused(KeyFault.APP_DISABLED, f"App `{app.id}` is disabled; enable it before giving it keys")

        return app

    def _check_room(self, writing: Writing, app: App, now: float) -> None:
        limit = self._rules.active_keys if app.key_limit is None else app.key_limit
        active = writing.active_keys(app.id, now)
        if len(active) < limit:
            return

        message = f"App `{app.id}` has {len(active)} active keys of {limit} allowed; end one with `keys revoke ID`"
        raise KeyRefused(KeyFault.TOO_MANY_KEYS, message, tuple(active))

    def _now(self) -> float:
        """In whole microseconds, as stores keep instants: what is answered now is what will be listed later."""
        return round(self._clock(), 6)

    def _set_app_state(self, app_id: AppId, state: AppState, event: AppEvent, actor: str) -> bool:
        """Whether that changed anything."""
        with self._book.writing() as writing:
            app = writing.app(app_id)
            if app is None:
                raise self._unknown_app(app_id)

            if app.state is state:
                return False

            writing.set_app_state(app_id, state, Note(event.value, self._now(), actor, {}))
        return True

    def _unknown_app(self, app_id: str) -> KeyRefused:
        message = f"there is no App with the id {_shown(app_id)}{self._in_store}; see `apps list`"
        return KeyRefused(KeyFault.APP_UNKNOWN, message)

    def _unknown_key(self, key_id: str) -> KeyRefused:
        message = f"there is no key with the id {_shown(key_id)}{self._in_store}; see `keys list`"
        return KeyRefused(KeyFault.KEY_UNKNOWN, message)


def _shown(identifier: str) -> str:
    """An id as the caller wrote it, or only its shape where it may be a whole token."""
    is_id = identifier.isascii() and identifier.isalnum() and len(identifier) <= 31
    return f"`{identifier}`" if is_id else "that was given (ids are letters and digits, without a dot)"
