"""The lines of the access log as data: their fields and their order."""

from __future__ import annotations

import json

import msgspec


class AccessLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of a line in their order; empty text means that there is none. docs/operations.md explains each."""

    ts: str
    ref: str
    outcome: str
    reason: str
    status: int
    method: str
    path: str
    route: str
    upstream: str
    kind: str
    key_id: str
    app_id: str
    peer: str
    duration_ms: float
    upstream_ms: float
    bytes_in: int
    bytes_out: int
    detail: str = ""


class DroppedLine(msgspec.Struct):
    """The line that stands for lines that were dropped before it."""

    ts: str
    event: str
    dropped: int


def escaped(line: AccessLine) -> bytes:
    """The same line with everything outside printable ASCII as `\\uXXXX`."""
    fields = msgspec.structs.asdict(line)
    if not line.detail:
        del fields["detail"]
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    # DEL stands within strings only, and JSON leaves it as it is.
    return text.replace("\x7f", "\\u007f").encode("ascii")
