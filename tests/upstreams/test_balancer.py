"""Several endpoints: the least busy first, those that fail left out, and a second attempt only where it is safe."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.core.reasons import Reason
from gateway.ports import UpstreamFailed
from gateway.upstreams.balancer import BalancedUpstream
from gateway.upstreams.connection import UpstreamConnection
from gateway.wire.limits import Timeouts
from tests.upstreams.scripted import CLOSE, OK, SILENCE, World, ask, heard, refusing_port, until


def places(upstream: BalancedUpstream, connections: list[UpstreamConnection]) -> Counter[int]:
    """How many of the connections lead to each endpoint."""
    return Counter(upstream.pools.index(connection.pool) for connection in connections)  # type: ignore[arg-type]


# -- the choice


async def test_requests_go_to_the_endpoint_with_the_fewest_under_way(world: World) -> None:
    upstream = world.upstream(*await world.servers_of(3))

    held = [await upstream.connect() for _ in range(9)]

    assert {0: 3, 1: 3, 2: 3} == places(upstream, held)
    of_second = [connection for connection in held if connection.pool is upstream.pools[1]]
    for connection in of_second:
        held.remove(connection)
        await heard(connection)
    taken = [upstream.take() for _ in range(3)]
    assert set(of_second) == set(taken)
    assert [None] == [upstream.take()]


async def test_equals_are_asked_in_turn(world: World) -> None:
    servers = await world.servers_of(3)
    upstream = world.upstream(*servers)

    for _ in range(30):
        await ask(upstream)

    assert [10, 10, 10] == [len(server.heads) for server in servers]
    assert [1, 1, 1] == [server.accepted for server in servers]


async def test_a_slow_endpoint_fills_up_and_takes_nothing_from_the_others(world: World) -> None:
    # K14
    slow, fast = await world.servers_of(2)
    slow.answer = SILENCE
    upstream = world.upstream(slow, fast, max_connections=3)

    waiting = [asyncio.ensure_future(ask(upstream)) for _ in range(40)]
    await until(lambda: sum(task.done() for task in waiting) == 37)

    assert (3, 37) == (len(slow.heads), len(fast.heads))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("urls", [[], ["http://a:1", "http://a:1"], ["http://a:1", "ftp://b"]])
def test_endpoints_that_cannot_be_are_refused(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="upstream `rest`"):
        World().upstream(*urls)


def test_all_endpoints_are_sent_one_host() -> None:
    assert b"a:1" == World().upstream("http://a:1", "http://b:2").authority
    assert b"rest.test" == World().upstream("http://a:1", "http://b:2", host="rest.test").authority


# -- no connection


async def test_who_cannot_be_reached_is_replaced_by_another_because_nothing_was_sent(world: World) -> None:
    # R8
    (server,) = await world.servers_of(1)
    upstream = world.upstream(f"http://127.0.0.1:{refusing_port()}", server, eject_after=0)

    answers = [await ask(upstream) for _ in range(6)]

    assert {b"ok"} == {answer.body for answer in answers}
    assert 6 == len(server.heads)
    assert upstream.budget.made >= 1


async def test_only_one_more_endpoint_is_tried(world: World) -> None:
    # R8
    upstream = world.upstream(*(f"http://127.0.0.1:{refusing_port()}" for _ in range(3)), eject_after=0)

    with pytest.raises(UpstreamFailed) as failed:
        await upstream.connect()

    assert Reason.UPSTREAM_UNREACHABLE is failed.value.reason
    assert "endpoint" in failed.value.detail
    assert "127.0.0.1" not in failed.value.detail
    assert 2 == sum(pool.connects["failed"] for pool in upstream.pools)


async def test_an_upstream_with_one_endpoint_is_asked_once(world: World) -> None:
    upstream = world.upstream(f"http://127.0.0.1:{refusing_port()}")

    with pytest.raises(UpstreamFailed):
        await upstream.connect()

    assert 1 == upstream.pools[0].connects["failed"]
    assert 0 == upstream.budget.made


async def test_without_a_budget_nobody_else_is_tried(world: World) -> None:
    (server,) = await world.servers_of(1)
    upstream = world.upstream(f"http://127.0.0.1:{refusing_port()}", server, eject_after=0, retry_percent=0.0)

    ends = await asyncio.gather(*(upstream.connect() for _ in range(8)), return_exceptions=True)

    failed = [end for end in ends if isinstance(end, UpstreamFailed)]
    assert failed
    assert len(failed) == upstream.budget.refused


async def test_a_full_endpoint_is_no_reason_to_try_another(world: World) -> None:
    upstream = world.upstream(*await world.servers_of(2), max_connections=1, queue=0)
    held = [await upstream.connect() for _ in range(2)]

    with pytest.raises(UpstreamFailed) as refused:
        await upstream.connect()

    assert Reason.OVERLOADED is refused.value.reason
    assert 0 == upstream.budget.made
    for connection in held:
        connection.abandon()


# -- a connection that was kept too long


async def stale(upstream: BalancedUpstream) -> UpstreamConnection:
    """A connection that has served before, and is about to be found closed."""
    await ask(upstream)
    connection = upstream.take()
    while connection is None:
        await ask(upstream)
        connection = upstream.take()
    return connection


async def test_a_second_attempt_goes_to_another_endpoint(world: World) -> None:
    # R9
    servers = await world.servers_of(2)
    upstream = world.upstream(*servers)
    connection = await stale(upstream)
    for server in servers:
        server.script.append(CLOSE)
    sink = await heard(connection)
    assert (Reason.UPSTREAM_CLOSED, True) == sink.failure

    again = await upstream.connect(connection)

    assert again.pool is not connection.pool
    again.abandon()


async def test_a_second_attempt_goes_to_another_endpoint_also_where_that_is_busier(world: World) -> None:
    # R9
    upstream = world.upstream(*await world.servers_of(2))
    failed = await stale(upstream)
    (other,) = [pool for pool in upstream.pools if pool is not failed.pool]
    busy = [await other.connect() for _ in range(3)]
    failed.abandon()

    again = await upstream.connect(failed)

    assert again.pool is other
    for connection in (*busy, again):
        connection.abandon()


async def test_a_second_attempt_is_the_last_one(world: World) -> None:
    # R9: also where it waits in line, and is given a connection that was used before.
    (server,) = await world.servers_of(1)
    upstream = world.upstream(server, max_connections=1)
    held = await stale(upstream)
    second = asyncio.ensure_future(upstream.connect(held))
    await until(lambda: len(upstream.line.waiting) == 1)
    upstream.pools[0].give_back(held)
    server.script.append(CLOSE)

    sink = await heard(await second)

    assert (Reason.UPSTREAM_CLOSED, False) == sink.failure


async def test_what_was_stale_says_nothing_of_the_endpoint(world: World) -> None:
    servers = await world.servers_of(2)
    upstream = world.upstream(*servers, eject_after=1)
    connection = await stale(upstream)
    for server in servers:
        server.script.append(CLOSE)

    await heard(connection)

    assert [False, False] == [pool.health.is_out for pool in upstream.pools]


# -- a way that breaks


@pytest.mark.parametrize("passed", range(len(OK) + 1))
async def test_an_answer_that_is_cut_anywhere_is_never_whole_and_never_tried_twice(world: World, passed: int) -> None:
    # R9, R10
    (server,) = await world.servers_of(1)
    proxy = await world.proxy_to(server)
    upstream = world.upstream(f"http://127.0.0.1:{proxy.port}", eject_after=0)
    proxy.cut_answers_after = passed

    sink = await ask(upstream)

    if passed == len(OK):
        assert ["started", "ended"] == sink.calls
    else:
        head_passed = passed >= OK.index(b"\r\n\r\n") + 4
        assert (Reason.UPSTREAM_TRUNCATED if head_passed else Reason.UPSTREAM_CLOSED, False) == sink.failure
    assert 1 == len(server.heads)
    await until(lambda: upstream.open_count == 0)


async def test_a_way_that_stalls_is_a_time_out_and_the_next_request_is_served(world: World) -> None:
    # R11
    (server,) = await world.servers_of(1)
    proxy = await world.proxy_to(server)
    upstream = world.upstream(f"http://127.0.0.1:{proxy.port}", timeouts=Timeouts(response_head=5.0))
    proxy.stalls_answers = True
    asking = asyncio.ensure_future(ask(upstream))
    await until(lambda: len(server.heads) == 1)

    world.clock.advance(6.0)
    upstream.sweep()
    assert (Reason.UPSTREAM_TIMEOUT, False) == (await asking).failure
    proxy.stalls_answers = False

    assert b"ok" == (await ask(upstream)).body


# -- leaving out


async def fail(upstream: BalancedUpstream, server_number: int, times: int) -> None:
    """Requests on new connections to one endpoint that it does not answer."""
    for _ in range(times):
        await heard(await upstream.pools[server_number].connect())


@pytest.mark.parametrize("answer", [CLOSE, b"HTTP/1.1 200 OK\nbare: lf\n\n", b"SSH-2.0-OpenSSH\r\n\r\n"])
async def test_an_endpoint_that_does_not_answer_is_left_out_and_comes_back(
    world: World, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bad, good = await world.servers_of(2)
    upstream = world.upstream(bad, good, eject_after=3)
    bad.answer = answer
    await fail(upstream, 0, 3)
    bad.heads.clear()

    for _ in range(10):
        assert b"ok" == (await ask(upstream)).body
    assert [] == bad.heads
    bad.answer = good.answer
    world.clock.advance(1.0)
    for _ in range(10):
        assert b"ok" == (await ask(upstream)).body

    assert len(bad.heads) > 1
    assert not upstream.pools[0].health.is_out
    left, returned = [record.getMessage() for record in caplog.records]
    assert left.startswith(f"endpoint `{bad.url}` of upstream `rest` is left out for 1 s: 3 requests in a row got no")
    assert returned == f"endpoint `{bad.url}` of upstream `rest` answers again, and is sent requests again"


async def test_time_outs_count(world: World) -> None:
    # R11
    bad, good = await world.servers_of(2)
    bad.answer = SILENCE
    upstream = world.upstream(bad, good, eject_after=2, timeouts=Timeouts(response_head=5.0))
    waiting = [asyncio.ensure_future(heard(await upstream.pools[0].connect())) for _ in range(2)]
    await until(lambda: len(bad.heads) == 2)

    world.clock.advance(6.0)
    upstream.sweep()

    assert {(Reason.UPSTREAM_TIMEOUT, False)} == {(await task).failure for task in waiting}
    assert upstream.pools[0].health.is_out


async def test_a_status_is_an_answer_whatever_it_is(world: World) -> None:
    bad, good = await world.servers_of(2)
    bad.answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    upstream = world.upstream(bad, good, eject_after=1)

    await fail(upstream, 0, 3)

    assert not upstream.pools[0].health.is_out


async def test_only_one_request_finds_out_whether_it_answers_again(world: World) -> None:
    bad, good = await world.servers_of(2)
    upstream = world.upstream(bad, good, eject_after=1)
    kept = [await upstream.pools[0].connect() for _ in range(3)]
    bad.answer = CLOSE
    await fail(upstream, 0, 1)
    # It still has idle connections, which are not for finding out.
    for connection in kept:
        upstream.pools[0].give_back(connection)
    # Idle connections to the good one, so that nothing but the trial needs a new one.
    for connection in [await upstream.pools[1].connect() for _ in range(3)]:
        await heard(connection)
    bad.heads.clear()

    for seconds in (1.0, 2.0, 4.0):
        world.clock.advance(seconds)
        ends = await asyncio.gather(*(ask(upstream) for _ in range(3)))
        assert 1 == sum(end.failure is not None for end in ends)

    assert 3 == len(bad.heads)
    assert 8.0 == upstream.pools[0].health.ejected_seconds


async def test_when_all_are_left_out_all_are_used(world: World) -> None:
    servers = await world.servers_of(3)
    upstream = world.upstream(*servers, eject_after=1)
    for server in servers:
        server.answer = CLOSE
    for number in range(3):
        await fail(upstream, number, 1)
    assert 3 == sum(pool.health.is_out for pool in upstream.pools)
    for server in servers:
        server.heads.clear()

    for _ in range(6):
        await ask(upstream)

    assert [2, 2, 2] == [len(server.heads) for server in servers]


async def test_an_upstream_with_one_endpoint_is_never_left_out(world: World) -> None:
    (server,) = await world.servers_of(1)
    server.answer = CLOSE
    upstream = world.upstream(server, eject_after=1)

    await fail(upstream, 0, 20)

    assert not upstream.pools[0].health.is_out
    assert 20 == len(server.heads)


# -- names


async def swept_until(upstream: BalancedUpstream, holds: Callable[[], bool]) -> None:
    """Sweeps until `holds`, as the gateway does all the time."""
    async with asyncio.timeout(5):
        while not holds():
            upstream.sweep()
            await asyncio.sleep(0)


class Names:
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        return self.addresses


async def test_new_connections_spread_over_the_addresses_of_a_name(world: World) -> None:
    # R30
    (first,) = await world.servers_of(1)
    second = type(first)()
    await second.start("127.0.0.2", first.port)
    world.servers.append(second)
    names = Names("127.0.0.1", "127.0.0.2")
    upstream = world.upstream(f"http://rest.test:{first.port}", resolve=names.resolve)

    held = [await upstream.connect() for _ in range(6)]

    await until(lambda: first.accepted + second.accepted == 6)
    assert (3, 3) == (first.accepted, second.accepted)
    for connection in held:
        await heard(connection)
    names.addresses = ("127.0.0.2",)
    world.clock.advance(31.0)
    await swept_until(upstream, lambda: upstream.idle_count == 3)
    assert {"127.0.0.2"} == {connection.address for connection in upstream.pools[0]._idle}


async def test_an_address_where_nobody_is_costs_no_request(world: World) -> None:
    (server,) = await world.servers_of(1)
    names = Names("127.0.0.2", "127.0.0.3", "127.0.0.1")
    upstream = world.upstream(f"http://rest.test:{server.port}", resolve=names.resolve)

    for _ in range(4):
        assert b"ok" == (await heard(await upstream.connect())).body

    assert {"opened": 4} == dict(upstream.pools[0].connects)
    # Nobody knocks there again before the next look-up.
    addresses = upstream.pools[0]._dialler.addresses
    assert {"127.0.0.1"} == {(await addresses.in_turn())[0] for _ in range(3)}


async def test_a_name_that_is_not_found_is_502_and_never_blocks(world: World) -> None:
    # K19, R30
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    upstream = world.upstream("http://rest.test:9000", resolve=resolve)

    with pytest.raises(UpstreamFailed) as failed:
        await upstream.connect()

    assert Reason.UPSTREAM_UNREACHABLE is failed.value.reason


async def test_a_look_up_that_hangs_is_a_time_out(world: World) -> None:
    # K19
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    upstream = world.upstream("http://rest.test:9000", resolve=resolve, timeouts=Timeouts(connect=0.0))

    with pytest.raises(UpstreamFailed) as failed:
        await upstream.connect()

    assert Reason.UPSTREAM_TIMEOUT is failed.value.reason
