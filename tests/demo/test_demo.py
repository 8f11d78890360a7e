"""`bearergate demo` as a process: it says when it is ready, does what it prints, and leaves nothing behind."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.demo.running import RunningDemo, command_of, running_demo, send

_TRIAL = re.compile(r"^# (\d{3}): .*\n(curl .*)$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_that_is_printed_gets_the_status_that_is_printed(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        trials = _TRIAL.findall(demo.page)
        seen = [(expected, _status_of(command)) for expected, command in trials]

    assert len(trials) >= 12
    assert [expected for expected, _ in seen] == [status for _, status in seen]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_it_and_its_folder_is_gone(tmp_path: Path, number: signal.Signals) -> None:
    with running_demo(tmp_path) as demo:
        code = demo.end(number)

    assert code == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [_listens(address) for address in _addresses(demo)] == [False] * 4


def test_a_folder_that_was_given_keeps_the_store(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--dir", str(tmp_path / "kept")) as demo:
        demo.end(signal.SIGTERM)

    assert (tmp_path / "kept" / "demo.sqlite3").is_file()


def test_a_folder_with_the_store_of_an_earlier_demo_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    store = tmp_path / "demo.sqlite3"
    store.write_bytes(b"the keys of an earlier demo")

    done = subprocess.run(
        command_of("--port", "0", "--dir", str(tmp_path)), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    message = f"`{store}` is the store of an earlier demo; give `--dir` another folder, or delete this one"
    assert f"bearergate: the demo cannot start: {message}\n" == done.stderr
    assert store.read_bytes() == b"the keys of an earlier demo"
    assert [store] == list(tmp_path.iterdir())


def test_the_upstreams_die_with_a_demo_that_was_killed(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        upstream = urlsplit(demo.announcement.upstreams.rest)
        with socket.create_connection((upstream.hostname, upstream.port), timeout=60.0) as connection:
            demo.end(signal.SIGKILL)

            # The end of the connection is the end of the process behind it.
            assert connection.recv(1) == b""


def test_metrics_and_health_are_on_the_admin_address_and_not_on_the_gateway(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        inside = [send(demo.announcement.admin, "GET", path).status for path in ("/metrics", "/livez", "/readyz")]
        token = demo.token("USER_READ")
        outside = [
            send(demo.announcement.gateway, "GET", path, token).status for path in ("/metrics", "/livez", "/readyz")
        ]

    assert inside == [200, 200, 200]
    assert outside == [404, 404, 404]


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_busy_port_is_said_with_the_way_out(option: str) -> None:
    other = {"--port": "--admin-port", "--admin-port": "--port"}[option]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = subprocess.run(
            command_of(option, str(port), other, "0"), capture_output=True, text=True, timeout=60, check=False
        )

    assert done.returncode == 1
    assert f"port {port} is in use; choose another with `{option} N`, or `{option} 0`" in done.stderr


def _status_of(command: str) -> str:
    done = subprocess.run(shlex.split(command), capture_output=True, timeout=60, check=True)
    return done.stdout.split()[1].decode()


def _addresses(demo: RunningDemo) -> tuple[str, ...]:
    said = demo.announcement
    return (said.gateway, said.admin, said.upstreams.rest, said.upstreams.graphql)


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    with socket.socket() as client:
        return client.connect_ex((parts.hostname, parts.port)) == 0
