"""An upstream's answer on its way through the ASGI door: what came and was not taken yet, bounded by back-pressure."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import Reason
from gateway.ports import UpstreamExchange

READ_AHEAD_LIMIT_BYTES: Final = 256 * 1024
"""Bytes held for a client that does not take them; beyond it the upstream is not read."""


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer, or no whole one. `reason` None: the client left, or broke its own body off."""

    reason: Reason | None
    detail: str = ""
    retriable: bool = False


class AnswerQueue:
    """A `ResponseSink` for one attempt, read by one coroutine."""

    __slots__ = ("_chunks", "_held", "_is_paused", "_wake", "_writable", "exchange", "facts", "failure", "has_ended")

    def __init__(self) -> None:
        self.facts: ResponseFacts | None = None
        self.failure: Failure | None = None
        self.has_ended = False
        self.exchange: UpstreamExchange | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._is_paused = False
        self._wake: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.has_ended or self.failure is not None

    async def started(self) -> None:
        """Returns when there are facts, or a failure."""
        while self.facts is None and self.failure is None:
            await self._something()

    async def take(self) -> bytes:
        """What has come since the last call, at least one byte unless the answer is over."""
        while not self._chunks and not self.is_over:
            await self._something()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._held = [], 0
        if self._is_paused and self.exchange is not None:
            self._is_paused = False
            self.exchange.resume()
        return data

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

    async def _something(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
