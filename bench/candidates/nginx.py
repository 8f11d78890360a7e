"""nginx: the upstream of every run, the plain proxy that all are compared to, and `auth_request`."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, Process, free_port, program, started, wait_until_listening
from bench.versions import of_packages, of_program
from bench.workloads import ANSWER, GRAPHQL_ANSWER, GRAPHQL_PATH

_FRAME: Final = """
daemon off; pid {folder}/nginx.pid; error_log stderr error; worker_processes 1; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{http}
}}
"""

_UPSTREAM: Final = """
  server {{
    listen 127.0.0.1:{port}; default_type application/json;
    location / {{ return 200 '{answer}'; }}
    location = {graphql_path} {{ return 200 '{graphql_answer}'; }}
  }}
"""

_POOL: Final = """
  upstream {name} {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 1000000000; }}
"""

_PROXY: Final = """
  server {{
    listen 127.0.0.1:{port};
    location / {{ {auth} proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; {buffering} }}
    {more}
  }}
"""

_AUTH: Final = """
    location = /_auth { internal;
      proxy_pass http://auth/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header X-Original-URI $request_uri;
    }
"""

_UNBUFFERED: Final = "proxy_buffering off; proxy_request_buffering off;"


def start_upstream(folder: Path, core: int, stack: ExitStack, port: int = 0) -> int:
    """The upstream that answers GraphQL with `GRAPHQL_ANSWER`, all else with `ANSWER`; its port. Raises: CannotRun"""
    port = port or free_port()
    config = _UPSTREAM.format(
        port=port, answer=ANSWER.decode(), graphql_path=GRAPHQL_PATH, graphql_answer=GRAPHQL_ANSWER.decode()
    )
    _start("upstream", config, folder, core, port, stack)
    return port


def _start_plain(site: Site, stack: ExitStack, buffering: str = "") -> Service:
    port = free_port()
    config = _POOL.format(name="api", port=site.upstream_port)
    config += _PROXY.format(port=port, auth="", buffering=buffering, more="")
    process, seconds = _start("nginx", config, site.folder, site.core, port, stack)
    return Service(port, (process,), seconds)


def _start_unbuffered(site: Site, stack: ExitStack) -> Service:
    return _start_plain(site, stack, _UNBUFFERED)


def _start_auth_request(site: Site, stack: ExitStack) -> Service:
    auth, auth_port = start_always_yes(site, stack)
    port = free_port()
    config = _POOL.format(name="api", port=site.upstream_port) + _POOL.format(name="auth", port=auth_port)
    config += _PROXY.format(port=port, auth="auth_request /_auth;", buffering="", more=_AUTH)
    process, seconds = _start("nginx", config, site.folder, site.core, port, stack)
    return Service(port, (process, auth), seconds)


def start_always_yes(site: Site, stack: ExitStack) -> tuple[Process, int]:
    """The smallest decision service, on uvicorn: its process and its port. Raises: CannotRun"""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.apps.always_yes:app", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
    root = str(Path(__file__).parents[2])
    process = stack.enter_context(
        started("always-yes", command, core=site.core, folder=site.folder, env={"PYTHONPATH": root})
    )
    wait_until_listening(process, port)
    return process, port


def _start(name: str, http: str, folder: Path, core: int, port: int, stack: ExitStack) -> tuple[Process, float]:
    nginx = program("nginx")
    if nginx is None:
        raise CannotRun("nginx is not installed")

    # Started by root, nginx would give its workers to another user, who may not enter the scratch folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = folder / f"{name}.conf"
    config.write_text(_FRAME.format(folder=folder, user=user, http=http))
    process = stack.enter_context(
        started(name, [nginx, "-e", "stderr", "-p", str(folder), "-c", str(config)], core=core, folder=folder)
    )
    return process, wait_until_listening(process, port)


def _versions() -> dict[str, str]:
    return {"nginx": of_program(program("nginx"), "-v").removeprefix("nginx version: ")}


CANDIDATES: Final = (
    Candidate("nginx", "nginx `proxy_pass`, keep-alive upstream, no authorization", _start_plain, _versions),
    Candidate(
        "nginx-unbuffered",
        "the same with `proxy_buffering` and `proxy_request_buffering` off",
        _start_unbuffered,
        _versions,
    ),
    Candidate(
        "nginx-auth-request",
        "nginx `auth_request` to an always-yes ASGI app on uvicorn, both on the one core",
        _start_auth_request,
        lambda: _versions() | of_packages("uvicorn"),
    ),
)
