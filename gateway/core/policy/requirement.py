"""What a caller must hold: of a key, one scope, all of several, or any of several; of a user token, to be the user's.

Never nothing. A requirement is found by the kind of credential, so no key meets that of a user, nor the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from gateway.core.credential import CredentialKind
from gateway.core.facts import RequestFacts
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Refusal
from gateway.core.target import only_parameter


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


class SubjectPlace(Enum):
    """Where a request can say whose data it is about, as a policy spells it."""

    PATH = "path"
    QUERY = "query"
    ARGS = "args"
    VARIABLES = "variables"


_PATH: Final = SubjectPlace.PATH
_QUERY: Final = SubjectPlace.QUERY


@final
@dataclass(frozen=True, slots=True)
class Subject:
    """The part of a request that says whose data it is about."""

    place: SubjectPlace
    name: str
    segment: int = 0
    """Of the path: which segment it is, counted as `split(b"/")` counts."""

    def is_in_head(self, user_id: str, facts: RequestFacts) -> bool:
        """Whether the head names this user, byte for byte, and nobody else. What stands in a body is not in it."""
        said: bytes | None = None
        if self.place is _PATH:
            # A parameter of a path takes no escapes, so what is written there is the id itself.
            said = facts.path.split(b"/")[self.segment]
        elif self.place is _QUERY:
            said = only_parameter(facts.query, self.name.encode("ascii"))
        return bool(said) and said == user_id.encode()


@dataclass(frozen=True, slots=True)
class Requirement:
    """All of `needs`, or any one of them. `needs` is never empty: the compiler refuses an empty list (J7)."""

    needs: tuple[ScopeNeed, ...]
    any_of: bool = False
    app: Subject | None = None
    """The part of a request that has to name the App of the key."""

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


_NOT_THEIRS: Final = Refusal(Reason.SUBJECT_MISMATCH)


@final
@dataclass(frozen=True, slots=True)
class UserRequirement:
    """A user token, and where there is a subject, of that user. No scope is asked for, and none helps."""

    subject: Subject | None = None
    mismatch: Refusal = _NOT_THEIRS
    """What is said when the subject is somebody else."""


Requirements = dict[CredentialKind, Requirement | UserRequirement]
"""By kind of credential: a kind that is not in it may not."""
