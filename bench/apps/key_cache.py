"""The key cache, filled: `python -m bench.apps.key_cache COUNT` prints what that took, as one line of JSON.

Each key has its own id, digest and expiry, and ten belong to an App.
Then three fifths as many new keys come, for which the oldest make room.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Final

from gateway.core import principal
from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord, Principal
from gateway.ports import KeyChange
from gateway.stores.cached import CachedKeyFinder

_KEYS_PER_APP: Final = 10
_IN_2027: Final = 1_800_000_000.0
_SCOPES: Final = frozenset(("USER_READ", "OFFLOADS_READ"))
_TTL_SECONDS: Final = 3_600.0
"""Longer than the filling takes."""


class _Clock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class _Store:
    """Knows every key."""

    async def find(self, credential: Credential) -> KeyRecord | None:
        number = int(credential.key_id)
        # As stores do, each record has strings and floats of its own, and shares the App's id and the scopes.
        app_id = AppId(sys.intern(f"app_{number // _KEYS_PER_APP:020}"))
        who = Principal(CredentialKind.API_KEY, KeyId(f"{number:015}"), app_id, _SCOPES)
        return KeyRecord(_digest(number), KeyState.ACTIVE, True, _IN_2027 + number, who)

    async def position(self) -> int:
        return 0

    async def changes_since(self, position: int) -> list[KeyChange]:
        return []


def _digest(number: int) -> KeyDigest:
    return KeyDigest(hashlib.sha256(b"%d" % number).digest())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def _fill(finder: CachedKeyFinder, numbers: range) -> None:
    for number in numbers:
        await finder.find(Credential(CredentialKind.API_KEY, KeyId(f"{number:015}"), _digest(number)))


async def _measure(count: int) -> dict[str, object]:
    finder = CachedKeyFinder(_Store(), _Clock(), max_entries=count, ttl_seconds=_TTL_SECONDS)
    await _fill(finder, range(100))
    finder.forget_all()
    gc.collect()
    before = _resident_mib()

    await _fill(finder, range(count))
    filled, held = _resident_mib() - before, finder.known_count
    begin = time.monotonic()
    gc.collect()
    collection = time.monotonic() - begin
    await _fill(finder, range(count, count + count * 3 // 5))
    return {
        "is_compiled": not (principal.__file__ or "").endswith(".py"),
        "keys": held,
        "filled_mib": filled,
        "renewed_mib": _resident_mib() - before,
        "collection_ms": collection * 1_000,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(int(sys.argv[1])))))
