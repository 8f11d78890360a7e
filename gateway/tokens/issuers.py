"""Who issues user tokens: exactly which `iss`, for which audience, by which algorithms, and what the claims mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from gateway.core.credential import AppId

MAX_LEEWAY_SECONDS: Final = 60.0
LEEWAY_SECONDS: Final = 30.0
"""By which the clocks of an issuer and of a gateway may differ. It is in a record's instants, so caches have it too."""
MAX_LIFETIME_SECONDS: Final = 7 * 86_400.0
TOKEN_TYPES: Final = ("at+jwt", "JWT")
NO_APP: Final = AppId("")


class IssuerInvalid(Exception):
    """An issuer cannot be used as it is configured. The text says which one, where, what, and what to do."""


@final
@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of user tokens, as configuration describes it; where its keys are stands elsewhere."""

    name: str
    """As configuration and metrics call it."""
    iss: str
    """Its tokens say exactly this, byte for byte."""
    audience: str
    """Its tokens name it among those that they are for. Empty: not looked at, where the issuer itself is asked."""
    app_id: AppId = NO_APP
    """The App of all its users; empty where `app_claim` names it."""
    app_claim: str = ""
    user_claim: str = "sub"
    algorithms: frozenset[str] = frozenset(("ES256", "RS256"))
    token_types: frozenset[str] = frozenset(kind.lower() for kind in TOKEN_TYPES)
    """What `typ` may be, in small letters; an empty one lets it be missing."""
    leeway_seconds: float = LEEWAY_SECONDS
    max_lifetime_seconds: float = MAX_LIFETIME_SECONDS


def by_iss(issuers: Iterable[Issuer]) -> dict[str, Issuer]:
    """The issuers by what their tokens say. Raises: IssuerInvalid"""
    found: dict[str, Issuer] = {}
    for issuer in issuers:
        other = found.setdefault(issuer.iss, issuer)
        if other is not issuer:
            raise IssuerInvalid(
                f"issuers.{issuer.name}: `issuer` is that of issuers.{other.name}; one table has to describe both"
            )
    return found
