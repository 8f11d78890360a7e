"""The data plane's questions to a store of SQL, the same for each engine; how they are put is the engine's affair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, TypeVar

from sqlalchemy import Select, bindparam, func, or_, select

from gateway.core.credential import AppId, Credential, CredentialKind, KeyId
from gateway.core.principal import KeyRecord, region_of
from gateway.keys.mint import NO_REGION
from gateway.keys.peppers import NO_PEPPERS, Peppers, unknown_pepper
from gateway.ports import KeyChange, StoreUnavailable, TokenRevocation
from gateway.stores.rows import (
    Row,
    app_state_of,
    change_of,
    keyed_digest_of,
    record_of,
    to_micros,
    token_revocation_of,
)
from gateway.stores.schema import apps, key_events, keys, peppers, token_revocations

Value = TypeVar("Value")
Question = Select[*tuple[Row, ...]]

AT_ONCE: Final = 1_000
"""Changes, or revocations of tokens, in one answer."""

_OF_KEY: Final = (
    keys.c.id,
    keys.c.app_id,
    keys.c.kind,
    keys.c.digest,
    keys.c.pepper_id,
    keys.c.scopes,
    keys.c.expires_at,
    keys.c.state,
)
_OF_APP: Final = (apps.c.state.label("app_state"), apps.c.features.label("app_features"))


def _by_id(lesser: str) -> Question:
    """The key with that id or, where there is none, the one whose id comes next (the last, where none does).

    INVARIANT: an id that no key has costs the look-up of a row, like one that a key has (E1). The nearest row is found
    by the same walk down the same index; only whose row it is tells them apart, and that is asked for in memory.
    """
    last = keys.alias("last_key")
    last_id = select(last.c.id).order_by(last.c.id.desc()).limit(1).scalar_subquery()
    reachable = getattr(func, lesser)(bindparam("id", type_=keys.c.id.type), last_id)
    nearest = select(*_OF_KEY).where(keys.c.id >= reachable).order_by(keys.c.id).limit(1).subquery("nearest")
    return select(nearest, *_OF_APP).join_from(nearest, apps, nearest.c.app_id == apps.c.id)


_PEPPERS: Final = select(peppers.c.id)

_POSITION: Final = select(func.coalesce(func.max(key_events.c.position), 0))

_CHANGES: Final = (
    select(
        key_events.c.position, key_events.c.app_id, key_events.c.key_id, key_events.c.event, key_events.c.happened_at
    )
    .where(key_events.c.position > bindparam("position"))
    .order_by(key_events.c.position)
    .limit(AT_ONCE)
)

_APP_STATES: Final = select(apps.c.id, apps.c.state)

_TOKEN_REVOCATIONS: Final = (
    select(token_revocations)
    .where(token_revocations.c.position > bindparam("position"), token_revocations.c.expires_at > bindparam("now"))
    .order_by(token_revocations.c.position)
    .limit(AT_ONCE)
)


class SqlKeyReader:
    """`KeyStore` and `TokenStore` over `_read`, which each engine has its own way of."""

    LESSER: ClassVar[str]
    """The engine's function for the lesser of two values."""

    def __init__(
        self,
        peppers: Peppers = NO_PEPPERS,
        *,
        region: str = "",
        lookup_timeout_seconds: float,
        feed_timeout_seconds: float,
    ) -> None:
        self._peppers = peppers
        self._region = region
        self._lookup_timeout = lookup_timeout_seconds
        self._feed_timeout = feed_timeout_seconds
        self._by_id = _by_id(self.LESSER)
        # Under which pepper a legacy key stands is not known before it is found: it is looked for under each.
        places = [keys.c.digest == bindparam(f"digest_{number}") for number in range(1 + len(peppers.secrets))]
        legacy = select(*_OF_KEY, *_OF_APP).join_from(keys, apps, keys.c.app_id == apps.c.id)
        # An API key is not found by its digest alone.
        self._by_digest = legacy.where(or_(*places), keys.c.kind == CredentialKind.LEGACY_KEY.value)

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record that the credential proves to be its own, or None. Raises: StoreUnavailable"""

        def proved(row: Row) -> KeyRecord | None:
            # A wrong secret is done with here, where an unknown id is: nothing more of the row is read for it (E1).
            matched = self._peppers.proved(keyed_digest_of(row), credential.digest)
            return record_of(row, matched) if matched else None

        def proved_by_id(row: Row) -> KeyRecord | None:
            # Nor is a legacy key found by its id.
            is_asked_for = row.id == credential.key_id and row.kind == CredentialKind.API_KEY.value
            # INVARIANT: another key's row takes the same steps, and is no answer whatever they find (E1). Measured on
            # a busy core: left out, they make a wrong secret 13 us slower of 520.
            try:
                record = proved(row)
            except StoreUnavailable:
                # Its pepper may be one that we lack: that is nothing to who asked for another key.
                if is_asked_for:
                    raise
                return None
            return record if is_asked_for else None

        match credential.kind:
            case CredentialKind.API_KEY if self._is_of_another_region(credential.key_id):
                found = []
            case CredentialKind.API_KEY:
                found = await self._read(self._by_id, {"id": credential.key_id}, proved_by_id, self._lookup_timeout)
            case CredentialKind.LEGACY_KEY:
                found = await self._find_legacy(credential, proved)
            case CredentialKind.USER_JWT | CredentialKind.USER_OPAQUE:
                return None
        if not found:
            self._peppers.prove_nothing(credential.digest)
        return found[0] if found else None

    async def position(self) -> int:
        """The newest position of the change feed; 0 when nothing has happened yet. Raises: StoreUnavailable"""
        found: list[int] = await self._read(_POSITION, {}, lambda row: int(row[0]), self._feed_timeout)
        return found[0]

    async def changes_since(self, position: int) -> list[KeyChange]:
        """The changes after `position`, oldest first, at most 1,000. Raises: StoreUnavailable"""
        return await self._read(_CHANGES, {"position": position}, change_of, self._feed_timeout)

    async def app_states(self) -> dict[AppId, bool]:
        """Every App, and whether it is active. Raises: StoreUnavailable"""
        return dict(await self._read(_APP_STATES, {}, app_state_of, self._feed_timeout))

    async def token_revocations(self, position: int, now: float) -> list[TokenRevocation]:
        """Those after `position` that have not expired at `now`, oldest first, at most 1,000.

        Raises: StoreUnavailable
        """
        parameters = {"position": position, "now": to_micros(now)}
        return await self._read(_TOKEN_REVOCATIONS, parameters, token_revocation_of, self._feed_timeout)

    def _is_of_another_region(self, key_id: KeyId) -> bool:
        """No row is asked for then: one that came in a copy of another region's store counts for nothing (E16)."""
        return bool(self._region) and region_of(key_id) not in {"", NO_REGION, self._region}

    async def _find_legacy(
        self, credential: Credential, proved: Callable[[Row], KeyRecord | None]
    ) -> list[KeyRecord | None]:
        keyed = self._peppers.all_keyed(credential.digest).values()
        parameters = {f"digest_{number}": digest for number, digest in enumerate(keyed)}
        found = await self._read(self._by_digest, parameters, proved, self._lookup_timeout)
        if found:
            return found

        # It may stand under a pepper that we lack: then it is not known to be unknown.
        in_use: list[str] = await self._read(_PEPPERS, {}, lambda row: str(row[0]), self._lookup_timeout)
        for pepper_id in in_use:
            if not self._peppers.knows(pepper_id):
                raise unknown_pepper(pepper_id)
        return []

    async def _read(
        self,
        statement: Question,
        parameters: Mapping[str, object],
        decode: Callable[[Row], Value],
        timeout_seconds: float,
    ) -> list[Value]:
        """Every row, decoded. Raises: StoreUnavailable"""
        raise NotImplementedError
