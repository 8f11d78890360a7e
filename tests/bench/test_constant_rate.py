"""The constant-rate generator: what it is told to send, and what its line says of a measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.constant_rate import Timed, build_generator, request_bytes, timed_of
from bench.processes import CannotRun, program
from bench.workloads import Workload


def _line(unanswered: int = 0, unexpected: int = 0) -> str:
    found = {"requests": 100, "unanswered": unanswered, "unexpected": unexpected, "p50_ns": 81_500, "p99_ns": 2_000_000}
    return json.dumps(found)


def test_a_clean_run_has_its_latencies_and_no_fault() -> None:
    assert Timed(81.5, 2_000.0, "") == timed_of(_line(), "")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (_line(unanswered=3), "3 requests were never answered at this rate"),
        (_line(unexpected=2), "2 answers had another status"),
        (_line(3, 2), "3 requests were never answered at this rate; 2 answers had another status"),
    ],
)
def test_every_answer_that_is_missing_or_not_as_expected_is_a_fault(line: str, fault: str) -> None:
    assert fault == timed_of(line, "").fault


def test_a_generator_that_gave_up_is_quoted() -> None:
    with pytest.raises(CannotRun, match="said: cannot connect: Connection refused"):
        timed_of("", "cannot connect: Connection refused\n")


def test_a_request_goes_over_the_wire_with_its_headers_and_body() -> None:
    workload = Workload("post", "", "POST", "/a", "good", 200, b"{}", {"Accept": "application/json"})

    sent = request_bytes(workload, 8000, "a.token")

    assert sent == (
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: application/json\r\n"
        b"Authorization: Bearer a.token\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_a_request_without_a_body_says_no_length() -> None:
    sent = request_bytes(Workload("get", "", "GET", "/a", "none", 401), 8000, "a.token")

    assert sent == b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


@pytest.mark.skipif(program("cc") is None and program("gcc") is None, reason="there is no C compiler")
def test_the_generator_compiles(tmp_path: Path) -> None:
    assert build_generator(tmp_path).is_file()
