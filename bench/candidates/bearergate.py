"""Bearergate itself, all on: the shipped policy, key cache, metrics, access log to a file, every guard."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, free_port, started, wait_until_listening
from bench.versions import of_packages
from bench.workloads import USER

ROOT: Final = Path(__file__).parents[2]
COMPILED: Final = ROOT / "build" / "compiled"
SHIPPED: Final = ROOT / "policies" / "reference.yaml"
_MANY_ROUTES: Final = 10_000
_USER_TOKENS: Final = 8_000
_ISSUER: Final = "https://issuer.bench.invalid"
_AUDIENCE: Final = "bench"
_SCOPES: Final = ("USER_READ", "OFFLOADS_READ")

_BULK: Final = """
version: 1
scopes:
  USER_READ: {means: send and fetch large bodies}
  OFFLOADS_READ: {means: nothing here}
routes:
  - name: bulk.down
    match: GET /bulk/{name}
    upstream: rest
    allow: {api_key: USER_READ}
  - name: bulk.up
    match: POST /bulk/{name}
    upstream: rest
    allow: {api_key: USER_READ}
"""


def start_proxy(site: Site, stack: ExitStack, policy: Path | None = None, admin_port: int = 0) -> Service:
    """The proxy door with `policy`, by default the shipped one. Raises: CannotRun"""
    command = [sys.executable, "-m", "gateway", "serve"]
    return _start("bearergate", command, free_port(), site, stack, policy=policy, admin_port=admin_port)


def copy_shipped(folder: Path) -> Path:
    """The shipped policy and its schema in `folder`; the policy's path."""
    for path in (SHIPPED, SHIPPED.with_suffix(".graphql")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / SHIPPED.name


def _start_with_many_routes(site: Site, stack: ExitStack) -> Service:
    policy = site.folder / "policy"
    policy.mkdir()
    copy_shipped(policy)
    lines = ["version: 1", "routes:"]
    for number in range(_MANY_ROUTES):
        path = f"/many/{number % 100}/group{number // 100}/items" + ("/{id}" if number % 2 else "")
        rule = f'match: "GET {path}", upstream: rest, allow: {{api_key: USER_READ}}'
        lines.append(f"  - {{name: many.{number}, {rule}}}")
    (policy / "many.yaml").write_text("\n".join(lines) + "\n")
    return start_proxy(site, stack, policy)


def _start_interpreted(site: Site, stack: ExitStack) -> Service:
    command = [sys.executable, "-m", "gateway", "serve"]
    return _start("bearergate-interpreted", command, free_port(), site, stack, compiled=False)


def _start_with_new_users(site: Site, stack: ExitStack) -> Service:
    """Holds so few tokens that none of those sent in turn is known when it comes again."""
    command = [sys.executable, "-m", "gateway", "serve"]
    env = {"BEARERGATE_TOKEN_CACHE__MAX_ENTRIES": str(_USER_TOKENS // 8)}
    return _start("bearergate-new-users", command, free_port(), site, stack, env=env)


def _start_asgi(site: Site, stack: ExitStack) -> Service:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.apps.asgi_door:app", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--lifespan", "on"]
    return _start("bearergate-asgi", command, port, site, stack)


def _start(
    name: str,
    command: list[str],
    port: int,
    site: Site,
    stack: ExitStack,
    *,
    compiled: bool = True,
    policy: Path | None = None,
    admin_port: int = 0,
    env: dict[str, str] | None = None,
) -> Service:
    if compiled and not COMPILED.is_dir():
        raise CannotRun("the data path is not compiled: `make bench` does it where there is a C compiler")
    policy = policy or SHIPPED
    if site.is_bulk:
        policy = site.folder / "bulk.yaml"
        policy.write_text(_BULK)
    upstream = f"http://127.0.0.1:{site.upstream_port}"
    store = f"sqlite:///{site.folder / 'keys.sqlite3'}"
    log = site.folder / "access.log"
    token, app_id = _make_key(store)
    keys = site.folder / "jwks.json"
    user_tokens = tuple(_issued(app_id, keys))
    issuer = {"issuer": _ISSUER, "audience": _AUDIENCE, "jwks_file": str(keys), "app_claim": "client_id"}
    variables = {
        "PYTHONPATH": os.pathsep.join([str(COMPILED), str(ROOT)] if compiled else [str(ROOT)]),
        "BEARERGATE_POLICY": str(policy),
        "BEARERGATE_UPSTREAMS": json.dumps({"rest": upstream, "graphql": upstream}),
        "BEARERGATE_LISTEN": f"127.0.0.1:{port}",
        "BEARERGATE_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "BEARERGATE_STORE": store,
        "BEARERGATE_ACCESS_LOG": str(log),
        "BEARERGATE_ISSUERS": json.dumps({"bench": issuer}),
        **(env or {}),
    }
    process = stack.enter_context(started(name, command, core=site.core, folder=site.folder, env=variables))
    return Service(port, (process,), wait_until_listening(process, port, answers=True), token, user_tokens, log)


def _make_key(store: str) -> tuple[str, str]:
    """A token of a new key, and the App that it belongs to."""
    from gateway.assembly.keys import open_key_service
    from gateway.ports import StoreUnavailable

    try:
        with open_key_service(store, create=True) as service:
            app = service.create_app("bench")
            return service.create_key(app.id, name="bench", scopes=_SCOPES).token.reveal(), app.id
    except StoreUnavailable as error:
        raise CannotRun(f"no key could be made: {error}") from error


def _issued(app_id: str, keys: Path) -> Iterator[str]:
    """Tokens of one user, signed by a key of which `keys` gets the public half."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    key = ec.generate_private_key(ec.SECP256R1())
    entry = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "bench", "alg": "ES256"}
    keys.write_text(json.dumps({"keys": [entry]}))
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": USER, "client_id": app_id, "iat": now, "exp": now + 86_400}
    for number in range(_USER_TOKENS):
        headers = {"kid": "bench", "typ": "at+jwt"}
        yield jwt.encode({**claims, "jti": str(number)}, key, algorithm="ES256", headers=headers)


def _versions() -> dict[str, str]:
    return of_packages("bearergate", "mypy", "uvicorn", "uvloop", "httptools", "msgspec", "orjson", "graphql-core")


CANDIDATES: Final = (
    Candidate(
        "bearergate",
        "`bearergate serve`: key cache, shipped policy, metrics, access log to a file, all guards",
        start_proxy,
        _versions,
        judges=True,
        users="seen",
    ),
    Candidate(
        "bearergate-10000-routes",
        "the same with 10,000 routes more in its policy",
        _start_with_many_routes,
        _versions,
    ),
    Candidate(
        "bearergate-new-users",
        "the same with so few user tokens in memory that each one is verified anew",
        _start_with_new_users,
        _versions,
        users="new",
        only_workloads=("user-new",),
    ),
    Candidate(
        "bearergate-interpreted",
        "the same, as it runs where it was not compiled",
        _start_interpreted,
        _versions,
        judges=True,
    ),
    Candidate(
        "bearergate-asgi",
        "the compiled one through the ASGI door, on uvicorn with httptools",
        _start_asgi,
        _versions,
        judges=True,
    ),
)
