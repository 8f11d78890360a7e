"""JSON objects that every reader reads alike: UTF-8, no member twice, no number with two readings, bounded depth.

Much like `core.graphql.request` reads bodies; here numbers become Python's own, because nothing is written out again.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Final, NoReturn

import orjson

MAX_DEPTH: Final = 16
_MAX_NUMBER_CHARACTERS: Final = 32


def read_object(text: bytes) -> dict[str, object] | None:
    """The object that `text` is, or None where it is none, or could be read in two ways. Never raises."""
    try:
        read = orjson.loads(text)
    except ValueError:
        return None

    if type(read) is not dict or _is_too_deep(text, read):
        return None

    # The same bytes come out: nothing stands twice, and nothing was repaired or rounded.
    if orjson.dumps(read) == text:
        return read
    try:
        strict = _STRICT.decode(text.decode("utf-8"))
    except ValueError:
        return None
    return strict if type(strict) is dict else None


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(members)
    if len(unique) != len(members):
        raise ValueError
    return unique


def _whole_number(text: str) -> int:
    if len(text) > _MAX_NUMBER_CHARACTERS or not -(2**63) <= int(text) < 2**63:
        raise ValueError
    return int(text)


def _real_number(text: str) -> float:
    if len(text) > _MAX_NUMBER_CHARACTERS or not isfinite(float(text)):
        raise ValueError
    return float(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_whole_number,
    parse_float=_real_number,
    parse_constant=_no_constant,
)


def _is_too_deep(text: bytes, value: object) -> bool:
    # No text nests deeper than it has opening brackets; strings hold some too, so only then is it looked at.
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, (dict, list)) for item in level)
