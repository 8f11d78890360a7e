"""`/metrics` of several processes as one."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from gateway.observe.counting import RequestCounts
from gateway.observe.merging import (
    GAUGES,
    OF_THE_SUPERVISOR,
    Across,
    FamilyReading,
    ReadingCollector,
    Tally,
    readings_of,
)
from gateway.observe.metrics import METRICS, MetricKind
from tests.observe.samples import outcome, registry_of


def counter(value: float, route: str = "a") -> FamilyReading:
    return FamilyReading("asked", "counter", "Asked.", (("asked_total", (("route", route),), value),))


def gauge(name: str, value: float) -> FamilyReading:
    return FamilyReading(name, "gauge", "Now.", ((name, (), value),))


def values(readings: tuple[FamilyReading, ...]) -> dict[str, float]:
    return {
        sample_name + "".join(text for _, text in labels): value
        for reading in readings
        for sample_name, labels, value in reading.samples
    }


def test_every_gauge_has_a_rule_and_every_rule_a_gauge() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    gauges = {metric.name for metric in METRICS if metric.kind is MetricKind.GAUGE}

    assert gauges | {family.name for family in registry.collect() if family.type == "gauge"} == set(GAUGES)


def test_the_rules_stand_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8").split("## Several workers")[1]
    words = {Across.SUM: "the sum", Across.MOST: "the largest", Across.LEAST: "the smallest"}
    rows = dict(re.findall(r"^\| (.+) \| (the \w+) \|$", text, re.MULTILINE))

    assert {name: words[rule] for name, rule in GAUGES.items()} == {
        name: word for names, word in rows.items() for name in re.findall(r"`(\w+)`", names)
    }


def test_what_only_the_supervisor_knows_is_in_the_list_of_metrics() -> None:
    assert {metric.name.removesuffix("_total") for metric in METRICS} >= OF_THE_SUPERVISOR


def test_counters_are_added_up_and_those_of_the_dead_stay() -> None:
    tally = Tally()

    assert values(tally.merged([[counter(3)], [counter(4)]], [])) == {"asked_totala": 7}
    tally.keep([counter(4)])
    assert values(tally.merged([[counter(3)], []], [])) == {"asked_totala": 7}
    tally.keep([counter(3)])
    assert values(tally.merged([], [])) == {"asked_totala": 7}


def test_gauges_follow_their_rules_and_those_of_the_dead_are_gone() -> None:
    names = ("bearergate_requests_in_flight", "bearergate_key_feed_lag_seconds", "process_max_fds")
    one, other = [gauge(name, 2) for name in names], [gauge(name, 5) for name in names]
    tally = Tally()
    tally.keep(one)

    assert values(tally.merged([one, other], [])) == dict(zip(names, (7, 5, 2), strict=True))
    assert values(tally.merged([other], [])) == dict.fromkeys(names, 5)


def test_what_only_the_supervisor_knows_is_its_own() -> None:
    claimed = [gauge("bearergate_workers", 9)]

    assert values(Tally().merged([claimed, claimed], [gauge("bearergate_workers", 2)])) == {"bearergate_workers": 2}


def test_routes_that_a_reload_removed_are_forgotten_with_the_dead() -> None:
    tally = Tally()
    for route in ("a", "b", "unmatched", "other"):
        tally.keep([counter(1, route)])

    tally.forget_routes(["a"])

    assert values(tally.merged([], [])) == {"asked_totala": 1, "asked_totalunmatched": 1, "asked_totalother": 1}


def test_two_that_did_the_same_show_twice_as_much_and_one_shows_what_it_has() -> None:
    counts = RequestCounts()
    counts.follow(["users.events"], ["rest"])
    counts.count(outcome(route="users.events"))
    registry = registry_of(counts)
    shown = CollectorRegistry()
    one = readings_of(registry)
    shown.register(ReadingCollector(lambda: one))
    ours = [line for line in generate_latest(registry).splitlines() if b"process_" not in line]
    assert ours == [line for line in generate_latest(shown).splitlines() if b"process_" not in line]

    twice = values(Tally().merged([one, one], []))
    once = values(one)
    for reading in one:
        if reading.kind in {"counter", "histogram"} and reading.name not in OF_THE_SUPERVISOR:
            for name, labels, _ in reading.samples:
                key = name + "".join(text for _, text in labels)
                assert twice[key] == 2 * once[key], key
