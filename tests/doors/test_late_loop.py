"""An event loop that something blocks: operators are told, and no request is lost."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.assembly.gateway import SYSTEM_CLOCK
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.manual_clock import ManualClock
from tests.support.raw import RawClient

MOST_SECONDS = 0.4
BLOCKED_SECONDS = 1.0


def ready(gateway: RunningGateway) -> tuple[int, dict[str, Any]]:
    """The status of `/readyz`, and its check of the loop."""
    url = f"http://127.0.0.1:{gateway.running.admin_port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)["checks"]["loop"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)["checks"]["loop"]


def test_a_blocked_loop_takes_the_gateway_out_for_a_while_and_loses_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R32
    monkeypatch.setattr("gateway.assembly.gateway.LOOP_SECONDS", 3.0)
    with running_gateway(tmp_path, clock=cast("ManualClock", SYSTEM_CLOCK), max_loop_lag=MOST_SECONDS) as gateway:
        clients = [RawClient(gateway.port) for _ in range(20)]
        gateway.until(lambda: ready(gateway)[0] == 200, "the gateway being ready")

        gateway._loop.call_soon_threadsafe(time.sleep, BLOCKED_SECONDS)
        for client in clients:
            client.send(b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + gateway.keys.a.line + b"\r\n")
        statuses = [client.read().status for client in clients]
        status, check = ready(gateway)

        assert [200] * 20 == statuses
        assert (503, False) == (status, check["ok"])
        assert gateway.metric("bearergate_event_loop_lag_seconds") > MOST_SECONDS
        gateway.until(lambda: ready(gateway) == (200, {"ok": True, "detail": ready(gateway)[1]["detail"]}), "its end")
        assert [200] == [outcome.status for outcome in gateway.outcomes[-1:]]
        for client in clients:
            client.close()
