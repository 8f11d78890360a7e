"""A policy with a schema: rules by type, and every rule that the schema cannot meet is told."""

from __future__ import annotations

import pytest

from gateway.core.credential import CredentialKind
from gateway.core.decision import Allowed, decide_graphql
from gateway.core.graphql.document import read_document
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection
from gateway.core.policy.asked import rules_met
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.policy.routes import Policy, Route
from gateway.core.principal import Principal
from gateway.core.reasons import Reason, Refusal
from gateway.policy_files import compile_texts, revision_of
from tests.core.samples import principal, user

KEY, JWT = CredentialKind.API_KEY, CredentialKind.USER_JWT

SDL = """
input Filter { user_id: ID, app: AppFilter }
input AppFilter { id: ID = "app-1" }
interface Node { id: ID! }
type User implements Node { id: ID! name: String mail: String orders(user_id: ID = "nobody"): [Order!]! }
type Order implements Node { id: ID! total: Int buyer: User }
type Link { url: String }
type File { name: String link: Link }
union Found = User | Order
enum Kind { A }
type Query {
  user(id: ID!): User
  search(filter: Filter, kind: Kind): [Found!]!
  node(id: ID!): Node
  files: [File!]!
  _service: Link
}
type Mutation { delete_user(id: ID!): User }
type Subscription { changed: User }
"""
SCOPES = "A: {means: a}\n  B: {means: b}\n  C: {means: c}"


def texts(fields: str, sdl: str = SDL, **keys: str) -> list[tuple[str, bytes]]:
    """The texts of a policy in a folder, with its schema."""
    graphql = {"schema": "api.graphql", "fields": f"{{{fields}}}", **keys}
    lines = "\n".join(f"      {key}: {value}" for key, value in graphql.items())
    policy = (
        f"version: 1\nscopes:\n  {SCOPES}\nroutes:\n  - name: gql\n    match: POST /gql\n    upstream: graphql\n"
        f"    graphql:\n{lines}\n"
    )
    return [("p/policy.yaml", policy.encode()), ("p/api.graphql", sdl.encode())]


def compiled(fields: str, **keys: str) -> Policy:
    return compile_texts(texts(fields, **keys))[0]


def route_of(fields: str, **keys: str) -> Route:
    route = compiled(fields, **keys).routes[0]
    assert route.graphql is not None
    return route


def told(fields: str, sdl: str = SDL, **keys: str) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        compile_texts(texts(fields, sdl, **keys))
    return [str(fault).partition(":")[2].partition(" ")[2] for fault in refused.value.faults]


def judged(route: Route, who: Principal, query: str, variables: bytes = b"") -> Allowed | Refusal:
    assert route.graphql is not None
    request = GraphQLRequest(query, None, variables)
    selection = read_document(request, route.graphql.limits, route.graphql.schema)
    assert isinstance(selection, Selection), selection
    return decide_graphql(route, who, request, selection)


def refused(route: Route, who: Principal, query: str) -> tuple[Reason, tuple[str, ...], tuple[str, ...]] | None:
    decided = judged(route, who, query)
    return (decided.reason, decided.missing_scopes, decided.coordinates) if isinstance(decided, Refusal) else None


ROOTS = "Query.user: {api_key: A}, Query.search: {api_key: A}, Query.node: {api_key: A}, Query.files: {api_key: A}"


