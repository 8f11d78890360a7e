"""Single values of a policy file: texts, numbers, dates, sizes. What has two readings is a fault, never a guess."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

import msgspec

from gateway.core.policy.document import Text
from gateway.core.policy.faults import Fault, Place, did_you_mean, listed, nearest
from gateway.core.policy.tree import Listing, Mapping, Node, Scalar

# What YAML 1.1 and 1.2 read as something other than text: `yes`, `1e3`, `0x10`, `22:22`, a date (J6).
_TRUTH: Final = re.compile(r"(?i:y|yes|n|no|on|off|true|false)")
_NUMBER: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?::[0-9]+)*(?:\.[0-9_]*)?(?i:e[-+]?[0-9]+)?|0[xob][0-9A-Fa-f_]+|\.[0-9]+|\.(?i:inf|nan))"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NOTHING: Final = ("", "~", "null", "Null", "NULL")

_SECONDS: Final = re.compile(r"(?:0|[1-9][0-9]{0,4})(?:\.[0-9]{1,3})?")
SHORTEST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 86_400
"""A day, as in the configuration."""

_SIZE: Final = re.compile(r"([1-9][0-9]{0,8})(B|KiB|MiB|GiB)")
_UNITS: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

# Never quoted in a message. Any of them in a policy would end in dumps, diffs and reviews (J25).
_SECRET: Final = re.compile(
    r"[0-9A-Za-z]{8,40}\.(?=[0-9A-Za-z]*[0-9])(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{20,128}"
    r"|(?=[0-9a-fA-F]*[0-9])(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{32,}"
    r"|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*\.[0-9A-Za-z_-]*"
    r"|.*-----BEGIN .*"
    r"|(?i:bearer|basic) [0-9A-Za-z._~+/=-]{8,}"
    r"|(?:gh[opusr]|github_pat|sk|pk|rk|xox[abp]|glpat|AKIA)[_-]?[0-9A-Za-z_-]{16,}"
    r"|[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@.*",
    re.DOTALL,
)

_BETWEEN_WORDS: Final = re.compile(r"[\s/=?&,;]+")


class Meant(msgspec.Struct, frozen=True):
    """What an unknown key probably stands for, and what to do about it."""

    key: str
    todo: str


class Values:
    """Reads values and collects what is wrong with them. Every reader returns None when there was a fault."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, place: Place, what: str, todo: str) -> None:
        """Notes something to mend."""
        self.faults.append(Fault(place, what, todo))

    def advise(self, place: Place, what: str, todo: str) -> None:
        """Notes something worth a look."""
        self.faults.append(Fault(place, what, todo, is_advice=True))

    def text(self, node: Node, key: str, example: str) -> Text | None:
        """A text that every reader of YAML takes for a text."""
        if not isinstance(node, Scalar):
            kind = "a list" if isinstance(node, Listing) else "a mapping"
            self.fault(node.place, f"`{key}` is {kind}, but one text is needed", f"write it as `{key}: {example}`")
            return None
        if says_nothing(node):
            self.fault(node.place, f"`{key}` has no value", f"write it as `{key}: {example}`")
            return None
        if is_secret(node.text):
            return None  # `check_secrets` has said so, without quoting it
        if not node.text.strip():
            self.fault(node.place, f"`{key}` is empty", f"write it as `{key}: {example}`")
            return None
        if node.is_plain:
            read_as = _other_reading(node.text)
            if read_as:
                self.fault(
                    node.place,
                    f"`{key}` must be text, but `{node.text}` is {read_as} to some readers of YAML",
                    f'put it in quotes if it is meant: `"{node.text}"`',
                )
                return None
        return Text(node.text, node.place)

    def word(self, node: Node, key: str, shape: re.Pattern[str], example: str, rule: str) -> Text | None:
        """A text of a given shape."""
        text = self.text(node, key, example)
        if text is not None and shape.fullmatch(text.value) is None:
            self.fault(text.place, f"`{key}` cannot be `{text.value}`", f"{rule}, such as `{example}`")
            return None
        return text

    def choice(self, node: Node, key: str, choices: tuple[str, ...]) -> Text | None:
        """One of a few words."""
        if isinstance(node, Scalar) and node.text in choices:
            return Text(node.text, node.place)
        text = self.text(node, key, choices[0])
        if text is not None:
            self.fault(text.place, f"`{text.value}` is not a value of `{key}`", _choose(text.value, choices))
        return None

    def flag(self, node: Node, key: str) -> bool | None:
        """`true` or `false`, in these spellings only."""
        if isinstance(node, Scalar) and node.is_plain and node.text in ("true", "false"):
            return node.text == "true"
        self.fault(node.place, f"`{key}` must be true or false{_but_is(node)}", f"write `{key}: true`, or leave it out")
        return None

    def whole_number(self, node: Node, key: str, highest: int) -> int | None:
        """A whole number from 1 to `highest`, in plain digits."""
        if isinstance(node, Scalar) and node.is_plain and re.fullmatch("[1-9][0-9]{0,8}", node.text):
            number = int(node.text)
            if number <= highest:
                return number
        self.fault(
            node.place,
            f"`{key}` must be a whole number from 1 to {highest}{_but_is(node)}",
            f"write it in digits, such as `{key}: {min(highest, 10)}`",
        )
        return None

    def seconds(self, node: Node, key: str) -> float | None:
        """A number of seconds, with a fraction or without."""
        if isinstance(node, Scalar) and node.is_plain and _SECONDS.fullmatch(node.text):
            number = float(node.text)
            if SHORTEST_SECONDS <= number <= LONGEST_SECONDS:
                return number
        self.fault(
            node.place,
            f"`{key}` must be seconds from {SHORTEST_SECONDS:g} to {LONGEST_SECONDS}{_but_is(node)}",
            f"write them in digits, such as `{key}: 10`, or leave it out",
        )
        return None

    def day(self, node: Node, key: str) -> date | None:
        """A date as YEAR-MONTH-DAY."""
        if isinstance(node, Scalar) and _DATE.fullmatch(node.text):
            try:
                return date.fromisoformat(node.text)
            except ValueError:
                self.fault(node.place, f"`{node.text}` is not a day of the calendar", "correct the month or the day")
                return None
        self.fault(
            node.place,
            f"`{key}` must be a date{_but_is(node)}",
            f"write year, month and day, such as `{key}: 2027-06-30`",
        )
        return None

    def size(self, node: Node, key: str) -> int | None:
        """A number of bytes with its unit."""
        if isinstance(node, Scalar):
            match = _SIZE.fullmatch(node.text)
            if match is not None:
                return int(match.group(1)) * _UNITS[match.group(2)]
        self.fault(
            node.place,
            f"`{key}` must be a size{_but_is(node)}",
            f"write a number with one of the units {listed(_UNITS)}, such as `{key}: 10MiB`",
        )
        return None

    def members(
        self,
        node: Node,
        what: str,
        keys: tuple[str, ...],
        *,
        meant: dict[str, Meant] | None = None,
        misspelt: set[str] | None = None,
    ) -> dict[str, tuple[Text, Node]] | None:
        """The members of a mapping with a closed set of keys: unknown and repeated ones are faults.

        `meant` knows words that other tools use. `misspelt` collects the keys that were meant by unknown ones, so
        that nobody is told twice: a key that is misspelt is not missing as well.
        """
        members = self.entries(node, what)
        if members is None:
            return None

        known: dict[str, tuple[Text, Node]] = {}
        for key, value in members:
            if key.value in keys:
                known[key.value] = (key, value)
            elif key.value == "<<":
                self.fault(key.place, "the merge key `<<` is not accepted", "write the keys out where they apply")
            elif not is_secret(key.value):
                known_word = (meant or {}).get(key.value.lower())
                if known_word is None:
                    known_word = Meant(nearest(key.value, keys) or "", did_you_mean(key.value, keys))
                if misspelt is not None:
                    misspelt.add(known_word.key)
                self.fault(key.place, f"{what} has no key `{key.value}`", known_word.todo)
        return known

    def entries(self, node: Node, what: str) -> list[tuple[Text, Node]] | None:
        """The keys and values of a mapping, each key once; a second one is a fault and is left out."""
        if not isinstance(node, Mapping):
            if says_nothing(node):
                self.fault(node.place, f"{what} says nothing", "write its keys below it, each further to the right")
            else:
                self.fault(node.place, f"{what} must be made of keys and values", "write each as `key: value`")
            return None

        seen: dict[str, Place] = {}
        entries: list[tuple[Text, Node]] = []
        for key, value in node.entries:
            if key.text in seen:
                shown = "a key" if is_secret(key.text) else f"the key `{key.text}`"
                self.fault(key.place, f"{shown} is here already, on line {seen[key.text].line}", "keep one of the two")
                continue
            seen[key.text] = key.place
            entries.append((Text(key.text, key.place), value))
        return entries

    def check_secrets(self, node: Node) -> None:
        """Refuses what looks like a secret or like a value to be filled in, anywhere in a file."""
        stack: list[Node] = [node]
        while stack:
            part = stack.pop()
            if isinstance(part, Listing):
                stack += part.items
            elif isinstance(part, Mapping):
                for key, value in part.entries:
                    stack += (key, value)
            elif is_secret(part.text):
                self.fault(
                    part.place,
                    "this looks like a token, a key or a password",
                    "take it out: a policy holds no secrets, and revoke it if it is real",
                )
            elif "${" in part.text:
                self.fault(part.place, "`${` is not filled in from the environment", "write the value itself")


def says_nothing(node: Node) -> bool:
    """Whether a key has no value at all."""
    return isinstance(node, Scalar) and node.is_plain and node.text in _NOTHING


def in_braces(text: str) -> str:
    """`text` as it can stand within `{…}`."""
    return text if re.fullmatch(r"[A-Za-z][\w .-]*", text) else "'{}'".format(text.replace("'", "''"))


def is_secret(text: str) -> bool:
    """Whether a text, or a word in it, has the shape of a credential."""
    if len(text) < 16:
        return False
    return _SECRET.fullmatch(text) is not None or any(map(_SECRET.fullmatch, _BETWEEN_WORDS.split(text)))


def _but_is(node: Node) -> str:
    return f", but is `{node.text}`" if isinstance(node, Scalar) and not is_secret(node.text) else ""


def _choose(word: str, choices: tuple[str, ...]) -> str:
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near is not None else f"use {listed(choices)}"


def _other_reading(text: str) -> str:
    if _TRUTH.fullmatch(text):
        return "true or false"
    if _DATE.fullmatch(text):
        return "a date"
    return "a number" if _NUMBER.fullmatch(text) else ""
