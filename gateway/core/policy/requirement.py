"""What a caller must hold: one scope, all of several, or any of several. Never nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.principal import Principal


@dataclass(frozen=True, slots=True)
class ScopeNeed:
    """One scope as a requirement asks for it. Without the App feature `only_for`, a grant of it is inert."""

    name: str
    spellings: frozenset[str]
    """Every spelling by which a key may have been granted it."""
    only_for: str = ""

    def is_met_by(self, principal: Principal) -> bool:
        """Whether one of the principal's grants is this scope, and means anything for its App."""
        if self.spellings.isdisjoint(principal.scopes):
            return False
        return not self.only_for or self.only_for in principal.app_features


@dataclass(frozen=True, slots=True)
class Requirement:
    """All of `needs`, or any one of them. `needs` is never empty: the compiler refuses an empty list (J7)."""

    needs: tuple[ScopeNeed, ...]
    any_of: bool = False

    def missing(self, principal: Principal) -> tuple[str, ...]:
        """() when met, else the canonical names that are lacking (of `any_of`: every alternative)."""
        # On the hot path and nearly always one need: no list is built unless something is lacking.
        for need in self.needs:
            if need.is_met_by(principal):
                if self.any_of:
                    return ()
            elif not self.any_of:
                return tuple(lacking.name for lacking in self.needs if not lacking.is_met_by(principal))
        return tuple(need.name for need in self.needs) if self.any_of else ()
