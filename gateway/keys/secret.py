"""A token that cannot be formatted by accident."""

from __future__ import annotations

from typing import Final

REDACTED: Final = "[redacted]"


class Secret:
    """Holds a token between minting and the one place that shows it.

    `str`, `repr`, `format`, `pickle` and therefore logs, tracebacks and JSON by default give `[redacted]`.
    Two secrets are never compared here: digests are, in constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The token itself. Each call of this is a place where a secret leaves us: keep them few."""
        return self._text

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # Facts: pickle, copy and copy.deepcopy all ask here. What comes back holds the word, not the token.
        return Secret, (REDACTED,)
