"""The oracle: whatever a server resolves of a document was judged, and whom it resolves for is whom it named.

Random schemas and random documents, executed by graphql-core with resolvers that note what they are asked.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from graphql import GraphQLResolveInfo, build_schema, execute_sync, parse
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.schema import Schema, read_schema
from gateway.core.graphql.selection import Selection
from gateway.core.policy.asked import asked_of, rules_met
from gateway.core.policy.requirement import Subject, SubjectPlace, UserRequirement
from gateway.core.policy.routes import GraphQLRules, StatusProfile

WIDE = GraphQLLimits(tokens=20_000, depth=50, aliases=1000, directives=1000, root_fields=1000)
OBJECTS = ("A", "B", "C")
INTERFACES = ("I", "J")
FIELDS = ("f", "g", "h")
DEFAULTS = ("", ' = "u1"', ' = "u2"')
USER = CredentialKind.USER_JWT


def random_sdl(choose: Random) -> str:
    """Three object types, two interfaces and a union; `id` of a field has another default on each type."""
    shared = {name: choose.choice(["A", "[B]", "C", "I", "[J!]", "U", "[U]"]) for name in FIELDS}
    of_interface = {"I": ("f",), "J": ("f", "g")}

    def fields(names: tuple[str, ...]) -> str:
        return " ".join(f"{name}(id: ID{choose.choice(DEFAULTS)}, ids: [ID], in: In): {shared[name]}" for name in names)

    types = [
        f"input In {{ id: ID{choose.choice(DEFAULTS)} many: [ID] deep: In }}",
        "union U = A | B | C",
        f"type Query {{ {fields(FIELDS)} }}",
    ]
    types += [f"interface {name} {{ x: Int {fields(of_interface[name])} }}" for name in INTERFACES]
    for name in OBJECTS:
        interfaces = [one for one in INTERFACES if choose.random() < 0.6]
        header = f"type {name}" + (f" implements {' & '.join(interfaces)}" if interfaces else "")
        types.append(f"{header} {{ x: Int {fields(FIELDS)} }}")
    return "\n".join(types)


IDS = ('"u1"', '"u1"', '"u1"', '"u2"', "$v", "$d", "null", "1")
MANY = ('["u1"]', '["u1", $v]', '"u1"', "[]", "$l", "[$d]", '["u1", null]', "null")
INPUTS = ("{}", "$o", "null", '{id: "u1"}', '{id: "u1"}', "{id: $v}", "{id: $d}", "{many: $l}", '{many: ["u1"]}')
GIVEN: dict[str, tuple[Any, ...]] = {
    "v": ("u1", "u1", "u2", None, 1),
    "d": ("u1", "u2", None),
    "l": (["u1"], ["u1", "u2"], [], "u1", None, [None]),
    "o": ({}, {"id": "u1"}, {"id": "u2"}, {"deep": {}}, {"deep": {"id": "u1"}}, None),
    "b": (True, False),
}
KNOWN = {"Query": FIELDS, "I": ("f", "x"), "J": ("f", "g", "x"), "U": (), **dict.fromkeys(OBJECTS, (*FIELDS, "x"))}


class Made(NamedTuple):
    """A document, the schema that it is for, and the variables of a request."""

    query: str
    schema: Schema
    sdl: str
    given: dict[str, Any]


def random_request(seed: int) -> Made:
    """A document that the schema has. Aliases are never shared: servers refuse documents whose aliases collide."""
    choose = Random(seed)
    sdl = random_sdl(choose)
    schema = read_schema(sdl)
    assert isinstance(schema, Schema), schema
    conditions = {"F": choose.choice(("A", "I", "U")), "G": choose.choice(("B", "J"))}
    aliases = 0

    def arguments() -> str:
        inputs = choose.choice(INPUTS)
        for _ in range(choose.choice((0, 0, 1))):
            inputs = f"{{deep: {inputs}}}"
        given = [
            f"id: {choose.choice(IDS)}" if choose.random() < 0.6 else "",
            f"ids: {choose.choice(MANY)}" if choose.random() < 0.4 else "",
            f"in: {inputs}" if choose.random() < 0.5 else "",
        ]
        return f"({' '.join(given)})" if any(given) else ""

    def selection(here: str, depth: int, spreads: str) -> str:
        nonlocal aliases
        parts = ["__typename"]
        for _ in range(choose.randint(1, 3)):
            directive = choose.choice(["", "", "", " @skip(if: $b)", " @include(if: $b)", " @skip(if: true)"])
            kind = choose.choice(["field", "field", "inline", "spread"])
            if kind == "field" and KNOWN[here]:
                name = choose.choice(KNOWN[here])
                aliases += 1
                alias = f"p{aliases}: "
                if name == "x":
                    parts.append(f"{alias}x{directive}")
                elif depth:
                    below = schema.types[here].fields[name].type_name
                    parts.append(f"{alias}{name}{arguments()}{directive} {selection(below, depth - 1, spreads)}")
            elif kind == "inline" and depth:
                condition = choose.choice(["", *(name for name in KNOWN if schema.can_match(here, name))])
                on = f" on {condition}" if condition else ""
                parts.append(f"...{on}{directive} {selection(condition or here, depth - 1, spreads)}")
            elif kind == "spread" and spreads:
                name = choose.choice(spreads)
                if schema.can_match(here, conditions[name]):
                    parts.append(f"...{name}{directive}")
        return "{" + " ".join(parts) + "}"

    query = (
        'query Other { f { __typename } } query Q ($v: ID, $d: ID = "u1", $l: [ID], $o: In, $b: Boolean = true) '
        f"{selection('Query', 3, 'FG')} "
        f"fragment F on {conditions['F']} {selection(conditions['F'], 2, 'G')} "
        f"fragment G on {conditions['G']} {selection(conditions['G'], 2, '')}"
    )
    given = {name: choose.choice(values) for name, values in GIVEN.items() if choose.random() < 0.6}
    return Made(query, schema, sdl, given)


def resolved(query: str, sdl: str, given: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every field that a server resolves, on the type on which it does, with its arguments."""
    schema = build_schema(sdl)
    seen: list[tuple[str, dict[str, Any]]] = []
    turn = 0

    def resolve(_: object, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        seen.append((f"{info.parent_type.name}.{info.field_name}", arguments))
        if info.field_name == "x":
            return 1
        return [{}, {}, {}] if "[" in str(info.return_type) else {}

    def one_of(_: object, info: GraphQLResolveInfo[Any], kind: Any) -> str | None:
        nonlocal turn
        turn += 1
        possible = info.schema.get_possible_types(kind)
        return possible[turn % len(possible)].name if possible else None

    execute_sync(
        schema,
        parse(query),
        variable_values=given,
        operation_name="Q",
        field_resolver=resolve,
        type_resolver=one_of,
    )
    return seen


def rules_for(coordinate: str, path: str, schema: Schema) -> GraphQLRules:
    """Every field is open to users, and one of them for their own."""
    subject = Subject(SubjectPlace.ARGS, path)
    fields: dict[str, Any] = {name: {USER: UserRequirement()} for name in ("Query", *OBJECTS, *INTERFACES)}
    return GraphQLRules(
        {**fields, coordinate: {USER: UserRequirement(subject)}}, WIDE, {}, StatusProfile.DRAFT_2026, schema
    )


def texts(value: Any, path: tuple[str, ...]) -> list[object]:
    """What stands where the path leads, in the arguments of a resolver."""
    if isinstance(value, list):
        return [text for item in value for text in texts(item, path)] or [None]
    if not path:
        return [value]
    if not isinstance(value, dict):
        return [None]
    return texts(value.get(path[0]), path[1:])


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([f"{name}.f" for name in ("Query", *OBJECTS, *INTERFACES)]),
    st.sampled_from(["id", "id", "ids", "in.id", "in.many", "in.deep.id"]),
)
def test_what_is_resolved_was_judged_and_is_about_whom_it_names(seed: int, coordinate: str, path: str) -> None:
    # G6, G33, G34
    query, schema, sdl, given = random_request(seed)
    selection = read_document(GraphQLRequest(query, "Q", b""), WIDE, schema)
    assert isinstance(selection, Selection), (selection, query)
    judged = {
        f"{owner}.{name}"
        for type_name, _, name in (field.coordinate.partition(".") for field in selection.fields)
        for owner in schema.covering(type_name, name)
    }
    rules = rules_for(coordinate, path, schema)

    asked = asked_of(rules, selection, USER)
    seen = resolved(query, sdl, given)

    assert {name for name, _ in seen} <= judged
    assert asked.forbidden == ()
    assert {name for name, _ in seen if name == coordinate} <= rules_met(rules, selection)
    type_name, _, name = coordinate.partition(".")
    ruled = {f"{possible}.{name}" for possible in schema.types[type_name].possible}
    about = [text for one, arguments in seen if one in ruled for text in texts(arguments, tuple(path.split(".")))]
    is_theirs = all(naming.names_only("u1", given) for naming in asked.namings)
    event(f"allowed {is_theirs}, about {'nobody' if not about else 'one' if set(about) == {'u1'} else 'others'}")
    assert not is_theirs or set(about) <= {"u1"}, (query, given, about)
