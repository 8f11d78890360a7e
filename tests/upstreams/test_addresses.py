"""Names: looked up beside the traffic, kept while look-ups fail, gone when they are gone (K19, R30)."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.upstreams.addresses import Addresses, system_resolve
from gateway.upstreams.location import location_of
from tests.support.manual_clock import ManualClock


class Names:
    """A resolver that answers what it is told to, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.fault: OSError | None = None
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def resolve(self, host: str, port: int) -> list[str]:
        assert ("rest.test", 9000) == (host, port)
        self.asked += 1
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        return list(self.addresses)


class Story:
    """Addresses of one name, a clock, and a resolver."""

    def __init__(self, *addresses: str) -> None:
        self.clock = ManualClock()
        self.names = Names(*addresses)
        location = location_of("rest", "http://rest.test:9000")
        self.addresses = Addresses(location, now=self.clock.monotonic, resolve=self.names.resolve)

    async def look(self) -> bool:
        """What a sweep does, until a look-up that it began has ended."""
        self.addresses.refresh()
        task = self.addresses._look
        if task is not None:
            await task
        return self.addresses.refresh()


async def test_an_address_is_not_looked_up() -> None:
    clock = ManualClock()
    addresses = Addresses(location_of("rest", "http://[::1]:9000"), now=clock.monotonic, resolve=Names().resolve)
    clock.advance(1e6)

    assert not addresses.refresh()
    assert ["::1"] == await addresses.in_turn()


async def test_connections_go_to_the_addresses_in_turn() -> None:
    story = Story("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3")

    firsts = [(await story.addresses.in_turn())[0] for _ in range(6)]

    assert ["10.0.0.1", "10.0.0.2", "10.0.0.3"] * 2 == firsts
    assert 1 == story.names.asked


async def test_an_address_that_failed_is_tried_last_until_the_next_look_up() -> None:
    story = Story("10.0.0.1", "10.0.0.2")
    await story.addresses.in_turn()
    story.addresses.failed("10.0.0.1")

    assert {"10.0.0.2"} == {(await story.addresses.in_turn())[0] for _ in range(4)}
    story.clock.advance(30.0)
    assert await story.look()
    assert {"10.0.0.1", "10.0.0.2"} == {(await story.addresses.in_turn())[0] for _ in range(4)}


async def test_all_who_wait_wait_for_one_look_up() -> None:
    story = Story("10.0.0.1")

    await asyncio.gather(*(story.addresses.in_turn() for _ in range(20)))

    assert 1 == story.names.asked


async def test_who_leaves_does_not_end_the_look_up_of_the_others() -> None:
    story = Story("10.0.0.1")
    story.names.may_answer.clear()
    first, second = (asyncio.ensure_future(story.addresses.in_turn()) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    story.names.may_answer.set()

    assert ["10.0.0.1"] == await second


async def test_a_new_address_is_used_and_an_old_one_forgotten_after_the_refresh() -> None:
    # R30
    story = Story("10.0.0.1")
    await story.look()
    story.names.addresses = ("10.0.0.2",)

    story.clock.advance(29.0)
    assert not story.addresses.refresh()
    assert ("10.0.0.1",) == story.addresses.known
    story.clock.advance(1.0)
    assert await story.look()
    assert ("10.0.0.2",) == story.addresses.known
    assert 2 == story.names.asked


async def test_traffic_does_not_wait_for_a_look_up_that_hangs() -> None:
    # K19
    story = Story("10.0.0.1")
    await story.look()
    story.clock.advance(31.0)
    story.names.may_answer.clear()
    story.addresses.refresh()
    await asyncio.sleep(0)
    story.clock.advance(60.0)
    story.addresses.refresh()

    assert ["10.0.0.1"] == await story.addresses.in_turn()
    assert 2 == story.names.asked
    story.addresses.close()


async def test_the_last_addresses_stay_for_a_while_when_look_ups_fail(caplog: pytest.LogCaptureFixture) -> None:
    # R30
    caplog.set_level("INFO")
    story = Story("10.0.0.1")
    await story.look()
    story.names.fault = socket.gaierror(-2, "Name or service not known")
    story.clock.advance(30.0)

    await story.look()
    story.clock.advance(269.0)
    await story.look()
    assert ["10.0.0.1"] == await story.addresses.in_turn()
    story.clock.advance(2.0)
    with pytest.raises(OSError, match="not known"):
        await story.addresses.in_turn()
    story.names.fault = None
    story.names.addresses = ("10.0.0.9",)
    assert ["10.0.0.9"] == await story.addresses.in_turn()
    told = [record.getMessage() for record in caplog.records]
    assert [True, False] == ["is not found" in line for line in told]


async def test_a_name_that_was_never_found_is_asked_for_again_soon() -> None:
    story = Story()
    story.names.fault = socket.gaierror(-2, "Name or service not known")
    with pytest.raises(OSError, match="not known"):
        await story.addresses.in_turn()
    asked = story.names.asked

    story.clock.advance(1.0)
    story.addresses.refresh()
    story.addresses.refresh()
    assert asked == story.names.asked
    story.clock.advance(1.0)
    await story.look()

    assert asked + 1 == story.names.asked


async def test_no_address_at_all_is_a_fault() -> None:
    with pytest.raises(OSError, match="no address"):
        await Story().addresses.in_turn()


async def test_the_machines_resolver_gives_addresses_or_an_os_error() -> None:
    assert set(await system_resolve("localhost", 80)) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match="no name"):
        await system_resolve("a" * 64 + ".test", 80)