@pytest.mark.parametrize(
    ("rules", "query", "missing", "coordinates"),
    [
        ("File.link: {api_key: B}", "{files {name}}", (), ()),
        ("File.link: {api_key: B}", "{files {l: link {url}}}", ("B",), ("File.link",)),
        ("File.link: {api_key: B}", "{files {...F}} fragment F on File {link @skip(if: true) {url}}", ("B",),
         ("File.link",)),
        ("Link: {api_key: B}", "{files {link {url}}}", ("B",), ("Link.url",)),
        ("Link: {api_key: B}", "{files {link {__typename}}}", (), ()),
        ("User: {api_key: B}, User.name: {api_key: C}", "{user(id: 1) {name}}", ("C",), ("User.name",)),
        ("User: {api_key: B}, User.name: {api_key: C}", "{user(id: 1) {name mail}}", ("B", "C"),
         ("User.mail", "User.name")),
        ("User.id: {api_key: B}", "{node(id: 1) {id}}", ("B",), ("Node.id",)),
        ("Order.id: {api_key: B}", "{node(id: 1) {... on User {id}}}", (), ()),
        ("Node.id: {api_key: B}", "{user(id: 1) {id}}", ("B",), ("User.id",)),
        ("Node.id: {api_key: B}, User.id: {api_key: C}", "{user(id: 1) {id}}", ("B", "C"), ("User.id",)),
        ("Node: {api_key: B}", "{search {... on Order {id total}}}", ("B",), ("Order.id",)),
        ("Order: {api_key: B}", "{search {... on Node {id}}}", ("B",), ("Node.id",)),
        ("Query.files.link: {api_key: B}", "{files {link {url}}}", ("B",), ("Query.files.link",)),
        ("Query.search.total: {api_key: B}", "{search {... on Order {total}}}", ("B",), ("Query.search.total",)),
        ("User.mail: {api_key: {any: [B, C]}}", "{user(id: 1) {mail}}", ("B", "C"), ("User.mail",)),
    ],
)  # fmt: skip
def test_a_rule_by_type_adds_to_that_of_the_root(
    rules: str, query: str, missing: tuple[str, ...], coordinates: tuple[str, ...]
) -> None:
    # G6, G46
    route = route_of(f"{ROOTS}, {rules}")

    expected = (Reason.SCOPE_MISSING, missing, coordinates) if missing else None
    assert expected == refused(route, principal("A"), query)
    assert refused(route, principal("A", "B", "C"), query) is None


def test_a_whole_root_type_opens_its_fields_but_for_those_that_reach_everything() -> None:
    # G43, G44, G45
    route = route_of("Query: {api_key: A}, Query.user: {api_key: B}")

    assert refused(route, principal("A"), "{files {name}}") is None
    assert refused(route, principal("A"), "{user(id: 1) {id}}") == (Reason.SCOPE_MISSING, ("B",), ("Query.user",))
    for root in ("node(id: 1) {id}", "_service {url}"):
        coordinate = f"Query.{root.partition('(')[0].partition(' ')[0]}"
        assert refused(route, principal("A"), f"{{{root}}}") == (Reason.FIELD_NOT_ALLOWED, (), (coordinate,))
    assert refused(route, principal("A"), "mutation {delete_user(id: 1) {id}}") == (
        Reason.FIELD_NOT_ALLOWED,
        (),
        ("Mutation.delete_user",),
    )
    assert refused(route, principal("A"), "{__typename}") is None
    assert refused(route, principal("A"), "{__schema {types {name}}}") == (
        Reason.FIELD_NOT_ALLOWED,
        (),
        ("Query.__schema",),
    )


def test_a_type_that_names_no_user_token_is_closed_to_users() -> None:
    route = route_of("Query.user: {api_key: A, user_token: {}}, User.mail: {api_key: A}")

    assert refused(route, user("u1"), "{user(id: 1) {name}}") is None
    assert refused(route, user("u1"), "{user(id: 1) {mail}}") == (Reason.FIELD_NOT_ALLOWED, (), ("User.mail",))


