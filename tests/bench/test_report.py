"""The results as Markdown: medians, ratios, what was missed, and what did not count."""

from __future__ import annotations

from bench.constant_rate import DIRECT, Latency, Timed
from bench.key_cache import Held
from bench.memory import Passed
from bench.report import AtRest, Results, as_markdown
from bench.rounds import Row
from bench.wrk import Measured


def _row(candidate: str, workload: str, *per_second: int, fault: str = "") -> Row:
    rounds = [Measured(rate, 1.0, 500, 900, "") for rate in per_second]
    return Row(candidate, workload, rounds, [20.0 for _ in rounds], fault)


def _results(*rows: Row, passed: tuple[Passed, ...] = (), not_run: dict[str, str] | None = None) -> Results:
    return Results(
        date="2026-11-21 12:00 UTC",
        machine={"processor": "a processor"},
        versions={"nginx": "1.2.3"},
        cores=(0, 1),
        rounds=3,
        seconds=4,
        rows=list(rows),
        at_rest=[AtRest("bearergate", 0.5, 60.0)],
        passed=list(passed),
        not_run=not_run or {},
    )


def test_a_row_has_median_spread_ratio_and_cost() -> None:
    text = as_markdown(_results(_row("nginx", "get", 90, 100, 110), _row("bearergate", "get", 50, 61, 55)))

    assert "| nginx | 100 | 90 - 110 | 1.000 | 20.0 | 500 | 900 |" in text
    assert "| bearergate | 55 | 50 - 61 | 0.550 | 20.0 | 500 | 900 |" in text


def test_rows_are_in_order_of_speed() -> None:
    text = as_markdown(_results(_row("envoy", "get", 10), _row("nginx", "get", 100), _row("bearergate", "get", 50)))

    assert text.index("| nginx | 100") < text.index("| bearergate | 50") < text.index("| envoy | 10")


def test_a_row_with_a_fault_is_invalid_and_shows_no_figure() -> None:
    text = as_markdown(_results(_row("nginx", "get", 100, fault="3 of 100 answers were not 200")))

    assert "| nginx | invalid: 3 of 100 answers were not 200 | | | | | |" in text


def test_nothing_is_compared_with_a_base_that_is_invalid() -> None:
    text = as_markdown(_results(_row("nginx", "get", 100, fault="broken"), _row("bearergate", "get", 50)))

    assert "| bearergate | 50 | 50 - 50 |  | 20.0 |" in text
    assert "0.5 x nginx" not in text


def test_the_bar_is_said_to_be_met_or_missed() -> None:
    text = as_markdown(_results(_row("nginx", "get", 100), _row("envoy", "get", 30), _row("bearergate", "get", 51)))

    assert "| bearergate, get: 0.5 x nginx, get | 0.51 x | met |" in text
    assert "| bearergate, get: 1.8 x envoy, get | 1.70 x | **missed** |" in text
    assert "| bearergate listens in under 1 s | 0.50 s | met |" in text


def test_latency_is_compared_with_the_upstream_itself_and_with_nginx() -> None:
    results = _results()
    results.latencies = [
        Latency(DIRECT, 15_000.0, [Timed(50.0, 100.0, "")]),
        Latency("nginx", 15_000.0, [Timed(90.0, 200.0, "")]),
        Latency("bearergate", 15_000.0, [Timed(170.0, 500.0, ""), Timed(180.0, 700.0, ""), Timed(999.0, 600.0, "")]),
    ]

    text = as_markdown(results)

    assert "## Latency at 15,000 requests per second\n" in text
    assert "| direct | 50 |  | 100 |  |" in text
    assert "| bearergate | 180 | 130 | 600 | 500 |" in text
    assert "| latency: p50 added under 150 us | 130 us | met |" in text
    assert "| latency: p99 under 3 x nginx | 3.00 x | **missed** |" in text


def test_latency_with_a_fault_is_invalid_and_meets_no_bar() -> None:
    results = _results()
    results.latencies = [Latency(DIRECT, 10.0, [Timed(50.0, 100.0, "")]), Latency("bearergate", 10.0, [], "refused")]

    text = as_markdown(results)

    assert "| bearergate | invalid: refused | | | |" in text
    assert "| latency: p" not in text


def test_the_keys_in_memory_have_a_table_and_the_compiled_ones_a_bar() -> None:
    results = _results()
    results.caches = [
        Held("bearergate", 1_000_000, 372.0, 401.0, 30.0),
        Held("bearergate-interpreted", 1_000_000, 434.0, 441.0, 605.0),
    ]

    text = as_markdown(results)

    assert "| bearergate-interpreted | 1,000,000 | 434 | 441 | 605 |" in text
    assert "| 1,000,000 cached keys: under 400 MiB | 401 MiB | **missed** |" in text
    assert text.count("cached keys: under") == 1


def test_what_could_not_run_is_named_with_the_reason() -> None:
    text = as_markdown(_results(not_run={"caddy": "caddy is not installed"}))

    assert "* `caddy`: caddy is not installed\n" in text


def test_large_bodies_have_a_table_for_each_way_and_a_bar() -> None:
    passed = (
        Passed("nginx-unbuffered", "down", 500.0, 11.0, 0.0),
        Passed("bearergate", "down", 450.0, 60.0, 9.0),
        Passed("naive", "down", fault="answered | 500"),
    )

    text = as_markdown(_results(passed=passed))

    assert "| bearergate | 450 | 60 | 9.0 |" in text
    assert "| naive | invalid: answered / 500 | | |" in text
    assert "| 256 MiB down: 0.8 x nginx-unbuffered | 0.90 x | met |" in text
    assert "| 256 MiB down: grows by under 8 MiB | 9.0 MiB | **missed** |" in text
