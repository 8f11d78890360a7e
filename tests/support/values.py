"""Values of one request, compared field by field: as classes they have no equality, which nobody needs but tests."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_Value = TypeVar("_Value")


def field_names(kind: type) -> tuple[str, ...]:
    """The names of a value class's fields, interpreted (`__slots__`) or compiled (`__mypyc_attrs__`)."""
    names = getattr(kind, "__mypyc_attrs__", None) or kind.__slots__  # type: ignore[attr-defined]
    return tuple(sorted(names))


def fields_of(value: object) -> tuple[object, ...]:
    """Type and fields of a value, comparable with those of another."""
    if isinstance(value, msgspec.Struct):
        return (value,)
    return (type(value), *(getattr(value, name) for name in field_names(type(value))))


def changed(value: _Value, **changes: object) -> _Value:
    """A copy of `value` with some fields changed."""
    fields = {name: getattr(value, name) for name in field_names(type(value))}
    return type(value)(**{**fields, **changes})
