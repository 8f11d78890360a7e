"""The results as Markdown: what was measured, on what, how, and what could not be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.bars import (
    ADDED_P50_MICROS,
    BARS,
    BULK_GROWN_MIB,
    BULK_RATIO,
    CACHE_MIB,
    LATENCY_SHARE,
    NEW_TOKENS_PER_SECOND,
    NOT_MEASURED,
    P99_RATIO,
    READY_SECONDS,
    REST_MIB,
)
from bench.candidates import BASE, BASE_FOR_BULK, CANDIDATES
from bench.constant_rate import DIRECT, Latency
from bench.key_cache import Held
from bench.memory import PASSAGES, Passed
from bench.rounds import WARM_UP_SECONDS, Row
from bench.workloads import WORKLOADS
from bench.wrk import CONNECTIONS


@dataclass(frozen=True, slots=True)
class AtRest:
    """A candidate before its first request."""

    candidate: str
    ready_seconds: float
    resident_mib: float


@dataclass(slots=True)
class Results:
    """Everything one run found out."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    cores: tuple[int, int]
    rounds: int
    seconds: int
    rows: list[Row] = field(default_factory=list)
    at_rest: list[AtRest] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    caches: list[Held] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)


def as_markdown(results: Results) -> str:
    """The whole of `RESULTS.md`."""
    parts = [
        "# Results of `make bench`\n\nWritten by `python -m bench`; do not edit.\n",
        _what_and_how(results),
        *(_workload(results, workload.name, workload.title) for workload in WORKLOADS),
        _latencies(results),
        _at_rest(results),
        _caches(results),
        _passages(results),
        _bars(results),
        _not_run(results),
        "## Not measured\n\n" + "\n".join(f"* {what}" for what in NOT_MEASURED) + "\n",
    ]
    return "\n".join(part for part in parts if part)


def _what_and_how(results: Results) -> str:
    program, load = results.cores
    facts = [("date", results.date), *results.machine.items(), *results.versions.items()]
    pinned = (
        f"The program under test, with everything it needs to decide, is pinned to core {program};"
        f" wrk (`-t1 -c{CONNECTIONS}`) and the upstream to core {load}."
        if program != load
        else "This machine has one core for everything, so the load and the upstream take from the program under test."
    )
    how = (
        pinned,
        "The upstream is nginx: 459 bytes of JSON for every request, connections kept alive.",
        f"{results.rounds} rounds of {results.seconds} s each after {WARM_UP_SECONDS} s of warm-up,"
        " all candidates in turn within each round.",
        "All are sent the same bytes, but for the token; every answer must have the expected status,"
        " and the first of each measurement the expected body.",
        "Requests per second are the median over the rounds, with the lowest and highest round beside it.",
        "CPU is user and system time of the candidate's whole process tree, divided by its requests.",
        f"Ratios are to `{BASE}` in this same run; figures of different runs do not compare.",
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    candidates = "\n".join(
        f"* `{candidate.name}`: {candidate.means}"
        for candidate in CANDIDATES
        if candidate.name in {rest.candidate for rest in results.at_rest}
    )
    return f"| | |\n|---|---|\n{rows}\n\n{' '.join(how).replace('. ', '.' + chr(10))}\n\nCandidates\n\n{candidates}\n"


def _workload(results: Results, name: str, title: str) -> str:
    rows = [row for row in results.rows if row.workload == name]
    if not rows:
        return ""

    base = next((row for row in rows if row.candidate == BASE and row.is_valid), None)
    head = f"| candidate | requests/s | lowest - highest | x {BASE} | CPU us/request | p50 us | p99 us |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|"]
    for row in sorted(rows, key=lambda row: -row.per_second if row.is_valid else 0.0):
        if not row.is_valid:
            lines.append(f"| {row.candidate} | invalid: {_cell(row.fault or 'not measured')} | | | | | |")
            continue
        ratio = f"{row.per_second / base.per_second:.3f}" if base is not None else ""
        lines.append(
            f"| {row.candidate} | {row.per_second:,.0f} | {row.lowest:,.0f} - {row.highest:,.0f} | {ratio}"
            f" | {row.cpu_micros_per_request:,.1f} | {row.p50_micros:,.0f} | {row.p99_micros:,.0f} |"
        )
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


