"""Caddy as a plain reverse proxy."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, free_port, program, started, wait_until_listening
from bench.versions import of_program

_CADDYFILE: Final = """
{{
	admin off
	auto_https off
}}
http://:{port} {{
	bind 127.0.0.1
	reverse_proxy 127.0.0.1:{upstream}
}}
"""


def _start(site: Site, stack: ExitStack) -> Service:
    caddy = program("caddy")
    if caddy is None:
        raise CannotRun("caddy is not installed")

    port = free_port()
    config = site.folder / "Caddyfile"
    config.write_text(_CADDYFILE.format(port=port, upstream=site.upstream_port))
    home = {name: str(site.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    # GOMAXPROCS follows the one core it is pinned to.
    process = stack.enter_context(
        started(
            "caddy",
            [caddy, "run", "--config", str(config), "--adapter", "caddyfile"],
            core=site.core,
            folder=site.folder,
            env=home,
        )
    )
    return Service(port, (process,), wait_until_listening(process, port))


CANDIDATES: Final = (
    Candidate(
        "caddy",
        "Caddy `reverse_proxy`, no authorization",
        _start,
        lambda: {"Caddy": of_program(program("caddy"), "version")},
    ),
)
