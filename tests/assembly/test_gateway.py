"""The parts put together, before they serve."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from gateway.assembly.gateway import Gateway
from gateway.core.policy.routes import Policy
from gateway.policy_files import load
from gateway.settings import Settings

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

    def slow_at_first(path: Path) -> Policy:
        read = load(path).policy
        if reading.is_set():
            second_read.set()
        else:
            reading.set()
            assert go_on.wait(10)
        return read

    monkeypatch.setattr("gateway.assembly.gateway._loaded", slow_at_first)
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
