"""What is wrong with a policy: where, what, and what to do, in words for whoever writes policies."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a policy file, counted from 1 as editors count."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing to mend. Advice is worth reading but stops nothing, unless `policy check --strict` asks so."""

    place: Place
    what: str
    todo: str
    is_advice: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.what}; {self.todo}"


class PolicyInvalid(Exception):
    """The policy cannot be used. It carries every fault that was found, in order of place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = in_order(faults)
        super().__init__("\n".join(map(str, self.faults)))


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The faults by file, line and column, each once."""
    return tuple(sorted(set(faults)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    names = sorted(known)
    plain = _plain(word)
    for name in names:
        if _plain(name) == plain:
            return name
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.7)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to do about an unknown word: the one it resembles, else the list of those there are."""
    names = tuple(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean `{near}`?"
    if not names:
        return "there is none to choose from"
    return f"use {listed(names)}"


def listed(names: Iterable[str], conjunction: str = "or") -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(".", "").replace(" ", "")
