"""A schema, from its SDL: which types there are, what their fields return and take, and who implements what.

Made once, when a policy is loaded. It answers what the judgement of a document asks: the type of a field, whether a
fragment can ever match, and every coordinate under whose rule a field falls.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, final

from graphql import (
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_ast_schema,
    get_named_type,
    validate_schema,
)
from graphql.error import GraphQLError
from graphql.language import parse
from graphql.type import GraphQLArgument, SchemaMetaFieldDef, TypeMetaFieldDef
from graphql.validation.specified_rules import specified_sdl_rules
from graphql.validation.validate import validate_sdl

from gateway.core.graphql.values import ABSENT, Value, value_of

ROOT_TYPES: Final = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}
"""What the root types are called where there is no schema."""

# Directives are the upstream's own, and many SDLs use some of federation or a linter that they do not declare.
_ABOUT_DIRECTIVES: Final = (
    "KnownDirectivesRule",
    "KnownArgumentNamesOnDirectivesRule",
    "ProvidedRequiredArgumentsOnDirectivesRule",
)
_SDL_RULES: Final = [rule for rule in specified_sdl_rules if rule.__name__ not in _ABOUT_DIRECTIVES]


@final
@dataclass(frozen=True, slots=True)
class SchemaFault:
    """What is wrong with an SDL, and where, counted from 1."""

    line: int
    column: int
    what: str


@final
@dataclass(frozen=True, slots=True)
class Input:
    """An argument or a field of an input object."""

    default: Value
    """`ABSENT` where there is none."""
    type_name: str


@final
@dataclass(frozen=True, slots=True)
class OutputField:
    """A field as a type has it."""

    type_name: str
    arguments: dict[str, Input]


@final
@dataclass(frozen=True, slots=True)
class OutputType:
    """An object type, an interface or a union."""

    name: str
    fields: dict[str, OutputField]
    possible: frozenset[str]
    """The object types that it can be at run time; of an object type, itself."""
    interfaces: tuple[str, ...]


@final
class Schema:
    """What one SDL says. Never changed once it is made."""

    __slots__ = ("_covering", "_inputs", "digest", "roots", "types")

    def __init__(
        self,
        digest: bytes,
        roots: dict[str, str],
        types: dict[str, OutputType],
        inputs: dict[str, dict[str, Input]],
    ) -> None:
        self.digest = digest
        """Of the SDL: schemas with one digest are one schema."""
        self.roots = roots
        """The root type of each kind of operation that there is."""
        self.types = types
        """The types that have selections, by name."""
        self._inputs = inputs
        self._covering: dict[tuple[str, str], tuple[str, ...]] = {}

    def covering(self, type_name: str, field_name: str) -> tuple[str, ...]:
        """The types whose rules hold for a field: its own, those it can be, and the interfaces of them all (G6)."""
        key = (type_name, field_name)
        found = self._covering.get(key)
        if found is None:
            found = self._covering[key] = tuple(sorted(self._find_covering(type_name, field_name)))
        return found

    def _find_covering(self, type_name: str, field_name: str) -> set[str]:
        names: set[str] = set()
        for name in (type_name, *self.types[type_name].possible):
            one = self.types[name]
            names.update(other for other in (name, *one.interfaces) if field_name in self.types[other].fields)
        return names

    def can_match(self, type_name: str, condition: str) -> bool:
        """Whether something of one type can be of the other as well (GraphQL 5.5.2.3)."""
        return type_name == condition or not self.types[type_name].possible.isdisjoint(self.types[condition].possible)

    def defaults_on(self, type_name: str, field_name: str, path: tuple[str, ...]) -> tuple[Value, ...] | None:
        """The default at each step of a path into the arguments of a field; None where there is no such path."""
        field = self.types[type_name].fields[field_name]
        members: dict[str, Input] | None = field.arguments
        defaults: list[Value] = []
        for name in path:
            step = None if members is None else members.get(name)
            if step is None:
                return None
            defaults.append(step.default)
            members = self._inputs.get(step.type_name)
        return tuple(defaults)

    def step_names(self, type_name: str, field_name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        """What could follow `path` in the arguments of a field."""
        members: dict[str, Input] = self.types[type_name].fields[field_name].arguments
        for name in path:
            step = members.get(name)
            members = {} if step is None else self._inputs.get(step.type_name, {})
        return tuple(members)


def read_schema(sdl: str) -> Schema | tuple[SchemaFault, ...]:
    """The schema that `sdl` describes, or what is wrong with it. Never raises."""
    try:
        document = parse(sdl)
        errors = validate_sdl(document, rules=_SDL_RULES)
        if errors:
            return tuple(map(_fault, errors))
        schema = build_ast_schema(document, assume_valid_sdl=True)
        errors = validate_schema(schema)
    except GraphQLError as error:
        return (_fault(error),)
    if errors:
        return tuple(map(_fault, errors))
    return _made(schema, hashlib.sha256(sdl.encode()).digest())


def _fault(error: GraphQLError) -> SchemaFault:
    places = error.locations
    what = " ".join(error.message.split()).removesuffix(".").replace("'", "`")
    return SchemaFault(places[0].line, places[0].column, what) if places else SchemaFault(1, 1, what)


def _made(schema: GraphQLSchema, digest: bytes) -> Schema:
    types: dict[str, OutputType] = {}
    inputs: dict[str, dict[str, Input]] = {}
    for name, named in schema.type_map.items():
        if isinstance(named, GraphQLObjectType | GraphQLInterfaceType):
            fields = {field_name: _field(field.type, field.args) for field_name, field in named.fields.items()}
            possible = (
                frozenset((name,))
                if isinstance(named, GraphQLObjectType)
                else frozenset(one.name for one in schema.get_possible_types(named))
            )
            types[name] = OutputType(name, fields, possible, tuple(one.name for one in named.interfaces))
        elif isinstance(named, GraphQLUnionType):
            types[name] = OutputType(name, {}, frozenset(one.name for one in named.types), ())
        elif isinstance(named, GraphQLInputObjectType):
            inputs[name] = {member: _input(field) for member, field in named.fields.items()}
        else:
            assert isinstance(named, GraphQLScalarType | GraphQLEnumType)

    roots = {
        operation: root.name
        for operation, root in (
            ("query", schema.query_type),
            ("mutation", schema.mutation_type),
            ("subscription", schema.subscription_type),
        )
        if root is not None
    }
    for name, meta in (("__schema", SchemaMetaFieldDef), ("__type", TypeMetaFieldDef)):
        types[roots["query"]].fields[name] = _field(meta.type, meta.args)
    return Schema(digest, roots, types, inputs)


def _field(returned: object, arguments: dict[str, GraphQLArgument]) -> OutputField:
    return OutputField(
        get_named_type(returned).name,  # type: ignore[call-overload]
        {name: _input(argument) for name, argument in arguments.items()},
    )


def _input(given: GraphQLArgument | GraphQLInputField) -> Input:
    # Those of introspection have no node, and their defaults name nobody.
    written = None if given.ast_node is None else given.ast_node.default_value
    return Input(ABSENT if written is None else value_of(written, {}), get_named_type(given.type).name)
