"""The gateway one would write first, on uvicorn."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bench.candidates.kind import DUMMY_TOKEN, Candidate, Service, Site
from bench.processes import CannotRun, free_port, started, wait_until_listening
from bench.versions import of_packages


def _start(site: Site, stack: ExitStack) -> Service:
    if find_spec("httpx") is None:
        raise CannotRun("the Python package httpx is not installed")

    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.apps.naive:app", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
    env = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "NAIVE_UPSTREAM": f"http://127.0.0.1:{site.upstream_port}",
        "NAIVE_TOKEN": DUMMY_TOKEN,
    }
    process = stack.enter_context(started("naive", command, core=site.core, folder=site.folder, env=env))
    return Service(port, (process,), wait_until_listening(process, port))


CANDIDATES: Final = (
    Candidate(
        "naive",
        "what one would write first: Starlette + httpx, patterns in a list, GraphQL parsed each time",
        _start,
        lambda: of_packages("starlette", "httpx", "uvicorn", "graphql-core"),
        judges=True,
    ),
)
