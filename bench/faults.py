"""What a gateway does when things go wrong around it, in figures: `python -m bench.faults [NAME ...]`.

Each fault is made on purpose against a real gateway before a real upstream, with a prober beside it that asks once in
a while on a connection of its own: what the prober is told, and how long it waits, is what an established client feels.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.candidates import bearergate, nginx
from bench.candidates.kind import Service, Site
from bench.processes import Process, cores, free_port, program

PATH: Final = "/v2/users/5f0c3a9b7d2e41c8a6b0d913/events"


@dataclass(slots=True)
class Scene:
    """A gateway under test, and where it answers."""

    service: Service
    admin: int
    folder: Path
    other: int

    @property
    def process(self) -> Process:
        return self.service.processes[0]

    @property
    def request(self) -> bytes:
        return f"GET {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self.service.token}\r\n\r\n".encode()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@dataclass(slots=True)
class Seen:
    """What a prober was told, and how long each answer took in milliseconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    def p(self, share: float) -> float:
        ordered = sorted(self.waits) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def __str__(self) -> str:
        told = ", ".join(f"{count} x {status or 'broken'}" for status, count in sorted(self.statuses.items()))
        return f"{told}; p50 {self.p(0.5):.1f} ms, p99 {self.p(0.99):.1f} ms"


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status of one exchange on a connection that stays open."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    if length is not None:
        await reader.readexactly(int(length[1]))
    return int(head[9:12])


@asynccontextmanager
async def probing(scene: Scene, *, pause: float = 0.01) -> AsyncIterator[Seen]:
    """Asks on one connection that is kept, until the block ends."""
    seen = Seen()

    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.service.port)
        while True:
            began = time.monotonic()
            try:
                # Not `wait_for`: in 3.11 it can swallow the cancellation that ends this.
                async with asyncio.timeout(10):
                    status = await ask(reader, writer, scene.request)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                status = 0
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", scene.service.port)
            seen.statuses[status] += 1
            seen.waits.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(pause)

    task = asyncio.create_task(run())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def calm(scene: Scene) -> str:
    """The prober alone, to compare with."""
    async with probing(scene) as seen:
        await asyncio.sleep(5)
    return str(seen)


async def reload(scene: Scene) -> str:
    """R16: a hundred reloads of the policy within a minute, under load."""
    wrk = program("wrk") or "wrk"
    header = f"Authorization: Bearer {scene.service.token}"
    url = f"http://127.0.0.1:{scene.service.port}{PATH}"
    command = ["taskset", "--cpu-list", str(scene.other), wrk, "-t1", "-c16", "-d60", "-H", header, url]
    load = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    async with probing(scene) as seen:
        for _ in range(100):
            scene.process.popen.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.55)
        said = (await load.communicate())[0].decode()
    wrong = re.findall(r"Non-2xx.*|Socket errors.*", said)
    rate = re.search(r"Requests/sec:\s+(\S+)", said)
    loaded = scene.metric("bearergate_policy_reloads_total")
    return f"{loaded:.0f} reloads, {rate[1] if rate else '?'} requests/s, failed: {wrong or 0}; prober: {seen}"


async def slow_heads(scene: Scene) -> str:
    """K1, R22: a thousand clients that send a byte of a head every second."""
    async with probing(scene) as seen:
        began = time.monotonic()
        ends: list[float] = []

        async def trickle() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.service.port)
            with suppress(OSError):
                for byte in scene.request[:40]:
                    writer.write(bytes((byte,)))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await reader.read(1000)
                        break
            ends.append(time.monotonic() - began)
            writer.close()

        await asyncio.gather(*(trickle() for _ in range(1000)))
    return f"1000 slow clients, the last let go after {max(ends):.1f} s; prober: {seen}"


async def idle(scene: Scene) -> str:
    """K4, R21: ten thousand connections that say nothing."""
    before = scene.process.resident_bytes()
    async with probing(scene) as seen:
        clients = []
        for _ in range(10_000):
            client = socket.socket()
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", scene.service.port))
            clients.append(client)
            if len(clients) % 500 == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(3)
        held = scene.metric("bearergate_client_connections")
        grown = (scene.process.resident_bytes() - before) / 2**20
        for client in clients:
            client.close()
        await asyncio.sleep(2)
    return f"10000 connections, {held:.0f} held after 3 s, memory {grown:+.0f} MiB; prober: {seen}"


async def storm(scene: Scene) -> str:
    """K5, R21: two thousand new connections a second, each with one request that has no token."""
    answers: Counter[str] = Counter()
    request = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.service.port)
            writer.write(request)
            async with asyncio.timeout(5):
                answers[(await reader.read(4096))[9:12].decode()] += 1
            writer.close()
        except (OSError, TimeoutError) as fault:
            answers[type(fault).__name__] += 1

    async with probing(scene) as seen:
        tasks: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for batch in range(1000):
            tasks |= {asyncio.create_task(one()) for _ in range(20)}
            tasks = {task for task in tasks if not task.done()}
            await asyncio.sleep(max(0.0, began + (batch + 1) * 0.01 - time.monotonic()))
        rate = 20_000 / (time.monotonic() - began)
        await asyncio.gather(*tasks)
    return f"{rate:.0f} connections/s: {dict(answers)}; prober: {seen}"


async def cancelled(scene: Scene) -> str:
    """R13, R39: a thousand requests a second whose clients leave at once."""
    before = scene.process.resident_bytes()
    async with probing(scene) as seen:
        for _ in range(100):
            for _ in range(100):
                client = socket.create_connection(("127.0.0.1", scene.service.port))
                client.sendall(scene.request)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
    left = scene.metric("bearergate_requests_in_flight")
    grown = (scene.process.resident_bytes() - before) / 2**20
    return f"10000 given up, {left:.0f} in flight after a second, memory {grown:+.1f} MiB; prober: {seen}"


FAULTS: Final[dict[str, Callable[[Scene], Coroutine[None, None, str]]]] = {
    "calm": calm,
    "reload": reload,
    "slow-heads": slow_heads,
    "idle": idle,
    "storm": storm,
    "cancelled": cancelled,
}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def main() -> int:
    names = sys.argv[1:] or list(FAULTS)
    core, other = cores()
    for name in names:
        with TemporaryDirectory(prefix="faults-") as scratch, ExitStack() as stack:
            folder = Path(scratch)
            port = nginx.start_upstream(folder, other, stack)
            (folder / "gateway").mkdir()
            admin = free_port()
            service = bearergate.start_proxy(Site(folder / "gateway", core, port), stack, admin_port=admin)
            while not _answers(f"http://127.0.0.1:{admin}/readyz"):
                time.sleep(0.05)
            scene = Scene(service, admin, folder, other)
            said = asyncio.run(FAULTS[name](scene))
            print(json.dumps({"fault": name, "seen": said}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
