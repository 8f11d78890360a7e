"""What the gateway asks of the world: keys, clocks, a place to record outcomes. Implementations stand elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, final

from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.outgoing import ResponseFacts
from gateway.core.principal import KeyRecord, UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict


class StoreUnavailable(Exception):
    """The key store could not be asked, or did not answer in time. Never means that a key is unknown."""


class Clock(Protocol):
    """Two clocks: the wall for expiry, the monotonic for TTLs and time-outs."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One row of the change feed: something about `key_id` (or about every key of `app_id`) has changed."""

    position: int
    app_id: AppId
    key_id: KeyId | None
    happened_at: float
    """When the store wrote it: seconds since the epoch, UTC."""
    concerns_tokens: bool = False
    """User tokens were revoked, and no key has changed."""


@dataclass(frozen=True, slots=True)
class TokenRevocation:
    """User tokens that count no more: one, by its id, or those of a user or an App that were issued too early."""

    position: int
    """Of its line in the history."""
    issuer: str
    """The `iss` of the tokens; empty for every issuer's."""
    app_id: AppId
    """Empty where it is not by App."""
    user_id: str
    """Empty where it is not by user."""
    token_id: str
    """The one token's `jti`; empty where it is not by token."""
    not_before: float
    """Tokens issued before this are dead, seconds since the epoch, UTC; of no meaning where there is a `token_id`."""
    expires_at: float
    """No token that it concerns lives longer than this: then it may be forgotten."""


REVOCATION_GRACE_SECONDS: Final = 86_400.0
"""A revocation is kept for so much longer than it says: tokens live on for the leeway, and clocks are wrong (F36)."""


class TokenStore(Protocol):
    """The truth about Apps and revoked user tokens, as the data plane reads it."""

    async def app_states(self) -> dict[AppId, bool]:
        """Every App, and whether it is active. Raises: StoreUnavailable"""
        ...

    async def token_revocations(self, position: int, now: float) -> list[TokenRevocation]:
        """Those after `position` that have not expired at `now`, oldest first, at most 1,000.

        Raises: StoreUnavailable
        """
        ...


class KeyStore(Protocol):
    """The truth about keys, as the data plane reads it."""

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record with the credential's key id (by digest for legacy keys), or None if there is none.

        The caller compares digests: a record may come back for a wrong secret.

        Raises: StoreUnavailable
        """
        ...

    async def position(self) -> int:
        """The newest position of the change feed; 0 when nothing has happened yet. Raises: StoreUnavailable"""
        ...

    async def changes_since(self, position: int) -> list[KeyChange]:
        """The changes after `position`, oldest first, at most 1,000. Raises: StoreUnavailable"""
        ...


class KeyFinder(Protocol):
    """Key records, from memory where it can. The judge awaits only on a miss."""

    def cached(self, digest: KeyDigest) -> KeyRecord | Missing | None:
        """The record (None: known to be unknown) if memory may still answer, else `MISSING`."""
        ...

    async def find(self, credential: Credential) -> KeyRecord | None:
        """The record from the store; one store call however many wait for the same digest.

        Raises: StoreUnavailable
        """
        ...


class UserFinder(Protocol):
    """User tokens, verified: from memory where it can. The judge awaits only on a miss."""

    def cached(self, credential: Credential) -> UserRecord | Refusal | CannotDecide | Missing:
        """What is known of the token, asked anew whether it was revoked since; `MISSING` when memory cannot answer."""
        ...

    async def find(self, credential: Credential) -> UserRecord | Refusal | CannotDecide:
        """The token verified by its issuer's keys, or by asking its issuer. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Missing:
    """Memory cannot answer: ask the store."""


MISSING = Missing()