@pytest.mark.parametrize(
    ("rule", "query", "is_theirs"),
    [
        ("Query.user: {user_token: {subject: args.id}}", '{user(id: "u1") {name}}', True),
        ("Query.user: {user_token: {subject: args.id}}", '{user(id: "u2") {name}}', False),
        ("Query.search: {user_token: {subject: args.filter.user_id}}",
         '{search(filter: {user_id: "u1"}) {__typename}}', True),
        ("Query.search: {user_token: {subject: args.filter.user_id}}", "{search {__typename}}", False),
        ("Query: {user_token: {}}, User.orders: {user_token: {subject: args.user_id}}",
         '{search {... on User {orders(user_id: "u1") {id}}}}', True),
        ("Query: {user_token: {}}, User.orders: {user_token: {subject: args.user_id}}",
         "{search {... on User {orders {id}}}}", False),
        ("Query.search: {user_token: {subject: args.filter.app.id}}",
         '{search(filter: {app: {}}) {__typename}}', False),
    ],
)  # fmt: skip
def test_a_user_reaches_what_arguments_name_by_the_schema(rule: str, query: str, is_theirs: bool) -> None:
    # G33, G34
    decided = judged(route_of(rule), user("u1"), query)

    assert is_theirs == isinstance(decided, Allowed)
    assert is_theirs or (isinstance(decided, Refusal) and decided.reason is Reason.SUBJECT_FORBIDDEN)


def test_a_default_of_the_schema_may_name_the_app_of_a_key() -> None:
    route = route_of("Query.search: {api_key: {scope: A, app: args.filter.app.id}}")

    assert isinstance(judged(route, principal("A"), "{search(filter: {app: {}}) {__typename}}"), Allowed)
    assert isinstance(judged(route, principal("A"), "{search(filter: {}) {__typename}}"), Refusal)
    assert isinstance(judged(route, principal("A"), '{search(filter: {app: {id: "app-2"}}) {__typename}}'), Refusal)
    given = b'{"f":{"app":{}}}'
    query = "query ($f: Filter) {search(filter: $f) {__typename}}"
    assert isinstance(judged(route, principal("A"), query, given), Allowed)
    assert isinstance(judged(route, principal("A", app_id="app-2"), query, given), Refusal)


def test_the_rules_that_a_document_meets_are_known_by_their_names() -> None:
    route = route_of(f"{ROOTS}, User: {{api_key: A}}, User.name: {{api_key: A}}, Order: {{api_key: A}}",
                     introspection="{api_key: A}")  # fmt: skip
    rules = route.graphql
    assert rules is not None
    selection = read_document(
        GraphQLRequest("{user(id: 1) {name mail} __schema {description} __typename}", None, b""),
        rules.limits,
        rules.schema,
    )
    assert isinstance(selection, Selection)

    assert rules_met(rules, selection) == {"Query.user", "User", "User.name", "introspection"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("Qery.user: {api_key: A}", "the schema has no type `Qery` with fields; did you mean `Query`?"),
        ("Query.usr: {api_key: A}", "`Query` of the schema has no field `usr`; did you mean `user`?"),
        ("Query: {api_key: A}, User.mial: {api_key: A}",
         "`User` of the schema has no field `mial`; did you mean `mail`?"),
        ("Query: {api_key: A}, Usr: {api_key: A}", "the schema has no type `Usr` with fields; did you mean `User`?"),
        ("Query: {api_key: A}, Kind: {api_key: A}",
         "the schema has no type `Kind` with fields; use `File`, `Found`, `Link`, `Mutation`, `Node`, `Order`, "
         "`Query`, `Subscription` or `User`"),
        ("Query: {api_key: A}, Found: {api_key: A}",
         "`Found` is a union, which has no fields of its own; name its types, `Order` and `User`"),
        ("Query: {api_key: A}, User: {user_token: {subject: args.id}}",
         "`User` is a whole type, whose fields have no one argument; write the rule for each field that has the "
         "argument"),
        ("User: {api_key: A}, User.orders.id: {api_key: A}",
         "`User.orders.id` is a path that begins at no root type; write `User.orders`, or a path from `Query`, "
         "`Mutation` or `Subscription`"),
        ("Query: {api_key: A}, Query.files.linkk.url: {api_key: A}",
         "`File` of the schema has no field `linkk`; did you mean `link`?"),
        ("Query: {api_key: A}, Query.files.name.first: {api_key: A}",
         "`name` of the schema has no fields; end the path there"),
        ("Query: {api_key: A}, Query.search.orders: {user_token: {subject: args.user_id}}",
         "with a schema, a path cannot say whose arguments are meant; write the rule by its type, such as "
         "`User.orders`"),
        ("Query.user: {user_token: {subject: args.idd}}", "`Query.user` of the schema takes no `idd`; did you mean "
         "`id`?"),
        ("Query.user: {user_token: {subject: args.id.x}}",
         "`Query.user.id` of the schema takes no `x`; name an argument that the field takes"),
        ("Query.search: {api_key: {scope: A, app: args.filter.ap.id}}",
         "`Query.search.filter` of the schema takes no `ap`; did you mean `app`?"),
        ("Query.user.name: {api_key: A}",
         "`Query.user.name` can never be reached, because `Query.user` has no rule and is refused; add a rule for "
         "`Query.user`"),
        ("Query.__schema: {api_key: A}",
         "`Query.__schema` is introspection; write the rule as `introspection:`, beside `fields`"),
        ("Query: {api_key: A}, __Type: {api_key: A}",
         "`__Type` is introspection; write the rule as `introspection:`, beside `fields`"),
        ("Query: {api_key: A}, \"User.*\": {api_key: A}",
         "`User.*` has a wildcard, and there are none; name each field that is allowed"),
    ],
)  # fmt: skip
def test_a_rule_that_the_schema_cannot_meet_is_told(fields: str, message: str) -> None:
    assert [message] == told(fields)


