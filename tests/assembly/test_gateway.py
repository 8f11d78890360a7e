"""The parts put together, before they serve."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from gateway.assembly import CannotStart
from gateway.assembly.gateway import Gateway
from gateway.assembly.policies import PolicyTexts, policy_texts
from gateway.observe.loop_lag import INTERVAL_SECONDS, LoopLag
from gateway.settings import Settings, TimeoutSettings
from tests.support.manual_clock import ManualClock

POLICY = """\
version: 1
routes:
  - name: ping
    match: GET /ping
    upstream: rest
    allow: anyone
"""


async def test_a_store_that_had_to_be_made_is_warned_of_once_with_its_absolute_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        policy=tmp_path / "policy.yaml",
        upstreams={"rest": "http://127.0.0.1:9000"},
        store="sqlite:///keys.sqlite3",
        access_log="none",
    )

    for _ in range(2):
        await Gateway(settings).aclose()

    warned = [record for record in caplog.records if record.name == "bearergate" and record.levelno == logging.WARNING]
    message = f"there was no key store at `{tmp_path / 'keys.sqlite3'}`: an empty one was made"
    assert [message] == [record.getMessage() for record in warned]


async def test_the_reload_asked_for_last_is_in_force_however_long_the_one_before_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY, "utf-8")
    settings = Settings(
        policy=policy,
        upstreams={"rest": "http://127.0.0.1:9000"},
        store=f"sqlite:///{tmp_path / 'keys.sqlite3'}",
        access_log="none",
    )
    gateway = Gateway(settings)
    reading, second_read, go_on = threading.Event(), threading.Event(), threading.Event()

    def slow_at_first(read_now: Settings) -> PolicyTexts:
        read = policy_texts(read_now)
        if reading.is_set():
            second_read.set()
        else:
            reading.set()
            assert go_on.wait(10)
        return read

    monkeypatch.setattr("gateway.assembly.gateway.policy_texts", slow_at_first)
    policy.write_text(POLICY.replace("/ping", "/first"), "utf-8")
    first = asyncio.create_task(gateway.reload_policy())
    assert await asyncio.to_thread(reading.wait, 10)
    policy.write_text(POLICY.replace("/ping", "/second"), "utf-8")
    second = asyncio.create_task(gateway.reload_policy())
    # Without an order it would be read now, put in force, and then replaced by the older one.
    await asyncio.to_thread(second_read.wait, 0.3)
    go_on.set()

    assert [(), ()] == [await first, await second]
    assert ["/second"] == [route.pattern for route in gateway.judge.snapshot.policy.routes]
    await gateway.aclose()


def timed(tmp_path: Path, timeout: str, **timeouts: float) -> Settings:
    """Settings with these time-outs, for a policy with this one."""
    (tmp_path / "policy.yaml").write_text(POLICY + f"    timeout: {timeout}\n", "utf-8")
    return Settings(
        policy=tmp_path / "policy.yaml",
        upstreams={"rest": "http://127.0.0.1:9000"},
        store=f"sqlite:///{tmp_path / 'keys.sqlite3'}",
        access_log="none",
        timeouts=TimeoutSettings(**timeouts),
    )


async def test_a_route_that_wants_longer_than_the_settings_allow_is_refused_with_all_that_is_wrong(
    tmp_path: Path,
) -> None:
    settings = timed(tmp_path, "{request: 90, response_head: 31, response_idle: 61}", request=60.0)

    with pytest.raises(CannotStart) as refused:
        Gateway(settings)

    assert str(refused.value).splitlines() == [
        "policy: route `ping` has a `timeout` with 90 s of `request`, and the settings allow 60 s; "
        "make it shorter, or raise `timeouts.request`",
        "policy: route `ping` has a `timeout` with 31 s of `response_head`, and the settings allow 30 s; "
        "make it shorter, or raise `timeouts.response_head`",
        "policy: route `ping` has a `timeout` with 61 s of `response_idle`, and the settings allow 60 s; "
        "make it shorter, or raise `timeouts.response_idle`",
    ]


async def test_a_reload_with_a_route_that_wants_longer_leaves_the_old_policy_in_force(tmp_path: Path) -> None:
    gateway = Gateway(timed(tmp_path, "60", request=60.0))
    revision = gateway.judge.snapshot.policy.revision
    timed(tmp_path, "60.001", request=60.0)

    (fault,) = await gateway.reload_policy()

    assert "`ping` has a `timeout` with 60.001 s of `request`" in fault
    assert revision == gateway.judge.snapshot.policy.revision
    await gateway.aclose()


async def test_a_route_may_have_any_time_out_where_the_settings_have_none(tmp_path: Path) -> None:
    await Gateway(timed(tmp_path, "{request: 86400}")).aclose()


@pytest.mark.parametrize(("most", "late_seconds", "is_good"), [(0.5, 0.49, True), (0.5, 0.51, False), (0.0, 9.0, True)])
async def test_a_gateway_whose_event_loop_is_late_is_not_ready_until_it_has_been_on_time_for_a_while(
    tmp_path: Path, most: float, late_seconds: float, is_good: bool
) -> None:
    # R32
    clock = ManualClock()
    gateway = Gateway(timed(tmp_path, "5").model_copy(update={"max_loop_lag": most}), clock=clock)
    delays = iter([late_seconds, *[0.0] * 48])

    async def sleep(seconds: float) -> None:
        try:
            clock.advance(seconds + next(delays))
        except StopIteration:
            raise asyncio.CancelledError from None

    gateway._loop_lag = lag = LoopLag(clock, sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.watch()

    assert is_good is {check.name: check.is_good for check in gateway.readiness().checks}["loop"]

    delays = iter([0.0] * 4)
    with pytest.raises(asyncio.CancelledError):
        await lag.watch()

    assert {check.name: check.is_good for check in gateway.readiness().checks}["loop"]
    assert clock.monotonic() < 1_000.0 + late_seconds + 53 * INTERVAL_SECONDS + 0.001
    await gateway.aclose()
