"""Gateways as the service manager runs them: one after the other on one socket, and with few open files."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.assembly.keys import open_key_service
from tests.support.raw import RawClient
from tests.support.recording_upstream import RecordingUpstream, Step

SAFETY_SECONDS = 20.0
POLICY = """\
version: 1
scopes:
  READ: {means: read things}
routes:
  - {name: things, match: "GET /things/{id}", upstream: things, allow: {api_key: READ}}
"""


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    recording = RecordingUpstream().start()
    yield recording
    recording.stop()


@pytest.fixture
def token(tmp_path: Path) -> str:
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    with open_key_service(f"sqlite:///{tmp_path / 'keys.sqlite3'}", create=True) as service:
        app = service.create_app("the App")
        return service.create_key(app.id, name="a key", scopes=["READ"]).token.reveal()


@contextmanager
def gateway_process(
    folder: Path,
    upstream: RecordingUpstream,
    listener: socket.socket,
    *,
    files: int = 0,
    drain: str = "",
    drain_delay: str = "",
    reloads_early: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """(process, admin port) of a gateway on a socket of ours; `files` limits what it may open."""
    descriptor = os.dup(listener.fileno())
    os.set_inheritable(descriptor, True)
    said = folder / f"stderr-{time.monotonic_ns()}"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [
                *(("prlimit", f"--nofile={files}:{files}") if files else ()),
                *(sys.executable, "-m", "gateway", "serve", "--policy", str(folder / "policy.yaml")),
                *("--upstream", f"things=http://127.0.0.1:{upstream.port}"),
                *("--store", f"sqlite:///{folder / 'keys.sqlite3'}", "--access-log", "none"),
                *("--listen", f"fd:{descriptor}", "--admin-listen", "127.0.0.1:0"),
            ],
            stderr=errors,
            env=os.environ | {"BEARERGATE_DRAIN": drain, "BEARERGATE_DRAIN_DELAY": drain_delay},
            pass_fds=(descriptor,),
        )
    os.close(descriptor)
    try:
        end = time.monotonic() + SAFETY_SECONDS
        found = None
        while found is None:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            if reloads_early and ignores_hangups(process.pid):
                process.send_signal(signal.SIGHUP)
            found = re.search(r"admin on 127.0.0.1:(\d+)", said.read_text())
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()


def ignores_hangups(pid: int) -> bool:
    """Whether SIGHUP is ignored or handled by a process."""
    mask = 1 << (signal.SIGHUP - 1)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & mask for line in lines if line.startswith(("SigIgn", "SigCgt")))


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SAFETY_SECONDS
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)


class Caller:
    """Asks again and again until it is told to stop, and keeps what went wrong."""

    def __init__(self, port: int, token: str, *, keeps_alive: bool) -> None:
        self.statuses: list[int] = []
        self.faults: list[str] = []
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"} | ({} if keeps_alive else {"Connection": "close"})
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        self._thread.join(SAFETY_SECONDS)

    def _run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SAFETY_SECONDS)) as client:
            while not self._ends.is_set():
                try:
                    # Connects anew after an answer that said `connection: close`.
                    client.request("GET", "/things/1", headers=self._headers)
                    answer = client.getresponse()
                    answer.read()
                    self.statuses.append(answer.status)
                except (OSError, http.client.HTTPException) as fault:
                    self.faults.append(repr(fault))
                    client.close()


def test_no_request_fails_while_one_gateway_takes_over_from_another(
    tmp_path: Path, upstream: RecordingUpstream, token: str
) -> None:
    # R25: the socket stays, so that nobody is refused, and a gateway that drains asks its clients to come anew.
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        callers: list[Caller] = []

        def more(count: int) -> None:
            answered = sum(len(caller.statuses) for caller in callers)
            until(lambda: sum(len(caller.statuses) for caller in callers) >= answered + count, "answers")

        with gateway_process(tmp_path, upstream, listener, drain="10", drain_delay="0.5") as (old, _):
            callers += [Caller(listener.getsockname()[1], token, keeps_alive=number % 2 == 0) for number in range(4)]
            try:
                more(50)
                with gateway_process(tmp_path, upstream, listener, drain="10", drain_delay="0.5") as (new, _):
                    old.send_signal(signal.SIGTERM)
                    assert old.wait(SAFETY_SECONDS) == 0
                    more(50)
                    with gateway_process(tmp_path, upstream, listener, drain="10", drain_delay="0.5"):
                        new.send_signal(signal.SIGTERM)
                        assert new.wait(SAFETY_SECONDS) == 0
                        more(50)
                        for caller in callers:
                            caller.stop()
            finally:
                for caller in callers:
                    caller.stop()
    assert [fault for caller in callers for fault in caller.faults] == []
    assert {status for caller in callers for status in caller.statuses} == {200}


def test_whoever_asks_twice_does_not_wait_for_the_drain(
    tmp_path: Path, upstream: RecordingUpstream, token: str
) -> None:
    # R26
    upstream.script((Step.WAIT, b""))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        gateway_process(tmp_path, upstream, listener, drain="600") as (process, _),
        RawClient(listener.getsockname()[1]) as client,
    ):
        client.send(b"GET /things/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode())
        upstream.wait_until(lambda: len(upstream.requests) == 1, "the request")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)

        assert process.wait(5) == 0
        assert client.read_to_end() == b""


def test_few_open_files_bound_the_connections_and_nothing_else(
    tmp_path: Path, upstream: RecordingUpstream, token: str
) -> None:
    # K23, R28
    request = b"GET /things/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
        gateway_process(tmp_path, upstream, listener, files=192) as (process, admin),
        RawClient(listener.getsockname()[1]) as early,
    ):
        early.send(request)
        assert early.read().status == 200
        crowd = [RawClient(listener.getsockname()[1]) for _ in range(300)]
        try:
            early.send(request)
            assert early.read().status == 200
            with closing(http.client.HTTPConnection("127.0.0.1", admin, timeout=5)) as operator:
                operator.request("GET", "/livez")
                assert operator.getresponse().status == 200
            used = processor_seconds(process.pid)
            time.sleep(0.5)
            # It waits for who comes and goes; an accept loop that spins would have used half a second.
            assert processor_seconds(process.pid) - used < 0.25
        finally:
            for client in crowd:
                client.close()

        def served() -> bool:
            with RawClient(listener.getsockname()[1]) as late:
                late.send(request)
                return late.read_to_end_of_head().startswith(b"HTTP/1.1 200")

        until(served, "the recovery")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_reload_before_it_serves_does_not_end_it(tmp_path: Path, upstream: RecordingUpstream, token: str) -> None:
    # R26
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        gateway_process(tmp_path, upstream, listener, reloads_early=True) as (process, _),
        RawClient(listener.getsockname()[1]) as client,
    ):
        for _ in range(50):
            process.send_signal(signal.SIGHUP)
        client.send(b"GET /things/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode())

        assert client.read().status == 200
        assert process.poll() is None
