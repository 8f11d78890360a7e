"""Workers as their supervisor sees them: when the next one starts, and how connections are shared out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.assembly.acceptor import GONE, Acceptor, Loads
from gateway.assembly.crew import CrashLoop


def test_workers_that_end_now_and_then_are_replaced_at_once() -> None:
    crashes = CrashLoop()

    assert [0.0] * 20 == [crashes.pause_after(3.0 * number) for number in range(20)]


def test_too_many_ends_make_pauses_that_double_and_quiet_ends_them() -> None:
    crashes = CrashLoop()
    now = 100.0
    pauses = []
    for _ in range(13):
        pauses.append(crashes.pause_after(now))
        now += pauses[-1] + 1.5

    assert pauses == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert crashes.pause_after(now + 60.0) == 0.0


class Counting(asyncio.Protocol):
    """Counts itself among the open."""

    def __init__(self, into: set[Counting]) -> None:
        self._into = into

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._into.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._into.discard(self)


@pytest.fixture
def loads() -> Iterator[Loads]:
    made = Loads.of(2)
    yield made
    made.close()


async def until_open(open_now: set[Counting], count: int) -> None:
    async with asyncio.timeout(10):
        while len(open_now) != count:
            await asyncio.sleep(0.005)


async def test_a_worker_with_more_connections_waits_for_the_others_and_then_takes_them_itself(loads: Loads) -> None:
    loop = asyncio.get_running_loop()
    open_now: set[Counting] = set()
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        acceptor = Acceptor(listener, lambda: Counting(open_now), open_now, loads, 1, {})
        waits: list[float] = []
        wait = acceptor._wait

        def noted(seconds: float) -> None:
            waits.append(seconds)
            wait(seconds)

        acceptor._wait = noted  # type: ignore[method-assign]

        async def connect() -> None:
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())

        for count in range(1, 5):  # nobody else is there
            await connect()
            await until_open(open_now, count)
        assert waits == []

        loads.show(2, 0)
        await connect()
        await until_open(open_now, 5)
        assert waits

        waits.clear()
        loads.show(2, 4)
        await connect()
        await until_open(open_now, 6)
        assert waits == []

        acceptor.close()
        await acceptor.wait_closed()
        assert loads.least() == 4
        loads.show(2, GONE)
        assert loads.least() == GONE
        await connect()
        await asyncio.sleep(0)
        assert len(open_now) == 6
        for client in open_now:
            client.transport.close()
    await until_open(open_now, 0)
