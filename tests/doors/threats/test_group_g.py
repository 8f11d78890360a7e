"""Group G, GraphQL documents: what would run is judged, and only that reaches the upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import Response, exchange
from tests.support.users import accept_users, jwt_of

SDL = """\
interface Node { id: ID! }
type Item implements Node { id: ID! name: String secret: String owner: Person }
type Person implements Node { id: ID! items(of: ID, first: Int): [Item!]! }
union Found = Item | Person
input Filter { owner: ID }
type Query {
  item(id: ID, filter: Filter): Item
  items(ids: [ID!], first: Int): [Item!]!
  found: [Found!]!
  admin: Item
  node(id: ID): Node
  nodes(ids: [ID]): [Node]
  _entities(of: [ID]): [Node]
  _service: Item
}
type Mutation { add(id: ID): Item drop(id: ID): Item }
"""
POLICY = """\
version: 1
errors: problem
scopes:
  READ: {means: read items, aliases: [items.read]}
  WRITE: {means: write items}
  ADMIN: {means: administer}
routes:
  - name: gql
    match: POST /gql
    upstream: rest
    errors: graphql
    graphql:
      schema: api.graphql
      limits: {depth: 6, aliases: 3, directives: 4, cost: 500}
      introspection: {api_key: ADMIN}
      fields:
        Query.item: {api_key: READ, user_token: {subject: args.id}}
        Query.items: {api_key: READ, user_token: {subject: args.ids}}
        Query.found: {api_key: READ}
        Query.admin: {api_key: ADMIN}
        Item.secret: {api_key: ADMIN}
        Mutation.add: {api_key: WRITE}
        Mutation.drop: {api_key: ADMIN}
