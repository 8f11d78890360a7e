"""A policy file as it was written: texts, lists and mappings, each with its place. Nothing is interpreted yet."""

from __future__ import annotations

import msgspec

from gateway.core.policy.faults import Place


class Scalar(msgspec.Struct, frozen=True):
    """One text. A plain one stands without quotes, so a reader of YAML could take it for a number or a truth value."""

    text: str
    place: Place
    is_plain: bool = True


class Listing(msgspec.Struct, frozen=True):
    """A list of nodes."""

    items: tuple[Node, ...]
    place: Place


class Mapping(msgspec.Struct, frozen=True):
    """Keys and values in the order of the file; a key that was written twice is here twice."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place


Node = Scalar | Listing | Mapping
