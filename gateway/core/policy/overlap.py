"""Which routes can match one request: found exactly, at load, with such a request as the proof.

A pattern is narrower than another if it matches only some of the other's paths: wherever the two differ, it has the
literal and the other the parameter. The narrower one wins. Two patterns that share a path while neither is narrower
have equal rank, and there is no right answer between them (B25, G51).
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.policy.document import RouteEntry
from gateway.core.policy.routes import is_parameter_value

MAX_REPORTED: Final = 5
"""Overlaps reported of one route with those before it."""


class Overlap(msgspec.Struct, frozen=True):
    """Two routes whose patterns share `path`."""

    first: RouteEntry
    second: RouteEntry
    path: str
    is_same_pattern: bool = False
    first_is_narrower: bool = False
    second_is_narrower: bool = False

    @property
    def is_ambiguous(self) -> bool:
        """Both could answer one request, and neither is narrower."""
        return self.first.method == self.second.method and not (self.first_is_narrower or self.second_is_narrower)

    @property
    def is_copy(self) -> bool:
        """The second is the first once more, as its name says too."""
        return self.is_same_pattern and self.is_ambiguous and self.first.name.value == self.second.name.value

    @property
    def bypasses_fields(self) -> bool:
        """One reads the fields of a GraphQL body and the other would pass the same path without reading it.

        `OPTIONS` runs nothing. Of two routes with one method, the GraphQL one must be the narrower.
        """
        if (self.first.graphql is None) == (self.second.graphql is None):
            return False
        if "OPTIONS" in (self.first.method, self.second.method):
            return False
        if self.first.method != self.second.method:
            return True
        return self.second_is_narrower if self.first.graphql is not None else self.first_is_narrower


class _Node:
    __slots__ = ("literals", "parameter", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: list[RouteEntry] = []


def overlaps(routes: tuple[RouteEntry, ...]) -> list[Overlap]:
    """The overlaps that a policy may not have, each route compared with those before it."""
    root = _Node()
    found: list[Overlap] = []
    for route in routes:
        segments = route.path.value.split("/")[1:]
        faulty = 0
        for overlap in _shared(root, segments, route):
            if overlap.is_ambiguous or overlap.bypasses_fields:
                found.append(overlap)
                faulty += 1
                if faulty == MAX_REPORTED:
                    break
        _insert(root, segments, route)
    return found


def _insert(node: _Node, segments: list[str], route: RouteEntry) -> None:
    for segment in segments:
        if segment.startswith("{"):
            if node.parameter is None:
                node.parameter = _Node()
            node = node.parameter
        else:
            node = node.literals.setdefault(segment, _Node())
    node.routes.append(route)


def _shared(root: _Node, segments: list[str], route: RouteEntry) -> list[Overlap]:
    """Every route in the trie that shares a path with `route`, both branches followed at each segment."""
    # (node, first has a literal where the new one has a parameter, the reverse, the shared path so far)
    level: list[tuple[_Node, bool, bool, str]] = [(root, False, False, "")]
    for segment in segments:
        below: list[tuple[_Node, bool, bool, str]] = []
        is_parameter = segment.startswith("{")
        for node, first_narrower, second_narrower, path in level:
            if is_parameter:
                below += (
                    (child, True, second_narrower, f"{path}/{literal}")
                    for literal, child in node.literals.items()
                    if is_parameter_value(literal.encode("ascii"))
                )
                if node.parameter is not None:
                    below.append((node.parameter, first_narrower, second_narrower, f"{path}/{segment[1:-1]}"))
            else:
                literal = node.literals.get(segment)
                if literal is not None:
                    below.append((literal, first_narrower, second_narrower, f"{path}/{segment}"))
                if node.parameter is not None and is_parameter_value(segment.encode("ascii")):
                    below.append((node.parameter, first_narrower, True, f"{path}/{segment}"))
        level = below

    return [
        Overlap(
            first,
            route,
            path,
            is_same_pattern=not (first_has or second_has),
            first_is_narrower=first_has and not second_has,
            second_is_narrower=second_has and not first_has,
        )
        for node, first_has, second_has, path in level
        for first in node.routes
    ]
