"""The pool: newest idle connection first, never a suspect one, and never more than the cap."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from gateway.core.reasons import Reason
from gateway.ports import Upstream, UpstreamFailed
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.opening import open_upstream
from gateway.upstreams.options import UpstreamOptions
from gateway.upstreams.pool import EndpointPool
from gateway.wire.limits import Timeouts
from tests.support.manual_clock import ManualClock
from tests.upstreams.sinks import Hearing

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """An upstream on the loopback that answers every head with the same bytes, and counts its connections."""

    def __init__(self) -> None:
        self.answer = OK
        self.connections: list[asyncio.StreamWriter] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    listener = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    serving.port = listener.sockets[0].getsockname()[1]
    yield serving
    listener.close()
    for writer in serving.connections:
        writer.transport.abort()
    await listener.wait_closed()


Pools = Callable[..., EndpointPool]
NO_LINE = UpstreamOptions(queue=0)


@pytest.fixture
async def pool_of(server: Server) -> AsyncIterator[Pools]:
    made: list[EndpointPool] = []

    def make(**options: Any) -> EndpointPool:
        (pool,) = open_upstream(
            "rest", [f"http://127.0.0.1:{server.port}"], now=ManualClock().monotonic, **options
        ).pools
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()
        await until(lambda pool=pool: pool.open_count == 0)  # type: ignore[misc]


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop turn until `holds`; no time passes but what the loop needs."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


async def exchange(connection: UpstreamConnection) -> Hearing:
    sink = Hearing()
    connection.send(GET, sink, answers_head=False, ends=True)
    async with asyncio.timeout(5):
        await sink.ended.wait()
    return sink


def refusing_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# -- where the upstream is


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:9000", b"127.0.0.1:9000"),
        ("http://rest.internal", b"rest.internal"),
        ("http://rest.internal/", b"rest.internal"),
        ("https://rest.internal:8443", b"rest.internal:8443"),
        ("http://[::1]:9000", b"[::1]:9000"),
    ],
)
def test_the_authority_is_that_of_the_url(url: str, authority: bytes) -> None:
    upstream: Upstream = open_upstream("rest", [url], now=ManualClock().monotonic)

    assert ("rest", authority) == (upstream.name, upstream.authority)


@pytest.mark.parametrize(
    "url",
    # J13
    [
        "",
        "rest",
        "rest:9000",
        "file:///etc/passwd",
        "ftp://a",
        "http://",
        "http:///x",
        "http://a/path",
        "http://a?b",
        "http://a#b",
        "http://user@a",
        "http://user:secret@a",
        "http://:9000",
        "unix:/run/x",
        "//a",
    ],
)
def test_what_is_not_a_plain_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="upstream `rest`"):
        open_upstream("rest", [url], now=ManualClock().monotonic)


# -- connections


async def test_a_connection_serves_again_after_a_clean_answer(server: Server, pool_of: Pools) -> None:
    pool = pool_of()
    assert pool.take() is None

    for _ in range(3):
        sink = await exchange(pool.take() or await pool.connect())
        assert (["started", "ended"], b"ok") == (sink.calls, sink.body)

    assert 1 == len(server.connections)
    assert (1, 1, {"opened": 1}) == (pool.idle_count, pool.open_count, dict(pool.connects))


async def test_the_newest_idle_connection_is_taken_first(pool_of: Pools) -> None:
    pool = pool_of()
    older, newer = await pool.connect(), await pool.connect()
    await exchange(older)
    await exchange(newer)

    assert [newer, older, None] == [pool.take(), pool.take(), pool.take()]
    for connection in (older, newer):
        connection.abandon()


async def test_poison_behind_an_answer_never_reaches_the_next_request(server: Server, pool_of: Pools) -> None:
    # A41
    pool = pool_of()
    server.answer = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
    first = await exchange(await pool.connect())
    assert pool.take() is None
    server.answer = OK
    second = await exchange(await pool.connect())

    assert (b"ok", b"ok") == (first.body, second.body)
    assert 2 == len(server.connections)


async def test_poison_on_an_idle_connection_is_found_before_it_is_used(server: Server, pool_of: Pools) -> None:
    # A42
    pool = pool_of()
    await exchange(await pool.connect())
    assert 1 == pool.idle_count

    server.connections[0].write(OK)
    await until(lambda: pool.idle_count == 0)

    assert pool.take() is None


async def test_a_connection_with_a_byte_to_read_is_not_given_out_before_the_loop_has_read_it(
    server: Server, pool_of: Pools
) -> None:
    # A41, A42: the race that no callback can win.
    pool = pool_of()
    await exchange(await pool.connect())
    assert 1 == pool.idle_count

    server.connections[0].write(OK)

    assert pool.take() is None
    await until(lambda: pool.open_count == 0)


async def test_an_idle_connection_that_the_upstream_closes_leaves_the_pool(server: Server, pool_of: Pools) -> None:
    pool = pool_of()
    await exchange(await pool.connect())

    server.connections[0].close()
    await until(lambda: pool.open_count == 0)

    assert 0 == pool.idle_count
    assert pool.take() is None


async def test_no_more_connections_than_the_cap_are_opened(pool_of: Pools) -> None:
    # K14
    pool = pool_of(max_connections=2, options=NO_LINE)
    held = [await pool.connect(), await pool.connect()]

    with pytest.raises(UpstreamFailed) as refused:
        await pool.connect()

    assert Reason.OVERLOADED is refused.value.reason
    held.pop().abandon()
    await until(lambda: pool.open_count == 1)
    held.append(await pool.connect())
    for connection in held:
        connection.abandon()


async def test_connections_that_are_being_opened_count_too(pool_of: Pools) -> None:
    pool = pool_of(max_connections=3, options=NO_LINE)

    tried: list[Awaitable[UpstreamConnection]] = [pool.connect() for _ in range(10)]
    answers = await asyncio.gather(*tried, return_exceptions=True)

    opened = [answer for answer in answers if isinstance(answer, UpstreamConnection)]
    assert 3 == len(opened) == pool.open_count
    assert {Reason.OVERLOADED} == {answer.reason for answer in answers if isinstance(answer, UpstreamFailed)}
    for connection in opened:
        connection.abandon()


async def test_only_so_many_idle_connections_are_kept(pool_of: Pools) -> None:
    pool = pool_of(max_idle=1)
    both = [await pool.connect(), await pool.connect()]

    for connection in both:
        await exchange(connection)

    await until(lambda: pool.open_count == 1)
    assert 1 == pool.idle_count


async def test_an_upstream_that_is_not_there_is_unreachable() -> None:
    (pool,) = open_upstream("rest", [f"http://127.0.0.1:{refusing_port()}"], now=ManualClock().monotonic).pools

    with pytest.raises(UpstreamFailed) as failed:
        await pool.connect()

    assert Reason.UPSTREAM_UNREACHABLE is failed.value.reason
    assert "127.0.0.1" not in failed.value.detail
    assert {"failed": 1} == dict(pool.connects)


async def test_an_upstream_that_does_not_answer_the_knock_is_a_timeout(pool_of: Pools) -> None:
    # K15: a time-out of nothing has passed before the first answer.
    pool = pool_of(timeouts=Timeouts(connect=0.0))

    with pytest.raises(UpstreamFailed) as failed:
        await pool.connect()

    assert Reason.UPSTREAM_TIMEOUT is failed.value.reason
    assert {"timeout": 1} == dict(pool.connects)
    assert 0 == pool.open_count


async def test_a_connect_that_is_cancelled_leaves_the_pool_as_it_was(pool_of: Pools) -> None:
    pool = pool_of(max_connections=1)
    task = asyncio.ensure_future(pool.connect())
    await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await until(lambda: pool.open_count == 0)
    connection = await pool.connect()
    connection.abandon()


async def test_closing_the_pool_closes_what_is_idle_and_lets_the_rest_end(server: Server, pool_of: Pools) -> None:
    pool = pool_of()
    idle, busy = await pool.connect(), await pool.connect()
    await exchange(idle)

    pool.close()

    await until(lambda: pool.open_count == 1)
    assert 0 == pool.idle_count
    sink = await exchange(busy)
    assert ["started", "ended"] == sink.calls


@pytest.mark.parametrize("ticks", range(8))
def test_a_connect_that_is_cancelled_at_any_moment_leaves_no_place_taken(ticks: int) -> None:
    """On uvloop too, which does not tell a protocol of a connection that it closes because of a cancellation."""

    async def story() -> tuple[int, int]:
        async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            (pool,) = open_upstream(
                "rest", [f"http://127.0.0.1:{port}"], now=time.monotonic, max_connections=4, options=NO_LINE
            ).pools
            for _ in range(10):
                connecting = asyncio.ensure_future(pool.connect())
                for _ in range(ticks):
                    await asyncio.sleep(0)
                connecting.cancel()
                (end,) = await asyncio.gather(connecting, return_exceptions=True)
                if not isinstance(end, BaseException):
                    end.close_idle()
                for _ in range(5):
                    await asyncio.sleep(0)
            return pool.open_count, pool.idle_count

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert (0, 0) == runner.run(story())
