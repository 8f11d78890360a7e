"""Rounds: every candidate, every workload, in turn, so that a change in the machine's mood falls on all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.candidates.kind import Service
from bench.processes import CannotRun
from bench.workloads import Workload
from bench.wrk import Measured, probe, run_wrk, write_script

WARM_UP_SECONDS: Final = 1


@dataclass(slots=True)
class Row:
    """One candidate in one workload: what its rounds gave. With a `fault` its figures do not count."""

    candidate: str
    workload: str
    rounds: list[Measured] = field(default_factory=list)
    cpu_micros: list[float] = field(default_factory=list)
    fault: str = ""

    @property
    def is_valid(self) -> bool:
        return not self.fault and bool(self.rounds)

    @property
    def per_second(self) -> float:
        return statistics.median(measured.per_second for measured in self.rounds)

    @property
    def lowest(self) -> float:
        return min(measured.per_second for measured in self.rounds)

    @property
    def highest(self) -> float:
        return max(measured.per_second for measured in self.rounds)

    @property
    def cpu_micros_per_request(self) -> float:
        return statistics.median(self.cpu_micros)

    @property
    def p50_micros(self) -> float:
        return statistics.median(measured.p50_micros for measured in self.rounds)

    @property
    def p99_micros(self) -> float:
        return statistics.median(measured.p99_micros for measured in self.rounds)


@dataclass(frozen=True, slots=True)
class Runner:
    """The services that listen, and how they are asked."""

    services: dict[str, Service]
    folder: Path
    core: int
    seconds: int
    say: Callable[[str], None]

    def run(self, rows: Sequence[Row], workloads: dict[str, Workload], rounds: int) -> None:
        """Fill `rows`: `rounds` times through all of them, starting one further each time."""
        for number in range(rounds):
            turn = number % len(rows) if rows else 0
            for row in (*rows[turn:], *rows[:turn]):
                if not row.fault:
                    self._measure(row, workloads[row.workload])
                    self.say(f"round {number + 1}/{rounds}  {_line(row)}")

    def _measure(self, row: Row, workload: Workload) -> None:
        service = self.services[row.candidate]
        row.fault = probe(workload, service.port, service.token, next(iter(service.user_tokens), ""))
        if row.fault:
            return

        script = write_script(workload, service.token, self.folder / "workload.lua", service.user_tokens)
        try:
            run_wrk(workload, service.port, script, core=self.core, seconds=WARM_UP_SECONDS)
            before = service.cpu_seconds()
            measured = run_wrk(workload, service.port, script, core=self.core, seconds=self.seconds)
            used = service.cpu_seconds() - before
        except CannotRun as error:
            row.fault = str(error)
            return

        row.rounds.append(measured)
        row.fault = measured.fault
        if measured.requests:
            row.cpu_micros.append(used * 1_000_000 / measured.requests)
        if service.log is not None and service.log.is_file():
            with service.log.open("r+b") as log:
                log.truncate()


def _line(row: Row) -> str:
    head = f"{row.workload:12} {row.candidate:20}"
    if row.fault:
        return f"{head} invalid: {row.fault}"
    return f"{head} {row.rounds[-1].per_second:9,.0f} /s {row.cpu_micros[-1]:9.1f} us CPU"
