"""A schema says what fields there are and which rules hold for them, and its faults say where."""

from __future__ import annotations

import pytest

from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.schema import Schema, SchemaFault, read_schema
from gateway.core.graphql.selection import SelectedField, Selection
from gateway.core.graphql.values import ABSENT, OTHER, Items, Members, Variable
from gateway.core.reasons import Reason, Refusal

SDL = """
directive @mine(why: String) on FIELD_DEFINITION
enum Order { UP DOWN }
scalar Day
input Range { from: Day = "2026-01-01", to: Day, inner: Inner }
input Inner { user_id: ID = "nobody", users: [ID!] }
interface Node { id: ID! }
interface Named implements Node { id: ID! name(short: Boolean = true): String }
type User implements Named & Node @key(fields: "id") { id: ID! name(short: Boolean = false): String friends: [User!]! }
type Company implements Node { id: ID! owner: User }
type Secret { code: String! }
union Thing = User | Company
type Query {
  user(id: ID!, range: Range): User
  things(first: Int = 3, order: Order): [Thing!]!
  node(id: ID = "n1"): Node
  secret: Secret @mine
}
type Mutation { rename(id: ID!, name: String!): Named }
"""


def schema_of(sdl: str) -> Schema:
    schema = read_schema(sdl)
    assert isinstance(schema, Schema), schema
    return schema


SCHEMA = schema_of(SDL)


def read(query: str, schema: Schema = SCHEMA, name: str | None = None) -> Selection | Refusal:
    return read_document(GraphQLRequest(query, name, b""), GraphQLLimits(), schema)


def selected(query: str, schema: Schema = SCHEMA) -> Selection:
    selection = read(query, schema)
    assert isinstance(selection, Selection), selection
    return selection


@pytest.mark.parametrize(
    ("type_name", "field_name", "covering"),
    [
        ("Query", "user", {"Query"}),
        ("User", "friends", {"User"}),
        ("User", "name", {"User", "Named"}),
        ("User", "id", {"User", "Named", "Node"}),
        ("Named", "id", {"User", "Named", "Node"}),
        ("Node", "id", {"User", "Named", "Node", "Company"}),
        ("Company", "id", {"Company", "Node"}),
    ],
)
def test_a_rule_on_an_interface_covers_its_implementors_and_the_reverse(
    type_name: str, field_name: str, covering: set[str]
) -> None:
    # G6
    assert covering == set(SCHEMA.covering(type_name, field_name))
    assert SCHEMA.covering(type_name, field_name) is SCHEMA.covering(type_name, field_name)


@pytest.mark.parametrize(
    ("path", "defaults"),
    [
        (("id",), (ABSENT,)),
        (("range", "from"), (ABSENT, "2026-01-01")),
        (("range", "inner", "user_id"), (ABSENT, ABSENT, "nobody")),
        (("range", "inner", "users"), (ABSENT, ABSENT, ABSENT)),
        (("range", "nobody"), None),
        (("id", "x"), None),
        (("nobody",), None),
    ],
)
def test_defaults_stand_at_each_step_of_a_path(path: tuple[str, ...], defaults: tuple[object, ...] | None) -> None:
    assert defaults == SCHEMA.defaults_on("Query", "user", path)


def test_what_could_follow_a_path_is_known() -> None:
    assert SCHEMA.step_names("Query", "user", ()) == ("id", "range")
    assert SCHEMA.step_names("Query", "user", ("range", "inner")) == ("user_id", "users")
    assert SCHEMA.step_names("Query", "user", ("id",)) == ()
    assert SCHEMA.step_names("Query", "user", ("nobody",)) == ()


@pytest.mark.parametrize(
    ("sdl", "fault"),
    [
        ("", SchemaFault(1, 1, "Syntax Error: Unexpected <EOF>")),
        ("type Query {\n  a: X\n}", SchemaFault(2, 6, "Unknown type `X`")),
        ("type A {b: Int}", SchemaFault(1, 1, "Query root type must be provided")),
        ("type Query {\n  a: I\n}\ninput I {b: Int}",
         SchemaFault(2, 6, "The type of Query.a must be Output Type but got: I")),
        ("{a}", SchemaFault(1, 1, "Query root type must be provided")),
        ("type Query {a: " + "[" * 5000 + "]" * 5000 + "}",
         SchemaFault(1, 217, "Syntax Error: Document is nested too deeply. Parsing aborted")),
    ],
)  # fmt: skip
def test_a_fault_of_an_sdl_says_where_it_is(sdl: str, fault: SchemaFault) -> None:
    assert (fault,) == read_schema(sdl)


def test_every_fault_of_an_sdl_is_told() -> None:
    faults = read_schema("type Query {a: X b: Y}")

    assert isinstance(faults, tuple)
    assert ["Unknown type `X`", "Unknown type `Y`"] == [fault.what for fault in faults]


