"""Why a request to change keys was refused: a closed list of faults and the exception that carries one."""

from __future__ import annotations

from enum import Enum

from gateway.keys.book import KeyEntry


class KeyFault(Enum):
    """What was wrong with the request."""

    APP_UNKNOWN = "app_unknown"
    APP_DISABLED = "app_disabled"
    KEY_UNKNOWN = "key_unknown"
    KEY_TAKEN = "key_taken"
    KEY_DEAD = "key_dead"
    KEY_ROTATED = "key_rotated"
    NAME_INVALID = "name_invalid"
    FEATURE_INVALID = "feature_invalid"
    LIMIT_INVALID = "limit_invalid"
    SCOPE_MISSING = "scope_missing"
    SCOPE_UNKNOWN = "scope_unknown"
    SCOPE_NOT_FOR_APP = "scope_not_for_app"
    SCOPE_WIDER = "scope_wider"
    EXPIRY_INVALID = "expiry_invalid"
    EXPIRY_PAST = "expiry_past"
    EXPIRY_TOO_LATE = "expiry_too_late"
    OVERLAP_INVALID = "overlap_invalid"
    TOKEN_INVALID = "token_invalid"
    TOO_MANY_KEYS = "too_many_keys"
    IMPORT_INVALID = "import_invalid"
    REVOCATION_INVALID = "revocation_invalid"
    PEPPER_UNKNOWN = "pepper_unknown"
    PEPPER_IN_USE = "pepper_in_use"


class KeyRefused(Exception):
    """The request was refused and nothing has changed. The text is one line, made to be shown; no secret is in it.

    An exception and not a value, unlike on the data path: it rolls the transaction back on its way out, and a
    caller that forgets to look at it must not go on as if it had a key.
    """

    def __init__(self, fault: KeyFault, message: str, candidates: tuple[KeyEntry, ...] = ()) -> None:
        super().__init__(message)
        self.fault = fault
        self.candidates = candidates
        """For `TOO_MANY_KEYS`: the active keys of the App, the soonest to expire first."""
