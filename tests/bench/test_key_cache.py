"""The cache of a million keys: what the process that fills it says, and when it does not count."""

from __future__ import annotations

import json

import pytest

from bench.key_cache import Held, held_of
from bench.processes import CannotRun


def _line(is_compiled: bool = True) -> str:
    figures = {"keys": 1_000_000, "filled_mib": 372.5, "renewed_mib": 380.25, "collection_ms": 30.5}
    return json.dumps({"is_compiled": is_compiled, **figures})


def test_what_the_process_says_is_held() -> None:
    expected = Held("bearergate", 1_000_000, 372.5, 380.25, 30.5)

    assert expected == held_of("bearergate", True, _line(), "")


def test_a_process_of_other_code_does_not_count() -> None:
    with pytest.raises(CannotRun, match="did not run the code that was meant"):
        held_of("bearergate", True, _line(is_compiled=False), "")


def test_a_process_that_failed_is_quoted_by_its_last_line() -> None:
    with pytest.raises(CannotRun, match="fills the cache said: MemoryError"):
        held_of("bearergate", True, "", "Traceback\n  a line\nMemoryError\n")


def test_a_process_that_said_nothing_is_named() -> None:
    with pytest.raises(CannotRun, match="fills the cache said: nothing"):
        held_of("bearergate", True, "", "")
