"""What one operation selects: every coordinate and field path that could run, whatever hides it.

Fields count by their name, never by alias; fragments and inline fragments are followed whatever their type
condition; no directive takes a field away. First everything is counted, with each fragment visited once, so that a
document that would unfold to 2^30 fields is refused by its number; only then is it unfolded. With a schema every field
is found on its type as well, again with each fragment visited once: what a fragment selects depends on its own type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast, final

import msgspec
import orjson
from graphql.language import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
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
    print_ast,
)

from gateway.core.graphql.cost import Cost, Terms, add, size_of_list
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.schema import ROOT_TYPES, OutputType, Schema
from gateway.core.graphql.values import ABSENT, NO_MEMBERS, Declared, Members, value_of
from gateway.core.reasons import Reason, Refusal


@final
@dataclass(frozen=True, slots=True)
class SelectedField:
    """A field with arguments, as the document selects it in one place or in several that are alike."""

    coordinate: str
    """With a schema its type and its name, `User.email`; without one its path, `Query.user.email`."""
    arguments: Members


@final
@dataclass(slots=True)
class Selection:
    """The chosen operation as the policy judges it and as the upstream will see it. Never changed, but for `judged`."""

    operation: str
    """`query`, `mutation` or `subscription`."""
    coordinates: frozenset[str]
    """Root coordinates by field name: `Query.user`, `Mutation.delete_user`, `Query.__schema`, `Query.__typename`."""
    paths: frozenset[str]
    """Every field path below a root field: `Query.offloads.files.link`."""
    document: bytes
    """The operation and the fragments it uses, printed anew, as a JSON string literal with its quotes."""
    fields: tuple[SelectedField, ...] = ()
    """Every field that could run, each with every set of arguments that it is given."""
    variables: dict[str, Declared] = field(default_factory=dict)
    cost: Cost | None = None
    """What it costs, where the route limits that and variables have a part in it."""
    judged: dict[int, object] = field(default_factory=dict, compare=False, repr=False)
    """What the policy worked out for it, by the identity of the rules: theirs who judge, and never a verdict."""


MAX_UNFOLDED: Final = 10_000
"""Fields, spreads and inline fragments of the operation with every fragment unfolded (G9)."""

MAX_NAME_CHARACTERS: Final = 256
MAX_NUMBER_CHARACTERS: Final = 128

KNOWN_DIRECTIVES: Final = frozenset(("skip", "include"))
"""Any other one may make an upstream run, stream or export something that was not judged (G12)."""
INCREMENTAL_DIRECTIVES: Final = frozenset(("defer", "stream"))
"""They say when a part of the answer comes, and not what is in it; known where the route says so."""

INTROSPECTION_FIELDS: Final = ("__schema", "__type")
MAX_INTROSPECTION_LISTS: Final = 3
"""Lists of the schema within one another: three steps of `fields { type` could ask for 10^9 of a large schema."""
_LISTS_OF_SCHEMA: Final = frozenset(("fields", "interfaces", "possibleTypes", "inputFields"))

Fragments = Mapping[str, FragmentDefinitionNode]


class _Unfit(Exception):
    """Leaves the walk of a document with the refusal; never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def _invalid(detail: str) -> _Unfit:
    return _Unfit(Refusal(Reason.GRAPHQL_DOCUMENT_INVALID, detail))


def _unknown(detail: str) -> _Unfit:
    return _Unfit(Refusal(Reason.GRAPHQL_SCHEMA_VIOLATED, detail))


def _exceeded(detail: str) -> _Unfit:
    return _Unfit(Refusal(Reason.GRAPHQL_LIMIT_EXCEEDED, detail))


class _Size(msgspec.Struct):
    """How much a selection set is, unfolded. Plain sums: they may become huge, but never slow."""

    unfolded: int = 0
    depth: int = 0
    introspection_depth: int = 0
    """Of `__schema` and `__type`, which are not in `depth`."""
    lists: int = 0
    schema_lists: int = 0
    """Of what is below `__schema` and `__type`."""
    aliases: int = 0
    directives: int = 0
    root_fields: int = 0
    cost: Terms = msgspec.field(default_factory=dict)

    def take(self, below: _Size, name: str = "") -> None:
        """Adds what is below a field, or below a fragment, which has no `name`."""
        is_field = bool(name)
        self.unfolded += below.unfolded
        if name in INTROSPECTION_FIELDS:
            self.introspection_depth = max(self.introspection_depth, below.depth + 1)
            self.schema_lists = max(self.schema_lists, below.lists)
        else:
            self.depth = max(self.depth, below.depth + is_field)
            self.introspection_depth = max(self.introspection_depth, below.introspection_depth)
            self.lists = max(self.lists, below.lists + (name in _LISTS_OF_SCHEMA))
            self.schema_lists = max(self.schema_lists, below.schema_lists)
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


