"""What is asked of every candidate: the requests, byte for byte the same for all, and the answer that must come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

GRAPHQL_BYTES: Final = 1024
UNKNOWN_TOKEN: Final = "e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"
"""The example that the reference platform publishes: the right shape, and nobody's key."""

MISSHAPEN_TOKEN: Final = UNKNOWN_TOKEN.replace(".", "!")
"""As long, with one character that no token may have."""

ANSWER: Final = (b'{"user_id":"5f0c3a9b7d2e41c8a6b0d913","events":[' + b'{"type":"car","distance":1234},' * 14)[
    :456
] + b'"]}'
"""The upstream's 459 bytes; cut where the size says, for nobody reads it as JSON."""

GRAPHQL_PATH: Final = "/v4/gql"
SCHEMA: Final = """
type Query { offloads(from: String!, to: String!): [Offload!]! }
type Offload { day: String! type: String! files: [File!]! }
type File { format: String! name: String! size: Int! }
"""
"""What the document below asks of, for those who check documents against a schema."""

_WEEKS: Final = range(1, 8)
USER: Final = "5f0c3a9b7d2e41c8a6b0d913"
"""Whose events are asked for, and whose the user tokens are."""

_PATH: Final = f"/v2/users/{USER}/events"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request. `token`: `good`, `user`, `users` (another each time), `unknown`, `misshapen` or `none`."""

    name: str
    title: str
    method: str
    path: str
    token: str
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = ANSWER
    """The upstream's body, which must arrive as it is."""

    @property
    def is_refusal(self) -> bool:
        return self.status != 200

    @property
    def users(self) -> str:
        """Whether user tokens are sent: `seen`, `new`, or not at all."""
        return {"user": "seen", "users": "new"}.get(self.token, "")

    def all_headers(self, good_token: str, user_token: str = "") -> dict[str, str]:
        """The header lines of the request, Authorization included."""
        tokens = {"good": good_token, "unknown": UNKNOWN_TOKEN, "misshapen": MISSHAPEN_TOKEN, "none": ""}
        tokens |= {"user": user_token, "users": user_token}
        token = tokens[self.token]
        return {**self.headers, **({"Authorization": f"Bearer {token}"} if token else {})}


def _graphql_body() -> bytes:
    """Seven weeks of offload listings in one document of exactly 1 KiB: variables, aliases and a fragment."""
    declared = ", ".join(f"$a{week}: String!, $b{week}: String!" for week in _WEEKS)
    selected = " ".join(f"w{week}: offloads(from: $a{week}, to: $b{week}) {{ ...Days }}" for week in _WEEKS)
    query = (
        f"query Weeks({declared}) {{ {selected} }} fragment Days on Offload {{ day type files {{ format name size }} }}"
    )
    variables = {f"{side}{week}": f"2026-0{week}-{day}" for week in _WEEKS for side, day in (("a", "01"), ("b", "07"))}

    def compact(text: str) -> bytes:
        request = {"query": text, "operationName": "Weeks", "variables": variables}
        return json.dumps(request, separators=(",", ":")).encode()

    return compact(query + " " * (GRAPHQL_BYTES - len(compact(query))))


def _graphql_answer() -> bytes:
    """What the document above is answered: as long as `ANSWER`, and in the very bytes of `JSON.stringify`."""

    def compact(name: str) -> bytes:
        files = [{"format": "mf4", "name": name, "size": 1234}]
        days = {f"w{week}": [{"day": "01", "type": "car", "files": files if week == 1 else []}] for week in _WEEKS}
        return json.dumps({"data": days}, separators=(",", ":")).encode()

    return compact("x" * (len(ANSWER) - len(compact(""))))


GRAPHQL_ANSWER: Final = _graphql_answer()

WORKLOADS: Final = (
    Workload("get", "GET with a cached key", "GET", _PATH, "good", 200),
    Workload(
        "graphql",
        "GraphQL POST of 1 KiB, document seen before",
        "POST",
        GRAPHQL_PATH,
        "good",
        200,
        _graphql_body(),
        {"Content-Type": "application/json", "Accept": "application/json"},
        GRAPHQL_ANSWER,
    ),
    Workload("user-seen", "GET with a user token (ES256) seen before", "GET", _PATH, "user", 200),
    Workload("user-new", "GET with a user token (ES256) never seen before", "GET", _PATH, "users", 200),
    Workload("no-token", "Refusal: no token", "GET", _PATH, "none", 401),
    Workload("bad-shape", "Refusal: no token's shape", "GET", _PATH, "misshapen", 401),
    Workload("unknown-key", "Refusal: unknown key", "GET", _PATH, "unknown", 401),
)
