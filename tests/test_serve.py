"""The story of one gateway process: started by its command, used, changed while it runs, ended by a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.assembly.keys import open_key_service
from tests.support.recording_upstream import RecordingUpstream

POLICY = """
version: 1
scopes:
  READ: {means: read things}
  WRITE: {means: write things}
routes:
  - {name: things.read, match: "GET /things/{id}", upstream: things, allow: {api_key: READ}}
"""
WIDER = (
    POLICY
    + """  - {name: things.list, match: GET /things, upstream: things, allow: {api_key: READ}}
"""
)


class Serving(NamedTuple):
    """A running `bearergate serve`."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    folder: Path
    token: str
    key_id: str
    store: str


def bearergate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def status_of(url: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def eventually(expected: int, url: str, token: str, seconds: float) -> float:
    """Seconds until the status was seen; fails when it was not seen in time."""
    began = time.monotonic()
    while (seen := status_of(url, token)) != expected:
        assert time.monotonic() - began < seconds, f"still {seen} after {seconds} s"
    return time.monotonic() - began


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    recording = RecordingUpstream().start()
    yield recording
    recording.stop()


@pytest.fixture
def serving(tmp_path: Path, upstream: RecordingUpstream) -> Iterator[Serving]:
    with serving_gateway(tmp_path, upstream) as running:
        yield running


@contextmanager
def serving_gateway(tmp_path: Path, upstream: RecordingUpstream) -> Iterator[Serving]:
    """`bearergate serve` with a key, ended with the block."""
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    store = f"sqlite:///{tmp_path / 'keys.sqlite3'}"
    with open_key_service(store, create=True) as service:
        app = service.create_app("the App")
        new = service.create_key(app.id, name="a key", scopes=["READ"])
    errors = (tmp_path / "stderr").open("w+")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gateway", "serve", "--policy", str(tmp_path / "policy.yaml")),
            *("--upstream", f"things=http://127.0.0.1:{upstream.port}", "--store", store),
            *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            *("--access-log", str(tmp_path / "access.jsonl")),
        ],
        stderr=errors,
        text=True,
    )
    try:
        ports = None
        while ports is None:
            assert process.poll() is None, (tmp_path / "stderr").read_text()
            ports = re.search(
                r"serving on 127.0.0.1:(\d+), admin on 127.0.0.1:(\d+)", (tmp_path / "stderr").read_text()
            )
        url, admin = (f"http://127.0.0.1:{port}" for port in ports.groups())
        yield Serving(process, url, admin, tmp_path, new.token.reveal(), new.key.id, store)
    finally:
        process.kill()
        process.wait()
        errors.close()


def test_a_revocation_by_the_command_reaches_the_running_gateway_within_two_seconds(serving: Serving) -> None:
    assert status_of(f"{serving.url}/things/1", serving.token) == 200

    done = bearergate("keys", "revoke", serving.key_id, "--store", serving.store)
    assert done.returncode == 0, done.stderr

    assert eventually(401, f"{serving.url}/things/1", serving.token, 2.0) < 2.0


def test_a_key_made_after_its_gateway_started_works_at_once(serving: Serving) -> None:
    with open_key_service(serving.store) as service:
        app = service.create_app("another App")
        token = service.create_key(app.id, name="new", scopes=["READ"]).token.reveal()

    assert status_of(f"{serving.url}/things/1", token) == 200


def test_sighup_loads_a_new_policy_whole_and_keeps_the_old_one_when_it_is_wrong(serving: Serving) -> None:
    policy = serving.folder / "policy.yaml"
    assert status_of(f"{serving.url}/things", serving.token) == 404

    policy.write_text(WIDER, "utf-8")
    serving.process.send_signal(signal.SIGHUP)
    eventually(200, f"{serving.url}/things", serving.token, 10.0)

    policy.write_text(WIDER.replace("allow", "alow"), "utf-8")
    serving.process.send_signal(signal.SIGHUP)
    errors = serving.folder / "stderr"
    while "the old one stays in force" not in errors.read_text():
        assert serving.process.poll() is None
    assert status_of(f"{serving.url}/things", serving.token) == 200
    assert "policy.yaml:7:" in errors.read_text()
    with urllib.request.urlopen(f"{serving.admin}/metrics", timeout=10) as metrics:
        exposition = metrics.read().decode()
    assert "bearergate_policy_stale 1.0" in exposition
    assert 'bearergate_policy_reloads_total{result="refused"} 1.0' in exposition


