"""Latency at a constant rate: `constant_rate.c`, compiled on the spot, and what it says.

A request is due at its time whether the ones before it were answered or not, and waits from then on: a stall is felt by
all that fall due in it, as it is by users, and not by the one that wrk would have sent.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.processes import CannotRun, program
from bench.workloads import Workload
from bench.wrk import CONNECTIONS, probe

DIRECT: Final = "direct"
"""The name of the row that asks the upstream itself."""
WARM_UP_SECONDS: Final = 1
_SOURCE: Final = Path(__file__).with_suffix(".c")


@dataclass(frozen=True, slots=True)
class Timed:
    """What one measurement says. `fault` is empty when every answer came, and was the expected one."""

    p50_micros: float
    p99_micros: float
    fault: str


@dataclass(slots=True)
class Latency:
    """One candidate at the common rate: what its rounds gave. With a `fault` its figures do not count."""

    candidate: str
    per_second: float
    rounds: list[Timed] = field(default_factory=list)
    fault: str = ""

    @property
    def is_valid(self) -> bool:
        return not self.fault and bool(self.rounds)

    @property
    def p50_micros(self) -> float:
        return statistics.median(timed.p50_micros for timed in self.rounds)

    @property
    def p99_micros(self) -> float:
        return statistics.median(timed.p99_micros for timed in self.rounds)


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked, where, and with which token."""

    name: str
    port: int
    token: str


def build_generator(folder: Path) -> Path:
    """The compiled generator. Raises: CannotRun"""
    compiler = program("cc") or program("gcc")
    if compiler is None:
        raise CannotRun("there is no C compiler, which the constant-rate generator needs")

    built = folder / "constant_rate"
    command = [compiler, "-O2", "-o", str(built), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise CannotRun(f"the constant-rate generator does not compile: {done.stderr.strip()[:300]}")
    return built


def measure_latency(
    targets: Sequence[Target],
    workload: Workload,
    per_second: float,
    *,
    rounds: int,
    seconds: int,
    core: int,
    folder: Path,
) -> list[Latency]:
    """All `targets` in turn, `rounds` times, at the same rate. Raises: CannotRun"""
    generator = build_generator(folder)
    rows = [Latency(target.name, per_second) for target in targets]
    for _ in range(rounds):
        for row, target in zip(rows, targets, strict=True):
            row.fault = row.fault or probe(workload, target.port, target.token)
            if row.fault:
                continue
            try:
                timed = _run(generator, workload, target, per_second, seconds, core, folder)
            except CannotRun as error:
                row.fault = str(error)
                continue
            row.rounds.append(timed)
            row.fault = timed.fault
    return rows


def request_bytes(workload: Workload, port: int, token: str) -> bytes:
    """`workload` as it goes over the wire."""
    headers = {"Host": f"127.0.0.1:{port}", **workload.all_headers(token)}
    if workload.body:
        headers["Content-Length"] = str(len(workload.body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{workload.method} {workload.path} HTTP/1.1\r\n{lines}\r\n".encode() + workload.body


def timed_of(said: str, complained: str) -> Timed:
    """What the generator printed. Raises: CannotRun"""
    try:
        found = json.loads(said)
    except ValueError as error:
        raise CannotRun(f"the constant-rate generator said: {complained.strip()[:300]}") from error
    unanswered, unexpected = found["unanswered"], found["unexpected"]
    faults = (
        f"{unanswered} requests were never answered at this rate" if unanswered else "",
        f"{unexpected} answers had another status" if unexpected else "",
    )
    return Timed(found["p50_ns"] / 1_000, found["p99_ns"] / 1_000, "; ".join(filter(None, faults)))


def _run(
    generator: Path, workload: Workload, target: Target, per_second: float, seconds: int, core: int, folder: Path
) -> Timed:
    request = folder / "request.bin"
    request.write_bytes(request_bytes(workload, target.port, target.token))
    taskset = program("taskset")
    pin = [taskset, "--cpu-list", str(core)] if taskset is not None else []
    figures = (target.port, per_second, seconds, WARM_UP_SECONDS, CONNECTIONS, workload.status)
    try:
        done = subprocess.run(
            [*pin, str(generator), *map(str, figures), str(request)],
            capture_output=True,
            text=True,
            timeout=seconds + WARM_UP_SECONDS + 30,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotRun("the constant-rate generator did not end in time") from error
    return timed_of(done.stdout, done.stderr)
