"""What ships in `deploy/`, judged by the tools that read it."""

from __future__ import annotations

import http.server
import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from gateway.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMMAND = "/opt/bearergate/bin/bearergate"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def assert_silent(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr + (done.stdout if done.returncode else "")) == (0, "")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(BIN / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_runs_as_nobody_special_from_a_pinned_base() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()

    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]


def test_everything_that_the_image_copies_is_let_through_and_nothing_else() -> None:
    copied = [
        source
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()

    assert "*" in ignored
    assert sorted(copied) == sorted(line[1:] for line in ignored if line.startswith("!"))


def test_the_compose_file_is_well_formed() -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")

    assert_silent(done)


def test_the_compose_file_mounts_files_that_exist_and_publishes_on_loopback_alone() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]

    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), port
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "image" not in service or not service["image"].endswith(":latest")
    assert not any(port.endswith(":9090") for port in services["gateway"]["ports"])


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    # `verify` wants the command to exist; it returns 0 for an unknown key, so its warnings are what counts.
    unit = tmp_path / "bearergate.service"
    unit.write_text((DEPLOY / "bearergate.service").read_text().replace(COMMAND, sys.executable))

    assert_silent(run("systemd-analyze", "verify", "--man=no", unit))


@needs_systemd
def test_a_misspelt_key_in_the_unit_would_be_seen(tmp_path: Path) -> None:
    unit = tmp_path / "bearergate.service"
    text = (DEPLOY / "bearergate.service").read_text().replace(COMMAND, sys.executable)
    unit.write_text(text.replace("PrivateTmp=yes", "PrivateTemp=yes"))

    assert "PrivateTemp" in run("systemd-analyze", "verify", "--man=no", unit).stderr


@needs_systemd
def test_the_unit_takes_away_what_the_gateway_does_not_need() -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "bearergate.service")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_starts_what_the_instructions_install() -> None:
    unit = (DEPLOY / "bearergate.service").read_text()
    instructions = (ROOT / "docs/operations.md").read_text()

    assert f"ExecStart={COMMAND} serve" in unit
    assert f"venv {COMMAND.removesuffix('/bin/bearergate')}\n" in instructions
    assert {line.split("=")[1] for line in unit.splitlines() if line.startswith("User=")} == {"bearergate"}
    assert "useradd --system" in instructions


@pytest.mark.parametrize("with_what_is_commented_out", [False, True])
def test_the_example_of_the_units_variables_is_accepted(
    monkeypatch: pytest.MonkeyPatch, with_what_is_commented_out: bool
) -> None:
    text = (DEPLOY / "bearergate.env.example").read_text()
    if with_what_is_commented_out:
        text = text.replace("\n#BEARERGATE_", "\nBEARERGATE_")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value.strip("'"))

    settings = read_settings()

    assert settings.upstreams == {"notes": "http://127.0.0.1:9000"}
    assert (settings.public_scheme == "https") is with_what_is_commented_out


@needs_promtool
def test_promtool_accepts_the_alerts() -> None:
    assert_silent(run("promtool", "check", "rules", DEPLOY / "prometheus/alerts.yml"))


@needs_promtool
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    assert_silent(run("promtool", "test", "rules", "alerts.test.yml", cwd=DEPLOY / "prometheus"))


@needs_promtool
def test_promtool_accepts_the_scrape_configuration() -> None:
    assert_silent(run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"))


@pytest.mark.parametrize("path", sorted((DEPLOY / "grafana").rglob("*.yaml")), ids=lambda path: path.name)
def test_provisioning_is_of_version_one(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["apiVersion"] == 1


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


@pytest.fixture
def admin_listener() -> Iterator[Callable[[int], int]]:
    """Starts a server that answers `/livez` with a status, and gives its port."""
    servers: list[http.server.HTTPServer] = []
    threads: list[threading.Thread] = []

    def start(status: int) -> int:
        server = http.server.HTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"status": status}))
        servers.append(server)
        threads.append(threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}))
        threads[-1].start()
        return int(server.server_address[1])

    yield start
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_healthcheck_asks_whether_the_gateway_is_live(
    admin_listener: Callable[[int], int], status: int, code: int
) -> None:
    port = admin_listener(status)

    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={**os.environ, "BEARERGATE_ADMIN_LISTEN": f"0.0.0.0:{port}"},
        check=False,
    )
    assert code == done.returncode


def test_the_healthcheck_is_bad_when_nobody_answers(admin_listener: Callable[[int], int]) -> None:
    is_live = runpy.run_path(str(DEPLOY / "healthcheck.py"))["is_live"]

    port = admin_listener(200)
    assert is_live(f":{port}")
    assert not is_live("127.0.0.1:1")


def test_the_healthcheck_reads_the_file_that_the_gateway_reads(
    admin_listener: Callable[[int], int], tmp_path: Path
) -> None:
    config = tmp_path / "bearergate.toml"
    config.write_text(f'admin_listen = "127.0.0.1:{admin_listener(200)}"\n')
    environment = {**os.environ, "BEARERGATE_CONFIG": str(config)}

    assert healthcheck(environment) == (0, "")
    assert healthcheck({**environment, "BEARERGATE_ADMIN_LISTEN": "127.0.0.1:1"}) == (1, "")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BEARERGATE_ADMIN_LISTEN": "nowhere"}, "healthcheck: `nowhere` is not `host:port`\n"),
        ({"BEARERGATE_ADMIN_LISTEN": "a:b"}, "healthcheck: `a:b` is not `host:port`\n"),
        ({"BEARERGATE_CONFIG": "/nonexistent/a.toml"}, "No such file"),
    ],
)
def test_the_healthcheck_says_in_a_line_what_it_cannot_use(variables: dict[str, str], said: str) -> None:
    code, errors = healthcheck({**os.environ, **variables})

    assert code == 1
    assert said in errors
    assert "Traceback" not in errors


def healthcheck(environment: dict[str, str]) -> tuple[int, str]:
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
