"""`docs/answers.md` says of every reason what the code says."""

from __future__ import annotations

from pathlib import Path

from gateway.core.answers import public_code
from gateway.core.reasons import Reason

ANSWERS = Path(__file__).parents[2] / "docs" / "answers.md"


def test_every_reason_stands_in_the_table_as_the_code_has_it() -> None:
    rows = [line for line in ANSWERS.read_text("utf-8").splitlines() if line.startswith("| `")]

    expected = [
        f"| `{reason.label}` | {reason.status} | `{public_code(reason)}` | {'yes' if reason.closes else ''} "
        f"| {reason.sentence} |"
        for reason in Reason
    ]
    assert expected == rows
