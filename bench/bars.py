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
    Bar("graphql", "bearergate", 100.0, "naive", "graphql"),
    Bar("get", "bearergate-asgi", 0.22, "nginx", "get"),
    Bar("get", "bearergate-10000-routes", 1 / 1.2, "bearergate", "get"),
    Bar("no-token", "bearergate", 1.3, "bearergate", "get"),
    Bar("unknown-key", "bearergate", 1.3, "bearergate", "get"),
)

NOT_MEASURED: Final = (
    "user tokens, seen before and new: no kind of user token is verified yet",
    "key lookups that miss the cache, with 1,000,000 keys",
    "added latency at half of the maximum rate: wrk sends as fast as it can, and at no constant rate",
    "memory with 1,000,000 cached keys",
    "`@graphql-hive/gateway`: no candidate for it yet",
)
"""Parts of the bar that this bench says nothing about."""

BULK_RATIO: Final = 0.8
"""256 MiB down and up: this much of nginx without its buffers."""
BULK_GROWN_MIB: Final = 8.0
"""Memory may grow by less than this meanwhile, slow readers included."""
REST_MIB: Final = 80.0
"""A worker at rest with the shipped policy holds less than this."""
READY_SECONDS: Final = 1.0
"""Ready in less than this."""
