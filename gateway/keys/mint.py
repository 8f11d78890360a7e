"""New keys: `id.secret`, where the last six characters of the secret are a checksum over all before them.

    xk5Tq0aVb81LmZc.u7Gq...42 random characters...9fK0b2Qm
    ||              |                             |
    ||              secret                        checksum: CRC-32 of everything before it, in base 62
    |type letter    id: 15 characters, public, may be logged
    region letter

The checksum is no security: it lets scanners and people tell a key from noise, and a typo from a revoked key.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from gateway.core.credential import AppId, KeyId
from gateway.keys.secret import Secret

RandomBytes = Callable[[int], bytes]
"""Gives that many random bytes, good enough for secrets (`secrets.token_bytes`)."""

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

NO_REGION: Final = "x"
"""The region letter of a gateway that has not been told its region."""

API_KEY_LETTER: Final = "k"
LEGACY_KEY_LETTER: Final = "l"

ID_RANDOM: Final = 13
"""62**13 ids (77 bits): guessing one is hopeless, and so is a collision; the store refuses one all the same."""

SECRET_RANDOM: Final = 42
"""62**42, 250 bits: far beyond the 119 that make a slow hash needless."""

CHECKSUM_LENGTH: Final = 6
"""62**6 exceeds 2**32, so a CRC-32 always fits."""

HINT_LENGTH: Final = 4


def mint(random_bytes: RandomBytes, *, region: str = NO_REGION) -> tuple[KeyId, Secret]:
    """A new key id and the whole token `id.secret`."""
    key_id = mint_id(random_bytes, region=region, letter=API_KEY_LETTER)
    unchecked = f"{key_id}.{_base62(random_bytes, SECRET_RANDOM)}"
    return key_id, Secret(unchecked + checksum_of(unchecked))


def mint_id(random_bytes: RandomBytes, *, region: str, letter: str) -> KeyId:
    """A key id alone, for a key whose token exists already."""
    return KeyId(region + letter + _base62(random_bytes, ID_RANDOM))


def mint_app_id(random_bytes: RandomBytes) -> AppId:
    """An App id: 24 lower-case hex characters."""
    return AppId(random_bytes(12).hex())


def checksum_of(unchecked: str) -> str:
    """CRC-32 of `id.body` in base 62 (digits, upper case, lower case), padded to six characters."""
    remainder = zlib.crc32(unchecked.encode("ascii"))
    letters = []
    for _ in range(CHECKSUM_LENGTH):
        remainder, digit = divmod(remainder, 62)
        letters.append(BASE62[digit])
    return "".join(reversed(letters))


def checksum_holds(token: str) -> bool:
    """Whether the end of `token` is the checksum of the rest: false means a typo, or a key that is not ours."""
    return token.isascii() and checksum_of(token[:-CHECKSUM_LENGTH]) == token[-CHECKSUM_LENGTH:]


def _base62(random_bytes: RandomBytes, length: int) -> str:
    """`length` characters, each of 62 equally likely."""
    letters: list[str] = []
    while len(letters) < length:
        # 248 = 4 * 62: bytes above it are thrown away, or the first eight letters would come up more often.
        letters.extend(BASE62[byte % 62] for byte in random_bytes(length - len(letters)) if byte < 248)
    return "".join(letters)
