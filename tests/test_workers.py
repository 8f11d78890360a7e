"""Several processes that serve as one: `bearergate serve --workers`, with real processes, kills and signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.assembly.keys import open_key_service
from gateway.settings import read_settings, settings_from, settings_text
from tests.assembly.test_listening import certificate
from tests.support.raw import RawClient
from tests.support.recording_upstream import RecordingUpstream, Step, answer
from tests.test_restart import Caller

SAFETY_SECONDS = 40.0
POLICY = """\
version: 1
scopes:
  READ: {means: read things}
routes:
  - {name: things, match: "GET /things/{id}", upstream: things, allow: {api_key: READ}}
"""
WIDER = POLICY + "  - {name: all, match: GET /things, upstream: things, allow: {api_key: READ}}\n"


class Crew:
    """A supervisor, its workers, and a key."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, said: Path, token: str, key_id: str) -> None:
        self.process = process
        self.folder = folder
        self.said = said
        self.port = 0
        self.admin = 0
        self.key_id = key_id
        self.token = token
        self.line = b"GET %%b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()

    @property
    def workers(self) -> list[int]:
        """Their process numbers now."""
        return children_of(self.process.pid)

    def ask(self, client: RawClient, path: bytes = b"/things/1") -> int:
        client.send(self.line % path)
        return client.read().status

    def admin_answer(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as said:
                return int(said.status), said.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def metric(self, series: str) -> float:
        """The sum of all series that begin like this."""
        _, text = self.admin_answer("/metrics")
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))

    def on_every_worker(self, held: ExitStack, count: int = 6) -> list[RawClient]:
        """Connections that have been used, to all of the workers."""
        clients = [held.enter_context(RawClient(self.port)) for _ in range(count)]
        assert [200] * count == [self.ask(client) for client in clients]
        assert all(connections_of(worker, self.port) for worker in self.workers)
        return clients

    def is_whole(self) -> bool:
        return self.metric('bearergate_workers{state="ready"}') == 2


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return sorted(map(int, found.read_text().split())) if found.exists() else []