def read_selection(
    operation: OperationDefinitionNode,
    fragments: Fragments,
    used: tuple[str, ...],
    limits: GraphQLLimits,
    schema: Schema | None,
) -> Selection | Refusal:
    """All that `operation` could run, within the limits and, where there is one, by the schema.

    `used` must be the answer of `used_fragments`.
    """
    variables: dict[str, Declared] = {}
    try:
        cost = _check_size(operation, fragments, used, limits, variables)
        coordinates, paths, fields = _unfold(operation, fragments, variables, schema)
        if schema is not None:
            fields = _typed(operation, fragments, used, variables, schema)
    except _Unfit as unfit:
        return unfit.refusal

    sent = DocumentNode(definitions=(operation, *(fragments[name] for name in sorted(used))))
    document = orjson.dumps(print_ast(sent))
    return Selection(operation.operation.value, coordinates, paths, document, tuple(fields), variables, cost)


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
    operation: OperationDefinitionNode,
    fragments: Fragments,
    used: tuple[str, ...],
    limits: GraphQLLimits,
    variables: dict[str, Declared],
) -> Cost | None:
    """The cost, where variables have a part in it. Fills in the `variables` that the operation declares."""
    of_definitions = 0
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in variables:
            raise _invalid("a variable that is declared twice")
        of_definitions += _checked_directives(definition.directives)
        _check_value(definition.default_value)
        default = ABSENT if definition.default_value is None else value_of(definition.default_value, {})
        variables[name] = Declared(print_ast(definition.type), default)

    multipliers = frozenset(limits.multipliers if limits.cost else ())
    known = KNOWN_DIRECTIVES | INCREMENTAL_DIRECTIVES if limits.incremental else KNOWN_DIRECTIVES
    sizes: dict[str, _Size] = {}
    for name in used:
        fragment = fragments[name]
        size = _size_of(fragment.selection_set, sizes, multipliers, variables, known)
        size.directives += _checked_directives(fragment.directives)
        _check_unfolded(size)
        sizes[name] = size

    total = _size_of(operation.selection_set, sizes, multipliers, variables, known)
    total.directives += of_definitions + _checked_directives(operation.directives)

    for is_over, what in (
        (total.depth > limits.depth, "depth"),
        (total.introspection_depth > limits.introspection_depth, "introspection_depth"),
        (total.schema_lists > MAX_INTROSPECTION_LISTS, "introspection_depth"),
        (total.aliases > limits.aliases, "aliases"),
        (total.directives > limits.directives, "directives"),
        (total.root_fields > limits.root_fields, "root_fields"),
    ):
        if is_over:
            raise _exceeded(f"over the limit of `{what}`")
    _check_unfolded(total)
    return _cost_of(total.cost, limits.cost)


def _check_unfolded(size: _Size) -> None:
    # Of each fragment at once: sums may double from one to the next, and what it costs is a sum with many parts.
    if size.unfolded > MAX_UNFOLDED:
        raise _exceeded("over the limit of `unfolded`")


def _cost_of(terms: Terms, limit: int) -> Cost | None:
    if not limit:
        return None
    cost = Cost(tuple((count, product) for product, count in terms.items()))
    if len(terms) > 1 or () not in terms:
        return cost
    if not cost.is_within(limit, {}):
        raise _exceeded("over the limit of `cost`")
    return None


def _size_of(
    selection_set: SelectionSetNode,
    sizes: Mapping[str, _Size],
    multipliers: frozenset[str],
    variables: Mapping[str, Declared],
    known: frozenset[str],
) -> _Size:
    """The size of a selection set. Recurses as deep as braces nest, which the parser bounds at 200."""
    size = _Size()
    for node in selection_set.selections:
        size.unfolded += 1
        size.directives += _checked_directives(node.directives, known)
        if isinstance(node, FieldNode):
            name = node.name.value
            if len(name) > MAX_NAME_CHARACTERS:
                raise _exceeded("a field name that is too long")
            size.root_fields += 1
            size.aliases += node.alias is not None
            _check_arguments(node.arguments)
            below = (
                _Size()
                if node.selection_set is None
                else _size_of(node.selection_set, sizes, multipliers, variables, known)
            )
            size.take(below, name)
            if multipliers:
                items = size_of_list(node, multipliers, variables)
                if items is None:
                    raise _exceeded("an argument that says how many, and is no number")
                add(size.cost, {(): 1})
                add(size.cost, below.cost, items)
            continue
        if isinstance(node, FragmentSpreadNode):
            below = sizes[node.name.value]
        else:
            below = _size_of(cast("InlineFragmentNode", node).selection_set, sizes, multipliers, variables, known)
        size.take(below)
        add(size.cost, below.cost)
    return size


