"""One input cut in several ways: a reader must come to the same end by all of them."""

from __future__ import annotations

import random


def cut(data: bytes, seed: int) -> list[bytes]:
    """`data` in pieces of random sizes, the same for the same seed."""
    sizes = random.Random(seed)
    pieces = []
    while data:
        size = sizes.choice((1, 1, 2, 3, 7, 20, 100))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


BYTE_BY_BYTE = 2_000
"""Beyond so many bytes the rest comes in pieces of 99: a test should not take seconds."""


def every_way(data: bytes, seed: int = 0) -> list[list[bytes]]:
    """Whole, byte by byte, and in random pieces."""
    single = [data[place : place + 1] for place in range(min(len(data), BYTE_BY_BYTE))]
    rest = [data[place : place + 99] for place in range(BYTE_BY_BYTE, len(data), 99)]
    return [[data] if data else [], single + rest, cut(data, seed)]
