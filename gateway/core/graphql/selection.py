"""What one operation selects: every coordinate and field path that could run, whatever hides it.

Fields count by their name, never by alias; fragments and inline fragments are followed whatever their type
condition; no directive takes a field away. First everything is counted, with each fragment visited once, so that a
document that would unfold to 2^30 fields is refused by its number; only then is it unfolded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

import msgspec
from graphql.language import (
    ArgumentNode,
    DirectiveNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
)

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.reasons import Reason, Refusal


class Selection(msgspec.Struct, frozen=True):
    """The chosen operation as the policy judges it and as the upstream will see it."""

    operation: str
    """`query`, `mutation` or `subscription`."""
    coordinates: frozenset[str]
    """Root coordinates by field name: `Query.user`, `Mutation.delete_user`, `Query.__schema`, `Query.__typename`."""
    paths: frozenset[str]
    """Every field path below a root field: `Query.offloads.files.link`."""
    document: bytes
    """The operation and the fragments it uses, printed anew, as a JSON string literal with its quotes."""


MAX_UNFOLDED: Final = 10_000
"""Fields, spreads and inline fragments of the operation with every fragment unfolded (G9)."""

MAX_NAME_CHARACTERS: Final = 256
MAX_NUMBER_CHARACTERS: Final = 128

KNOWN_DIRECTIVES: Final = frozenset(("skip", "include"))
"""Any other one may make an upstream run, stream or export something that was not judged (G12)."""

ROOT_TYPES: Final = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}

Fragments = Mapping[str, FragmentDefinitionNode]


class _Unfit(Exception):
    """Leaves the walk of a document with the refusal; never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def _invalid(detail: str) -> _Unfit:
    return _Unfit(Refusal(Reason.GRAPHQL_DOCUMENT_INVALID, detail))


def _exceeded(detail: str) -> _Unfit:
    return _Unfit(Refusal(Reason.GRAPHQL_LIMIT_EXCEEDED, detail))


class _Size(msgspec.Struct):
    """How much a selection set is, unfolded. Plain sums: they may become huge, but never slow."""

    unfolded: int = 0
    depth: int = 0
    aliases: int = 0
    directives: int = 0
    root_fields: int = 0

    def take(self, below: _Size, *, is_field: bool) -> None:
        self.unfolded += below.unfolded
        self.depth = max(self.depth, below.depth + is_field)
        self.aliases += below.aliases
        self.directives += below.directives
        if not is_field:
            self.root_fields += below.root_fields


def used_fragments(operation: OperationDefinitionNode, fragments: Fragments) -> tuple[str, ...] | Refusal:
    """Names of the fragments that `operation` reaches, each after those that it spreads itself."""
    try:
        return _in_order(operation, fragments)
    except _Unfit as unfit:
        return unfit.refusal


def what_runs(
    operation: OperationDefinitionNode, fragments: Fragments, used: tuple[str, ...], limits: GraphQLLimits
) -> tuple[frozenset[str], frozenset[str]] | Refusal:
    """(root coordinates, paths below them) of all that `operation` could run, within the limits.

    `used` must be the answer of `used_fragments`.
    """
    try:
        _check_size(operation, fragments, used, limits)
    except _Unfit as unfit:
        return unfit.refusal

    return _unfold(operation, fragments)


def _in_order(operation: OperationDefinitionNode, fragments: Fragments) -> tuple[str, ...]:
    ordered: dict[str, None] = {}
    being_walked: set[str] = set()
    # A stack of our own: a chain of fragments may be longer than Python may recurse.
    stack: list[tuple[str, Iterator[str]]] = [("", iter(_spreads(operation.selection_set)))]
    while stack:
        walker, spreads = stack[-1]
        name = next(spreads, None)
        if name is None:
            stack.pop()
            being_walked.discard(walker)
            if walker:
                ordered[walker] = None
        elif name in being_walked:
            raise _invalid("a fragment that spreads itself")
        elif name not in ordered:
            fragment = fragments.get(name)
            if fragment is None:
                raise _invalid("a spread of a fragment that is not there")
            being_walked.add(name)
            stack.append((name, iter(_spreads(fragment.selection_set))))
    return tuple(ordered)


def _spreads(selection_set: SelectionSetNode) -> list[str]:
    """Names of the fragments that a selection set spreads, at any depth of its own."""
    names: list[str] = []
    stack = [selection_set]
    while stack:
        for node in stack.pop().selections:
            if isinstance(node, FragmentSpreadNode):
                names.append(node.name.value)
            elif isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set is not None:
                stack.append(node.selection_set)
    return names


