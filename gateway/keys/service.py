"""Issue, import, list, rename, rotate and revoke keys, and revoke user tokens.

Each call is one transaction that carries the change and its line of history.

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

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId, digest_of
from gateway.core.lifecycle import MOVES, KeyEvent, KeyState
from gateway.core.scopes import ScopeRegistry
from gateway.keys.book import (
    App,
    AppEvent,
    AppState,
    HistoryEntry,
    KeyBook,
    KeyEntry,
    KeyTaken,
    Note,
    PepperUse,
    StoreEvent,
    Writing,
)
from gateway.keys.expiry import DAY_SECONDS, expiry_for, utc_text
from gateway.keys.imports import ImportedDigest
from gateway.keys.mint import HINT_LENGTH, LEGACY_KEY_LETTER, RandomBytes, mint, mint_app_id, mint_id
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rotation import (
    DEFAULT_OVERLAP_SECONDS,
    check_is_rotatable,
    checked_overlap,
    end_of,
    succeeding_scopes,
)
from gateway.keys.rules import KeyRules, checked_features, checked_limit, checked_name, checked_scopes
from gateway.keys.secret import Secret
from gateway.ports import TokenRevocation

LOCAL: Final = "local"
"""The actor where nobody was named."""

SUBJECT_LENGTH: Final = 512
"""Of an issuer, a token's id or a user in a revocation: more than any token that is accepted says."""