@pytest.mark.parametrize(
    ("sdl", "message"),
    [
        ("type Query {\n  a: X\n}",
         "p/api.graphql:2:6: the schema is not valid (Unknown type `X`); mend it, or print it anew from the upstream"),
        ("", "p/api.graphql:1:1: the schema is not valid (Syntax Error: Unexpected <EOF>); "
         "mend it, or print it anew from the upstream"),
    ],
)  # fmt: skip
def test_a_fault_of_the_schema_stands_where_it_is(sdl: str, message: str) -> None:
    with pytest.raises(PolicyInvalid) as invalid:
        compile_texts(texts("Query.a: {api_key: A}", sdl))

    assert [message] == [str(fault) for fault in invalid.value.faults]


def test_a_schema_that_is_not_there_or_no_text_is_told() -> None:
    policy, (name, sdl) = texts("Query.user: {api_key: A}")
    for others, message in (
        ([], "p/policy.yaml:11:15: there is no file `api.graphql` beside the policy; "
         "check the name, or print the SDL of the upstream into it"),
        ([("api.graphql", sdl)], "p/policy.yaml:11:15: there is no file `api.graphql` beside the policy; "
         "check the name, or print the SDL of the upstream into it"),
        ([(name, b"\xff")], "p/api.graphql:1:1: the schema is not UTF-8; save it as UTF-8"),
    ):  # fmt: skip
        with pytest.raises(PolicyInvalid) as invalid:
            compile_texts([policy, *others])
        assert [message] == [str(fault) for fault in invalid.value.faults]


@pytest.mark.parametrize("name", ["../api.graphql", "/etc/api.graphql", "a/b.graphql", "api.txt", ".graphql", "api"])
def test_a_schema_lies_beside_its_policy(name: str) -> None:
    (fault,) = told("Query.user: {api_key: A}", schema=name)

    assert fault == (
        f"`schema` cannot be `{name}`; name a file beside the policy that ends in `.graphql`, such as `api.graphql`"
    )


def test_the_schema_is_part_of_the_revision_and_other_files_are_not() -> None:
    policy, schema = texts("Query.user: {api_key: A}")
    other = ("p/other.graphql", b"type Query {a: Int}")

    revision = compile_texts([policy, schema])[0].revision

    assert revision == revision_of([policy[1], schema[1]])
    assert revision == compile_texts([policy, schema, other])[0].revision
    assert revision != compile_texts([policy, (schema[0], schema[1] + b" ")])[0].revision


