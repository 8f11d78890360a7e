"""A connection to an upstream within what is left of a request's time."""

from __future__ import annotations

import asyncio

from gateway.core.reasons import Reason
from gateway.ports import Upstream, UpstreamExchange, UpstreamFailed


async def connected_by(upstream: Upstream, instead_of: UpstreamExchange | None, seconds: float) -> UpstreamExchange:
    """As `Upstream.connect`, the wait in its line included, in `seconds` at most (R38). Raises: UpstreamFailed"""
    try:
        async with asyncio.timeout(seconds):
            return await upstream.connect(instead_of)
    except TimeoutError as fault:
        detail = "no connection within the time that the request may take"
        raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, detail) from fault
