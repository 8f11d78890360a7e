"""The life of a key: its stored states, and whether it is good at a given instant.

Expiry is not a state but a comparison, so a key dies on time with no job, cache or clock skew of a table involved.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class KeyState(Enum):
    """What the store says of a key. `expired` is never stored: it follows from `expires_at`."""

    ACTIVE = "active"
    REVOKED = "revoked"


class KeyEvent(Enum):
    """What may happen to a key, as the append-only history names it."""

    CREATED = "created"
    RENAMED = "renamed"
    ROTATED = "rotated"
    REVOKED = "revoked"


MOVES: Final[dict[tuple[KeyState | None, KeyEvent], KeyState]] = {
    (None, KeyEvent.CREATED): KeyState.ACTIVE,
    (KeyState.ACTIVE, KeyEvent.RENAMED): KeyState.ACTIVE,
    (KeyState.ACTIVE, KeyEvent.ROTATED): KeyState.ACTIVE,
    (KeyState.ACTIVE, KeyEvent.REVOKED): KeyState.REVOKED,
    (KeyState.REVOKED, KeyEvent.RENAMED): KeyState.REVOKED,
}
"""The one table of legal moves; what is not in it is refused."""


def is_expired(expires_at: float, now: float) -> bool:
    """Both in seconds since the epoch, UTC. Half-open: at the instant `expires_at` the key is dead."""
    return now >= expires_at
