"""Scopes: names a policy declares, their older spellings, and the Apps for which a scope means anything.

A scope is compared as a whole token, byte for byte: no prefix, wildcard, case folding or trimming.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

SCOPE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


class Scope(msgspec.Struct, frozen=True):
    """One declared scope. `only_for` names the App feature without which a grant of it is inert."""

    name: str
    means: str
    aliases: tuple[str, ...] = ()
    is_sensitive: bool = False
    only_for: str = ""

    @property
    def spellings(self) -> frozenset[str]:
        """Every spelling by which a key may have been granted this scope."""
        return frozenset((self.name, *self.aliases))


class ScopeRegistry:
    """The scopes of one policy, found by any of their spellings."""

    __slots__ = ("_by_spelling", "scopes")

    def __init__(self, scopes: Iterable[Scope]) -> None:
        self.scopes: tuple[Scope, ...] = tuple(scopes)
        self._by_spelling = {spelling: scope for scope in self.scopes for spelling in scope.spellings}

    def find(self, spelling: str) -> Scope | None:
        """The scope that `spelling` names, canonical or alias."""
        return self._by_spelling.get(spelling)

    def canonical(self, spellings: Iterable[str]) -> tuple[str, ...]:
        """The canonical names of the known scopes among `spellings`, in order of declaration, each once."""
        granted = frozenset(spellings)
        return tuple(scope.name for scope in self.scopes if not scope.spellings.isdisjoint(granted))
