"""What is asked of every candidate: the requests, byte for byte the same for all, and the answer that must come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

GRAPHQL_BYTES: Final = 1024
UNKNOWN_TOKEN: Final = "e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"
"""The example that the reference platform publishes: the right shape, and nobody's key."""

_PATH: Final = "/v2/users/5f0c3a9b7d2e41c8a6b0d913/events"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request. `token` is `good`, `unknown` or `none`."""

    name: str
    title: str
    method: str
    path: str
    token: str
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_refusal(self) -> bool:
        return self.status != 200

    def all_headers(self, good_token: str) -> dict[str, str]:
        """The header lines of the request, Authorization included."""
        tokens = {"good": good_token, "unknown": UNKNOWN_TOKEN, "none": ""}
        token = tokens[self.token]
        return {**self.headers, **({"Authorization": f"Bearer {token}"} if token else {})}


def _graphql_body() -> bytes:
    """Seven weeks of offload listings in one document of exactly 1 KiB: variables, aliases and a fragment."""
    weeks = range(1, 8)
    declared = ", ".join(f"$a{week}: String!, $b{week}: String!" for week in weeks)
    selected = " ".join(f"w{week}: offloads(from: $a{week}, to: $b{week}) {{ ...Days }}" for week in weeks)
    query = (
        f"query Weeks({declared}) {{ {selected} }} fragment Days on Offload {{ day type files {{ format name size }} }}"
    )
    variables = {f"{side}{week}": f"2026-0{week}-{day}" for week in weeks for side, day in (("a", "01"), ("b", "07"))}

    def compact(text: str) -> bytes:
        request = {"query": text, "operationName": "Weeks", "variables": variables}
        return json.dumps(request, separators=(",", ":")).encode()

    return compact(query + " " * (GRAPHQL_BYTES - len(compact(query))))


WORKLOADS: Final = (
    Workload("get", "GET with a cached key", "GET", _PATH, "good", 200),
    Workload(
        "graphql",
        "GraphQL POST of 1 KiB, document seen before",
        "POST",
        "/v4/gql",
        "good",
        200,
        _graphql_body(),
        {"Content-Type": "application/json", "Accept": "application/json"},
    ),
    Workload("no-token", "Refusal: no token", "GET", _PATH, "none", 401),
    Workload("unknown-key", "Refusal: unknown key", "GET", _PATH, "unknown", 401),
)
