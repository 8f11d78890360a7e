"""An issuer's keys while it rotates them, is silent, talks nonsense, and comes back (F9 to F11, R34)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.tokens.fetching import MAX_ANSWER_BYTES, IssuerUnreachable
from gateway.tokens.jwks import KeyRing, file_reader
from tests.support.manual_clock import ManualClock
from tests.tokens.support import EC_KEY, OTHER_EC_KEY, RSA_KEY, jwk, jwks

OLD = jwks(jwk(EC_KEY, "old"))
BOTH = jwks(jwk(EC_KEY, "old"), jwk(OTHER_EC_KEY, "new"))
NEW = jwks(jwk(OTHER_EC_KEY, "new"))


class Source:
    """What the issuer publishes, or why it cannot be read."""

    def __init__(self) -> None:
        self.says: bytes | Exception = OLD
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def read(self) -> bytes:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def ring(source: Source, clock: ManualClock) -> AsyncIterator[KeyRing]:
    made = KeyRing("accounts", source.read, clock, algorithms=("ES256", "RS256"))
    yield made
    await made.aclose()


AWAY = IssuerUnreachable("the issuer is away")


async def unreachable(ring: KeyRing, kid: str) -> str:
    with pytest.raises(IssuerUnreachable) as failed:
        await ring.seek(kid)
    return str(failed.value)


async def test_the_first_question_for_a_key_reads_the_set(ring: KeyRing, source: Source) -> None:
    assert ring.key("old") is None

    assert await ring.seek("old") is not None
    assert (1, 1, 1, 0.0) == (source.asked, ring.loaded, ring.size, ring.age_seconds)


async def test_f9_unknown_names_ask_the_issuer_once_in_ten_seconds(
    ring: KeyRing, source: Source, clock: ManualClock
) -> None:
    await ring.refresh()
    clock.advance(9.9)

    for number in range(1_000):
        assert await ring.seek(f"unknown-{number}") is None
    assert 1 == source.asked

    clock.advance(0.1)
    assert await ring.seek("unknown") is None
    assert await ring.seek("unknown") is None
    assert 2 == source.asked


async def test_f9_many_at_once_are_one_question(ring: KeyRing, source: Source) -> None:
    source.held = asyncio.Event()
    waiting = [asyncio.create_task(ring.seek("old")) for _ in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.held.set()

    found = await asyncio.gather(*waiting)

    assert 1 == source.asked
    assert all(found)


async def test_who_is_cancelled_leaves_and_the_others_get_the_key(ring: KeyRing, source: Source) -> None:
    source.held = asyncio.Event()
    first, second = asyncio.create_task(ring.seek("old")), asyncio.create_task(ring.seek("old"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.held.set()

    assert await second is not None
    assert first.cancelled()


async def test_a_rotation_needs_no_restart(ring: KeyRing, source: Source, clock: ManualClock) -> None:
    await ring.refresh()
    source.says = BOTH
    clock.advance(10)

    assert await ring.seek("new") is not None
    assert ring.key("old") is not None


async def test_f10_a_key_that_was_withdrawn_is_gone_with_the_next_set(ring: KeyRing, source: Source) -> None:
    changes: list[None] = []
    ring.on_change = lambda: changes.append(None)
    await ring.refresh()
    source.says = NEW

    await ring.refresh()

    assert ring.key("old") is None
    assert ring.key("new") is not None
    assert 2 == len(changes)


async def test_f10_another_key_under_the_same_name_is_a_change(ring: KeyRing, source: Source) -> None:
    changes: list[None] = []
    await ring.refresh()
    ring.on_change = lambda: changes.append(None)

    await ring.refresh()
    assert 0 == len(changes)

    source.says = jwks(jwk(OTHER_EC_KEY, "old"))
    await ring.refresh()
    assert 1 == len(changes)


@pytest.mark.parametrize(
    "says",
    # F11
    [
        AWAY,
        OSError("odd"),
        ValueError("odder"),
        b"<html>",
        b"",
        b'{"keys":[]}',
        jwks({"kty": "oct", "kid": "old", "k": "c2VjcmV0"}),
        jwks(jwk(EC_KEY, "old"), jwk(RSA_KEY, "old")),
    ],
)
async def test_f11_a_set_that_cannot_be_used_replaces_nothing(
    ring: KeyRing, source: Source, says: bytes | Exception
) -> None:
    await ring.refresh()
    source.says = says

    await ring.refresh()

    assert ring.key("old") is not None
    assert (1, 1) == (ring.loaded, ring.failed)
    assert ring.fault


async def test_r34_known_keys_go_on_for_an_hour_and_an_unknown_one_cannot_be_decided(
    ring: KeyRing, source: Source, clock: ManualClock
) -> None:
    await ring.refresh()
    source.says = AWAY
    clock.advance(10)

    assert "the issuer is away" == await unreachable(ring, "new")

    clock.advance(3_600 - 10.1)
    assert ring.key("old") is not None
    clock.advance(0.1)
    assert ring.key("old") is None
    assert "the issuer is away" == await unreachable(ring, "old")


async def test_r34_it_comes_back_by_itself(ring: KeyRing, source: Source, clock: ManualClock) -> None:
    source.says = AWAY
    assert "the issuer is away" == await unreachable(ring, "old")
    source.says = OLD

    # Not asked again at once ...
    assert "the issuer is away" == await unreachable(ring, "old")
    assert 1 == source.asked
    # ... but when it is due.
    clock.advance(10)
    assert await ring.seek("old") is not None
    assert "" == ring.fault


async def test_a_silent_issuer_is_asked_ever_more_rarely(ring: KeyRing, source: Source, clock: ManualClock) -> None:
    source.says = AWAY
    asked_at = []
    for second in range(121):
        before = source.asked
        await unreachable(ring, "old")
        if source.asked > before:
            asked_at.append(second)
        clock.advance(1)

    assert [0, 10, 30, 60, 90, 120] == asked_at


async def test_the_age_of_a_set_counts_from_the_question(source: Source, clock: ManualClock) -> None:
    class Slow(Source):
        async def read(self) -> bytes:
            clock.advance(5)
            return await super().read()

    ring = KeyRing("accounts", Slow().read, clock, algorithms=("ES256",))
    await ring.refresh()

    assert 5.0 == ring.age_seconds


async def test_it_reads_every_five_minutes_and_sooner_after_a_failure(source: Source, clock: ManualClock) -> None:
    slept: list[float] = []
    says: list[bytes | Exception] = [OLD, AWAY, AWAY, AWAY, AWAY, OLD]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not says:
            raise asyncio.CancelledError
        source.says = says.pop(0)

    ring = KeyRing("accounts", source.read, clock, algorithms=("ES256",), sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await ring.follow()

    assert [300.0, 300.0, 10.0, 20.0, 30.0, 30.0, 300.0] == slept


async def test_a_file_is_read_anew(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(OLD)
    ring = KeyRing("accounts", file_reader(path), clock, algorithms=("ES256",))
    await ring.refresh()
    path.write_bytes(NEW)
    await ring.refresh()
    assert (None, True) == (ring.key("old"), ring.key("new") is not None)

    path.unlink()
    await ring.refresh()
    assert ring.key("new") is not None
    assert f"`{path}` cannot be read: No such file or directory" == ring.fault

    path.write_bytes(b" " * (MAX_ANSWER_BYTES + 1))
    await ring.refresh()
    assert f"`{path}` cannot be read: it has more than {MAX_ANSWER_BYTES} bytes" == ring.fault


async def test_a_wall_clock_that_jumps_changes_nothing(ring: KeyRing, clock: ManualClock) -> None:
    await ring.refresh()

    clock.step(-86_400)
    assert ring.key("old") is not None
    clock.step(10 * 86_400)
    assert ring.key("old") is not None


async def test_it_ends_while_it_reads(ring: KeyRing, source: Source) -> None:
    source.held = asyncio.Event()
    waiting = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)

    await ring.aclose()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_f9_keys_that_are_too_old_are_no_reason_to_refuse(source: Source, clock: ManualClock) -> None:
    ring = KeyRing("accounts", source.read, clock, algorithms=("ES256",), keep_seconds=5.0)
    await ring.refresh()
    clock.advance(5)

    # Too early to ask again, and nothing was wrong when it was asked.
    assert "its keys were read too long ago" == await unreachable(ring, "old")
    assert "its keys were read too long ago" == await unreachable(ring, "another")

    clock.advance(5)
    assert await ring.seek("old") is not None
    assert await ring.seek("another") is None


async def test_an_operator_is_told_how_long_its_keys_serve(
    ring: KeyRing, source: Source, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    source.says = AWAY
    await ring.refresh()
    source.says = OLD
    await ring.refresh()
    source.says = AWAY
    clock.advance(300)
    await ring.refresh()

    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "issuer `accounts`: the issuer is away; there are no good keys: its tokens are 503" == told[0]
    assert "issuer `accounts`: the issuer is away; the last good keys serve for 3300 s" == told[1]