def _check_size(
    operation: OperationDefinitionNode, fragments: Fragments, used: tuple[str, ...], limits: GraphQLLimits
) -> None:
    sizes: dict[str, _Size] = {}
    for name in used:
        fragment = fragments[name]
        size = _size_of(fragment.selection_set, sizes)
        size.directives += _checked_directives(fragment.directives)
        sizes[name] = size

    total = _size_of(operation.selection_set, sizes)
    total.directives += _checked_directives(operation.directives)
    variables: set[str] = set()
    for definition in operation.variable_definitions or ():
        variable = definition.variable.name.value
        if variable in variables:
            raise _invalid("a variable that is declared twice")
        variables.add(variable)
        total.directives += _checked_directives(definition.directives)
        _check_value(definition.default_value)

    for is_over, what in (
        (total.depth > limits.depth, "depth"),
        (total.aliases > limits.aliases, "aliases"),
        (total.directives > limits.directives, "directives"),
        (total.root_fields > limits.root_fields, "root_fields"),
        (total.unfolded > MAX_UNFOLDED, "unfolded"),
    ):
        if is_over:
            raise _exceeded(f"over the limit of `{what}`")


def _size_of(selection_set: SelectionSetNode, sizes: Mapping[str, _Size]) -> _Size:
    """The size of a selection set. Recurses as deep as braces nest, which the parser bounds at 200."""
    size = _Size()
    for node in selection_set.selections:
        size.unfolded += 1
        size.directives += _checked_directives(node.directives)
        if isinstance(node, FieldNode):
            if len(node.name.value) > MAX_NAME_CHARACTERS:
                raise _exceeded("a field name that is too long")
            size.root_fields += 1
            size.aliases += node.alias is not None
            _check_arguments(node.arguments)
            below = _Size() if node.selection_set is None else _size_of(node.selection_set, sizes)
            size.take(below, is_field=True)
        elif isinstance(node, FragmentSpreadNode):
            size.take(sizes[node.name.value], is_field=False)
        else:
            size.take(_size_of(cast("InlineFragmentNode", node).selection_set, sizes), is_field=False)
    return size


def _checked_directives(directives: tuple[DirectiveNode, ...] | None) -> int:
    """How many directives there are; all of them known."""
    for directive in directives or ():
        if directive.name.value not in KNOWN_DIRECTIVES:
            raise _invalid("a directive other than `@skip` and `@include`")
        _check_arguments(directive.arguments)
    return len(directives or ())


def _check_arguments(arguments: tuple[ArgumentNode, ...] | None) -> None:
    """Refuses an argument that is given twice: servers take the first or the last (G35)."""
    if not arguments:
        return
    if len({argument.name.value for argument in arguments}) != len(arguments):
        raise _invalid("an argument that is given twice")
    for argument in arguments:
        _check_value(argument.value)


def _check_value(value: ValueNode | None) -> None:
    """Refuses an input object with a member twice, and a number of any length (G49).

    Recurses as deep as the parser lets values nest.
    """
    if isinstance(value, ObjectValueNode):
        if len({member.name.value for member in value.fields}) != len(value.fields):
            raise _invalid("an input object with a member that is given twice")
        for member in value.fields:
            _check_value(member.value)
    elif isinstance(value, ListValueNode):
        for item in value.values:
            _check_value(item)
    elif isinstance(value, IntValueNode | FloatValueNode) and len(value.value) > MAX_NUMBER_CHARACTERS:
        raise _exceeded("a number that is too long")


def _unfold(operation: OperationDefinitionNode, fragments: Fragments) -> tuple[frozenset[str], frozenset[str]]:
    """Every field by its path, fragments unfolded. Visits at most `MAX_UNFOLDED` nodes: their number was checked."""
    coordinates: set[str] = set()
    paths: set[str] = set()
    root = ROOT_TYPES[operation.operation.value]
    stack = [(root, coordinates, operation.selection_set)]
    while stack:
        above, found, selection_set = stack.pop()
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                path = f"{above}.{node.name.value}"
                found.add(path)
                if node.selection_set is not None:
                    stack.append((path, paths, node.selection_set))
            elif isinstance(node, FragmentSpreadNode):
                stack.append((above, found, fragments[node.name.value].selection_set))
            else:
                stack.append((above, found, cast("InlineFragmentNode", node).selection_set))
    return frozenset(coordinates), frozenset(paths)
