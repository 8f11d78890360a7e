"""Health checks: two bad ones leave an endpoint out, two good ones bring it back, and no client is part of it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstreams.balancer import BalancedUpstream
from tests.upstreams.scripted import CLOSE, OK, RESET, SILENCE, World, ask, until


def status(number: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % number


async def check(world: World, upstream: BalancedUpstream, times: int = 1) -> None:
    """So many checks of every endpoint, each ended."""
    for _ in range(times):
        upstream.sweep()
        tasks = [checks._task for checks in upstream._checks]  # type: ignore[attr-defined]
        await asyncio.gather(*tasks)
        world.clock.advance(5.0)


async def test_without_a_path_nobody_is_checked(world: World) -> None:
    (server,) = await world.servers_of(1)
    upstream = world.upstream(server)

    upstream.sweep()
    world.clock.advance(100.0)
    upstream.sweep()

    assert [] == upstream._checks
    assert 0 == server.accepted


async def test_a_check_is_a_get_of_the_path_on_a_connection_of_its_own(world: World) -> None:
    (server,) = await world.servers_of(1)
    upstream = world.upstream(server, check_path="/health?deep=1", host="rest.test")

    await check(world, upstream, 3)

    expected = (
        b"GET /health?deep=1 HTTP/1.1\r\nhost: rest.test\r\nuser-agent: bearergate-health\r\nconnection: close\r\n\r\n"
    )
    assert [expected] * 3 == server.heads
    assert 3 == server.accepted
    assert (0, 0) == (upstream.open_count, upstream.budget.requests)
    assert {} == dict(upstream.pools[0].connects)


@pytest.mark.parametrize("answer", [status(500), status(404), status(103) + CLOSE, CLOSE, RESET, b"no http\r\n\r\n"])
async def test_an_endpoint_that_fails_its_checks_is_left_out_until_it_passes_them(
    world: World, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bad, good = await world.servers_of(2)
    upstream = world.upstream(bad, good, check_path="/health")
    bad.answer = answer

    await check(world, upstream)
    assert not upstream.pools[0].health.is_out
    await check(world, upstream)
    assert [True, False] == [pool.health.is_out for pool in upstream.pools]
    bad.heads.clear()
    for _ in range(5):
        await ask(upstream)
    assert [] == bad.heads
    bad.answer = OK
    await check(world, upstream, 2)

    assert not upstream.pools[0].health.is_out
    assert ["fails its health checks", "passes its health checks again"] == [
        record.getMessage().partition("`rest` ")[2] for record in caplog.records
    ]


@pytest.mark.parametrize("answer", [status(200), status(204), status(302), OK])
async def test_success_and_redirects_are_good(world: World, answer: bytes) -> None:
    (server,) = await world.servers_of(1)
    server.answer = answer
    upstream = world.upstream(server, check_path="/")

    await check(world, upstream, 3)

    assert not upstream.pools[0].health.is_out


async def test_a_check_that_takes_too_long_has_failed(world: World) -> None:
    (server,) = await world.servers_of(1)
    server.answer = SILENCE
    upstream = world.upstream(server, check_path="/", check_timeout=0.01)

    await check(world, upstream, 2)

    assert upstream.pools[0].health.is_out
    await until(lambda: all(writer.transport.is_closing() for writer in server.writers))


async def test_nobody_listening_has_failed(world: World) -> None:
    (server,) = await world.servers_of(1)
    upstream = world.upstream(server, check_path="/")
    await server.stop()

    await check(world, upstream, 2)

    assert upstream.pools[0].health.is_out


async def test_one_check_at_a_time_and_none_before_its_time(world: World) -> None:
    (server,) = await world.servers_of(1)
    server.answer = SILENCE
    upstream = world.upstream(server, check_path="/", check_interval=5.0)

    upstream.sweep()
    await until(lambda: len(server.heads) == 1)
    for _ in range(10):
        world.clock.advance(5.0)
        upstream.sweep()
        await asyncio.sleep(0)

    assert 1 == server.accepted


async def test_an_upstream_that_is_closed_checks_no_more(world: World) -> None:
    (server,) = await world.servers_of(1)
    server.answer = SILENCE
    upstream = world.upstream(server, check_path="/")
    upstream.sweep()
    await until(lambda: len(server.heads) == 1)

    upstream.close()

    task: asyncio.Task[None] = upstream._checks[0]._task  # type: ignore[attr-defined]
    await asyncio.wait([task])
    assert task.cancelled()
