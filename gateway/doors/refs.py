"""Reference ids: one per request, a UUID by shape, unique across processes and cheap to make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_ODD: Final = 0xE3779B97F4A7
_MASK: Final = 0xFFFFFFFFFFFF


class References:
    """80 random bits per process, then a counter spread over 48 bits, so that ids do not tell how many there were."""

    __slots__ = ("_prefix", "_value")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        digits = random_bytes(16).hex()
        self._prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-"
        self._value = int(digits[20:], 16)

    def new(self) -> str:
        """A new id, as in `0b0c8a1e-5c1f-4d1e-8c1f-0123456789ab`."""
        # INVARIANT: odd steps reach every number below 2**48 once: no id comes twice in 2.8e14 requests of one process.
        self._value = value = (self._value + _ODD) & _MASK
        return self._prefix + value.to_bytes(6, "big").hex()
