"""@graphql-hive/gateway from npm in proxy mode, with the schema at hand: each document parsed, checked and sent on.

Installed into `bench/hive-gateway/node_modules` on first use; `package.json` there pins its version.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, free_port, program, started, wait_until_listening
from bench.versions import of_program
from bench.workloads import GRAPHQL_PATH, SCHEMA

_HOME: Final = Path(__file__).parents[1] / "hive-gateway"
_PACKAGE: Final = _HOME / "node_modules" / "@graphql-hive" / "gateway"
_INSTALL_SECONDS: Final = 600


def _start(site: Site, stack: ExitStack) -> Service:
    if site.is_bulk:
        raise CannotRun("it serves GraphQL alone, and no large bodies")
    node = program("node")
    if node is None:
        raise CannotRun("node is not installed")
    _install()

    port = free_port()
    schema, config = site.folder / "schema.graphql", site.folder / "gateway.config.mjs"
    schema.write_text(SCHEMA)
    options = json.dumps({"graphqlEndpoint": GRAPHQL_PATH, "logging": False})
    config.write_text(f"export const gatewayConfig = {options};\n")
    command = [node, str(_PACKAGE / "dist" / "bin.js"), "proxy", f"http://127.0.0.1:{site.upstream_port}{GRAPHQL_PATH}"]
    command += ["--schema", str(schema), "--config-path", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"NODE_ENV": "production", "http_proxy": "", "HTTP_PROXY": ""}
    process = stack.enter_context(started("hive-gateway", command, core=site.core, folder=site.folder, env=env))
    return Service(port, (process,), wait_until_listening(process, port, limit_seconds=60.0))


def _install() -> None:
    if (_PACKAGE / "package.json").is_file():
        return

    npm = program("npm")
    if npm is None:
        raise CannotRun("npm is not installed, so @graphql-hive/gateway could not be fetched")
    command = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"npm install did not end within {_INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "warn" not in line]
        raise CannotRun(f"npm install failed: {' / '.join(errors)[:300]}")


def _versions() -> dict[str, str]:
    package = _PACKAGE / "package.json"
    version = json.loads(package.read_text())["version"] if package.is_file() else "not installed"
    return {"@graphql-hive/gateway": str(version), "Node": of_program(program("node"), "--version")}


CANDIDATES: Final = (
    Candidate(
        "hive-gateway",
        "@graphql-hive/gateway in proxy mode, GraphQL alone, no authorization",
        _start,
        _versions,
        only_workloads=("graphql",),
    ),
)
