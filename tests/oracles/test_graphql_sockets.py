"""The reference clients and servers of both GraphQL protocols over WebSockets, with the gateway between them.

They come from npm, in the versions that `graphql_socket/package.json` names.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from gateway.assembly.keys import open_key_service
from gateway.core.reasons import Reason
from tests.support.gateway import POLICY, Key, RunningGateway, running_gateway

SAFETY_SECONDS = 20.0
PROTOCOLS = ("graphql-transport-ws", "graphql-ws")
HERE = Path(__file__).with_name("graphql_socket")
ROUTES = """\
  - name: {name}
    match: POST /{name}
    upstream: {name}
    graphql:
      websocket: init
      fields:
        Query.item: {{api_key: READ}}
        Mutation.add: {{api_key: WRITE}}
        Subscription.count: {{api_key: READ}}
        Subscription.ticks: {{api_key: READ}}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    for name in ("package.json", "server.js", "client.js"):
        shutil.copy(HERE / name, folder)
    command = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=3"]
    try:
        installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install did not end")
    if installed.returncode:
        pytest.skip(f"npm install failed: {installed.stderr[-300:]}")
    return folder


class Server:
    """A reference server, and what it says."""

    def __init__(self, said: IO[str]) -> None:
        self.said = said
        self.port = int(said.readline())

    def hears_init(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.said.readline())
        return heard


@contextmanager
def server_of(packages: Path, protocol: str) -> Iterator[Server]:
    with subprocess.Popen(
        ["node", "server.js", protocol], cwd=packages, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Server(process.stdout)
        process.stdin.close()
        process.wait(SAFETY_SECONDS)


@pytest.fixture(scope="module")
def servers(packages: Path) -> Iterator[dict[str, Server]]:
    with server_of(packages, PROTOCOLS[0]) as newer, server_of(packages, PROTOCOLS[1]) as older:
        yield dict(zip(PROTOCOLS, (newer, older), strict=True))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Server]) -> Iterator[RunningGateway]:
    upstreams = {name: f"http://127.0.0.1:{server.port}" for name, server in servers.items()}
    upstreams["rest"] = upstreams[PROTOCOLS[0]]
    policy = POLICY + "".join(ROUTES.format(name=name) for name in PROTOCOLS)
    with running_gateway(tmp_path_factory.mktemp("gateway"), policy=policy, upstreams=upstreams) as running:
        yield running


@contextmanager
def client_of(
    packages: Path,
    gateway: RunningGateway,
    protocol: str,
    key: Key,
    *operations: str,
    in_init: bool = False,
    stays: bool = False,
) -> Iterator[IO[str]]:
    bearer = f"Bearer {key.token.decode()}"
    asked = {
        "url": f"ws://127.0.0.1:{gateway.port}/{protocol}",
        "protocol": protocol,
        "header": "" if in_init else bearer,
        "params": {"client": "test", **({"Authorization": bearer} if in_init else {})},
        "operations": operations,
        "stays": stays,
    }
    with subprocess.Popen(
        ["node", "client.js", json.dumps(asked)], cwd=packages, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
            process.wait(SAFETY_SECONDS)
        finally:
            process.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("in_init", [False, True], ids=["header", "init"])
def test_g39_reference_clients_and_servers_understand_each_other(
    packages: Path, gateway: RunningGateway, servers: dict[str, Server], protocol: str, in_init: bool
) -> None:
    key = gateway.new_key("READ")
    operations = ("{item}", "subscription {count(to: 3)}", "subscription {secret}", "mutation {add(n: 1)}")
    with client_of(packages, gateway, protocol, key, *operations, in_init=in_init) as said:
        heard = [json.loads(said.readline()) for _ in operations]

    assert heard == [
        {"heard": [{"data": {"item": "an item"}}]},
        {"heard": [{"data": {"count": 1}}, {"data": {"count": 2}}, {"data": {"count": 3}}]},
        {"heard": [], "error": ["FIELD_NOT_ALLOWED"]},
        {"heard": [], "error": ["SCOPE_MISSING"]},
    ]
    assert servers[protocol].hears_init() == {"params": {"client": "test"}, "key": key.key_id.decode()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_g39_a_subscription_ends_with_its_key(
    packages: Path, gateway: RunningGateway, servers: dict[str, Server], protocol: str
) -> None:
    key = gateway.new_key("READ")
    with client_of(packages, gateway, protocol, key, "subscription {ticks}", stays=True) as said:
        assert json.loads(said.readline()) == {"data": {"ticks": 0}}
        with open_key_service(gateway.settings.store) as service:
            service.revoke_key(key.key_id.decode())
        gateway.read_changes()
        gateway.pass_time(1.1)
        while "ticks" in (line := said.readline()):
            pass
        assert json.loads(line) == {"closed": 4403, "reason": "credential revoked"}
    servers[protocol].hears_init()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_g40_a_bad_token_in_the_init_is_told_by_the_close_code(
    packages: Path, gateway: RunningGateway, protocol: str
) -> None:
    gateway.forget()
    with client_of(packages, gateway, protocol, gateway.keys.revoked, "{item}", in_init=True) as said:
        assert json.loads(said.readline())["closed"] == 4401

    assert [outcome.reason for outcome in gateway.outcomes] == [Reason.TOKEN_REVOKED]
