"""A line of the access log: its fields, and what hostile text becomes in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason, Verdict
from gateway.observe.access_line import AccessLine
from gateway.observe.access_log import AccessLog, open_access_log
from gateway.ports import Outcome
from tests.observe.samples import ALLOWED, NOW, MemorySink, outcome
from tests.support.manual_clock import ManualClock
from tests.support.values import field_names

ANY_TEXT = st.text(st.characters(codec=None))
TEXT_FIELDS = ("ref", "method", "path", "route", "upstream", "key_id", "app_id", "peer", "detail")


def line_of(logged: Outcome, clock: ManualClock | None = None) -> bytes:
    sink = MemorySink()
    log = AccessLog(sink, clock or ManualClock(NOW))
    log.record(logged)
    log.writer.flush()
    return sink.written


def test_a_line_says_everything_about_the_outcome() -> None:
    assert line_of(ALLOWED) == (
        b'{"ts":"2026-11-21T17:46:42.125Z","ref":"9f3c2a7b1d4e4f60a1b2c3d4e5f60718","outcome":"allowed","reason":"",'
        b'"status":200,"method":"GET","path":"/v2/users/u1/events","route":"users.events","upstream":"rest",'
        b'"kind":"api_key","key_id":"e5c3b842231543f","app_id":"app_1","peer":"10.0.0.7",'
        b'"duration_ms":1.5,"upstream_ms":1.0,"bytes_in":0,"bytes_out":459}\n'
    )


def test_a_refusal_has_its_reason_and_detail_and_no_kind() -> None:
    refused = outcome(
        verdict=Verdict.REFUSED, reason=Reason.TARGET_REFUSED, status=400, kind=None, detail="an encoded slash"
    )

    line = json.loads(line_of(refused))
    assert (line["outcome"], line["reason"], line["kind"]) == ("refused", "target_refused", "")
    assert line["detail"] == "an encoded slash"


@given(st.tuples(*[ANY_TEXT] * len(TEXT_FIELDS)))
def test_whatever_the_text_is_a_line_is_one_line_of_printable_ascii_that_says_it(texts: tuple[str, ...]) -> None:
    logged = outcome(**dict(zip(TEXT_FIELDS, texts, strict=True)))

    line = line_of(logged)

    assert line.endswith(b"}\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    fields = json.loads(line)
    assert texts == tuple(fields.get(name, "") for name in TEXT_FIELDS)
    assert set(AccessLine.__struct_fields__) - {"detail"} <= set(fields) <= set(AccessLine.__struct_fields__)


@pytest.mark.parametrize(
    ("hostile", "escaped"),
    [
        ('/a\r\n{"forged":1}', rb"/a\r\n{\"forged\":1}"),
        ("/\x1b[2J", rb"/\u001b[2J"),
        ("/\u202egnp.exe", rb"/\u202egnp.exe"),
        ("/\x00", rb"/\u0000"),
        ("/\x7f", rb"/\u007f"),
        ("/\x9b2J", rb"/\u009b2J"),
        ("/\ud800", rb"/\ud800"),
        ("/é", rb"/\u00e9"),
        ("/\U0001f600", rb"/\ud83d\ude00"),
    ],
)
def test_text_that_could_forge_a_line_or_move_a_terminal_is_escaped(hostile: str, escaped: bytes) -> None:
    assert b'"path":"' + escaped + b'"' in line_of(outcome(path=hostile))


def test_the_usual_form_and_the_escaped_form_differ_in_the_odd_character_alone() -> None:
    assert line_of(outcome(path="/x", detail="d")) == line_of(outcome(path="/\x7f", detail="d")).replace(
        rb"\u007f", b"x"
    )


@pytest.mark.parametrize(
    ("now", "ts"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_283_202.999_9, "2026-11-21T17:46:42.999Z"),
        (1_709_208_000.0, "2024-02-29T12:00:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(now: float, ts: str) -> None:
    assert ts == json.loads(line_of(ALLOWED, ManualClock(now)))["ts"]


def test_each_second_has_its_own_time() -> None:
    clock, sink = ManualClock(NOW), MemorySink()
    log = AccessLog(sink, clock)
    for _ in range(3):
        log.record(ALLOWED)
        clock.advance(0.5)
    log.writer.flush()

    assert [json.loads(line)["ts"] for line in sink.lines()] == [
        "2026-11-21T17:46:42.125Z",
        "2026-11-21T17:46:42.625Z",
        "2026-11-21T17:46:43.125Z",
    ]


def test_dropped_lines_are_told_of_in_a_line_of_their_own() -> None:
    sink = MemorySink()
    log = AccessLog(sink, ManualClock(NOW), limit_bytes=0)
    for _ in range(3):
        log.record(ALLOWED)
    log.writer.flush()

    assert json.loads(sink.lines()[1]) == {"ts": "2026-11-21T17:46:42.125Z", "event": "lines_dropped", "dropped": 2}


def test_a_log_on_a_path_is_reopened_there(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = open_access_log(str(path), ManualClock(NOW))
    log.record(ALLOWED)
    log.writer.flush()
    path.unlink()
    log.writer.reopen()
    log.record(ALLOWED)
    log.writer.close()

    assert len(path.read_bytes().splitlines()) == 1


def test_a_dash_is_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = open_access_log("-", ManualClock(NOW))
    log.record(ALLOWED)
    log.writer.close()

    assert json.loads(capfd.readouterr().out)["ref"] == ALLOWED.ref


def test_the_fields_are_those_of_the_outcome() -> None:
    of_the_outcome = set(field_names(Outcome))
    renamed = {"verdict": "outcome", "duration_seconds": "duration_ms", "upstream_seconds": "upstream_ms"}

    assert {renamed.get(name, name) for name in of_the_outcome} | {"ts"} == set(AccessLine.__struct_fields__)
