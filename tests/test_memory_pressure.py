"""A gateway process with little memory: what fills it is refused, nothing dies, and all is well afterwards."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.assembly.keys import open_key_service
from tests.support.raw import RawClient
from tests.support.recording_upstream import RecordingUpstream

POLICY = """
version: 1
scopes:
  READ: {means: read things}
routes:
  - {name: things, match: "GET /things", upstream: things, allow: {api_key: READ}}
  - name: gql
    match: POST /gql
    upstream: things
    body_limit: 4MiB
    graphql: {fields: {Query.thing: {api_key: READ}}}
"""
MIB = 1024 * 1024
ROOM_MIB = 16
"""Between a gateway that has served a little and one whose memory is short."""
HEAD_BYTES = 30_000
FILLERS = 900
SAFETY_SECONDS = 30.0


class Process(NamedTuple):
    """A gateway process and who may call it."""

    popen: subprocess.Popen[str]
    port: int
    admin: int
    line: bytes

    def resident_mib(self) -> float:
        fields = Path(f"/proc/{self.popen.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=10):
                return True
        except urllib.error.HTTPError as refused:
            refused.close()
            return False

    def ask(self) -> bytes:
        return b"GET /things HTTP/1.1\r\nHost: gateway.test\r\n" + self.line + b"\r\n"

    def graphql(self, length: int, body: bytes = b"") -> bytes:
        return (
            b"POST /gql HTTP/1.1\r\nHost: gateway.test\r\n%bContent-Type: application/json\r\n" % self.line
            + b"Content-Length: %d\r\n\r\n%b" % (length, body)
        )


@contextmanager
def process(folder: Path, upstream: RecordingUpstream, limit_mib: int) -> Iterator[Process]:
    """`bearergate serve` with this limit, which has served one request of each kind."""
    (folder / "policy.yaml").write_text(POLICY, "utf-8")
    store = f"sqlite:///{folder / 'keys.sqlite3'}"
    with open_key_service(store, create=True) as service:
        new = service.create_key(service.create_app("the App").id, name="a key", scopes=["READ"])
    with (folder / "stderr").open("w") as errors:
        popen = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway", "serve", "--policy", str(folder / "policy.yaml")),
                *("--upstream", f"things=http://127.0.0.1:{upstream.port}", "--store", store),
                *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--access-log", "none"),
            ],
            stderr=errors,
            text=True,
            # Who is only crowded out would be gone before it is looked at, on a busy machine.
            env=os.environ
            | {"BEARERGATE_MEMORY_LIMIT": str(limit_mib), "BEARERGATE_TIMEOUTS__CROWDED_KEEP_ALIVE": "30"},
        )
    try:
        ports = None
        while ports is None:
            said = (folder / "stderr").read_text()
            assert popen.poll() is None, said
            ports = re.search(r"serving on 127.0.0.1:(\d+), admin on 127.0.0.1:(\d+)", said)
            time.sleep(0.02)
        token = new.token.reveal().encode()
        running = Process(popen, int(ports[1]), int(ports[2]), b"Authorization: Bearer " + token + b"\r\n")
        body = json.dumps({"query": "{ thing }"}).encode()
        with RawClient(running.port) as client:
            for data in (running.ask(), running.graphql(len(body), body)):
                client.send(data)
                assert client.read().status == 200
        running.metric("process_resident_memory_bytes")
        yield running
    finally:
        popen.kill()
        popen.wait()


def wait(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SAFETY_SECONDS
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is resident")
@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < FILLERS + 100, reason="the process may open too few files"
)
def test_a_process_with_little_memory_refuses_what_would_fill_it_and_recovers(tmp_path: Path) -> None:
    # R29
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    upstream = RecordingUpstream().start()
    try:
        with process(folders[0], upstream, 0) as measured:
            at_rest = measured.resident_mib()
        with process(folders[1], upstream, int((at_rest + ROOM_MIB) / 0.85)) as running, ExitStack() as stack:
            limit_mib = running.metric("bearergate_memory_limit_bytes") / MIB
            connected = stack.enter_context(RawClient(running.port))

            # Bodies that never end: only so many are held, and the others are told at once.
            statuses = []
            bodies = [stack.enter_context(RawClient(running.port)) for _ in range(20)]
            for client in bodies:
                client.send(running.graphql(2 * MIB + 1, b"x" * MIB))
            wait(lambda: running.metric("bearergate_held_body_bytes") > limit_mib / 8 * MIB - 4 * MIB, "the filling")
            for client in bodies:
                client.socket.settimeout(0.2)
                try:
                    statuses.append(client.socket.recv(12)[9:])
                except TimeoutError:
                    statuses.append(b"")
                client.close()
            assert {b"", b"503"} == set(statuses)
            wait(lambda: running.metric("bearergate_held_body_bytes") == 0, "the end of the bodies")
            wait(lambda: running.metric("bearergate_memory_short") == 0, "room")

            # Heads that never end, on more and more connections, until somebody is told to come back.
            fillers = []
            for _ in range(FILLERS):
                client = stack.enter_context(RawClient(running.port))
                client.send(b"GET /things HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES)
                fillers.append(client)
            wait(lambda: running.metric("bearergate_memory_short") == 1, "the shortage")
            assert not running.is_ready()
            with RawClient(running.port) as late:
                late.send(running.ask())
                turned_away = late.read()
            connected.send(running.ask())
            served = connected.read()
            connected.send(running.graphql(2))
            refused = connected.read()

            assert (503, "overloaded", b"1") == (
                turned_away.status,
                turned_away.reason,
                turned_away.header(b"retry-after"),
            )
            assert 200 == served.status
            assert (503, "overloaded") == (refused.status, refused.reason)
            assert running.popen.poll() is None
            assert running.resident_mib() < limit_mib

            for client in fillers:
                client.close()
            wait(lambda: running.metric("bearergate_memory_short") == 0, "the end of the shortage")
            wait(running.is_ready, "the gateway being ready again")
            with RawClient(running.port) as later:
                later.send(running.ask())
                assert 200 == later.read().status
    finally:
        upstream.stop()
