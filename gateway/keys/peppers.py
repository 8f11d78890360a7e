"""What a store keeps of a key: HMAC-SHA-256 of the token's digest under a pepper, a secret that no store holds.

Who reads a stolen store cannot try tokens on it without the pepper. Where none is configured, a constant stands in
its place under the empty id: then a stored digest is still no digest of any other system.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.core.credential import KeyDigest
from gateway.ports import StoreUnavailable

NO_PEPPER: Final = ""
"""The id under which keys stand that were made without a pepper."""

MIN_BYTES: Final = 32

_CONSTANT: Final = b"bearergate/key/1\x00"
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,31}")

NO_MATCH: Final = KeyDigest(b"")
"""In a record whose secret was not the one asked with: shorter than every digest, so it equals none."""


class PeppersInvalid(Exception):
    """The peppers cannot be used. The text is one line and holds nothing of them."""


@dataclass(frozen=True, slots=True)
class KeyedDigest:
    """A digest as it is stored."""

    pepper_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Peppers:
    """The peppers that are known, by their ids, and the one that new keys take."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    current: str = NO_PEPPER

    def keyed(self, digest: bytes) -> KeyedDigest:
        """`digest` as a new key keeps it."""
        return KeyedDigest(self.current, self._under(self.current, digest))

    def all_keyed(self, digest: bytes) -> dict[str, bytes]:
        """`digest` as it would be stored under each pepper, by the pepper's id."""
        return {pepper_id: self._under(pepper_id, digest) for pepper_id in (NO_PEPPER, *self.secrets)}

    def proved(self, stored: KeyedDigest, digest: KeyDigest) -> KeyDigest:
        """`digest` where it is the one that was stored, else `NO_MATCH`. Raises: StoreUnavailable"""
        if not self.knows(stored.pepper_id):
            raise unknown_pepper(stored.pepper_id)

        matches = hmac.compare_digest(self._under(stored.pepper_id, digest), stored.digest)
        return digest if matches else NO_MATCH

    def prove_nothing(self, digest: KeyDigest) -> None:
        """Costs what `proved` costs, so that an unknown id takes as long as a wrong secret (E1)."""
        hmac.compare_digest(self._under(self.current, digest), digest)

    def knows(self, pepper_id: str) -> bool:
        """Whether keys under that pepper can be recognised."""
        return pepper_id == NO_PEPPER or pepper_id in self.secrets

    def _under(self, pepper_id: str, digest: bytes) -> bytes:
        return hmac.digest(self.secrets[pepper_id] if pepper_id else _CONSTANT, digest, sha256)


NO_PEPPERS: Final = Peppers()


def unknown_pepper(pepper_id: str) -> StoreUnavailable:
    """Why keys under a pepper that is not configured are no unknown keys."""
    return StoreUnavailable(
        f"the store has keys under the pepper `{pepper_id}`, which is not configured here; add its file to `peppers`"
    )


def read_peppers(files: Mapping[str, Path], current: str = NO_PEPPER) -> Peppers:
    """The peppers in `files`, by their ids; `current` may be left out where there is one alone.

    Raises: PeppersInvalid
    """
    if not current and len(files) > 1:
        known = ", ".join(f"`{name}`" for name in files)
        raise PeppersInvalid(f"pepper: there are several, {known}; say which one new keys take")

    if current and current not in files:
        raise PeppersInvalid(f"pepper: `{current}` is not among `peppers`; add its file")

    secrets = {pepper_id: _read(pepper_id, file) for pepper_id, file in files.items()}
    return Peppers(secrets, current or next(iter(secrets), NO_PEPPER))


def _read(pepper_id: str, file: Path) -> bytes:
    if not _ID.fullmatch(pepper_id):
        raise PeppersInvalid(f"peppers: {pepper_id!r} is not an id: letters, digits, `_` and `-`, 32 at most")

    try:
        # INVARIANT: taken as it is. A trailing line break counts, so a file must not be edited once keys are under it.
        secret = file.read_bytes()
    except OSError as error:
        raise PeppersInvalid(f"peppers: `{file}` of `{pepper_id}` cannot be read: {error.strerror}") from error

    if len(secret) < MIN_BYTES:
        message = f"peppers: `{file}` of `{pepper_id}` has {len(secret)} bytes and needs {MIN_BYTES} random ones"
        raise PeppersInvalid(f"{message}; make it with `head -c 32 /dev/urandom`")
    return secret