def _checked_directives(directives: tuple[DirectiveNode, ...] | None, known: frozenset[str] = KNOWN_DIRECTIVES) -> int:
    """How many directives there are; all of them known."""
    for directive in directives or ():
        if directive.name.value not in known:
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


def _unfold(
    operation: OperationDefinitionNode,
    fragments: Fragments,
    variables: Mapping[str, Declared],
    schema: Schema | None,
) -> tuple[frozenset[str], frozenset[str], dict[SelectedField, None]]:
    """Every field by its path, fragments unfolded, and without a schema its arguments.

    Visits at most `MAX_UNFOLDED` nodes: their number was checked.
    """
    coordinates: set[str] = set()
    paths: set[str] = set()
    fields: dict[SelectedField, None] = {}
    root = _root_of(operation, schema)
    stack = [(root, coordinates, operation.selection_set)]
    while stack:
        above, found, selection_set = stack.pop()
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                name = node.name.value
                if found is coordinates and name.startswith("__"):
                    # What belongs to no type has one name, whatever the schema calls its root types.
                    path = f"{ROOT_TYPES[operation.operation.value]}.{name}"
                else:
                    path = f"{above}.{name}"
                found.add(path)
                if schema is None:
                    fields[SelectedField(path, _arguments(node, variables))] = None
                if node.selection_set is not None:
                    stack.append((path, paths, node.selection_set))
            elif isinstance(node, FragmentSpreadNode):
                stack.append((above, found, fragments[node.name.value].selection_set))
            else:
                stack.append((above, found, cast("InlineFragmentNode", node).selection_set))
    return frozenset(coordinates), frozenset(paths), fields


def _arguments(node: FieldNode, variables: Mapping[str, Declared]) -> Members:
    if not node.arguments:
        return NO_MEMBERS
    return Members(tuple((argument.name.value, value_of(argument.value, variables)) for argument in node.arguments))


def _root_of(operation: OperationDefinitionNode, schema: Schema | None) -> str:
    kind = operation.operation.value
    if schema is None:
        return ROOT_TYPES[kind]
    root = schema.roots.get(kind)
    if root is None:
        raise _unknown(f"a {kind}, which the schema has none of")
    return root


def _typed(
    operation: OperationDefinitionNode,
    fragments: Fragments,
    used: tuple[str, ...],
    variables: Mapping[str, Declared],
    schema: Schema,
) -> dict[SelectedField, None]:
    """Every field on its type, each fragment visited once. Refuses what the schema does not have."""
    fields: dict[SelectedField, None] = {}
    stack = [(schema.types[_root_of(operation, schema)], operation.selection_set)]
    for used_name in used:
        fragment = fragments[used_name]
        stack.append((_type_of(fragment.type_condition.name.value, schema), fragment.selection_set))
    while stack:
        here, selection_set = stack.pop()
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                below = _add_field(node, here, variables, schema, fields)
                if below is not None and node.selection_set is not None:
                    stack.append((below, node.selection_set))
                continue
            if isinstance(node, FragmentSpreadNode):
                condition = fragments[node.name.value].type_condition.name.value
                inner = None
            else:
                inline = cast("InlineFragmentNode", node)
                condition = here.name if inline.type_condition is None else inline.type_condition.name.value
                inner = inline.selection_set
            there = _type_of(condition, schema)
            if not schema.can_match(here.name, condition):
                raise _unknown("a fragment on a type that can never match")
            if inner is not None:
                stack.append((there, inner))
    return fields


def _type_of(name: str, schema: Schema) -> OutputType:
    found = schema.types.get(name)
    if found is None:
        raise _unknown("a fragment on a type that has no fields, or that there is not")
    return found


def _add_field(
    node: FieldNode,
    here: OutputType,
    variables: Mapping[str, Declared],
    schema: Schema,
    fields: dict[SelectedField, None],
) -> OutputType | None:
    """The type of what is below a field, which is added to `fields`."""
    name = node.name.value
    if name == "__typename":
        if node.selection_set is not None or node.arguments:
            raise _unknown("a `__typename` with something below it")
        return None

    known = here.fields.get(name)
    if known is None:
        raise _unknown("a field that its type does not have")
    for argument in node.arguments or ():
        if argument.name.value not in known.arguments:
            raise _unknown("an argument that the field does not have")
    below = schema.types.get(known.type_name)
    if (below is None) is not (node.selection_set is None):
        raise _unknown("a field of no fields with a selection, or the reverse")
    # Introspection has a rule of its own, which is asked at the root.
    if not name.startswith("__") and not here.name.startswith("__"):
        fields[SelectedField(f"{here.name}.{name}", _arguments(node, variables))] = None
    return below
