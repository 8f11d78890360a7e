"""Values that other parts hold and `/metrics` shows: small frozen readings, and the callables that take them.

Assembly wires one callable per part. Each is called once per scrape, in a worker thread, and must only read plain
attributes: no lock, no wait, no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec


class DoorReading(msgspec.Struct, frozen=True):
    """What the doors hold open now."""

    requests_in_flight: int
    client_connections: int


class KeyCacheReading(msgspec.Struct, frozen=True):
    """Counters of the key cache since the start, and its size now."""

    hits: int
    """Answered with a record."""
    unknown_hits: int
    """Answered with the knowledge that the token is unknown."""
    misses: int
    evictions: int
    keys: int
    """Records held now."""
    unknown: int
    """Tokens known to be unknown held now."""
    turned_away: int
    """Look-ups refused, without asking the store, because too many were waiting for it."""


class KeyFeedReading(msgspec.Struct, frozen=True):
    """How far the change feed is behind the store."""

    lag_seconds: float
    """From the store's commit of the newest applied change to its arrival here; 0 before the first."""
    last_contact_seconds: float
    """Since the store last answered a poll."""


class IssuerReading(msgspec.Struct, frozen=True):
    """One issuer of user tokens, and how asking it went since the start."""

    answered: int
    failed: int
    keys: int | None = None
    """Keys known now; None where it is asked about each token."""
    keys_age_seconds: float | None = None
    """Since they were read; None before the first time."""


class TokenReading(msgspec.Struct, frozen=True):
    """User tokens: the cache, the verifications since the start, and their issuers by name."""

    hits: int
    refused_hits: int
    """Answered with the knowledge that the token was refused."""
    misses: int
    verified: int
    refused: int
    cannot_decide: int
    """Not verified: an issuer was silent, or too many were waiting."""
    known: int
    """Verified tokens held now."""
    refused_known: int
    revocations: int
    """Live revocations held now."""
    issuers: Mapping[str, IssuerReading]


class PolicyReading(msgspec.Struct, frozen=True):
    """The policy being enforced, and how its reloads went."""

    revision: str
    routes: int
    is_stale: bool
    """The newest files were refused, so an older policy is being enforced."""
    reloads_loaded: int
    reloads_refused: int


class UpstreamReading(msgspec.Struct, frozen=True):
    """The connection pool of one upstream."""

    idle: int
    busy: int
    connected: int
    """Connections opened since the start."""
    connect_failures: int
    endpoints: int = 1
    endpoints_out: int = 0
    """Left out now, because they failed or do not pass their health checks."""
    ejections: int = 0
    """How often one was left out since the start."""
    retries: int = 0
    retries_refused: int = 0
    """Not made, because the budget of retries was used up."""
    waiting: int = 0
    """Requests that wait for a connection now."""
    turned_away: int = 0
    """Requests that found the queue full, or waited in it too long."""


class MemoryReading(msgspec.Struct, frozen=True):
    """How much may be held, and whether that is nearly reached."""

    limit_bytes: int
    is_short: bool
    held_body_bytes: int
    """Of bodies that are held whole while they are judged and sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Where each reading comes from. None where the process has no such part: its metrics are then absent."""

    doors: Callable[[], DoorReading] | None = None
    key_cache: Callable[[], KeyCacheReading] | None = None
    key_feed: Callable[[], KeyFeedReading] | None = None
    tokens: Callable[[], TokenReading] | None = None
    policy: Callable[[], PolicyReading] | None = None
    upstreams: Callable[[], Mapping[str, UpstreamReading]] | None = None
    """By the name that the policy gives the upstream."""
    access_log_dropped: Callable[[], int] | None = None
    loop_lag_seconds: Callable[[], float] | None = None
    memory: Callable[[], MemoryReading] | None = None
    assertions_signed: Callable[[], int] | None = None
