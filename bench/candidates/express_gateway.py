"""express-gateway from npm: key-auth with a scope, its store emulated in memory (no Redis between).

Installed into `bench/express-gateway/node_modules` on first use, by `npm ci` from the lock file there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, free_port, program, started, wait_until_listening
from bench.versions import of_program

_HOME: Final = Path(__file__).parents[1] / "express-gateway"
_PACKAGE: Final = _HOME / "node_modules" / "express-gateway"
_SCOPE: Final = "USER_READ"
_KEY_ID: Final = "0123456789abcde"


def _start(site: Site, stack: ExitStack) -> Service:
    node = program("node")
    if node is None:
        raise CannotRun("node is not installed")
    _install()

    port, admin_port = free_port(), free_port()
    config = site.folder / "config"
    config.mkdir()
    shutil.copytree(_PACKAGE / "lib" / "config" / "models", config / "models")
    # JSON is YAML.
    (config / "gateway.config.yml").write_text(json.dumps(_gateway_config(port, admin_port, site.upstream_port)))
    (config / "system.config.yml").write_text(json.dumps(_SYSTEM_CONFIG))
    env = {"LOG_LEVEL": "error", "NODE_ENV": "production", "http_proxy": "", "HTTP_PROXY": ""}
    process = stack.enter_context(
        started(
            "express-gateway",
            [node, str(_HOME / "server.js"), str(config)],
            core=site.core,
            folder=site.folder,
            env=env,
        )
    )
    seconds = wait_until_listening(process, port, limit_seconds=60.0)
    wait_until_listening(process, admin_port)
    return Service(port, (process,), seconds, token=_make_key(admin_port))


def _install() -> None:
    if (_PACKAGE / "package.json").is_file():
        return

    npm = program("npm")
    if npm is None:
        raise CannotRun("npm is not installed, so express-gateway could not be fetched")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRun("npm ci did not end within 600 s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "warn" not in line]
        raise CannotRun(f"npm ci failed: {' / '.join(errors)[:300]}")


def _make_key(admin_port: int) -> str:
    _post(admin_port, "/scopes", {"scopes": [_SCOPE]})
    user = _post(admin_port, "/users", {"username": "bench", "firstname": "b", "lastname": "b"})
    answer = _post(
        admin_port,
        "/credentials",
        {
            "consumerId": user["id"],
            "type": "key-auth",
            "credential": {"scopes": [_SCOPE], "keyId": _KEY_ID, "keySecret": "0123456789ABCDEFGHIJKLMNOP"},
        },
    )
    return f"{answer['keyId']}:{answer['keySecret']}"


def _post(port: int, path: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            content = answer.read()
    except OSError as error:
        raise CannotRun(f"the admin API of express-gateway refused {path}: {error}") from error
    found = json.loads(content) if content else {}
    return found if isinstance(found, dict) else {}


def _gateway_config(port: int, admin_port: int, upstream_port: int) -> dict[str, object]:
    proxy = {"action": {"serviceEndpoint": "api", "changeOrigin": True}}
    key_auth = {"action": {"apiKeyHeader": "Authorization", "apiKeyHeaderScheme": "Bearer", "disableQueryParam": True}}
    return {
        "http": {"port": port, "hostname": "127.0.0.1"},
        "admin": {"port": admin_port, "host": "127.0.0.1"},
        "apiEndpoints": {"all": {"host": "*", "paths": "/*", "scopes": [_SCOPE]}},
        "serviceEndpoints": {"api": {"url": f"http://127.0.0.1:{upstream_port}"}},
        "policies": ["key-auth", "proxy"],
        "pipelines": {"main": {"apiEndpoints": ["all"], "policies": [{"key-auth": [key_auth]}, {"proxy": [proxy]}]}},
    }


_SYSTEM_CONFIG: Final = {
    "db": {"redis": {"emulate": True, "namespace": "EG"}},
    "crypto": {"cipherKey": "only for the bench", "algorithm": "aes256", "saltRounds": 10},
    "session": {"secret": "only for the bench", "resave": False, "saveUninitialized": False},
    "accessTokens": {"timeToExpiry": 7200000},
    "refreshTokens": {"timeToExpiry": 7200000},
    "authorizationCodes": {"timeToExpiry": 300000},
}


def _versions() -> dict[str, str]:
    package = _PACKAGE / "package.json"
    version = json.loads(package.read_text())["version"] if package.is_file() else "not installed"
    return {"express-gateway": str(version), "Node": of_program(program("node"), "--version")}


CANDIDATES: Final = (
    Candidate(
        "express-gateway",
        "express-gateway, key-auth and one scope, store emulated in memory",
        _start,
        _versions,
        judges=True,
    ),
)
