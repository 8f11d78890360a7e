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
from gateway.keys.book import App, AppState, HistoryEntry, KeyEntry
from gateway.ports import KeyChange, StoreUnavailable

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


def record_of(row: Row) -> KeyRecord:
    """The data plane's record. Raises: StoreUnavailable"""
    try:
        return KeyRecord(
            digest=_digest(row.digest),
            state=KeyState(row.state),
            app_is_active=AppState(row.app_state) is AppState.ACTIVE,
            expires_at=_instant(row.expires_at),
            principal=Principal(
                kind=CredentialKind(row.kind),
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
        return KeyChange(_whole(row.position), AppId(_text(row.app_id)), key_id, _instant(row.happened_at))
    except (ValueError, TypeError) as error:
        _damaged("key_events", row.position, error)


def key_of(row: Row) -> KeyEntry:
    """Raises: StoreUnavailable"""
    try:
        return KeyEntry(
            id=KeyId(_text(row.id)),
            app_id=AppId(_text(row.app_id)),
            kind=CredentialKind(row.kind),
            name=_text(row.name),
            scopes=_NAMES.decode(row.scopes),
            expires_at=_instant(row.expires_at),
            state=KeyState(row.state),
            created_at=_instant(row.created_at),
            hint=_text(row.hint),
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


def _damaged(table: str, identity: object, error: Exception) -> NoReturn:
    # Facts: the message of an Enum or a decoder quotes what it read; the row's id is all that an operator needs.
    raise StoreUnavailable(f"a row of `{table}` is damaged: {ascii(identity)[:80]} ({type(error).__name__})") from None


def _digest(value: object) -> KeyDigest:
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise ValueError
    return KeyDigest(value)


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