_LEGACY_TOKEN: Final = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `token` is in no other answer, ever."""

    key: KeyEntry
    token: Secret


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key's successor, just made, and the key that it replaces, as it is from now on."""

    new: NewKey
    old: KeyEntry


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key that is revoked now, and whether this call did it."""

    key: KeyEntry
    was_already_revoked: bool
    revoked_at: float


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What identifies a key that is to be added."""

    key_id: KeyId
    kind: CredentialKind
    digest: KeyDigest
    hint: str


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
        wanted, token = self._minted()
        with self._book.writing() as writing:
            key = self._add_key(writing, wanted, app_id, name, scopes, expires_at, registry, actor)
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
        wanted = _Wanted(
            self._legacy_id(), CredentialKind.LEGACY_KEY, digest_of(text.encode("ascii")), text[-HINT_LENGTH:]
        )
        with self._book.writing() as writing:
            return self._add_key(writing, wanted, app_id, name, scopes, expires_at, registry, actor)

    def import_digests(
        self, rows: Iterable[ImportedDigest], *, registry: ScopeRegistry | None = None, actor: str = LOCAL
    ) -> list[KeyEntry]:
        """Takes over keys of which another system has kept SHA-256: all of them, or none. Raises: KeyRefused"""
        added = []
        with self._book.writing() as writing:
            for row in rows:
                kind = CredentialKind.API_KEY if row.key_id else CredentialKind.LEGACY_KEY
                wanted = _Wanted(row.key_id or self._legacy_id(), kind, row.digest, hint="")
                try:
                    key = self._add_key(
                        writing, wanted, row.app_id, row.name, row.scopes, row.expires_at, registry, actor
                    )
                except KeyRefused as refused:
                    message = f"line {row.line}: {refused}; nothing was imported"
                    raise KeyRefused(refused.fault, message, refused.candidates) from refused
                added.append(key)
        return added

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

    def rename_key(self, key_id: str, name: str, *, actor: str = LOCAL) -> KeyEntry:
        """Another name, dead or not, and nothing else. The name that it has changes nothing. Raises: KeyRefused"""
        checked_name(name, "a key")
        with self._book.writing() as writing:
            key = writing.key(KeyId(key_id))
            if key is None:
                raise self._unknown_key(key_id)

            if key.name != name:
                detail = {"name": name, "was": key.name}
                writing.set_key_name(key, name, Note(KeyEvent.RENAMED.value, self._now(), actor, detail))
        return replace(key, name=name)

    def rotate_key(
        self,
        key_id: str,
        *,
        overlap: float = DEFAULT_OVERLAP_SECONDS,
        scopes: Iterable[str] | None = None,
        expires_at: float | None = None,
        name: str | None = None,
        registry: ScopeRegistry | None = None,
        actor: str = LOCAL,
    ) -> Rotation:
        """A successor with the same scopes or some of them, and, this once, its token; both keys work for `overlap`
        seconds, and at 0 the old one is revoked in the same transaction.

        Without a name the successor has the old one. Raises: KeyRefused
        """
        checked_overlap(overlap)
        wanted, token = self._minted()
        with self._book.writing() as writing:
            old = writing.key(KeyId(key_id))
            if old is None:
                raise self._unknown_key(key_id)

            now = self._now()
            check_is_rotatable(old, now)
            app = self._active_app(writing, old.app_id)
            granted = succeeding_scopes(scopes, old, app.features, registry)
            # A swap leaves as many active keys as there were.
            if overlap:
                self._check_room(writing, app, now, or_else="rotate with an overlap of 0, as both keys would count")
            new = self._written(
                writing, wanted, app.id, old.name if name is None else name, granted, expires_at, now, actor, old.id
            )
            old = self._ended(writing, old, new, now, overlap, actor)
        return Rotation(NewKey(new, token), old)

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

    def revoke_tokens(
        self,
        *,
        issuer: str = "",
        token_id: str = "",
        user_id: str = "",
        app_id: str = "",
        before: float | None = None,
        expires_at: float | None = None,
        reason: str = "",
        actor: str = LOCAL,
    ) -> TokenRevocation:
        """One user token by its id, or those of a user, of an App, or of a user of an App that were issued before
        `before` (None: now).

        Without an issuer, a user's or an App's tokens of every issuer. `expires_at`: none of them lives longer.
        Raises: KeyRefused
        """
        _checked_subject(issuer, token_id, user_id, app_id)
        with self._book.writing() as writing:
            if app_id and writing.app(AppId(app_id)) is None:
                raise self._unknown_app(app_id)

            now = self._now()
            not_before = now if before is None else round(before, 6)
            ends = now + self._rules.token_days * DAY_SECONDS if expires_at is None else round(expires_at, 6)
            # INVARIANT: written so that NaN is refused.
            if not not_before <= now:
                message = (
                    "tokens that are yet to be issued cannot be revoked; leave `before` out, or name an instant past"
                )
                raise KeyRefused(KeyFault.REVOCATION_INVALID, message)

            if not ends > now:
                message = "a revocation that has expired would revoke nothing; say when the last such token expires"
                raise KeyRefused(KeyFault.REVOCATION_INVALID, message)

            said = {"issuer": issuer, "token_id": token_id, "user_id": user_id, "reason": reason}
            detail = {name: text for name, text in said.items() if text}
            if not token_id:
                detail["before"] = utc_text(not_before)
            note = Note(StoreEvent.TOKENS_REVOKED.value, now, actor, detail)
            revocation = TokenRevocation(0, issuer, AppId(app_id), user_id, token_id, not_before, ends)
            return writing.revoke_tokens(revocation, note)

    def list_token_revocations(self) -> list[TokenRevocation]:
        """Those that still count, oldest first."""
        return self._book.live_token_revocations(self._now())

    def list_peppers(self) -> list[PepperUse]:
        """How many keys stand under each pepper, the empty id being none."""
        return self._book.pepper_uses(self._now())

    def forget_pepper(self, pepper_id: str, *, actor: str = LOCAL) -> None:
        """Lets a pepper go under which no key is active any more; its file can be deleted then. Raises: KeyRefused"""
        with self._book.writing() as writing:
            now = self._now()
            use = next((each for each in writing.pepper_uses(now) if each.pepper_id == pepper_id), None)
            if use is None or not pepper_id:
                message = f"no key was made under a pepper {_shown(pepper_id)}{self._in_store}; see `keys peppers`"
                raise KeyRefused(KeyFault.PEPPER_UNKNOWN, message)

            if use.active:
                message = f"{use.active} active keys are under the pepper `{pepper_id}`; they would be lost with it"
                raise KeyRefused(KeyFault.PEPPER_IN_USE, message)

            note = Note(StoreEvent.PEPPER_FORGOTTEN.value, now, actor, {"pepper": pepper_id})
            writing.forget_pepper(pepper_id, note)

    def _minted(self) -> tuple[_Wanted, Secret]:
        key_id, token = mint(self._random_bytes, region=self._rules.region)
        text = token.reveal()
        return _Wanted(key_id, CredentialKind.API_KEY, digest_of(text.encode("ascii")), text[-HINT_LENGTH:]), token

    def _legacy_id(self) -> KeyId:
        return mint_id(self._random_bytes, region=self._rules.region, letter=LEGACY_KEY_LETTER)

    def _add_key(
        self,
        writing: Writing,
        wanted: _Wanted,
        app_id: str,
        name: str,
        scopes: Iterable[str],
        expires_at: float | None,
        registry: ScopeRegistry | None,
        actor: str,
    ) -> KeyEntry:
        # Read inside the transaction: an instant taken while waiting for the lock could count a dead key.
        now = self._now()
        app = self._active_app(writing, app_id)
        granted = checked_scopes(scopes, app.features, registry)
        self._check_room(writing, app, now)
        return self._written(writing, wanted, app.id, name, granted, expires_at, now, actor)

    def _written(
        self,
        writing: Writing,
        wanted: _Wanted,
        app_id: AppId,
        name: str,
        granted: tuple[str, ...],
        expires_at: float | None,
        now: float,
        actor: str,
        predecessor: KeyId | None = None,
    ) -> KeyEntry:
        checked_name(name, "a key")
        expiry = round(expiry_for(expires_at, now, self._rules.max_days), 6)
        state = MOVES[None, KeyEvent.CREATED]
        key = KeyEntry(wanted.key_id, app_id, wanted.kind, name, granted, expiry, state, now, wanted.hint)
        detail = {"name": name, "scopes": " ".join(granted), "expires_at": utc_text(expiry)}
        if predecessor is not None:
            detail["predecessor"] = predecessor
        note = Note(KeyEvent.CREATED.value, now, actor, detail)
        try:
            writing.add_key(key, wanted.digest, note)
        except KeyTaken as error:
            raise KeyRefused(KeyFault.KEY_TAKEN, "this key is in the store already") from error
        return key

    def _ended(
        self, writing: Writing, old: KeyEntry, new: KeyEntry, now: float, overlap: float, actor: str
    ) -> KeyEntry:
        """`old`, which `new` replaces: revoked where there is no overlap, else with an end of its own."""
        rotated = replace(old, state=MOVES[old.state, KeyEvent.ROTATED], successor_id=new.id)
        if overlap:
            rotated = replace(rotated, expires_at=end_of(old, now, overlap))
        ends = now if not overlap else rotated.expires_at
        note = Note(KeyEvent.ROTATED.value, now, actor, {"successor": new.id, "ends_at": utc_text(ends)})
        writing.set_successor(rotated, new.id, rotated.expires_at, note)
        if overlap:
            return rotated

        revoked = MOVES[rotated.state, KeyEvent.REVOKED]
        detail = {"reason": "rotated without an overlap", "successor": new.id}
        writing.set_key_state(rotated, revoked, Note(KeyEvent.REVOKED.value, now, actor, detail))
        return replace(rotated, state=revoked)

    def _active_app(self, writing: Writing, app_id: str) -> App:
        app = writing.app(AppId(app_id))
        if app is None:
            raise self._unknown_app(app_id)

        if app.state is not AppState.ACTIVE:
            raise KeyRefused(KeyFault.APP_DISABLED, f"App `{app.id}` is disabled; enable it before giving it keys")

        return app

    def _check_room(self, writing: Writing, app: App, now: float, *, or_else: str = "") -> None:
        limit = self._rules.active_keys if app.key_limit is None else app.key_limit
        active = writing.active_keys(app.id, now)
        if len(active) < limit:
            return

        message = f"App `{app.id}` has {len(active)} active keys of {limit} allowed; end one with `keys revoke ID`"
        if or_else:
            message = f"{message}, or {or_else}"
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


def _checked_subject(issuer: str, token_id: str, user_id: str, app_id: str) -> None:
    """A token, or whose tokens, in characters that can be shown. Raises: KeyRefused"""
    if bool(token_id) == bool(user_id or app_id):
        raise KeyRefused(KeyFault.REVOCATION_INVALID, "name either a token's id, or a user, an App, or both")

    if token_id and not issuer:
        raise KeyRefused(KeyFault.REVOCATION_INVALID, "a token's id means something for its issuer only; name it")

    for text in (issuer, token_id, user_id):
        if len(text) > SUBJECT_LENGTH or not text.isprintable():
            message = f"an issuer, a token's id and a user have {SUBJECT_LENGTH} printable characters at most"
            raise KeyRefused(KeyFault.REVOCATION_INVALID, message)
