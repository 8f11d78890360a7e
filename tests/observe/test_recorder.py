"""One outcome: one count and one line."""

from __future__ import annotations

from gateway.observe.access_log import AccessLog
from gateway.observe.counting import RequestCounts
from gateway.observe.recorder import RequestRecorder
from gateway.ports import Recorder
from tests.observe.samples import NOW, MemorySink, outcome, registry_of, value_of
from tests.support.manual_clock import ManualClock


def test_an_outcome_is_counted_and_logged_once() -> None:
    counts, sink = RequestCounts(), MemorySink()
    log = AccessLog(sink, ManualClock(NOW))
    recorder: Recorder = RequestRecorder(counts, log)

    recorder.record(outcome())

    log.writer.flush()
    assert value_of(registry_of(counts), "bearergate_overhead_seconds_count") == 1
    assert len(sink.lines()) == 1


def test_without_an_access_log_outcomes_are_still_counted() -> None:
    counts = RequestCounts()

    RequestRecorder(counts, None).record(outcome())

    assert value_of(registry_of(counts), "bearergate_overhead_seconds_count") == 1