@final
class Outcome:
    """How one request ended, said once by the door that served it. Nothing in it is a token or a query string."""

    __slots__ = (
        "app_id",
        "bytes_in",
        "bytes_out",
        "detail",
        "duration_seconds",
        "key_id",
        "kind",
        "method",
        "path",
        "peer",
        "reason",
        "ref",
        "route",
        "status",
        "upstream",
        "upstream_seconds",
        "verdict",
    )

    ref: Final[str]
    verdict: Final[Verdict]
    reason: Final[Reason | None]
    """None when the request was allowed and answered by the upstream."""
    status: Final[int]
    """What the client was sent; 0 when nothing could be sent."""
    method: Final[str]
    path: Final[str]
    """The canonical path with token-shaped segments masked; empty when the target was refused."""
    route: Final[str]
    """Name of the route, or `unmatched`."""
    upstream: Final[str]
    """Name of the upstream, or empty when nothing was forwarded."""
    kind: Final[CredentialKind | None]
    key_id: Final[str]
    app_id: Final[str]
    peer: Final[str]
    duration_seconds: Final[float]
    upstream_seconds: Final[float]
    """From the forwarded head to the last byte of the answer; 0 when nothing was forwarded."""
    bytes_in: Final[int]
    bytes_out: Final[int]
    detail: Final[str]

    def __init__(
        self,
        ref: str,
        verdict: Verdict,
        reason: Reason | None,
        status: int,
        method: str,
        path: str,
        route: str,
        upstream: str,
        kind: CredentialKind | None,
        key_id: str,
        app_id: str,
        peer: str,
        duration_seconds: float,
        upstream_seconds: float,
        bytes_in: int,
        bytes_out: int,
        detail: str = "",
    ) -> None:
        self.ref = ref
        self.verdict = verdict
        self.reason = reason
        self.status = status
        self.method = method
        self.path = path
        self.route = route
        self.upstream = upstream
        self.kind = kind
        self.key_id = key_id
        self.app_id = app_id
        self.peer = peer
        self.duration_seconds = duration_seconds
        self.upstream_seconds = upstream_seconds
        self.bytes_in = bytes_in
        self.bytes_out = bytes_out
        self.detail = detail


class Recorder(Protocol):
    """Counts and logs outcomes. Never raises and never waits."""

    def record(self, outcome: Outcome) -> None: ...


class UpstreamFailed(Exception):
    """The upstream could not be reached. `reason` is one of the `UPSTREAM_` reasons or `OVERLOADED`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ResponseSink(Protocol):
    """Who hears an upstream's answer: started once, then data, then ended or failed, and nothing after that."""

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        """The head, with what came of the body in the same packet: most answers are written with one call."""
        ...

    def response_data(self, data: bytes) -> None: ...

    def response_ended(self) -> None: ...

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        """No answer, or a broken one. `retriable`: a reused connection ended before any byte of an answer (R9)."""
        ...

    def request_paused(self) -> None:
        """The upstream takes no more for now: send no more of the body until `request_resumed`."""
        ...

    def request_resumed(self) -> None: ...


class UpstreamExchange(Protocol):
    """A connection to an upstream, for one request and its answer."""

    def tighten(self, ends_by: float, response_head: float, response_idle: float) -> None:
        """Before `send`: the answer has to be whole by then (monotonic seconds), and its parts may take this long.

        0 of a part is as configured.
        """
        ...

    def send(self, data: bytes, sink: ResponseSink, *, answers_head: bool, ends: bool) -> None:
        """Sends the head, with the body where it is known. `ends`: nothing of the request follows."""
        ...

    def send_body(self, data: bytes, *, is_chunked: bool) -> None: ...

    def end_body(self, *, is_chunked: bool) -> None: ...

    def await_switch(self) -> None:
        """After `send` of a request for a WebSocket: a 101 may answer it. It starts an answer like any other."""
        ...

    def tunnel_to(self, sink: ResponseSink) -> None:
        """After a 101: `sink` hears what comes, which may take any time; `send_body` sends on."""
        ...

    def pause(self) -> None:
        """Reads no more of the answer for now."""
        ...

    def resume(self) -> None: ...

    def abandon(self) -> None:
        """The sink is gone: it hears nothing more, and the connection is not used again."""
        ...


class Upstream(Protocol):
    """One upstream, as configuration locates it."""

    @property
    def name(self) -> str: ...

    @property
    def authority(self) -> bytes:
        """The `Host` it is sent."""
        ...

    def take(self) -> UpstreamExchange | None:
        """A connection that is open and clean, or None: then `connect`."""
        ...

    async def connect(self, instead_of: UpstreamExchange | None = None) -> UpstreamExchange:
        """A new connection. `instead_of` is the one that failed: then to another endpoint, where there is one.

        Raises: UpstreamFailed
        """
        ...

    def may_retry(self) -> bool:
        """Whether one more attempt at a request is within the budget of retries. If so, it is counted."""
        ...
