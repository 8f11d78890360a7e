"""What a document may cost: one for each field, times how many items its lists are asked for.

A cost is a sum of terms, each a number times the sizes of the lists around it. Sizes that the document says are
multiplied in at once; those that variables say are filled in for each request, without looking at the document again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from graphql.language import FieldNode

from gateway.core.graphql.values import ABSENT, Value, Variable, Variables, value_of


@final
@dataclass(frozen=True, slots=True)
class Size:
    """How many items a list is asked for, as far as variables say it: the largest of the arguments that do."""

    least: int
    """What the arguments without variables say, and 1 at least."""
    variables: tuple[tuple[str, Value], ...]
    """Variables with what stands for each that the request does not have."""

    def of(self, given: Mapping[str, object]) -> int | None:
        """The size with the variables of a request; None where one of them is no number of items."""
        largest = self.least
        for name, fallback in self.variables:
            size = _size_in(given.get(name, fallback))
            if size is None:
                return None
            largest = max(largest, size)
        return largest


def _size_in(value: object) -> int | None:
    """How many items are asked for. Absent or null asks for none in particular, which counts as one."""
    if value is None or value is ABSENT:
        return 1
    # A negative number is "all of them" to some servers, and a text may be read as a number.
    return max(value, 1) if type(value) is int and value >= 0 else None


Terms = dict[tuple[Size, ...], int]
"""How often each product of sizes counts; the empty product counts what needs no variables."""


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an operation whose lists are as long as variables say."""

    terms: tuple[tuple[int, tuple[Size, ...]], ...]

    def is_within(self, limit: int, given: Mapping[str, object]) -> bool:
        """Whether the operation costs no more than `limit` with these variables."""
        total = 0
        sizes: dict[Size, int] = {}
        for count, product in self.terms:
            term = count
            for factor in product:
                size = sizes.get(factor)
                if size is None:
                    filled_in = factor.of(given)
                    if filled_in is None:
                        return False
                    size = sizes[factor] = filled_in
                term *= size
            total += term
            if total > limit:
                return False
        return True


def size_of_list(node: FieldNode, multipliers: frozenset[str], variables: Variables) -> Size | None:
    """By how much a field multiplies what is below it; None where an argument that should say so is no number."""
    least = 1
    filled_in: list[tuple[str, Value]] = []
    for argument in node.arguments or ():
        if argument.name.value in multipliers:
            value = value_of(argument.value, variables)
            if isinstance(value, Variable):
                filled_in.append((value.name, value.default))
                continue
            size = _size_in(value)
            if size is None:
                return None
            least = max(least, size)
    return Size(least, tuple(filled_in))


def add(terms: Terms, below: Terms, size: Size | None = None) -> None:
    """Adds what is below a field, or a fragment, to what it stands in; `size` multiplies it."""
    for product, count in below.items():
        if size is None or not size.variables:
            longer = product
            more = count if size is None else count * size.least
        else:
            longer = (*product, size)
            more = count
        terms[longer] = terms.get(longer, 0) + more
