"""What may be asked of a new key: its name, its scopes, how many an App may have, how long they may live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from gateway.core.scopes import SCOPE_NAME, ScopeRegistry
from gateway.keys.mint import NO_REGION
from gateway.keys.refused import KeyFault, KeyRefused

NAME_LENGTH: Final = 100

MAX_KEY_LIMIT: Final = 1_000_000
"""The most active keys that an App can be allowed; stores keep the limit as a number of eight bytes."""


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What holds for every new key; the commands use these defaults. Other rules never alter a key that exists."""

    max_days: int | None = None
    """Longest life, and the life of a key for which no expiry was asked; None: one calendar year."""
    active_keys: int = 10
    """How many active keys an App may have that has no limit of its own."""
    region: str = NO_REGION
    """The letter with which key ids begin."""
    token_days: int = 366
    """How long a revocation of user tokens is kept, where nothing else was said: no token may live longer."""


def checked_name(name: str, of: str) -> str:
    """`name` as it is: 1 to 100 printable characters. Visual only, so it may repeat. Raises: KeyRefused"""
    if not 1 <= len(name) <= NAME_LENGTH or name.isspace():
        message = f"the name of {of} must have 1 to {NAME_LENGTH} characters and not be blank"
        raise KeyRefused(KeyFault.NAME_INVALID, message)

    # Control and bidirectional characters would run in the terminal of whoever lists keys.
    if not name.isprintable():
        raise KeyRefused(KeyFault.NAME_INVALID, f"the name of {of} has characters that cannot be shown")

    return name


def checked_features(features: Iterable[str]) -> frozenset[str]:
    """The features of an App, each spelled like a scope. Raises: KeyRefused"""
    unique = frozenset(features)
    for feature in sorted(unique):
        if not SCOPE_NAME.fullmatch(feature):
            raise KeyRefused(KeyFault.FEATURE_INVALID, _not_a_name("feature", feature))
    return unique


def checked_limit(key_limit: int | None) -> int | None:
    """The App's own limit of active keys; None: the default. Raises: KeyRefused"""
    if key_limit is not None and not 1 <= key_limit <= MAX_KEY_LIMIT:
        message = f"the limit of active keys must be 1 to {MAX_KEY_LIMIT}; `apps disable` refuses all keys of an App"
        raise KeyRefused(KeyFault.LIMIT_INVALID, message)

    return key_limit


def checked_scopes(
    asked: Iterable[str], features: frozenset[str], registry: ScopeRegistry | None = None
) -> tuple[str, ...]:
    """The scopes to grant, each once, as asked for; canonical where a registry is given. Raises: KeyRefused"""
    granted = tuple(dict.fromkeys(_checked_scope(spelling, features, registry) for spelling in asked))
    if not granted:
        raise KeyRefused(KeyFault.SCOPE_MISSING, "a key needs at least one scope")

    return granted


def _checked_scope(spelling: str, features: frozenset[str], registry: ScopeRegistry | None) -> str:
    if not SCOPE_NAME.fullmatch(spelling):
        raise KeyRefused(KeyFault.SCOPE_UNKNOWN, _not_a_name("scope", spelling))

    if registry is None:
        return spelling

    scope = registry.find(spelling)
    if scope is None:
        raise KeyRefused(KeyFault.SCOPE_UNKNOWN, _unknown_scope(spelling, registry))

    if scope.only_for and scope.only_for not in features:
        message = f"scope `{scope.name}` is only for Apps with the feature `{scope.only_for}`, which this App lacks"
        raise KeyRefused(KeyFault.SCOPE_NOT_FOR_APP, message)

    return scope.name


def _not_a_name(what: str, text: str) -> str:
    several = f"; for several, repeat `--{what}`" if "," in text or " " in text else ""
    return f"{what} {text!r} is not a name: a letter, then up to 63 of letters, digits and `_ . : -`{several}"


def _unknown_scope(spelling: str, registry: ScopeRegistry) -> str:
    known = ", ".join(f"`{scope.name}`" for scope in registry.scopes)
    canonical = {form.casefold(): scope.name for scope in registry.scopes for form in scope.spellings}
    nearest = get_close_matches(spelling.casefold(), canonical, n=1)
    meant = f"did you mean `{canonical[nearest[0]]}`? " if nearest else ""
    return f"scope `{spelling}` is not known; {meant}known scopes: {known or 'none'}"