def _at_rest(results: Results) -> str:
    if not results.at_rest:
        return ""

    lines = ["| candidate | listens after s | memory MiB |", "|---|---:|---:|"]
    lines += [f"| {rest.candidate} | {rest.ready_seconds:.2f} | {rest.resident_mib:.0f} |" for rest in results.at_rest]
    return (
        "## At rest\n\nBefore the first request; memory is that of the whole process tree.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _latencies(results: Results) -> str:
    if not results.latencies:
        return ""

    direct = _latency_of(results, DIRECT)
    lines = ["| candidate | p50 us | p50 added us | p99 us | p99 added us |", "|---|---:|---:|---:|---:|"]
    for row in results.latencies:
        if not row.is_valid:
            lines.append(f"| {row.candidate} | invalid: {_cell(row.fault or 'not measured')} | | | |")
            continue
        added = ("", "")
        if direct is not None and row is not direct:
            added = (f"{row.p50_micros - direct.p50_micros:,.0f}", f"{row.p99_micros - direct.p99_micros:,.0f}")
        lines.append(f"| {row.candidate} | {row.p50_micros:,.0f} | {added[0]} | {row.p99_micros:,.0f} | {added[1]} |")
    return (
        f"## Latency at {results.latencies[0].per_second:,.0f} requests per second\n\n"
        f"GET with a cached key, at {LATENCY_SHARE:g} of the highest rate of `bearergate` in this run, for all alike.\n"
        "Each request is due at its time whether those before it were answered or not, and is late from then on.\n"
        f"`{DIRECT}` is the upstream itself. Medians over the rounds.\n\n" + "\n".join(lines) + "\n"
    )


def _latency_of(results: Results, candidate: str) -> Latency | None:
    return next((row for row in results.latencies if row.candidate == candidate and row.is_valid), None)


def _caches(results: Results) -> str:
    if not results.caches:
        return ""

    head = "| candidate | keys | grown by MiB | three fifths renewed, MiB | full collection ms |"
    lines = [head, "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {held.candidate} | {held.keys:,} | {held.filled_mib:.0f} | {held.renewed_mib:.0f}"
        f" | {held.collection_ms:,.0f} |"
        for held in results.caches
    ]
    return "## Keys in memory\n\nThe key cache of one process, filled.\n\n" + "\n".join(lines) + "\n"


def _passages(results: Results) -> str:
    parts = []
    for passage in PASSAGES:
        rows = [passed for passed in results.passed if passed.passage == passage.name]
        if not rows:
            continue
        lines = ["| candidate | MiB/s | memory before MiB | grown by MiB |", "|---|---:|---:|---:|"]
        lines += [
            f"| {row.candidate} | invalid: {_cell(row.fault)} | | |"
            if row.fault
            else f"| {row.candidate} | {row.mib_per_second:,.0f} | {row.resident_mib:.0f} | {row.grown_mib:.1f} |"
            for row in rows
        ]
        parts.append(f"### {passage.title}\n\n" + "\n".join(lines) + "\n")
    return "## Large bodies\n\n" + "\n".join(parts) if parts else ""


def _bars(results: Results) -> str:
    found = {(row.candidate, row.workload): row for row in results.rows if row.is_valid}
    lines = []
    for bar in BARS:
        ours, other = found.get((bar.ours, bar.workload)), found.get((bar.other, bar.other_workload))
        if ours is not None and other is not None:
            ratio = ours.per_second / other.per_second
            what = f"{bar.ours}, {bar.workload}: {bar.ratio:g} x {bar.other}, {bar.other_workload}"
            lines.append(f"| {what} | {ratio:.2f} x | {_verdict(ratio >= bar.ratio)} |")
    new = found.get(("bearergate-new-users", "user-new"))
    if new is not None:
        what = f"{NEW_TOKENS_PER_SECOND:,.0f} user tokens a second that were never seen before"
        lines.append(f"| {what} | {new.per_second:,.0f} | {_verdict(new.per_second >= NEW_TOKENS_PER_SECOND)} |")
    lines += _bars_of_latency(results)
    lines += _bars_at_rest(results)
    lines += _bars_of_caches(results)
    lines += _bars_of_passages(results.passed)
    return "## The bar\n\n| at least | measured | |\n|---|---:|---|\n" + "\n".join(lines) + "\n" if lines else ""


def _bars_at_rest(results: Results) -> Iterable[str]:
    for rest in results.at_rest:
        if rest.candidate == "bearergate":
            met = rest.ready_seconds < READY_SECONDS
            yield f"| bearergate listens in under {READY_SECONDS:g} s | {rest.ready_seconds:.2f} s | {_verdict(met)} |"
            met = rest.resident_mib < REST_MIB
            yield f"| bearergate holds under {REST_MIB:g} MiB at rest | {rest.resident_mib:.0f} MiB | {_verdict(met)} |"


def _bars_of_latency(results: Results) -> Iterable[str]:
    ours, direct, base = (_latency_of(results, name) for name in ("bearergate", DIRECT, BASE))
    if ours is not None and direct is not None:
        added = ours.p50_micros - direct.p50_micros
        met = added < ADDED_P50_MICROS
        yield f"| latency: p50 added under {ADDED_P50_MICROS:g} us | {added:,.0f} us | {_verdict(met)} |"
    if ours is not None and base is not None:
        ratio = ours.p99_micros / base.p99_micros
        yield f"| latency: p99 under {P99_RATIO:g} x {BASE} | {ratio:.2f} x | {_verdict(ratio < P99_RATIO)} |"


def _bars_of_caches(results: Results) -> Iterable[str]:
    for held in results.caches:
        if held.candidate == "bearergate":
            most = max(held.filled_mib, held.renewed_mib)
            what = f"{held.keys:,} cached keys: under {CACHE_MIB:g} MiB"
            yield f"| {what} | {most:.0f} MiB | {_verdict(most < CACHE_MIB)} |"


def _bars_of_passages(passed: Sequence[Passed]) -> Iterable[str]:
    found = {(row.candidate, row.passage): row for row in passed if not row.fault}
    for passage in PASSAGES:
        ours, base = found.get(("bearergate", passage.name)), found.get((BASE_FOR_BULK, passage.name))
        if ours is None:
            continue
        if base is not None and not passage.is_slow:
            ratio = ours.mib_per_second / base.mib_per_second
            what = f"{passage.title}: {BULK_RATIO:g} x {BASE_FOR_BULK}"
            yield f"| {what} | {ratio:.2f} x | {_verdict(ratio >= BULK_RATIO)} |"
        met = ours.grown_mib < BULK_GROWN_MIB
        yield f"| {passage.title}: grows by under {BULK_GROWN_MIB:g} MiB | {ours.grown_mib:.1f} MiB | {_verdict(met)} |"


def _not_run(results: Results) -> str:
    lines = [f"* `{name}`: {why}" for name, why in results.not_run.items()]
    return "## Not run\n\n" + "\n".join(lines) + "\n" if lines else ""


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