def connections_of(pid: int, port: int) -> int:
    """Connections from clients that a process holds."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line[9] for line in lines if line[3] == "01" and int(line[1].partition(":")[2], 16) == port]
    return len(inodes.intersection(established))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(holds: Callable[[], bool], what: str, seconds: float = SAFETY_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    recording = RecordingUpstream().start()
    yield recording
    recording.stop()


def command(folder: Path, target: RecordingUpstream, listen: str, **changed: str) -> list[str]:
    options = {
        "policy": str(folder / "policy.yaml"),
        "upstream": f"things=http://127.0.0.1:{target.port}",
        "store": f"sqlite:///{folder / 'keys.sqlite3'}",
        "access-log": "none",
        "listen": listen,
        "admin-listen": "127.0.0.1:0",
        "workers": "2",
    } | changed
    words = [sys.executable, "-m", "gateway", "serve"]
    return words + [word for name, value in options.items() for word in (f"--{name}", value)]


@contextmanager
def crew(
    folder: Path,
    upstream: RecordingUpstream,
    *,
    listen: str = "127.0.0.1:0",
    timeout: str = "",
    drain: str = "10",
    **environment: str,
) -> Iterator[Crew]:
    """Two workers and their supervisor, ended with the block."""
    (folder / "policy.yaml").write_text(POLICY, "utf-8")
    with open_key_service(f"sqlite:///{folder / 'keys.sqlite3'}", create=True) as service:
        new = service.create_key(service.create_app("the App").id, name="a key", scopes=["READ"])
    said = folder / f"stderr-{time.monotonic_ns()}"
    # A machine that runs other tests beside this one is slow to look a key up, and to take its turn.
    calm = {"BEARERGATE_KEY_CACHE__LOOKUP_TIMEOUT": "30", "BEARERGATE_MAX_LOOP_LAG": "30"}
    calm |= {"BEARERGATE_WORKER_TIMEOUT": timeout, "BEARERGATE_DRAIN": drain}
    descriptors = (int(listen.removeprefix("fd:")),) if listen.startswith("fd:") else ()
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command(folder, upstream, listen),
            stderr=errors,
            env=os.environ | calm | environment,
            pass_fds=descriptors,
        )
    running = Crew(process, folder, said, new.token.reveal(), new.key.id)
    workers: list[int] = []
    try:
        found = None
        end = time.monotonic() + SAFETY_SECONDS
        while found is None:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            found = re.search(r"serving on .+:(\S+), admin on 127.0.0.1:(\d+)", said.read_text())
            time.sleep(0.02)
        running.port, running.admin = int(found[1]) if found[1].isdigit() else 0, int(found[2])
        yield running
    finally:
        workers = running.workers
        process.kill()
        process.wait()
        until(lambda: not any(map(is_running, workers)), "the end of the workers")


def test_a_worker_has_the_settings_of_its_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGATE_KEY_CACHE__TTL", "7")
    monkeypatch.setenv("BEARERGATE_UPSTREAMS", '{"other": "http://127.0.0.1:2"}')
    (tmp_path / "settings.toml").write_text('drain = 3.5\ntrusted_proxies = ["10.0.0.0/8"]\n', "utf-8")
    settings = read_settings(
        tmp_path / "settings.toml",
        policy=tmp_path / "policy.yaml",
        upstreams={"things": "http://127.0.0.1:1"},
        upstream_defaults={"ca_file": "/ca.pem", "certificate": "/own.pem"},
        upstream_options={"things": {"eject_after": 2}},
        issuers={
            "sessions": {
                "issuer": "https://id.example.org",
                "introspection_url": "https://id.example.org/introspect",
                "client_id": "gateway",
                "client_secret": "the secret",
                "app": "app-1",
            }
        },
        workers=2,
    )

    worker = settings_from(settings_text(settings))

    assert settings.model_dump() == worker.model_dump()
    # What one upstream leaves out is still as it is for all: above all, whose certificates are trusted (R31).
    assert settings.options_of("things") == worker.options_of("things")
    secret = worker.issuers["sessions"].client_secret
    assert secret is not None
    assert "the secret" == secret.get_secret_value()
    assert "the secret" not in settings.model_dump_json() + repr(settings)


def test_workers_share_a_socket_and_their_metrics_are_one_sum_that_survives_them(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    # R14
    with crew(tmp_path, upstream) as running, ExitStack() as held:
        assert len(running.workers) == 2
        clients = running.on_every_worker(held)
        assert [200] * 6 == [running.ask(client) for client in clients]
        assert running.metric("bearergate_requests_total") == 12
        assert running.metric("bearergate_request_duration_seconds_count") == 12
        assert running.metric("bearergate_client_connections") == 6

        killed, other = running.workers
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(set(running.workers) - {killed, other}) == 1, "another worker", 2.0)
        assert running.metric("bearergate_requests_total") == 12
        until(running.is_whole, "the worker's readiness")

        assert running.metric("bearergate_requests_total") == 12
        assert running.metric("bearergate_worker_restarts_total") == 1
        assert "worker 1 was ended by SIGKILL" in running.admin_answer("/readyz")[1]
        assert running.metric("bearergate_client_connections") < 6
        with RawClient(running.port) as client:
            assert running.ask(client) == 200
        assert running.metric("bearergate_requests_total") == 13


def test_a_worker_that_is_killed_takes_only_its_own_requests_along(tmp_path: Path, upstream: RecordingUpstream) -> None:
    # R14: the queue of those who wait to be accepted is everybody's.
    with crew(tmp_path, upstream) as running:
        callers = [Caller(running.port, running.token, keeps_alive=number % 2 == 0) for number in range(6)]
        try:
            until(lambda: sum(len(caller.statuses) for caller in callers) > 60, "answers")
            os.kill(running.workers[0], signal.SIGKILL)
            answered = sum(len(caller.statuses) for caller in callers)
            until(lambda: sum(len(caller.statuses) for caller in callers) > answered + 60, "more answers")
        finally:
            for caller in callers:
                caller.stop()

        assert {status for caller in callers for status in caller.statuses} == {200}
        assert all(len(caller.faults) <= 1 for caller in callers)
        assert any(not caller.faults for caller in callers)


def test_workers_end_with_their_supervisor_and_the_next_one_can_listen(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    # R15
    upstream.script((Step.WAIT, answer()))
    with crew(tmp_path, upstream) as running, RawClient(running.port) as client:
        workers = running.workers
        client.send(running.line % b"/things/1")
        upstream.wait_until(lambda: len(upstream.requests) == 1, "the request")
        running.process.kill()
        running.process.wait()
        began = time.monotonic()

        def is_free() -> bool:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", running.port)):
                return True
            return False

        until(is_free, "a free port", 5.0)
        until(lambda: not any(map(is_running, workers)), "the end of the workers", 5.0)
        assert time.monotonic() - began < 4.0


def test_a_reload_reaches_every_worker_or_none_and_those_that_come_later(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    with crew(tmp_path, upstream) as running, ExitStack() as held:
        clients = running.on_every_worker(held)
        assert [404] * 6 == [running.ask(client, b"/things") for client in clients]

        (tmp_path / "policy.yaml").write_text(WIDER, "utf-8")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: [running.ask(client, b"/things") for client in clients] == [200] * 6, "the new policy")

        (tmp_path / "policy.yaml").write_text(WIDER.replace("allow", "alow"), "utf-8")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.metric("bearergate_policy_stale") == 1, "the refusal")
        assert [200] * 6 == [running.ask(client, b"/things") for client in clients]
        assert running.metric('bearergate_policy_reloads_total{result="loaded"}') == 1
        assert running.metric('bearergate_policy_reloads_total{result="refused"}') == 1
        assert running.metric("bearergate_policy_info") == 1
        assert "policy.yaml:" in running.admin_answer("/readyz")[1]

        # The file is still broken: who starts now has the policy that is in force.
        os.kill(running.workers[0], signal.SIGKILL)
        until(running.is_whole, "another worker")
        clients = running.on_every_worker(held)
        assert [200] * 6 == [running.ask(client, b"/things") for client in clients]


def test_a_revocation_reaches_every_worker_within_two_seconds(tmp_path: Path, upstream: RecordingUpstream) -> None:
    # H22
    with crew(tmp_path, upstream) as running, ExitStack() as held:
        clients = running.on_every_worker(held)
        with open_key_service(f"sqlite:///{tmp_path / 'keys.sqlite3'}") as service:
            service.revoke_key(running.key_id)

        until(lambda: [running.ask(client) for client in clients] == [401] * 6, "the revocation", 2.0)


def test_a_drain_lets_the_requests_of_every_worker_end(tmp_path: Path, upstream: RecordingUpstream) -> None:
    # R25
    with crew(tmp_path, upstream) as running, ExitStack() as held:
        clients = running.on_every_worker(held)
        for _ in clients:
            upstream.script((Step.WAIT, answer()))
        for client in clients:
            client.send(running.line % b"/things/1")
        upstream.wait_until(lambda: len(upstream.requests) == 12, "the requests")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: running.admin_answer("/readyz")[0] == 503, "the end of readiness", 5.0)
        upstream.go_on()

        assert [200] * 6 == [client.read().status for client in clients]
        assert running.process.wait(SAFETY_SECONDS) == 0
        assert "stopped" in running.said.read_text()


def test_no_request_fails_while_one_supervisor_takes_over_from_another(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    # R25
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        descriptor = os.dup(listener.fileno())
        callers: list[Caller] = []
        with crew(tmp_path, upstream, listen=f"fd:{descriptor}", BEARERGATE_DRAIN_DELAY="0.5") as old:
            callers = [Caller(old.port, old.token, keeps_alive=number % 2 == 0) for number in range(4)]
            try:
                until(lambda: sum(len(caller.statuses) for caller in callers) > 40, "answers")
                with crew(tmp_path, upstream, listen=f"fd:{descriptor}", BEARERGATE_DRAIN_DELAY="0.5"):
                    old.process.send_signal(signal.SIGTERM)
                    assert old.process.wait(SAFETY_SECONDS) == 0
                    answered = sum(len(caller.statuses) for caller in callers)
                    until(lambda: sum(len(caller.statuses) for caller in callers) > answered + 40, "more answers")
                    for caller in callers:
                        caller.stop()
            finally:
                for caller in callers:
                    caller.stop()
        os.close(descriptor)

    assert [fault for caller in callers for fault in caller.faults] == []
    assert {status for caller in callers for status in caller.statuses} == {200}


def test_workers_speak_tls_and_leave_no_path_behind(tmp_path: Path, upstream: RecordingUpstream) -> None:
    made, key = certificate(tmp_path)
    tls = {"BEARERGATE_TLS_CERTIFICATE": str(made), "BEARERGATE_TLS_KEY": str(key)}
    path = tmp_path / "http.sock"
    trust = ssl.create_default_context(cafile=str(made))
    with crew(tmp_path, upstream, listen=f"unix:{path}", **tls) as running:
        for _ in range(4):
            with socket.socket(socket.AF_UNIX) as plain:
                plain.connect(str(path))
                with trust.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(running.line % b"/things/1")
                    assert client.recv(64).startswith(b"HTTP/1.1 200 ")
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            plain.sendall(running.line % b"/things/1")
            assert not plain.recv(64).startswith(b"HTTP/")
        assert running.metric("bearergate_requests_total") == 4
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(SAFETY_SECONDS) == 0
        assert not path.exists()


def test_whoever_asks_twice_does_not_wait_for_the_workers(tmp_path: Path, upstream: RecordingUpstream) -> None:
    # R26
    upstream.script((Step.WAIT, b""))
    with crew(tmp_path, upstream, drain="600") as running, RawClient(running.port) as client:
        client.send(running.line % b"/things/1")
        upstream.wait_until(lambda: len(upstream.requests) == 1, "the request")
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(0.5)
        running.process.send_signal(signal.SIGTERM)

        assert running.process.wait(5) == 0
        assert client.read_to_end() == b""


def test_a_worker_that_hangs_holds_up_nobody_and_is_replaced(tmp_path: Path, upstream: RecordingUpstream) -> None:
    with crew(tmp_path, upstream, timeout="4") as running, ExitStack() as held:
        running.on_every_worker(held)
        assert running.metric("bearergate_requests_total") == 6
        hung = running.workers[0]
        os.kill(hung, signal.SIGSTOP)

        began = time.monotonic()
        assert running.metric("bearergate_requests_total") == 6
        assert time.monotonic() - began < 2.5
        until(lambda: "worker 1 has not answered" in running.admin_answer("/readyz")[1], "the notice")
        status, _ = running.admin_answer("/readyz")
        assert status == 200
        with RawClient(running.port) as client:
            assert running.ask(client) == 200
        until(lambda: not is_running(hung), "the end of the one that hangs")
        until(running.is_whole, "another worker")
        assert running.metric("bearergate_requests_total") == 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"policy": "no-such.yaml"}, "no-such.yaml"),
        ({"upstream": "other=http://127.0.0.1:1"}, "`things`"),
        ({"store": "sqlite:////no/such/folder/keys.sqlite3"}, "/no/such/folder"),
        ({"listen": "192.0.2.1:80"}, "cannot listen"),
    ],
)
def test_what_cannot_start_says_why_once_and_leaves_nobody_behind(
    changed: dict[str, str], said: str, tmp_path: Path, upstream: RecordingUpstream
) -> None:
    # R27
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")

    done = subprocess.run(
        command(tmp_path, upstream, **({"listen": "127.0.0.1:0"} | changed)),
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )

    assert done.returncode == 1
    assert ["bearergate:"] == [line.split()[0] for line in done.stderr.splitlines() if said in line]
    assert "Traceback" not in done.stderr


def test_a_stop_while_it_starts_ends_it_at_once_with_its_workers(tmp_path: Path, upstream: RecordingUpstream) -> None:
    # R26
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    process = subprocess.Popen(command(tmp_path, upstream, "127.0.0.1:0"), stderr=subprocess.DEVNULL)
    try:
        until(lambda: bool(children_of(process.pid)), "a worker")
        workers = children_of(process.pid)
        process.send_signal(signal.SIGTERM)

        assert process.wait(2) == 0
        assert not any(map(is_running, workers))
    finally:
        process.kill()
        process.wait()
