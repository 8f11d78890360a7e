"""The example upstreams as a child process: started, told what to be, waited for, ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from gateway.demo.child import Order, Ports

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0


class UpstreamsFailed(Exception):
    """The example upstreams did not start. What they said of it is on standard error."""


@asynccontextmanager
async def running_upstreams(order: Order) -> AsyncIterator[Ports]:
    """Both example upstreams, listening; ended with the block. Raises: UpstreamsFailed"""
    # A session of its own: Ctrl-C in a terminal goes to the gateway first, which may still have requests under way.
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.demo.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield await _ports(child, order)
    finally:
        await _end(child)


async def _ports(child: asyncio.subprocess.Process, order: Order) -> Ports:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(msgspec.json.encode(order) + b"\n")
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = await child.stdout.readline()
    except TimeoutError as error:
        raise UpstreamsFailed(f"the example upstreams said nothing for {_START_SECONDS:.0f} s") from error

    try:
        return msgspec.json.decode(line, type=Ports)
    except msgspec.DecodeError as error:
        raise UpstreamsFailed("the example upstreams ended at once") from error


async def _end(child: asyncio.subprocess.Process) -> None:
    assert child.stdin is not None
    # The end of its standard input is what it waits for.
    child.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
