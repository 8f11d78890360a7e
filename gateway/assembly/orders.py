"""What a supervisor and its workers say to each other: one line of JSON each, over a socket that only they have."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from gateway.admin.health import Check
from gateway.observe.merging import FamilyReading

LINE_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""The largest policy is 200 files of 4 MiB, which nobody has; the largest reading is some 3 MB."""


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """To a worker, first: the settings as JSON, and the policy that is in force."""

    settings: str
    policy: list[tuple[str, bytes]]


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """To a worker: a policy that was found to be usable; certificates are read anew with it."""

    policy: list[tuple[str, bytes]]


class What(Enum):
    """Orders that need no more words."""

    ANSWER = "answer"
    READ = "read"
    REOPEN = "reopen"
    DRAIN = "drain"
    HURRY = "hurry"


class Order(msgspec.Struct, frozen=True, tag="order"):
    """To a worker."""

    what: What


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From a worker: it accepts connections."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From a worker: it cannot start, and why."""

    message: str


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """From a worker: its event loop turns. Said at once when it is asked."""


class Reading(msgspec.Struct, frozen=True, tag="reading"):
    """From a worker: its metrics, and what `/readyz` would say of it."""

    families: tuple[FamilyReading, ...]
    checks: tuple[Check, ...]


ToWorker = Begin | Reload | Order
FromWorker = Ready | Failed | Alive | Reading

_encoder: Final = msgspec.json.Encoder()
to_worker: Final = msgspec.json.Decoder(ToWorker)
from_worker: Final = msgspec.json.Decoder(FromWorker)


def line_of(message: ToWorker | FromWorker) -> bytes:
    """One message as it is sent."""
    return _encoder.encode(message) + b"\n"
