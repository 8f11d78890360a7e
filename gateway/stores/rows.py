"""Between rows and values. A row that does not read as it was written is damage: `StoreUnavailable`, never a grant."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from gateway.core.credential import AppId, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord, Principal
from gateway.keys.book import App, AppState, HistoryEntry, KeyEntry, StoreEvent
from gateway.keys.peppers import KeyedDigest
from gateway.ports import KeyChange, StoreUnavailable, TokenRevocation

DIGEST_BYTES: Final = 32

_NAMES: Final = msgspec.json.Decoder(tuple[str, ...])
_DETAIL: Final = msgspec.json.Decoder(dict[str, str])

Row = Any
"""A row of SQLAlchemy, whose columns have no static types: they get theirs here."""


def to_micros(instant: float) -> int:
    """Seconds since the epoch as the store keeps them."""
    return round(instant * 1_000_000)


def to_text(names: Iterable[str]) -> str:
    """Scopes or features as the store keeps them."""
    return msgspec.json.encode(list(names)).decode()


def detail_to_text(detail: Mapping[str, str]) -> str:
    """The detail of a line of history as the store keeps it."""
    return msgspec.json.encode(dict(detail)).decode()


def keyed_digest_of(row: Row) -> KeyedDigest:
    """What proves that a token is the key's. Raises: StoreUnavailable"""
    try:
        return KeyedDigest(_text(row.pepper_id), _digest(row.digest))
    except (ValueError, TypeError) as error:
        _damaged("keys", row.id, error)


def record_of(row: Row, digest: KeyDigest) -> KeyRecord:
    """The data plane's record, for the token with that digest, which was proved. Raises: StoreUnavailable"""
    try:
        return KeyRecord(
            digest=digest,
            state=KeyState(row.state),
            app_is_active=AppState(row.app_state) is AppState.ACTIVE,
            expires_at=_instant(row.expires_at),
            principal=Principal(
                kind=_key_kind(row.kind),
                key_id=KeyId(_text(row.id)),
                # Shared by all keys of the App, like the sets below: a million cached keys have few of either.
                app_id=AppId(sys.intern(_text(row.app_id))),
                scopes=_name_set(row.scopes),
                app_features=_name_set(row.app_features),
            ),
        )
    except (ValueError, TypeError) as error:
        _damaged("keys", row.id, error)


def change_of(row: Row) -> KeyChange:
    """A row of the change feed. Raises: StoreUnavailable"""
    try:
        key_id = None if row.key_id is None else KeyId(_text(row.key_id))
        return KeyChange(
            _whole(row.position),
            AppId(_text(row.app_id)),
            key_id,
            _instant(row.happened_at),
            concerns_tokens=_text(row.event) == StoreEvent.TOKENS_REVOKED.value,
        )
    except (ValueError, TypeError) as error:
        _damaged("key_events", row.position, error)


def key_of(row: Row) -> KeyEntry:
    """Raises: StoreUnavailable"""
    try:
        return KeyEntry(
            id=KeyId(_text(row.id)),
            app_id=AppId(_text(row.app_id)),
            kind=_key_kind(row.kind),
            name=_text(row.name),
            scopes=_NAMES.decode(row.scopes),
            expires_at=_instant(row.expires_at),
            state=KeyState(row.state),
            created_at=_instant(row.created_at),
            hint=_text(row.hint),
            successor_id=None if row.successor_id is None else KeyId(_text(row.successor_id)),
        )
    except (ValueError, TypeError) as error:
        _damaged("keys", row.id, error)


def app_of(row: Row) -> App:
    """Raises: StoreUnavailable"""
    try:
        return App(
            id=AppId(_text(row.id)),
            name=_text(row.name),
            features=_name_set(row.features),
            state=AppState(row.state),
            key_limit=None if row.key_limit is None else _whole(row.key_limit),
            created_at=_instant(row.created_at),
        )
    except (ValueError, TypeError) as error:
        _damaged("apps", row.id, error)


def history_of(row: Row) -> HistoryEntry:
    """Raises: StoreUnavailable"""
    change = change_of(row)
    try:
        detail = _DETAIL.decode(row.detail)
        return HistoryEntry(
            change.position,
            change.app_id,
            change.key_id,
            _text(row.event),
            change.happened_at,
            _text(row.actor),
            detail,
        )
    except (ValueError, TypeError) as error:
        _damaged("key_events", row.position, error)


def app_state_of(row: Row) -> tuple[AppId, bool]:
    """(App, whether it is active). Raises: StoreUnavailable"""
    try:
        return AppId(_text(row.id)), AppState(row.state) is AppState.ACTIVE
    except (ValueError, TypeError) as error:
        _damaged("apps", row.id, error)


def token_revocation_of(row: Row) -> TokenRevocation:
    """Raises: StoreUnavailable"""
    try:
        return TokenRevocation(
            position=_whole(row.position),
            issuer=_text(row.issuer),
            app_id=AppId(_text(row.app_id)),
            user_id=_text(row.user_id),
            token_id=_text(row.token_id),
            not_before=_instant(row.not_before),
            expires_at=_instant(row.expires_at),
        )
    except (ValueError, TypeError) as error:
        _damaged("token_revocations", row.position, error)


def _damaged(table: str, identity: object, error: Exception) -> NoReturn:
    # Facts: the message of an Enum or a decoder quotes what it read; the row's id is all that an operator needs.
    raise StoreUnavailable(f"a row of `{table}` is damaged: {ascii(identity)[:80]} ({type(error).__name__})") from None


def _key_kind(value: object) -> CredentialKind:
    kind = CredentialKind(value)
    if kind not in {CredentialKind.API_KEY, CredentialKind.LEGACY_KEY}:
        raise ValueError
    return kind


def _digest(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise ValueError
    return value


def _text(value: object) -> str:
    # Facts: SQLite keeps any type in any column, whatever the column was declared as.
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _instant(value: object) -> float:
    return _whole(value) / 1_000_000


@lru_cache(maxsize=4096)
def _name_set(text: str) -> frozenset[str]:
    return frozenset(_NAMES.decode(text))
