"""The line behind the cap: first come first served, bounded in length and time, left by who leaves (K14, R39)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.reasons import Reason
from gateway.ports import UpstreamFailed
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.pool import EndpointPool
from tests.upstreams.scripted import SILENCE, World, heard, until


async def full(world: World, count: int = 1, **options: Any) -> tuple[EndpointPool, list[UpstreamConnection]]:
    """A pool whose connections are all in use, and these."""
    (server,) = await world.servers_of(1)
    (pool,) = world.upstream(server, max_connections=count, **options).pools
    held = [await pool.connect() for _ in range(count)]
    return pool, held


async def waiting(pool: EndpointPool, count: int) -> list[asyncio.Task[UpstreamConnection]]:
    """Requests in line."""
    before = len(pool._line.waiting)
    tasks = [asyncio.ensure_future(pool.connect()) for _ in range(count)]
    await until(lambda: len(pool._line.waiting) == before + count)
    return tasks


async def test_a_connection_that_is_given_back_goes_to_who_waits_longest(world: World) -> None:
    pool, (held,) = await full(world)
    first, second, third = await waiting(pool, 3)

    await heard(held)
    taken = await first
    assert taken is held
    assert None is pool.take()
    assert not second.done()
    await heard(taken)
    assert held is await second
    await heard(await second)
    assert held is await third

    assert 1 == pool.open_count
    third.result().abandon()


async def test_the_place_of_a_connection_that_closed_goes_to_who_waits_longest(world: World) -> None:
    pool, (held,) = await full(world)
    first, second = await waiting(pool, 2)

    held.abandon()
    opened = await first

    assert opened is not held
    assert not second.done()
    assert 1 == pool.open_count
    opened.abandon()
    (await second).abandon()


async def test_who_comes_later_does_not_get_the_place_that_is_kept_for_another(world: World) -> None:
    pool, (held,) = await full(world)
    (first,) = await waiting(pool, 1)
    held.abandon()
    await until(lambda: pool._promised == 1 or first.done())

    later = asyncio.ensure_future(pool.connect())
    opened = await first

    assert not later.done()
    await heard(opened)
    assert opened is await later
    opened.abandon()


async def test_a_line_that_is_full_turns_away_at_once(world: World) -> None:
    pool, (held,) = await full(world, queue=2)
    tasks = await waiting(pool, 2)

    with pytest.raises(UpstreamFailed) as refused:
        await pool.connect()

    assert Reason.OVERLOADED is refused.value.reason
    assert 1 == pool._line.turned_away
    for task in tasks:
        task.cancel()
    held.abandon()


async def test_who_waits_too_long_is_turned_away_and_those_behind_go_on_waiting(world: World) -> None:
    pool, (held,) = await full(world, queue_timeout=1.0)
    (first,) = await waiting(pool, 1)
    world.clock.advance(0.6)
    (second,) = await waiting(pool, 1)
    world.clock.advance(0.5)
    pool._line.sweep()

    with pytest.raises(UpstreamFailed) as refused:
        await first
    assert Reason.OVERLOADED is refused.value.reason
    assert (1, 1) == (pool._line.turned_away, len(pool._line.waiting))
    await heard(held)
    assert held is await second
    held.abandon()


async def test_who_leaves_gives_up_its_place_in_the_line(world: World) -> None:
    pool, (held,) = await full(world)
    first, second, third = await waiting(pool, 3)

    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)

    assert 1 == len(pool._line.waiting)
    await heard(held)
    assert held is await third
    held.abandon()


async def test_who_leaves_in_the_moment_of_its_turn_passes_it_on(world: World) -> None:
    """Both before it has heard of its turn, and before the pool has heard that it left."""
    pool, (held,) = await full(world)
    first, second, third = await waiting(pool, 3)

    first.cancel()  # its future is cancelled, and it still stands in line
    pool.give_back(held)
    second.cancel()  # it was just given the connection
    assert held is await third
    await asyncio.gather(first, second, return_exceptions=True)

    assert 0 == len(pool._line.waiting)
    held.abandon()
    await until(lambda: pool.open_count == 0)
    assert 0 == pool._promised == pool.load()


async def test_who_leaves_with_a_place_of_its_own_passes_that_on(world: World) -> None:
    pool, (held,) = await full(world)
    first, second = await waiting(pool, 2)

    held.abandon()
    await until(lambda: pool._promised == 1)
    first.cancel()
    opened = await second

    assert opened.is_open
    assert 0 == pool._promised
    opened.abandon()


async def test_a_connection_that_breaks_in_the_moment_of_its_turn_is_not_handed_out(world: World) -> None:
    pool, (held,) = await full(world)
    first, second = await waiting(pool, 2)

    pool.give_back(held)
    held.close_idle()
    opened = await first

    assert opened is not held
    assert opened.is_open
    assert not second.done()
    opened.abandon()
    (await second).abandon()


async def test_a_connection_with_a_byte_that_nobody_asked_for_is_not_handed_out(world: World) -> None:
    # A42
    pool, (held,) = await full(world)
    (first,) = await waiting(pool, 1)
    world.servers[0].writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")

    pool.give_back(held)
    opened = await first

    assert opened is not held
    assert not held.is_open
    opened.abandon()


async def test_a_byte_that_comes_between_the_turn_and_its_taking_costs_the_connection(world: World) -> None:
    # A42: the loop has not read it yet, so nothing but a look at the socket tells.
    pool, (held,) = await full(world)
    (first,) = await waiting(pool, 1)

    pool.give_back(held)
    world.servers[0].writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
    opened = await first

    assert opened is not held
    opened.abandon()


async def test_a_place_that_was_free_before_its_turn_was_taken_is_not_waited_for(world: World) -> None:
    pool, (held,) = await full(world)
    (first,) = await waiting(pool, 1)

    pool.give_back(held)
    held.connection_lost(None)  # nobody stands in line now, so nobody is called
    async with asyncio.timeout(5):
        opened = await first

    assert opened is not held
    held.abandon()
    opened.abandon()


async def test_who_left_in_the_moment_that_its_time_is_up_is_not_called(world: World) -> None:
    pool, (held,) = await full(world)
    first, second = await waiting(pool, 2)

    first.cancel()
    world.clock.advance(2.0)
    pool._line.sweep()

    with pytest.raises(UpstreamFailed):
        await second
    assert 1 == pool._line.turned_away
    held.abandon()


async def test_who_finds_the_cap_reached_and_a_connection_idle_takes_that_one(world: World) -> None:
    pool, (held,) = await full(world)
    connecting = pool.connect()
    await heard(held)

    assert held is await connecting
    held.abandon()


async def test_a_connect_that_fails_leaves_its_place_to_the_next(world: World) -> None:
    (server,) = await world.servers_of(1)
    (pool,) = world.upstream(server, max_connections=1).pools
    await server.stop()

    answers = await asyncio.gather(*(pool.connect() for _ in range(20)), return_exceptions=True)

    assert {Reason.UPSTREAM_UNREACHABLE} == {fault.reason for fault in answers if isinstance(fault, UpstreamFailed)}
    assert 20 == len(answers)
    assert 0 == pool.load() == len(pool._line.waiting) == pool._promised


async def test_an_endpoint_that_is_left_out_calls_nobody_until_it_is_back(world: World) -> None:
    upstream = world.upstream(*await world.servers_of(2), max_connections=1, check_path="/")
    bad, good = upstream.pools
    held = [await bad.connect(), await good.connect()]
    (first,) = await waiting(good, 1)
    for _ in range(2):
        bad.checked(False)

    held[0].abandon()
    await until(lambda: bad.open_count == 0)
    assert 1 == len(upstream.line.waiting)
    for _ in range(2):
        bad.checked(True)
    opened = await first

    assert opened.pool is bad
    held[1].abandon()
    opened.abandon()


async def test_where_all_are_left_out_any_of_them_calls(world: World) -> None:
    pool, (held,) = await full(world)
    (first,) = await waiting(pool, 1)
    for _ in range(2):
        pool.checked(False)

    held.abandon()
    async with asyncio.timeout(5):
        (await first).abandon()


async def test_a_storm_of_requests_that_are_given_up_leaves_nothing_behind(world: World) -> None:
    # R39
    (server,) = await world.servers_of(1)
    server.answer = SILENCE
    (pool,) = world.upstream(server, max_connections=4, queue=64).pools
    for round_ in range(40):
        tasks = [asyncio.ensure_future(pool.connect()) for _ in range(25)]
        for _ in range(round_ % 12):
            await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if task.done() and not task.exception():
                task.result().abandon()
            elif (number + round_) % 3:
                task.cancel()
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(end, UpstreamConnection):
                end.abandon()

    await until(lambda: pool.open_count == 0)
    assert 0 == pool.load() == pool._promised == pool._connecting
    server.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    (await pool.connect()).abandon()
