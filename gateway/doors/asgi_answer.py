"""An upstream's answer on its way through the ASGI door: what came and was not taken yet, bounded by back-pressure."""

from __future__ import annotations

import asyncio
from typing import Final, final

from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import Reason, Verdict
from gateway.ports import UpstreamExchange

READ_AHEAD_LIMIT_BYTES: Final = 256 * 1024
"""Bytes held for a client that does not take them; beyond it the upstream is not read."""


@final
class Failure:
    """Why there is no answer, or no whole one. `reason` None: the client left, or broke its own body off."""

    __slots__ = ("detail", "reason", "retriable", "verdict")

    reason: Final[Reason | None]
    detail: Final[str]
    retriable: Final[bool]
    verdict: Final[Verdict]

    def __init__(
        self,
        reason: Reason | None,
        detail: str = "",
        retriable: bool = False,
        verdict: Verdict = Verdict.UPSTREAM_FAILED,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.retriable = retriable
        self.verdict = verdict


@final
class AnswerQueue:
    """A `ResponseSink` for one attempt, read by one coroutine."""

    __slots__ = (
        "_chunks",
        "_held",
        "_is_paused",
        "_loop",
        "_wake",
        "_writable",
        "exchange",
        "facts",
        "failure",
        "has_ended",
    )

    def __init__(self, exchange: UpstreamExchange, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.facts: ResponseFacts | None = None
        self.failure: Failure | None = None
        self.has_ended = False
        self.exchange: UpstreamExchange | None = exchange
        self._chunks: list[bytes] = []
        self._held = 0
        self._is_paused = False
        self._wake: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    @property
    def has_started(self) -> bool:
        """There are facts, or a failure."""
        return self.facts is not None or self.failure is not None

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.has_ended or self.failure is not None

    @property
    def has_more(self) -> bool:
        """`take` has something to say."""
        return bool(self._chunks) or self.is_over

    def coming(self) -> asyncio.Future[None]:
        """Done when something has come; asked anew each time."""
        self._wake = wake = self._loop.create_future()
        return wake

    def take(self) -> bytes:
        """What has come since the last call, at least one byte unless the answer is over."""
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._held = 0
        if self._is_paused and self.exchange is not None:
            self._is_paused = False
            self.exchange.resume()
        return data

    @property
    def is_full(self) -> bool:
        """The upstream takes no more of the request's body for now."""
        return self._writable is not None

    async def writable(self) -> None:
        """Returns when the upstream takes more of the request's body."""
        if self._writable is not None:
            await self._writable.wait()

    def give_up(self, failure: Failure) -> None:
        """The request ends from our side: the upstream's connection is not used again."""
        if not self.is_over:
            self.failure = failure
            self.abandon()
            self._woken()

    def abandon(self) -> None:
        """Lets go of the upstream, if it is still held."""
        if self.exchange is not None:
            self.exchange.abandon()
            self.exchange = None

    # -- ResponseSink

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        self.facts = facts
        if data:
            self.response_data(data)
        else:
            self._woken()

    def response_data(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        if self._held > READ_AHEAD_LIMIT_BYTES and not self._is_paused and self.exchange is not None:
            self._is_paused = True
            self.exchange.pause()
        self._woken()

    def response_ended(self) -> None:
        self.has_ended = True
        self.exchange = None
        self._woken()

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        self.failure = Failure(reason, detail, retriable)
        self.exchange = None
        self._woken()

    def request_paused(self) -> None:
        self._writable = asyncio.Event()

    def request_resumed(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _woken(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)