def test_two_routes_share_one_schema() -> None:
    policy, schema = texts("Query.user: {api_key: A}")
    second = policy[1].partition(b"routes:\n")[2].replace(b"name: gql", b"name: gql2").replace(b"/gql", b"/gql2")

    one, two = compile_texts([(policy[0], policy[1] + second), schema])[0].routes

    assert one.graphql is not None
    assert two.graphql is not None
    assert one.graphql.schema is two.graphql.schema is not None


@pytest.mark.parametrize(
    ("limits", "messages"),
    [
        ("{cost: 100, multipliers: [first, count]}", []),
        ("{multipliers: [first]}", ["`multipliers` have a part in `cost` alone; add `cost`, or take them out"]),
        ("{cost: 100, multipliers: first}",
         ["`multipliers` must be a list of arguments; write it as `multipliers: [first, last]`"]),
        ("{cost: 100, multipliers: []}",
         ["`multipliers` must be a list of arguments; write it as `multipliers: [first, last]`"]),
        ("{cost: 100, multipliers: [a-b]}",
         ["`a-b` cannot be the name of an argument; write a name such as `first`"]),
        ("{cost: 0}", ["`cost` must be a whole number from 1 to 100000000, but is `0`; "
                       "write it in digits, such as `cost: 10`"]),
    ],
)  # fmt: skip
def test_costs_are_limited_by_the_arguments_that_the_policy_names(limits: str, messages: list[str]) -> None:
    if messages:
        assert messages == told("Query.user: {api_key: A}", limits=limits)
        return
    rules = route_of("Query.user: {api_key: A}", limits=limits).graphql
    assert rules is not None
    assert (rules.limits.cost, rules.limits.multipliers) == (100, ("first", "count"))


def test_a_variable_as_a_subject_is_advised_against() -> None:
    _, advice = compile_texts(texts("Query.user: {api_key: {all: [A, B, C]}, user_token: {subject: variables.id}}"))

    assert [str(fault).partition(" ")[2] for fault in advice] == [
        "`variables.id` is what the client says, and a document may be about another; "
        "name the argument that decides, such as `args.id`"
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{app: args.app_id}", "`api_key` needs one of `all`, `any` and `scope`; write one scope, or "
         "`{all: [A, B]}`, or `{any: [A, B]}`"),
        ("{scope: A, app: app_id}", "`app_id` does not say where the App's id stands; write `args.NAME` or "
         "`variables.NAME`, such as `app: args.app_id`"),
        ("{scope: A, app: }", "`app` has no value; write it as `app: args.app_id`"),
        ("{scope: , app: args.id}", "`scope` has no value; write it as `scope: USER_READ`"),
        ("{all: [A], scope: A}", "`api_key` needs one of `all`, `any` and `scope`; write one scope, or "
         "`{all: [A, B]}`, or `{any: [A, B]}`"),
    ],
)  # fmt: skip
def test_where_an_app_is_named_has_to_be_said_well(rule: str, message: str) -> None:
    assert [message] == told(f"Query.user: {{api_key: {rule}}}")


def test_a_key_may_have_to_be_named_in_a_path() -> None:
    text = (
        "version: 1\nscopes:\n  A: {means: a}\nroutes:\n  - name: app\n    match: GET /apps/{app_id}\n"
        "    upstream: rest\n    allow: {api_key: {any: [A], app: path.APP}}\n"
    )
    policy = compile_texts([("p.yaml", text.replace("APP", "app_id").encode())])[0]
    requirement = policy.routes[0].allow[KEY]

    assert getattr(requirement, "app", None) is not None
    with pytest.raises(PolicyInvalid, match=r"the path has no parameter `other`; use `path\.app_id`"):
        compile_texts([("p.yaml", text.replace("APP", "other").encode())])


def test_many_names_are_not_listed() -> None:
    sdl = "type Query {" + " ".join(f"field{number}: Int" for number in range(20)) + "}"

    assert told("Query.zzz: {api_key: A}", sdl) == [
        "`Query` of the schema has no field `zzz`; look its spelling up in the schema"
    ]
