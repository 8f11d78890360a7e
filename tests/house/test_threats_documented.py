"""Every threat that is cited in the code or in a test has its row in `docs/threats.md`, and every row is cited."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUPS = "A-LNPR"
CITED = re.compile(rf"\b([{GROUPS}])([0-9]{{1,2}})(?:(?:-| to )\1([0-9]{{1,2}}))?\b")
NAMED = re.compile(rf'^"([{GROUPS}])([0-9]{{1,2}})(?=[-"])()')


def cited() -> Iterator[str]:
    """Numbers in comments and docstrings, with what lies between the ends of a range, and in the names of tests."""
    for path in sorted((*(ROOT / "gateway").rglob("*.py"), *(ROOT / "tests").rglob("*.py"))):
        if path == Path(__file__):
            continue
        before = ""
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            pattern = None
            if token.type == tokenize.COMMENT or token.string.startswith('"""'):
                pattern = CITED
            elif token.type == tokenize.STRING:
                pattern = NAMED
            elif before == "def" and path.parent.name == "threats":
                yield from leading(token.string)
            if pattern is not None:
                for match in pattern.finditer(token.string.lstrip("fr")):
                    first = int(match[2])
                    yield from (f"{match[1]}{number}" for number in range(first, int(match[3] or first) + 1))
            before = token.string


def leading(name: str) -> Iterator[str]:
    """`E1`, `E2` of `test_e1_e2_whatever`."""
    for part in name.removeprefix("test_").split("_"):
        if not re.fullmatch(r"[a-z][0-9]{1,2}", part):
            return
        yield part.upper()


def rows() -> list[str]:
    text = (ROOT / "docs" / "threats.md").read_text("utf-8")
    return re.findall(r"^\| ([A-Z][0-9]+) \|", text, re.MULTILINE)


def test_every_threat_that_is_cited_has_its_row() -> None:
    assert set(cited()) - set(rows()) == set()


def test_every_row_is_cited_and_stands_once() -> None:
    assert set(rows()) - set(cited()) == set()
    assert len(rows()) == len(set(rows()))
