"""What a candidate is: how it is started before an upstream, and where it then answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Process
from bench.workloads import Workload

DUMMY_TOKEN = "0123456789abcde.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789AB"
"""Sent to candidates that look at no token, so that all are sent the same bytes."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a candidate is set up: its own scratch folder, the core it may use, and the upstream's port."""

    folder: Path
    core: int
    upstream_port: int
    is_bulk: bool = False
    """True when large bodies will pass: by the paths of `bench.apps.bulk`, not those of the reference policy."""


@dataclass(frozen=True, slots=True)
class Service:
    """A candidate that listens. `processes` are all whose time and memory count as the candidate's."""

    port: int
    processes: tuple[Process, ...]
    ready_seconds: float
    token: str = DUMMY_TOKEN
    user_tokens: tuple[str, ...] = ()
    """Of the user whose events the workloads ask for; every one of them good."""
    log: Path | None = None
    """A file that grows with each request; emptied between measurements."""

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)

    def resident_bytes(self) -> int:
        return sum(process.resident_bytes() for process in self.processes)

    def peak_bytes(self) -> int:
        return sum(process.peak_bytes() for process in self.processes)

    def forget_peak(self) -> None:
        for process in self.processes:
            process.forget_peak()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the results."""

    name: str
    means: str
    start: Callable[[Site, ExitStack], Service]
    """Raises: CannotRun"""
    versions: Callable[[], dict[str, str]]
    judges: bool = False
    """True when it looks at the token, so refusals can be measured."""
    users: str = ""
    """Which user tokens it can be sent: `seen`, `new`, or none."""
    only_workloads: tuple[str, ...] = ()
    """All that it can be asked to do; empty: everything."""

    def takes(self, workload: Workload) -> bool:
        """Whether measuring it with `workload` says anything."""
        return (
            (self.judges or not workload.is_refusal)
            and workload.users in ("", self.users)
            and (not self.only_workloads or workload.name in self.only_workloads)
        )