"""
USER = jwt_of("u-1")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("graphql")
    folder.joinpath("api.graphql").write_text(SDL, "utf-8")
    with running_gateway(folder, policy=POLICY) as gateway:
        accept_users(gateway).let_in(USER, "u-1")
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.forget()
    return running


def send(gateway: RunningGateway, query: str | bytes, line: bytes | None = None, **members: Any) -> Response:
    """One request of the good key; bytes are a whole body."""
    body = query if isinstance(query, bytes) else json.dumps({"query": query, **members}).encode()
    head = b"POST /gql HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n"
    line = gateway.keys.a.line if line is None else line
    return exchange(gateway.port, head + line + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def bodies(gateway: RunningGateway) -> list[bytes]:
    gateway.settle()
    return [request.body for connection in gateway.upstream.connections for request in connection.requests]


def as_user(gateway: RunningGateway, query: str, **members: Any) -> Response:
    return send(gateway, query, b"Authorization: Bearer " + USER + b"\r\n", **members)


REFUSED = [
    pytest.param('{safe: admin {id}}', 403, id="G1 alias"),
    pytest.param("{a: item {id} b: admin {id}}", 403, id="G2 two keys"),
    pytest.param("{a: item {id} a: admin {id}}", 403, id="G2 one key"),
    pytest.param("{" + " ".join(f"a{n}: item {{id}}" for n in range(4)) + "}", 400, id="G3 aliases"),
    pytest.param("{...F} fragment F on Query {admin {id}}", 403, id="G4 fragment"),
    pytest.param("{item {...F}} fragment F on Item {...G} fragment G on Item {secret}", 403, id="G4 nested"),
    pytest.param("{... {... on Query {... {admin {id}}}}}", 403, id="G5 inline"),
    pytest.param("{found {... on Item {secret}}}", 403, id="G6 union"),
    pytest.param("{item {owner {items {secret}}}}", 403, id="G6 by another path"),
    pytest.param("{item {...F}} fragment F on Item {...F}", 400, id="G8 cycle"),
    pytest.param("{admin @skip(if: true) {id}}", 403, id="G10 skip"),
    pytest.param("{admin @include(if: false) {id}}", 403, id="G10 include"),
    pytest.param("query ($s: Boolean = true) {admin @skip(if: $s) {id}}", 403, id="G11 variable"),
    pytest.param("{item {id" + " @skip(if: false)" * 5 + "}}", 400, id="G13 directives"),
    pytest.param("mutation A {drop {id}} query B {item {id}}", 422, id="G14 none chosen"),
    pytest.param("{i\u200btem {id}}", 400, id="G37 zero width"),
    pytest.param("{item\u2028{id}}", 400, id="G37 line separator"),
    pytest.param("#}\n{admin {id}}", 403, id="G37 comment"),
    pytest.param("{item,,,{id}}{admin,,{id}}", 400, id="G37 commas"),
    pytest.param("{_entities {id}}", 403, id="G43 entities"),
    pytest.param("{_service {id}}", 403, id="G43 service"),
    pytest.param("{node {id}}", 403, id="G44 node"),
    pytest.param("{nodes {id}}", 403, id="G44 nodes"),
    pytest.param("{unheard {id}}", 422, id="G45 unknown to the schema"),
    pytest.param("{item {unheard}}", 422, id="G45 below"),
    pytest.param("{item {s: secret}}", 403, id="G46 below"),
    pytest.param("{item " + "{owner {items " * 3 + "{id}" + "}}" * 3 + "}", 400, id="G47 depth"),
    pytest.param("{" + "item {id} " * 2000 + "}", 400, id="G47 tokens"),
    pytest.param("{a" * 5000, 400, id="G47 nesting"),
    pytest.param("type Query {a: Int}", 400, id="G48 schema"),
    pytest.param("{item {id}} extend type Query {a: Int}", 400, id="G48 mixed"),
    pytest.param("{}", 400, id="G48 nothing selected"),
    pytest.param("fragment F on Query {item {id}}", 400, id="G48 fragments alone"),
    pytest.param("", 400, id="G48 empty"),
    pytest.param("# nothing", 400, id="G48 comment"),
    pytest.param("{items(first: 500) {id}}", 400, id="G47 cost"),
    pytest.param("{item {id} items {id} admin {id} found {__typename}}", 403, id="G58 one of four"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "status"), REFUSED)
def test_g1_g2_g3_g4_g5_g6_g8_g10_g11_g13_a_document_that_would_run_what_is_forbidden_is_refused(
    gateway: RunningGateway, query: str, status: int
) -> None:
    # G37, G43 to G48, G58
    assert status == send(gateway, query).status
    assert [] == bodies(gateway)


def test_g7_a_fragment_that_is_not_used_is_neither_judged_nor_sent(gateway: RunningGateway) -> None:
    assert 200 == send(gateway, "{item {id}} fragment F on Query {admin {secret}}").status

    assert [b'{"query":"{\\n  item {\\n    id\\n  }\\n}"}'] == bodies(gateway)


def test_g14_g38_the_operation_that_runs_is_judged_and_sent_alone(gateway: RunningGateway) -> None:
    query = "query A {item {id}} mutation B {drop {id}}"

    assert 403 == send(gateway, query, operationName="B").status
    assert 200 == send(gateway, query, operationName="A").status
    (body,) = bodies(gateway)
    assert b"drop" not in body
    assert b'"operationName":"A"' in body


@pytest.mark.parametrize(
    "body",
    [
        b'{"query":"{item {id}}","Query":"{admin {id}}"}',
        b'{"query":"{item {id}}","qu\\u0065ry":"{admin {id}}"}',
        b'{"QUERY":"{admin {id}}"}',
        b'\xef\xbb\xbf{"query":"{item {id}}"}',
        '{"query":"{item {id}}"}'.encode("utf-16"),
        b'{"query":"{item {id}}","variables":{"a":NaN}}',
        b'{"query":"{item {id}}","variables":"{}"}',
        b'{"query":"{item {id}}","variables":[]}',
        b'{"query":"{item {id}}","variables":{"a":' + b"[" * 70 + b"]" * 70 + b"}}",
    ],
)
def test_g18_g19_g32_a_body_with_two_readings_is_refused(gateway: RunningGateway, body: bytes) -> None:
    assert send(gateway, body).status in (400, 422)
    assert [] == bodies(gateway)


OWN: list[tuple[str, dict[str, Any] | None]] = [
    ('{item(id: "u-1") {id}}', None),
    ("query ($a: ID) {item(id: $a) {id}}", {"a": "u-1"}),
    ('query ($a: ID = "u-1") {item(id: $a) {id}}', None),
    ('{item(id: "\\u0075-1") {id}}', None),
    ('{item(id: """u-1""") {id}}', None),
    ('{items(ids: ["u-1", "u-1"]) {id}}', None),
    ("query ($a: [ID!]) {items(ids: $a) {id}}", {"a": ["u-1"]}),
]
OTHERS: list[tuple[str, dict[str, Any] | None]] = [
    ('{item(id: "u-2") {id}}', None),
    ("{item {id}}", None),
    ("{item(id: null) {id}}", None),
    ('{item(filter: {owner: "u-1"}) {id}}', None),
    ("query ($a: ID) {item(id: $a) {id}}", {"a": "u-2"}),
    ("query ($a: ID) {item(id: $a) {id}}", {"a": None}),
    ("query ($a: ID) {item(id: $a) {id}}", {}),
    ('query ($a: ID = "u-1") {item(id: $a) {id}}', {"a": "u-2"}),
    ('query ($a: ID = "u-2") {item(id: $a) {id}}', None),
    ('{item(id: "u-1") {id} b: item(id: "u-2") {id}}', None),
    ('{item(id: "u-1") {id} ...F} fragment F on Query {b: item(id: "u-2") @skip(if: true) {id}}', None),
    ('{item(id: "\\u0055-1") {id}}', None),
    ('{items(ids: ["u-1", "u-2"]) {id}}', None),
    ("{items(ids: []) {id}}", None),
    ("{items {id}}", None),
    ("query ($a: [ID!]) {items(ids: $a) {id}}", {"a": ["u-1", "u-2"]}),
    ("query ($a: [ID!]) {items(ids: $a) {id}}", {"a": []}),
]


@pytest.mark.parametrize(("query", "variables"), OWN)
def test_g33_g34_g36_a_user_is_served_what_names_them(gateway: RunningGateway, query: str, variables: object) -> None:
    assert 200 == as_user(gateway, query, variables=variables).status
    assert 1 == len(bodies(gateway))


@pytest.mark.parametrize(("query", "variables"), OTHERS)
def test_g33_g34_g36_what_names_another_user_or_nobody_is_refused(
    gateway: RunningGateway, query: str, variables: object
) -> None:
    answer = as_user(gateway, query, variables=variables)

    assert (403, b"SUBJECT_FORBIDDEN" in answer.body) == (answer.status, True)
    assert [] == bodies(gateway)


def test_g55_each_request_of_one_document_is_judged_by_its_own_key_and_variables(gateway: RunningGateway) -> None:
    query = "query ($a: ID) {item(id: $a) {id}}"

    answers = [
        as_user(gateway, query, variables={"a": "u-1"}),
        as_user(gateway, query, variables={"a": "u-2"}),
        send(gateway, query, variables={"a": "u-2"}),
        send(gateway, query, gateway.keys.writer.line, variables={"a": "u-1"}),
        as_user(gateway, query, variables={"a": "u-1"}),
    ]

    assert [200, 403, 200, 403, 200] == [answer.status for answer in answers]
    assert 3 == len(bodies(gateway))


def test_g47_what_a_document_costs_is_counted_with_the_variables(gateway: RunningGateway) -> None:
    query = "query ($n: Int) {items(first: $n) {id owner {items(first: $n) {id}}}}"

    assert 200 == send(gateway, query, variables={"n": 10}).status
    assert 400 == send(gateway, query, variables={"n": 25}).status
    assert 400 == send(gateway, query, variables={"n": "10"}).status
    assert 400 == send(gateway, query, variables={"n": -1}).status
    assert 1 == len(bodies(gateway))


@pytest.mark.parametrize("line", [b"", b"Authorization: Bearer nonsense\r\n"])
def test_g57_who_has_no_good_token_learns_nothing_of_a_document(gateway: RunningGateway, line: bytes) -> None:
    answers = {send(gateway, query, line).status for query in ("{", "{admin {id}}", "{item {id}}", "")}

    assert {401} == answers
    assert [] == bodies(gateway)
