"""`python -m bench`: start the candidates, measure them in turn, write down what was found."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

from bench import constant_rate, versions
from bench.bars import LATENCY_SHARE, LATENCY_WORKLOAD
from bench.candidates import BASE, CANDIDATES
from bench.candidates.kind import DUMMY_TOKEN, Candidate, Service, Site
from bench.candidates.nginx import start_upstream
from bench.constant_rate import DIRECT, Target
from bench.key_cache import measure_key_cache
from bench.memory import measure_passages, start_bulk_upstream
from bench.processes import CannotRun, cores
from bench.report import AtRest, Results, as_markdown
from bench.rounds import Row, Runner
from bench.workloads import WORKLOADS, Workload

_RESULTS: Final = Path(__file__).with_name("RESULTS.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the run came to its end, whatever it found."""
    options = _parser().parse_args(arguments)
    if options.list:
        for candidate in CANDIDATES:
            print(f"{candidate.name:20} {candidate.means}")
        for workload in WORKLOADS:
            print(f"{workload.name:20} {workload.title}")
        return 0

    chosen = [candidate for candidate in CANDIDATES if not options.only or candidate.name in options.only]
    workloads = [workload for workload in WORKLOADS if not options.workload or workload.name in options.workload]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        results = _run(chosen, workloads, options.rounds, options.seconds, has_memory=options.memory)
    except CannotRun as error:
        _say(f"the bench cannot run: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted: nothing was written")
        return 130

    text = as_markdown(results)
    is_whole = not options.only and not options.workload and options.rounds > 0
    out: Path | None = options.out or (_RESULTS if is_whole else None)
    if out is None:
        print(text)
    else:
        out.write_text(text)
        _say(f"written: {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names, workloads = [candidate.name for candidate in CANDIDATES], [workload.name for workload in WORKLOADS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help="this candidate; may be repeated"
    )
    parser.add_argument("--workload", action="append", choices=workloads, metavar="NAME", help="this workload alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; 0: none, with --memory)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each measurement (default 4)")
    parser.add_argument("--memory", action="store_true", help="also 256 MiB down and up, and a million cached keys")
    parser.add_argument("--out", type=Path, help="where to write (default: bench/RESULTS.md, or print a narrowed run)")
    parser.add_argument("--list", action="store_true", help="name the candidates and workloads")
    return parser


def _run(
    chosen: Sequence[Candidate], workloads: Sequence[Workload], rounds: int, seconds: int, *, has_memory: bool
) -> Results:
    program_core, load_core = cores()
    # Whatever the bench itself does is load, too.
    os.sched_setaffinity(0, {load_core})
    results = Results(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=versions.of_machine(len({program_core, load_core})),
        versions=versions.of_tools(),
        cores=(program_core, load_core),
        rounds=rounds,
        seconds=seconds,
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if rounds > 0:
            _run_rounds(results, chosen, workloads, folder)
        if has_memory:
            _run_key_cache(results, chosen)
            _run_passages(results, chosen, folder)
    for candidate in chosen:
        # Last, for a candidate may have been installed on the way.
        results.versions.update(candidate.versions())
    return results


def _run_rounds(results: Results, chosen: Sequence[Candidate], workloads: Sequence[Workload], folder: Path) -> None:
    program_core, load_core = results.cores
    with ExitStack() as stack:
        upstream_port = start_upstream(folder, load_core, stack)
        services: dict[str, Service] = {}
        for candidate in chosen:
            home = folder / candidate.name
            home.mkdir()
            try:
                service = candidate.start(Site(home, program_core, upstream_port), stack)
            except CannotRun as error:
                results.not_run[candidate.name] = str(error)
                _say(f"{candidate.name} cannot run: {error}")
                continue
            services[candidate.name] = service
            rest = AtRest(candidate.name, service.ready_seconds, service.resident_bytes() / 2**20)
            results.at_rest.append(rest)
        results.rows = [
            Row(candidate.name, workload.name)
            for workload in workloads
            for candidate in chosen
            if candidate.name in services and candidate.takes(workload)
        ]
        runner = Runner(services, folder, load_core, results.seconds, _say)
        runner.run(results.rows, {workload.name: workload for workload in workloads}, results.rounds)
        _run_latency(results, services, upstream_port, folder)


def _run_latency(results: Results, services: dict[str, Service], upstream_port: int, folder: Path) -> None:
    ours = ("bearergate", LATENCY_WORKLOAD)
    row = next((row for row in results.rows if (row.candidate, row.workload) == ours and row.is_valid), None)
    workload = next(workload for workload in WORKLOADS if workload.name == LATENCY_WORKLOAD)
    if row is None:
        return

    targets = [Target(DIRECT, upstream_port, DUMMY_TOKEN)]
    targets += [
        Target(name, services[name].port, services[name].token) for name in (BASE, row.candidate) if name in services
    ]
    try:
        results.latencies = constant_rate.measure_latency(
            targets,
            workload,
            row.per_second * LATENCY_SHARE,
            rounds=results.rounds,
            seconds=results.seconds,
            core=results.cores[1],
            folder=folder,
        )
    except CannotRun as error:
        results.not_run["latency at a constant rate"] = str(error)
        _say(f"latency cannot be measured: {error}")
    for latency in results.latencies:
        figures = (
            f"p50 {latency.p50_micros:,.0f} us, p99 {latency.p99_micros:,.0f} us" if latency.is_valid else latency.fault
        )
        _say(f"{latency.candidate:20} at {latency.per_second:,.0f} /s: {figures}")


def _run_key_cache(results: Results, chosen: Sequence[Candidate]) -> None:
    for candidate in chosen:
        if candidate.name not in ("bearergate", "bearergate-interpreted"):
            continue
        try:
            held = measure_key_cache(candidate.name, results.cores[0])
        except CannotRun as error:
            results.not_run[f"{candidate.name}, a million cached keys"] = str(error)
            _say(f"{candidate.name} cannot show a million cached keys: {error}")
            continue
        results.caches.append(held)
        _say(f"{candidate.name:20} {held.keys:,} cached keys: {held.filled_mib:.0f} MiB")


def _run_passages(results: Results, chosen: Sequence[Candidate], folder: Path) -> None:
    program_core, load_core = results.cores
    with ExitStack() as stack:
        upstream_port = start_bulk_upstream(folder, load_core, stack)
        for candidate in chosen:
            if candidate.name in results.not_run:
                continue
            home = folder / f"{candidate.name}-bulk"
            home.mkdir()
            try:
                passed = measure_passages(candidate, Site(home, program_core, upstream_port, is_bulk=True), repeats=3)
            except CannotRun as error:
                results.not_run[f"{candidate.name}, large bodies"] = str(error)
                _say(f"{candidate.name} cannot run with large bodies: {error}")
                continue
            results.passed += passed
            for row in passed:
                figures = row.fault or f"{row.mib_per_second:,.0f} MiB/s, grew by {row.grown_mib:.1f} MiB"
                _say(f"{row.candidate:20} {row.passage:10} {figures}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
