"""What an argument is given: read from the document once, and resolved with the variables of each request.

A constant is a text (a string or the name of an enum value), a whole number, `None` for null, or `OTHER`: what has
more than one spelling, and so never names anybody. What stands in `variables` is JSON and is looked at as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from graphql.language import (
    BooleanValueNode,
    EnumValueNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)


@final
@dataclass(frozen=True, slots=True)
class Word:
    """Something that is there and is neither a text, a number nor null."""

    name: str


OTHER: Final = Word("other")
"""A truth value, a number with a fraction, `-0`, or a variable that is not declared."""
ABSENT: Final = Word("absent")


@final
@dataclass(frozen=True, slots=True)
class Variable:
    """A place that a variable of the request fills, or else its default; `ABSENT` where it has none."""

    name: str
    default: Value = ABSENT


@final
@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Value, ...]


@final
@dataclass(frozen=True, slots=True)
class Members:
    """An input object; also the arguments of a field."""

    members: tuple[tuple[str, Value], ...]


Value = str | int | None | Word | Variable | Items | Members

NO_MEMBERS: Final = Members(())


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """A variable as the operation declares it."""

    type_text: str
    default: Value = ABSENT


Variables = Mapping[str, Declared]


def value_of(node: ValueNode, variables: Variables) -> Value:
    """What `node` says. Recurses as deep as the parser lets values nest."""
    if isinstance(node, VariableNode):
        declared = variables.get(node.name.value)
        return OTHER if declared is None else Variable(node.name.value, declared.default)
    if isinstance(node, StringValueNode | EnumValueNode):
        return node.value
    if isinstance(node, IntValueNode):
        # `-0` is `0` to some servers and a text of two characters to others.
        return OTHER if node.value == "-0" else int(node.value)
    if isinstance(node, NullValueNode):
        return None
    if isinstance(node, ListValueNode):
        return Items(tuple(value_of(item, variables) for item in node.values))
    if isinstance(node, ObjectValueNode):
        return Members(tuple((member.name.value, value_of(member.value, variables)) for member in node.fields))
    assert isinstance(node, BooleanValueNode) or node.kind == "float_value"
    return OTHER


def uses(value: Value, name: str) -> bool:
    """Whether the variable `name` stands anywhere in `value`."""
    if isinstance(value, Variable):
        return value.name == name
    if isinstance(value, Items):
        return any(uses(item, name) for item in value.items)
    return isinstance(value, Members) and any(uses(member, name) for _, member in value.members)


def bytes_of(value: Value) -> int:
    """What a value holds in memory, roughly."""
    if isinstance(value, str):
        return 60 + len(value)
    if isinstance(value, Items):
        return 100 + sum(map(bytes_of, value.items))
    if isinstance(value, Members):
        return 100 + sum(150 + bytes_of(member) for _, member in value.members)
    return 100


@final
class Named:
    """Where in a value somebody is named, and by whom it has to be: nobody else, at no place (G33, G34)."""

    __slots__ = ("fallbacks", "given", "path", "who")

    def __init__(self, path: Sequence[str], fallbacks: Sequence[Value], given: Mapping[str, object], who: str) -> None:
        """`fallbacks` are the schema's defaults, one for each name of `path`; `given` are the request's variables."""
        self.path = path
        self.fallbacks = fallbacks
        self.given = given
        self.who = who

    def is_all_of(self, value: object, at: int = 0) -> bool:
        """Whether `value`, reached by the names before `at`, names `who` wherever the path leads.

        A list names who all of its items do, and an empty one nobody. What is absent or null names nobody.
        """
        if isinstance(value, Variable):
            if value.name in self.given:
                value = self.given[value.name]
            elif value.default is ABSENT:
                return at > 0 and self._is_default(at - 1)
            else:
                value = value.default
        if isinstance(value, Items | list):
            items = value.items if isinstance(value, Items) else value
            return bool(items) and all(self._is_item(item, at) for item in items)
        if at == len(self.path):
            # Zero as a number is `-0` in some spellings, which only its text would tell.
            text = str(value) if type(value) is int and value != 0 else value
            return bool(self.who) and type(text) is str and text == self.who

        name = self.path[at]
        if isinstance(value, Members):
            for member, inner in value.members:
                if member == name:
                    return self.is_all_of(inner, at + 1)
            return self._is_default(at)
        if isinstance(value, dict):
            return self.is_all_of(value[name], at + 1) if name in value else self._is_default(at)
        return False

    def _is_item(self, item: object, at: int) -> bool:
        # The default of an argument stands for the argument, never for one item of a list.
        if isinstance(item, Variable) and item.name not in self.given and item.default is ABSENT:
            return False
        return self.is_all_of(item, at)

    def _is_default(self, at: int) -> bool:
        fallback = self.fallbacks[at]
        return fallback is not ABSENT and self.is_all_of(fallback, at + 1)
