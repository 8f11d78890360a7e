"""A million keys in the cache of one process, compiled and interpreted: what they take of its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

from bench.candidates.bearergate import COMPILED, ROOT
from bench.processes import CannotRun, program

KEYS: Final = 1_000_000
_TIMEOUT_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Held:
    """What one process said of its full cache."""

    candidate: str
    keys: int
    filled_mib: float
    renewed_mib: float
    """Once three fifths of the keys had made room for others."""
    collection_ms: float
    """A full collection of the garbage collector, with the cache full."""


def measure_key_cache(candidate: str, core: int, keys: int = KEYS) -> Held:
    """Fill the cache in a process of its own, of the same code as `candidate`. Raises: CannotRun"""
    is_compiled = candidate == "bearergate"
    if is_compiled and not COMPILED.is_dir():
        raise CannotRun("the data path is not compiled: `make bench` does it where there is a C compiler")

    taskset = program("taskset")
    pin = [taskset, "--cpu-list", str(core)] if taskset is not None else []
    # -P: the folder that the bench was started in holds the sources, and would come first.
    path = os.pathsep.join([str(COMPILED), str(ROOT)] if is_compiled else [str(ROOT)])
    try:
        done = subprocess.run(
            [*pin, sys.executable, "-P", "-m", "bench.apps.key_cache", str(keys)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"{keys:,} keys were not cached within {_TIMEOUT_SECONDS} s") from error
    return held_of(candidate, is_compiled, done.stdout, done.stderr)


def held_of(candidate: str, is_compiled: bool, said: str, complained: str) -> Held:
    """What the process printed. Raises: CannotRun"""
    try:
        found = json.loads(said)
    except ValueError as error:
        last = (complained.strip().splitlines() or ["nothing"])[-1]
        raise CannotRun(f"the process that fills the cache said: {last[:300]}") from error
    if found.pop("is_compiled") is not is_compiled:
        raise CannotRun("the process that fills the cache did not run the code that was meant")
    return Held(candidate, **found)