def test_sigterm_ends_it_with_exit_code_0_and_every_request_is_in_the_log(serving: Serving) -> None:
    expected = [200, 401, 404]
    paths = (
        (f"{serving.url}/things/1", serving.token),
        (f"{serving.url}/things/1", None),
        (serving.url, serving.token),
    )
    assert expected == [status_of(url, token) for url, token in paths]

    serving.process.send_signal(signal.SIGTERM)

    assert serving.process.wait(10) == 0
    lines = (serving.folder / "access.jsonl").read_text().splitlines()
    assert expected == [json.loads(line)["status"] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policy", "no-such.yaml", "--upstream", "things=http://127.0.0.1:1"), "no-such.yaml"),
        (("--upstream", "things=http://127.0.0.1:1"), "policy: is missing"),
        (("--policy", "policy.yaml", "--upstream", "other=http://127.0.0.1:1"), "`things`"),
        (("--policy", "policy.yaml", "--upstream", "things=ftp://127.0.0.1"), "is not `http://host:port`"),
        (("--policy", "policy.yaml", "--upstream", "things"), "is not `NAME=http://host:port`"),
        (("--policy", "policy.yaml", "--upstream", "things=http://127.0.0.1:1", "--listen", "nowhere"), "`host:port`"),
        (
            ("--policy", "policy.yaml", "--upstream", "things=http://127.0.0.1:1", "--store", "redis://x/y"),
            "sqlite:///FILE",
        ),
    ],
)
def test_what_cannot_start_says_why_in_a_line_and_serves_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY, "utf-8")

    done = bearergate(
        "serve",
        "--admin-listen",
        "127.0.0.1:0",
        *(() if "--listen" in arguments else ("--listen", "127.0.0.1:0")),
        *arguments,
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_two_gateways_cannot_have_one_port(serving: Serving, tmp_path: Path, upstream: RecordingUpstream) -> None:
    port = serving.url.rpartition(":")[2]
    same = ("--listen", f"127.0.0.1:{port}", "--admin-listen", "127.0.0.1:0")

    done = bearergate(
        *("serve", "--policy", str(tmp_path / "policy.yaml"), "--store", serving.store, *same),
        *("--upstream", f"things=http://127.0.0.1:{upstream.port}"),
    )

    assert done.returncode == 1
    assert f"listen: cannot listen on `127.0.0.1:{port}`: Address already in use; choose another port" in done.stderr


def test_clients_and_operators_cannot_share_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: RecordingUpstream
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY, "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    done = bearergate(
        *("serve", "--policy", "policy.yaml", "--upstream", f"things=http://127.0.0.1:{upstream.port}"),
        *("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{port}"),
    )

    assert done.returncode == 1
    assert "admin_listen: cannot listen" in done.stderr


def test_readiness_ends_before_the_door_closes(
    tmp_path: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARERGATE_DRAIN_DELAY", "30")
    with serving_gateway(tmp_path, upstream) as serving:
        serving.process.send_signal(signal.SIGTERM)

        eventually(503, f"{serving.admin}/readyz", serving.token, 5.0)
        assert status_of(f"{serving.url}/things/1", serving.token) == 200


@pytest.mark.parametrize(
    ("host", "admin"),
    [
        ("127.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0", "127.0.0.1"),
        ("[::ffff:127.0.0.1]", "0.0.0.0"),
        ("OWN", "0.0.0.0"),
    ],
)
def test_an_upstream_that_is_a_listener_of_ours_by_another_spelling_is_refused(
    host: str, admin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I29
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY, "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    host = host.replace("OWN", own_address())

    done = bearergate(
        *("serve", "--policy", "policy.yaml", "--upstream", f"things=http://{host}:{port}"),
        *("--listen", "127.0.0.1:0", "--admin-listen", f"{admin}:{port}"),
    )

    assert done.returncode == 1
    assert "a listener of this gateway itself" in done.stderr


def own_address() -> str:
    """An address of this machine, not that of loopback where it has another. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        try:
            here.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(here.getsockname()[0])
