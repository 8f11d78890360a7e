"""wrk: the script that it is given, and what its summary says of a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.workloads import Workload
from bench.wrk import Measured, measured_of, write_script

_ALLOWED = Workload("get", "", "GET", "/a", "good", 200)
_REFUSED = Workload("no-token", "", "GET", "/a", "none", 401)


def _summary(requests: int = 100, refused: int = 0, broken: int = 0) -> dict[str, int]:
    return {
        "requests": requests,
        "micros": 2_000_000,
        "refused": refused,
        "broken": broken,
        "p50": 700,
        "p99": 1_900,
    }


def test_a_clean_run_has_no_fault() -> None:
    assert measured_of(_summary(), _ALLOWED) == Measured(100, 2.0, 700, 1_900, "")
    assert measured_of(_summary(), _ALLOWED).per_second == 50.0


def test_a_run_of_refusals_is_clean_when_every_answer_is_one() -> None:
    assert measured_of(_summary(refused=100), _REFUSED).fault == ""


@pytest.mark.parametrize(
    ("workload", "summary", "fault"),
    [
        (_ALLOWED, _summary(refused=3), "3 of 100 answers were not 200"),
        (_REFUSED, _summary(refused=98), "2 of 100 answers were not 401"),
        (_ALLOWED, _summary(broken=1), "1 broken connections or time-outs"),
        (
            _ALLOWED,
            _summary(refused=3, broken=2),
            "3 of 100 answers were not 200; 2 broken connections or time-outs",
        ),
        (_ALLOWED, _summary(requests=0), "no answer at all"),
    ],
)
def test_every_answer_that_is_not_as_expected_is_a_fault(
    workload: Workload, summary: dict[str, int], fault: str
) -> None:
    assert measured_of(summary, workload).fault == fault


def test_the_script_sends_method_headers_and_body(tmp_path: Path) -> None:
    workload = Workload("post", "", "POST", "/a", "good", 200, b'{"a":"\\n"}', {"Content-Type": "application/json"})

    script = write_script(workload, "a.token", tmp_path / "wrk.lua").read_text()

    assert 'wrk.method = "POST"\n' in script
    assert 'wrk.headers["Authorization"] = "Bearer a.token"\n' in script
    assert 'wrk.headers["Content-Type"] = "application/json"\n' in script
    assert 'wrk.body = "{\\"a\\":\\"\\\\n\\"}"\n' in script
