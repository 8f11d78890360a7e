"""Assertions for upstreams put together: key files that are read again while it serves, and what signs with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.assembly import CannotStart
from gateway.core.assertion import Assertions
from gateway.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.keys.assertion_keys import AssertionKeys


class AssertionKeyFiles:
    """The keys as the files had them when they were last good."""

    def __init__(self, path: Path) -> None:
        """Raises: CannotStart"""
        self._path = path
        self.keys = self._read()

    def jwks(self) -> bytes:
        """What upstreams check signatures with."""
        return self.keys.jwks

    def reload(self) -> str:
        """Reads the files again; returns what is wrong, or nothing. Files that cannot be used change nothing."""
        try:
            self.keys = self._read()
        except CannotStart as fault:
            return str(fault)
        return ""

    def _read(self) -> AssertionKeys:
        # Its libraries are loaded where they are needed.
        from gateway.keys.assertion_keys import AssertionKeysInvalid, read_assertion_keys  # noqa: PLC0415

        try:
            return read_assertion_keys(self._path)
        except AssertionKeysInvalid as fault:
            raise CannotStart(f"assertions.keys: {fault}") from fault


def assertion_key_files(settings: Settings) -> AssertionKeyFiles | None:
    """The keys that the settings name; None where they name none. Raises: CannotStart"""
    return None if settings.assertions.keys is None else AssertionKeyFiles(settings.assertions.keys)


def published_jwks(settings: Settings) -> bytes | None:
    """What is published of the keys that the settings name, for a process that signs nothing. Raises: CannotStart"""
    files = assertion_key_files(settings)
    return None if files is None else files.jwks()


def assertions_by(files: AssertionKeyFiles | None, settings: Settings) -> Assertions | None:
    """What writes assertions, signed with the first of the keys."""
    if files is None:
        return None
    return Assertions(files.keys.sign, settings.assertions.issuer, settings.assertions.lifetime)
