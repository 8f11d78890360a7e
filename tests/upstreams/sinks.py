"""Who hears an answer in these tests."""

from __future__ import annotations

import asyncio

from gateway.core.outgoing import ResponseFacts
from gateway.core.reasons import Reason


class Hearing:
    """Notes every call in order; `ended` is set with the last one."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.facts: ResponseFacts | None = None
        self.body = b""
        self.failure: tuple[Reason, bool] | None = None
        self.ended = asyncio.Event()

    def response_started(self, facts: ResponseFacts, data: bytes) -> None:
        self.calls.append("started")
        self.facts = facts
        self.body += data

    def response_data(self, data: bytes) -> None:
        self.body += data

    def response_ended(self) -> None:
        self.calls.append("ended")
        self.ended.set()

    def response_failed(self, reason: Reason, detail: str, *, retriable: bool) -> None:
        assert detail
        self.calls.append("failed")
        self.failure = (reason, retriable)
        self.ended.set()

    def request_paused(self) -> None:
        self.calls.append("paused")

    def request_resumed(self) -> None:
        self.calls.append("resumed")
