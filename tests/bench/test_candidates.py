"""The candidates: each is named once, and what the bars and ratios speak of is among them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.bars import BARS
from bench.candidates import BASE, BASE_FOR_BULK, CANDIDATES
from bench.processes import CannotRun, cores, free_port, started, wait_until_listening
from bench.workloads import WORKLOADS

_NAMES = [candidate.name for candidate in CANDIDATES]


def test_no_name_comes_twice() -> None:
    assert len(_NAMES) == len(set(_NAMES))


def test_the_bases_of_all_ratios_are_candidates() -> None:
    assert {BASE, BASE_FOR_BULK} <= set(_NAMES)


def test_every_bar_speaks_of_candidates_and_workloads_that_exist() -> None:
    workloads = {workload.name for workload in WORKLOADS}

    for bar in BARS:
        assert {bar.ours, bar.other} <= set(_NAMES)
        assert {bar.workload, bar.other_workload} <= workloads


def test_a_candidate_is_asked_for_what_it_can_do_alone() -> None:
    taken = {
        candidate.name: [workload.name for workload in WORKLOADS if candidate.takes(workload)]
        for candidate in CANDIDATES
    }

    assert taken["nginx"] == ["get", "graphql"]
    assert taken["hive-gateway"] == ["graphql"]
    assert taken["bearergate"] == [workload.name for workload in WORKLOADS if workload.name != "user-new"]
    assert taken["bearergate-new-users"] == ["user-new"]


def test_a_program_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]

    with started("it", command, core=cores()[0], folder=tmp_path) as process:
        process.popen.wait()

        with pytest.raises(CannotRun, match="it ended at once: no such thing"):
            wait_until_listening(process, free_port())


def test_a_program_is_ended_with_the_block_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read(); import signal; signal.pause()"]

    with started("it", command, core=cores()[0], folder=tmp_path) as process:
        assert process.is_running

    assert not process.is_running
