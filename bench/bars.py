"""The bar: what Bearergate wants to reach beside the others, in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bar:
    """`ours` in `workload` makes at least `ratio` times the requests of `other` in `other_workload`."""

    workload: str
    ours: str
    ratio: float
    other: str
    other_workload: str


BARS: Final = (
    Bar("get", "bearergate", 0.50, "nginx", "get"),
    Bar("get", "bearergate", 1.8, "envoy", "get"),
    Bar("get", "bearergate", 1.4, "nginx-auth-request", "get"),
    Bar("get", "bearergate", 5.0, "envoy-ext-authz", "get"),
    Bar("get", "bearergate", 25.0, "express-gateway", "get"),
    Bar("get", "bearergate", 100.0, "naive", "get"),
    Bar("graphql", "bearergate", 0.42, "nginx", "graphql"),
    Bar("graphql", "bearergate", 20.0, "hive-gateway", "graphql"),
    Bar("graphql", "bearergate", 100.0, "naive", "graphql"),
    Bar("user-seen", "bearergate", 0.45, "nginx", "get"),
    Bar("get", "bearergate-asgi", 0.22, "nginx", "get"),
    Bar("get", "bearergate-10000-routes", 1 / 1.2, "bearergate", "get"),
    Bar("no-token", "bearergate", 1.3, "bearergate", "get"),
    Bar("bad-shape", "bearergate", 1.3, "bearergate", "get"),
    Bar("unknown-key", "bearergate", 1.3, "bearergate", "get"),
)

NOT_MEASURED: Final = ("key lookups that miss the cache, with 1,000,000 keys",)
"""Parts of the bar that this bench says nothing about."""

NEW_TOKENS_PER_SECOND: Final = 4_000.0
"""User tokens that were never seen before, verified and forwarded."""
BULK_RATIO: Final = 0.8
"""256 MiB down and up: this much of nginx without its buffers."""
BULK_GROWN_MIB: Final = 8.0
"""Memory may grow by less than this meanwhile, slow readers included."""
CACHE_MIB: Final = 400.0
"""A process grows by less than this for a million cached keys."""
LATENCY_WORKLOAD: Final = "get"
LATENCY_SHARE: Final = 0.5
"""Latency is measured at this part of our own highest rate."""
ADDED_P50_MICROS: Final = 150.0
"""Half of the requests take less than this longer than they do without us."""
P99_RATIO: Final = 3.0
"""The slowest hundredth begins below this much of nginx's."""
REST_MIB: Final = 80.0
"""A worker at rest with the shipped policy holds less than this."""
READY_SECONDS: Final = 1.0
"""Ready in less than this."""
