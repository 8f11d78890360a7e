"""Keys of another system, of which only SHA-256 is left: read from CSV with a header, or from lines of JSON.

    digest,app,name,scopes,expires,id
    9f86d081884c7d65…,65f0c1…,nightly report,USER_READ USER_LINK,2027-01-01,

`expires` and `id` may be left out. With an `id` it is the digest of a whole `id.secret`, else of a legacy key.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.core.credential import KeyDigest, KeyId
from gateway.keys.expiry import read_expiry
from gateway.keys.refused import KeyFault, KeyRefused

NEEDED: Final = ("digest", "app", "name", "scopes")
ALLOWED: Final = (*NEEDED, "expires", "id")

_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_KEY_ID: Final = re.compile(r"[0-9A-Za-z]{8,40}")


@dataclass(frozen=True, slots=True)
class ImportedDigest:
    """A key to be taken over."""

    line: int
    digest: KeyDigest
    app_id: str
    name: str
    scopes: tuple[str, ...]
    expires_at: float | None
    key_id: KeyId | None
    """Of an API key; None for a legacy key, which is found by its digest."""


def read_imports(text: str, now: float) -> list[ImportedDigest]:
    """Every key of the file. Raises: KeyRefused"""
    rows = _json_lines(text) if text.lstrip().startswith("{") else _csv(text)
    return [_imported(line, row, now) for line, row in rows]


def _csv(text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) != len(header):
            raise _invalid(1, "the header names a column twice")

        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise _invalid(reader.line_num, f"there are {len(cells)} cells under {len(header)} columns")
            yield reader.line_num, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    except csv.Error as error:
        raise _invalid(reader.line_num, "this is not CSV") from error


def _json_lines(text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise _invalid(number, "this is not an object of JSON") from error


def _imported(line: int, row: Mapping[str, object], now: float) -> ImportedDigest:
    for name in row:
        if name not in ALLOWED:
            raise _invalid(line, f"there is no column {name!r}; there are {', '.join(ALLOWED)}")

    for name in NEEDED:
        if not row.get(name):
            raise _invalid(line, f"`{name}` is missing")

    # What was written wrongly is not quoted: it may be a token in the digest's place.
    digest = _text(line, row, "digest")
    if not _DIGEST.fullmatch(digest):
        raise _invalid(line, "`digest` is not SHA-256 of the whole key in 64 hex digits")

    key_id = _text(line, row, "id")
    if key_id and not _KEY_ID.fullmatch(key_id):
        raise _invalid(line, "`id` is not 8 to 40 letters and digits")

    expires = _text(line, row, "expires")
    try:
        expires_at = read_expiry(expires, now) if expires else None
    except KeyRefused as refused:
        raise _invalid(line, str(refused)) from refused

    return ImportedDigest(
        line=line,
        digest=KeyDigest(bytes.fromhex(digest)),
        app_id=_text(line, row, "app"),
        name=_text(line, row, "name"),
        scopes=_scopes(line, row["scopes"]),
        expires_at=expires_at,
        key_id=KeyId(key_id) if key_id else None,
    )


def _text(line: int, row: Mapping[str, object], name: str) -> str:
    value = row.get(name) or ""
    if not isinstance(value, str):
        raise _invalid(line, f"`{name}` is not a text")
    return value


def _scopes(line: int, value: object) -> tuple[str, ...]:
    scopes = value.split() if isinstance(value, str) else value
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise _invalid(line, "`scopes` is neither a text nor a list of texts")
    return tuple(scopes)


def _invalid(line: int, message: str) -> KeyRefused:
    return KeyRefused(KeyFault.IMPORT_INVALID, f"line {line}: {message}; nothing was imported")
