"""The process of the example upstreams: it answers, and it cannot outlive whoever started it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import msgspec
import pytest

from gateway.demo import process
from gateway.demo.child import Order, Ports
from gateway.demo.process import UpstreamsFailed, running_upstreams
from gateway.demo.shipped import shipped_policies

_EXAMPLE = shipped_policies() / "reference.demo.yaml"
_USER = "5f0c3a9b7d2e41c8a6b0d913"
_ORDER = Order(str(_EXAMPLE), {"app-1": (_USER,)})
_DEADLINE_SECONDS = 60.0


async def test_both_upstreams_answer_each_on_its_own_port() -> None:
    async with running_upstreams(_ORDER) as ports, httpx2.AsyncClient() as client:
        headers = {"X-Gateway-App-Id": "app-1"}

        rest = await client.get(f"http://127.0.0.1:{ports.rest}/v2/users/{_USER}", headers=headers)
        graphql = await client.post(f"http://127.0.0.1:{ports.graphql}/v4/gql", json={"query": "{ __typename }"})
        crossed = await client.post(f"http://127.0.0.1:{ports.rest}/v4/gql", json={"query": "{ __typename }"})

    assert [rest.status_code, graphql.status_code, crossed.status_code] == [200, 200, 404]


async def test_they_are_gone_when_the_block_ends() -> None:
    async with running_upstreams(_ORDER) as ports:
        pass

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ports.rest)


async def test_upstreams_that_cannot_start_are_an_error_and_not_a_wait(tmp_path: Path) -> None:
    with pytest.raises(UpstreamsFailed, match="ended at once"):
        async with running_upstreams(Order(str(tmp_path / "none.yaml"), {})):
            pass


async def test_upstreams_that_say_nothing_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START_SECONDS", 0.0)

    with pytest.raises(UpstreamsFailed, match="said nothing"):
        async with running_upstreams(_ORDER):
            pass


def test_the_child_ends_by_itself_when_its_parent_is_gone() -> None:
    command = [sys.executable, "-m", "gateway.demo.child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(_ORDER) + b"\n")
        child.stdin.flush()
        msgspec.json.decode(child.stdout.readline(), type=Ports)

        # What the kernel does to the pipe of a parent that was killed.
        child.stdin.close()

        assert child.wait(_DEADLINE_SECONDS) == 0
