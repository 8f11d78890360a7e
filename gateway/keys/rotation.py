"""A key and its successor: which keys may have one, how long both work, and what the new one may do at most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.core.scopes import ScopeRegistry
from gateway.keys.book import KeyEntry, Standing
from gateway.keys.expiry import DAY_SECONDS, utc_text
from gateway.keys.refused import KeyFault, KeyRefused
from gateway.keys.rules import checked_scopes

MAX_OVERLAP_DAYS: Final = 30
DEFAULT_OVERLAP_SECONDS: Final = 7.0 * DAY_SECONDS

_OVERLAP: Final = re.compile(r"0|([0-9]{1,4})([dh])")
_UNIT_SECONDS: Final = {"d": DAY_SECONDS, "h": 3_600}


def read_overlap(text: str) -> float:
    """`7d`, `12h` or `0`, in seconds. Raises: KeyRefused"""
    found = _OVERLAP.fullmatch(text)
    if found is None:
        raise KeyRefused(KeyFault.OVERLAP_INVALID, f"overlap {text!r} is not understood; write `7d`, `12h` or `0`")

    return 0.0 if found[1] is None else float(int(found[1]) * _UNIT_SECONDS[found[2]])


def checked_overlap(overlap: float) -> float:
    """`overlap` as it is, in seconds. Raises: KeyRefused"""
    # INVARIANT: written so that NaN is refused.
    if not 0 <= overlap <= MAX_OVERLAP_DAYS * DAY_SECONDS:
        message = f"the overlap must be 0 to {MAX_OVERLAP_DAYS} days; 0 revokes the old key at once"
        raise KeyRefused(KeyFault.OVERLAP_INVALID, message)

    return overlap


def check_is_rotatable(key: KeyEntry, now: float) -> None:
    """Raises: KeyRefused"""
    # INVARIANT: what is dead stays dead: a successor of a leaked key that was revoked would be its renewal.
    standing = key.standing(now)
    if standing is not Standing.ACTIVE:
        since = f" since `{utc_text(key.expires_at)}`" if standing is Standing.EXPIRED else ""
        message = f"key `{key.id}` is {standing.value}{since} and has no successor any more; make a new key"
        raise KeyRefused(KeyFault.KEY_DEAD, message)

    # INVARIANT: one successor each, or every rotation would leave one more key than it found (E21).
    if key.successor_id is not None:
        message = f"key `{key.id}` was rotated already; its successor is `{key.successor_id}`"
        raise KeyRefused(KeyFault.KEY_ROTATED, message)


def succeeding_scopes(
    asked: Iterable[str] | None, key: KeyEntry, features: frozenset[str], registry: ScopeRegistry | None
) -> tuple[str, ...]:
    """The scopes of the successor of `key`: its own, or those of them that were asked for. Raises: KeyRefused"""
    granted = checked_scopes(key.scopes if asked is None else asked, features, registry)
    held = {_canonical(scope, registry) for scope in key.scopes}
    wider = [scope for scope in granted if scope not in held]
    # INVARIANT: a successor never may what the old key may not (E21).
    if wider:
        has = ", ".join(f"`{scope}`" for scope in key.scopes)
        message = f"scope `{wider[0]}` is not one of key `{key.id}`, which has {has}; make a new key for it"
        raise KeyRefused(KeyFault.SCOPE_WIDER, message)

    return granted


def end_of(key: KeyEntry, now: float, overlap: float) -> float:
    """When a key ends that is rotated at `now`: never later than it would have."""
    return min(key.expires_at, round(now + overlap, 6))


def _canonical(spelling: str, registry: ScopeRegistry | None) -> str:
    scope = None if registry is None else registry.find(spelling)
    return spelling if scope is None else scope.name