def test_one_sdl_has_one_digest() -> None:
    assert schema_of(SDL).digest == SCHEMA.digest
    assert schema_of(SDL + " ").digest != SCHEMA.digest


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ('{user(id: "u1") {id}}', {("Query.user", (("id", "u1"),)), ("User.id", ())}),
        ("query ($a: ID!, $b: ID = 5) {u: user(id: $a) {__typename} user(id: $b) {friends {name(short: true)}}}",
         {("Query.user", (("id", Variable("a")),)), ("Query.user", (("id", Variable("b", 5)),)),
          ("User.friends", ()), ("User.name", (("short", OTHER),))}),
        ("{things(first: 2, order: UP) {__typename ... on Node {id} ...C}} fragment C on Company {owner {id}}",
         {("Query.things", (("first", 2), ("order", "UP"))), ("Node.id", ()), ("Company.owner", ()), ("User.id", ())}),
        ('{user(id: "1", range: {to: null, inner: {users: ["a", 1]}}) {... {id} ... @skip(if: true) {friends {id}}}}',
         {("Query.user", (("id", "1"), ("range", Members((("to", None), ("inner", Members((("users",
           Items(("a", 1))),))))))),), ("User.id", ()), ("User.friends", ())}),
        ("{...Q} fragment Q on Query {secret {code}}", {("Query.secret", ()), ("Secret.code", ())}),
        ("{__schema {types {name}} __type(name: \"User\") {...T} __typename} fragment T on __Type {fields {name}}",
         set()),
        ("mutation {rename(id: 1, name: \"x\") {id ... on User {friends {id}}}}",
         {("Mutation.rename", (("id", 1), ("name", "x"))), ("Named.id", ()), ("User.friends", ()), ("User.id", ())}),
        ("query ($a: Int) {user(id: -0, range: $b) {id}}",
         {("Query.user", (("id", OTHER), ("range", OTHER))), ("User.id", ())}),
    ],
)  # fmt: skip
def test_fields_are_selected_on_their_types_with_their_arguments(query: str, fields: set[tuple[str, object]]) -> None:
    found = [(field.coordinate, field.arguments.members) for field in selected(query).fields]

    assert len(found) == len(fields)
    assert fields == set(found)


def test_without_a_schema_fields_are_selected_by_their_paths() -> None:
    selection = read_document(GraphQLRequest("{a: user(id: 1.5) {b} user {b}}", None, b""), GraphQLLimits())

    assert isinstance(selection, Selection)
    assert selection.fields == (
        SelectedField("Query.user", Members((("id", OTHER),))),
        SelectedField("Query.user", Members(())),
        SelectedField("Query.user.b", Members(())),
    )


def test_root_types_are_called_what_the_schema_calls_them() -> None:
    schema = schema_of("schema {query: Root} type Root {a: Int}")

    selection = selected("{a __typename __schema {description}}", schema)

    assert selection.coordinates == {"Root.a", "Query.__typename", "Query.__schema"}
    assert selection.paths == {"Query.__schema.description"}


@pytest.mark.parametrize(
    "query",
    [
        "{unheard}",
        "{user(id: 1) {unheard}}",
        "{user(id: 1, unheard: 2) {id}}",
        "{user(id: 1) {id {x}}}",
        "{user(id: 1)}",
        "{things {id}}",
        "{node {name}}",
        "{user(id: 1) {... on Secret {code}}}",
        "{user(id: 1) {...F}} fragment F on Secret {code}",
        "{user(id: 1) {... on Unheard {code}}}",
        "{user(id: 1) {...F}} fragment F on Order {code}",
        "{... on Mutation {rename}}",
        "{user(id: 1) {__schema {types {name}}}}",
        "{user(id: 1) {__typename {x}}}",
        "{user(id: 1) {__typename(a: 1)}}",
        "subscription {a}",
    ],
)
def test_a_document_that_the_schema_does_not_have_is_refused(query: str) -> None:
    refusal = read(query)

    assert isinstance(refusal, Refusal)
    assert refusal.reason in (Reason.GRAPHQL_SCHEMA_VIOLATED, Reason.GRAPHQL_OPERATION_UNKNOWN)


def test_a_mutation_needs_a_schema_that_has_some() -> None:
    refusal = read("mutation {a}", schema_of("type Query {a: Int}"))

    assert refusal == Refusal(Reason.GRAPHQL_SCHEMA_VIOLATED, "a mutation, which the schema has none of")


def test_a_fragment_that_matches_elsewhere_only_is_let_through_where_its_types_could() -> None:
    # Companies are never users, but a fragment on what both are may be shared by both.
    query = "{user(id: 1) {...N}} fragment N on Node {... on Company {owner {id}}}"

    assert {"Query.user", "Company.owner", "User.id"} == {field.coordinate for field in selected(query).fields}


def test_variables_are_known_with_their_types_and_defaults() -> None:
    variables = selected("query ($a: [ID!]! = [1], $b: Range) {user(id: $a, range: $b) {id}}").variables

    assert [(name, one.type_text, one.default) for name, one in variables.items()] == [
        ("a", "[ID!]!", Items((1,))),
        ("b", "Range", ABSENT),
    ]
