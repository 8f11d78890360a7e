"""From text to selection: everything that could run is seen, and what cannot be told apart is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from graphql import get_introspection_query
from graphql.language import DefinitionNode, parse, print_ast
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.graphql.document import LEAST_BYTES, DocumentCache, has_more_tokens, read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.schema import Schema, read_schema
from gateway.core.graphql.selection import MAX_UNFOLDED, Selection
from gateway.core.reasons import Reason, Refusal

LIMITS = GraphQLLimits()
WIDE = GraphQLLimits(tokens=20_000, depth=50, aliases=1000, directives=1000, root_fields=1000)


def deep(depth: int) -> str:
    return "{a" * depth + "}" * depth


def read(query: str, name: str | None = None, limits: GraphQLLimits = LIMITS) -> Selection | Refusal:
    return read_document(GraphQLRequest(query, name, b""), limits)


def selected(query: str, name: str | None = None, limits: GraphQLLimits = LIMITS) -> Selection:
    selection = read(query, name, limits)
    assert isinstance(selection, Selection)
    return selection


def refused(query: str, name: str | None = None, limits: GraphQLLimits = LIMITS) -> tuple[Reason, str]:
    refusal = read(query, name, limits)
    assert isinstance(refusal, Refusal)
    return refusal.reason, refusal.detail


@pytest.mark.parametrize(
    ("query", "coordinates", "paths"),
    [
        ("{a}", {"Query.a"}, set()),
        ("query { a }", {"Query.a"}, set()),
        ("mutation { a }", {"Mutation.a"}, set()),
        ("{safe: deleteUser}", {"Query.deleteUser"}, set()),
        ("{a: x a: y}", {"Query.x", "Query.y"}, set()),
        ("{a {b {c} d}}", {"Query.a"}, {"Query.a.b", "Query.a.b.c", "Query.a.d"}),
        ("{a {b} c: a {d}}", {"Query.a"}, {"Query.a.b", "Query.a.d"}),
        ("{...F} fragment F on Query {a {b}}", {"Query.a"}, {"Query.a.b"}),
        ("{a {...F}} fragment F on T {b ...G} fragment G on T {c}", {"Query.a"}, {"Query.a.b", "Query.a.c"}),
        ("{... {a} ... on Query {b} ... on Mutation {c {... on U {... on V {d}}}}}",
         {"Query.a", "Query.b", "Query.c"}, {"Query.c.d"}),
        ("{a @skip(if: true) b @include(if: false) ...F @skip(if: true)} fragment F on Query {c}",
         {"Query.a", "Query.b", "Query.c"}, set()),
        ("query ($s: Boolean = true) {a @skip(if: $s) ... @include(if: $s) {b}}", {"Query.a", "Query.b"}, set()),
        ("{a} fragment Unused on Query {forbidden}", {"Query.a"}, set()),
        ("{__typename}", {"Query.__typename"}, set()),
        ("{s: __schema {types {name}} ...F} fragment F on Query {__type(name: \"A\") {name}}",
         {"Query.__schema", "Query.__type"},
         {"Query.__schema.types", "Query.__schema.types.name", "Query.__type.name"}),
        ("{_service {sdl} _entities(representations: []) {id} node(id: 1) {id}}",
         {"Query._service", "Query._entities", "Query.node"},
         {"Query._service.sdl", "Query._entities.id", "Query.node.id"}),
        ("#{forbidden}\n{a,,,b}#x", {"Query.a", "Query.b"}, set()),
        ("\ufeff{a}", {"Query.a"}, set()),
        ("fragment F on Query {a} query Q {...F}", {"Query.a"}, set()),
    ],
)  # fmt: skip
def test_what_an_operation_selects(query: str, coordinates: set[str], paths: set[str]) -> None:
    selection = selected(query)

    assert (set(selection.coordinates), set(selection.paths)) == (coordinates, paths)


def test_the_named_operation_alone_is_judged_and_sent() -> None:
    query = "query A {a ...F} mutation B {b ...G} fragment G on M {g} fragment F on Q {f} fragment H on Q {h}"

    a, b = selected(query, "A"), selected(query, "B")

    assert (a.operation, a.coordinates) == ("query", frozenset(("Query.a", "Query.f")))
    assert (b.operation, b.coordinates) == ("mutation", frozenset(("Mutation.b", "Mutation.g")))
    assert json.loads(a.document) == "query A {\n  a\n  ...F\n}\n\nfragment F on Q {\n  f\n}"
    assert json.loads(b.document) == "mutation B {\n  b\n  ...G\n}\n\nfragment G on M {\n  g\n}"


@pytest.mark.parametrize(
    "query",
    [
        'query Q($a: Int = -0, $b: [String!]! = ["x"], $c: I = {d: 1.50, e: E}) { a(x: $a, y: 12345678901234567890) }',
        '{ a(s: "\\u{1F600} \\u0061dmin \\" \\\\ é", b: """block\n  "quoted" \\""" \n""") }',
        "{ a(n: 1.0, m: 1e5, k: null, l: [true, FALSE], o: {p: {q: []}}) @skip(if: false) }",
        "query Q { a } # comment",
        '{ a(x: """\n\n  two\n    lines\n""") }',
    ],
)
def test_printing_changes_no_meaning(query: str) -> None:
    printed = json.loads(selected(query).document)

    assert parse(printed, no_location=True) == parse(query, no_location=True)
    assert selected(printed).document == selected(query).document


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "# nothing",
        "{",
        "{}",
        "{a{}}",
        "query",
        "{a} x",
        "fragment F on Query {a}",
        "{a} {b}",
        "query A {a} {b}",
        "query A {a} query A {b}",
        "{...F} fragment F on Q {a} fragment F on Q {b}",
        "{...F}",
        "{...F} fragment F on Q {...G}",
        "{...F} fragment F on Q {...F}",
        "{...F} fragment F on Q {a {...G}} fragment G on Q {b {...F}}",
        "{a} type A {b: Int}",
        "type A {b: Int}",
        "extend type Query {b: Int}",
        "schema {query: Q}",
        "{a @live}",
        "query @live {a}",
        "{...F @defer} fragment F on Q {a}",
        "{a {b @stream}}",
        "{...F} fragment F on Q @export {a}",
        "query ($a: Int @export) {a}",
        "query ($a: Int, $a: Int) {a}",
        "{user(id: 1, id: 2)}",
        "{a @skip(if: true, if: false)}",
        "{a(x: {id: 1, id: 2})}",
        "{a(x: [{b: {id: 1, id: 2}}])}",
        "query ($a: I = {b: 1, b: 2}) {a}",
        "{a\u2028}",
        "{a\x00}",
        '{a(x: "\\ud800")}',
        '{a(x: "unclosed)}',
        "{...F(x: 1)} fragment F($x: Int) on Q {a}",
        "{" * 300 + "}" * 300,
        "{a" * 300 + "}" * 300,
        "{a(x: " + "[" * 300 + "]" * 300 + ")}",
        "query ($a: " + "[" * 300 + "Int" + "]" * 300 + ") {a}",
    ],
)
def test_a_document_that_is_not_one_plain_operation_is_refused(query: str) -> None:
    assert refused(query)[0] is Reason.GRAPHQL_DOCUMENT_INVALID


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("query A {a} query B {b}", None),
        ("query A {a} query B {b}", "C"),
        ("query A {a}", "a"),
        ("{a}", "A"),
        ("subscription {a}", None),
        ("query A {a} subscription B {b}", "B"),
    ],
)
def test_an_operation_that_cannot_be_chosen_is_refused(query: str, name: str | None) -> None:
    assert refused(query, name)[0] is Reason.GRAPHQL_OPERATION_UNKNOWN


def test_faults_of_what_is_not_sent_count_for_nothing() -> None:
    query = "query A {a} query B {b @live ...X ...F} fragment F on Q {...F}"

    assert selected(query, "A").coordinates == {"Query.a"}


@pytest.mark.parametrize(
    ("limit", "document"),
    [
        ("depth", deep),
        ("depth", lambda n: "{...F} fragment F on Q " + deep(n)),
        ("depth", lambda n: "{a {...F}} fragment F on Q {...G} fragment G on Q " + deep(n - 1)),
        ("depth", lambda n: "{... {... {" + deep(n)[1:-1] + "}}}"),
        ("aliases", lambda n: "{" + " ".join(f"a{i}: b" for i in range(n)) + "}"),
        ("aliases", lambda n: "{" + "...F " * n + "} fragment F on Q {x: a}"),
        ("aliases", lambda n: "{" + " ".join(f"t{i}: __typename" for i in range(n)) + "}"),
        ("directives", lambda n: "{a " + "@skip(if: false) " * n + "}"),
        ("directives", lambda n: "query " + "@skip(if: false) " * n + "{a}"),
        ("directives", lambda n: "query ($a: Int " + "@skip(if: false) " * n + ") {a}"),
        ("directives", lambda n: "{...F} fragment F on Q " + "@skip(if: false) " * n + "{a}"),
        ("directives", lambda n: "{" + "...F @skip(if: false) " * n + "} fragment F on Q {a}"),
        ("directives", lambda n: "{... " + "@skip(if: false) " * n + "{a}}"),
        ("root_fields", lambda n: "{" + " ".join(f"f{i}" for i in range(n)) + "}"),
        ("root_fields", lambda n: "{" + "a " * n + "}"),
        ("root_fields", lambda n: "{" + "...F " * (n // 2) + "... {a} " * (n % 2) + "} fragment F on Q {__typename b}"),
        ("tokens", lambda n: "{" + "a " * (n - 2) + "}"),
        ("tokens", lambda n: "{a}" + "#x\n" * (n - 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [2, 5])
def test_a_limit_holds_at_its_number_and_refuses_one_more(
    limit: str, document: Callable[[int], str], number: int
) -> None:
    if limit == "tokens":
        number *= 10
    wide = {name: getattr(WIDE, name) for name in WIDE.__struct_fields__}
    limits = GraphQLLimits(**{**wide, limit: number})

    assert isinstance(read(document(number), limits=limits), Selection)
    assert refused(document(number + 1), limits=limits) == (
        Reason.GRAPHQL_LIMIT_EXCEEDED,
        f"over the limit of `{limit}`",
    )


@pytest.mark.parametrize(
    "document",
    [
        lambda n: "{" + "a" * (n * 2) + "}",
        lambda n: "{a(x: " + "1" * n + ")}",
        lambda n: "{a(x: {y: [1." + "1" * (n - 2) + "]})}",
        lambda n: "query ($a: Int = " + "1" * n + ") {a}",
        lambda n: "{a @skip(if: " + "1" * n + ")}",
    ],
)
def test_names_and_numbers_have_a_length(document: Callable[[int], str]) -> None:
    assert isinstance(read(document(128)), Selection)
    assert refused(document(129))[0] is Reason.GRAPHQL_LIMIT_EXCEEDED


def test_nested_fields_are_no_root_fields() -> None:
    limits = GraphQLLimits(root_fields=1)

    assert selected("{a {b c d ...F}} fragment F on T {e f}", limits=limits).coordinates == {"Query.a"}


def doubling(levels: int) -> str:
    """Unfolds to 2^levels fields."""
    fragments = [f"fragment F{n} on Q {{...F{n + 1} ...F{n + 1}}}" for n in range(levels)]
    return "{a {...F0}} " + " ".join(fragments) + f" fragment F{levels} on Q {{x}}"


def test_a_document_that_unfolds_to_a_billion_fields_is_refused_at_once() -> None:
    assert selected(doubling(10), limits=WIDE).paths == {"Query.a.x"}
    assert refused(doubling(30), limits=WIDE) == (Reason.GRAPHQL_LIMIT_EXCEEDED, "over the limit of `unfolded`")
    assert refused(doubling(400), limits=WIDE)[0] is Reason.GRAPHQL_LIMIT_EXCEEDED


def test_the_unfolded_size_holds_at_its_number_and_refuses_one_more() -> None:
    hundred = "fragment H on T {" + "x " * 98 + "}"  # with its spread: 99

    assert isinstance(read("{a {" + "...H " * 101 + "}}" + hundred, limits=WIDE), Selection)
    assert MAX_UNFOLDED == 101 * 99 + 1
    assert refused("{a {" + "...H " * 101 + " y}}" + hundred, limits=WIDE)[1] == "over the limit of `unfolded`"


def test_a_long_chain_of_fragments_is_walked_without_recursion() -> None:
    chain = " ".join(f"fragment F{n} on Q {{...F{n + 1}}}" for n in range(1500))

    assert selected("{...F0} " + chain + " fragment F1500 on Q {a}", limits=WIDE).coordinates == {"Query.a"}


NAMES = st.sampled_from(["a", "b", "user", "__typename"])
VALUES = st.sampled_from(["1", '"x"', "$v", "[1, 2]", "{k: 1}", "E", "null", "1.50"])


def fields(below: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    field = st.builds(
        lambda alias, name, value, directive, inner: (
            (f"{alias}: " if alias else "") + name + (f"(x: {value})" if value else "") + directive + inner
        ),
        st.sampled_from(["", "", "z"]),
        NAMES,
        st.none() | VALUES,
        st.sampled_from(["", " @skip(if: true)", " @include(if: $v)"]),
        st.just("") | below,
    )
    spread = st.sampled_from(["...F", "...G"])
    inline = st.builds(lambda kind, inner: f"...{kind} {inner}", st.sampled_from(["", " on T"]), below)
    return st.lists(field | spread | inline, min_size=1, max_size=3).map(lambda parts: "{" + " ".join(parts) + "}")


SETS = st.recursive(st.just("{a}"), fields, max_leaves=6)
DOCUMENTS = st.builds(
    lambda main, f, g: (
        f"query Q {main} fragment F on T {f.replace('...F', '...G')} fragment G on T "
        + g.replace("...F", "c").replace("...G", "d")
    ),
    SETS,
    SETS,
    SETS,
)


def plain_walk(query: str) -> tuple[frozenset[str], frozenset[str]]:
    """The oracle: unfolds by plain recursion over another representation of the document."""
    document = parse(query, no_location=True).to_dict()
    sets = {
        definition["name"]["value"]: definition["selection_set"]["selections"] for definition in document["definitions"]
    }
    roots: set[str] = set()
    below: set[str] = set()

    def walk(nodes: list[dict[str, object]], above: str, is_root: bool) -> None:
        for node in nodes:
            match node:
                case {"kind": "field", "name": {"value": name}, "selection_set": inner}:
                    path = f"{above}.{name}"
                    (roots if is_root else below).add(path)
                    if isinstance(inner, dict):
                        walk(inner["selections"], path, False)
                case {"kind": "fragment_spread", "name": {"value": name}}:
                    walk(sets[name], above, is_root)
                case {"kind": "inline_fragment", "selection_set": {"selections": inner}}:
                    assert isinstance(inner, list)
                    walk(inner, above, is_root)

    walk(sets["Q"], "Query", True)
    return frozenset(roots), frozenset(below)


@given(DOCUMENTS)
def test_what_is_selected_is_what_a_plain_walk_finds(query: str) -> None:
    selection = selected(query, limits=WIDE)

    assert (selection.coordinates, selection.paths) == plain_walk(query)
    assert plain_walk(json.loads(selection.document)) == plain_walk(query)


@given(DOCUMENTS)
def test_what_is_sent_parses_to_what_was_read(query: str) -> None:
    # G53
    def by_name(text: str) -> dict[str, DefinitionNode]:
        definitions = parse(text, no_location=True).definitions
        return {print_ast(definition).partition("{")[0]: definition for definition in definitions}

    read_anew, came = by_name(json.loads(selected(query, limits=WIDE).document)), by_name(query)

    assert "query Q " in read_anew
    assert all(came[name] == definition for name, definition in read_anew.items())


@given(DOCUMENTS)
def test_tokens_are_counted_as_the_parser_counts_them(query: str) -> None:
    count = parse(query, no_location=True).token_count

    assert not has_more_tokens(query, count)
    assert has_more_tokens(query, count - 1)
    assert isinstance(read(query, limits=replace(WIDE, tokens=count)), Selection)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("{a}", 3),
        ('{a(x:"b c \\" d")}', 8),
        ('{a(x:"""b "" c \\""" d""")}', 8),
        ("{...F}", 4),
        ("#c\n#d\r#e", 3),
        ("-1.5e+3 a", 2),
        (", \ufeff\t", 0),
        ('"unclosed', 1),
        ("é", 1),
        ('"""' + '\\"""' * 1000, 1),
        ('"""' * 1000, 500),
    ],
)
def test_tokens_are_counted_in_texts_that_do_not_parse_too(text: str, count: int) -> None:
    assert not has_more_tokens(text, count)
    assert count == 0 or has_more_tokens(text, count - 1)


@given(st.text(max_size=60) | st.text(alphabet='{}()[]!$&:@|.,#" \n\\abF123', max_size=80))
def test_no_text_makes_it_raise(query: str) -> None:
    assert isinstance(read(query), Selection | Refusal)


# -- the cache


def request(query: str, name: str | None = None) -> GraphQLRequest:
    return GraphQLRequest(query, name, b"")


def test_a_document_seen_before_is_not_read_again() -> None:
    cache = DocumentCache()
    first = cache.selection(request("{a}"), LIMITS)

    assert cache.selection(request("{a}"), LIMITS) is first
    assert len(cache) == 1


def test_text_operation_name_and_limits_all_make_another_entry() -> None:
    cache = DocumentCache()
    query = "query A {a} query B {b {c}}"

    assert isinstance(cache.selection(request(query), LIMITS), Refusal)
    a, b = cache.selection(request(query, "A"), LIMITS), cache.selection(request(query, "B"), LIMITS)
    narrow = cache.selection(request(query, "B"), GraphQLLimits(depth=1))

    assert isinstance(a, Selection)
    assert isinstance(b, Selection)
    assert a.coordinates | b.coordinates == {"Query.a", "Query.b"}
    assert isinstance(narrow, Refusal)
    assert len(cache) == 4


def test_refusals_are_remembered_as_facts_of_the_document() -> None:
    cache = DocumentCache()

    assert cache.selection(request("{"), LIMITS) is cache.selection(request("{"), LIMITS)
    assert len(cache) == 1


def test_the_least_recently_used_document_goes_first() -> None:
    cache = DocumentCache(max_entries=2)
    a = cache.selection(request("{a}"), LIMITS)
    cache.selection(request("{b}"), LIMITS)
    cache.selection(request("{a}"), LIMITS)
    cache.selection(request("{c}"), LIMITS)

    assert len(cache) == 2
    assert cache.selection(request("{a}"), LIMITS) is a


def test_the_cache_is_bounded_by_bytes_and_gives_them_back() -> None:
    cache = DocumentCache(max_bytes=20_000)
    for number in range(100):
        cache.selection(request(f'{{a(x: "{number}{"y" * 5000}")}}'), LIMITS)
        assert cache.bytes_held <= 20_000

    assert 0 < len(cache) < 5
    cache.selection(request(f'{{a(x: "{"y" * 30_000}")}}'), LIMITS)
    assert (len(cache), cache.bytes_held) == (0, 0)


def test_where_memory_is_short_the_cache_lets_go_of_the_half_that_is_less_recently_used() -> None:
    cache = DocumentCache()
    texts = [f'{{a(x: "{number}{"y" * 100_000}")}}' for number in range(40)]
    read = [cache.selection(request(text), LIMITS) for text in texts]
    held = cache.bytes_held

    cache.shrink()

    assert held // 2 - 210_000 < cache.bytes_held <= held // 2
    assert cache.selection(request(texts[39]), LIMITS) is read[39]
    assert cache.selection(request(texts[0]), LIMITS) is not read[0]
    for _ in range(3):
        cache.shrink()
    assert 900_000 < cache.bytes_held <= LEAST_BYTES


def test_an_app_that_sends_many_documents_forgets_none_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    # G56
    cache = DocumentCache(max_entries=40)
    ours = [cache.selection(request(f"{{a{number}}}"), LIMITS, app="ours") for number in range(15)]

    for number in range(1000):
        cache.selection(request(f"{{b{number}}}"), LIMITS, app="flood")
        cache.selection(request(f"{{b{number}}}"), LIMITS, app="flood")
    for number in range(8):
        cache.selection(request(f"{{c{number}}}"), LIMITS, app=f"other-{number % 4}")

    assert len(cache) == 40
    monkeypatch.setattr("gateway.core.graphql.document.read_document", None)
    assert [cache.selection(request(f"{{a{number}}}"), LIMITS, app="x") for number in range(15)] == ours
    assert isinstance(cache.selection(request("{b999}"), LIMITS, app="ours"), Selection)


def test_an_app_of_which_nothing_is_held_leaves_nothing_behind() -> None:
    cache = DocumentCache(max_entries=1)
    for number in range(100):
        cache.selection(request("{a}" if number % 2 else "{b}"), LIMITS, app=f"app-{number}")

    assert len(cache) == 1
    assert len(cache._held) == len(cache._orders) == 1


def test_a_schema_makes_another_entry() -> None:
    cache = DocumentCache()
    one, other = read_schema("type Query {a: Int}"), read_schema("type Query {b: Int}")
    assert isinstance(one, Schema)
    assert isinstance(other, Schema)

    assert isinstance(cache.selection(request("{a}"), LIMITS), Selection)
    assert isinstance(cache.selection(request("{a}"), LIMITS, one), Selection)
    assert isinstance(cache.selection(request("{a}"), LIMITS, other), Refusal)
    assert len(cache) == 3


def test_a_cost_weighs_in_what_is_held() -> None:
    light, heavy = DocumentCache(), DocumentCache()
    text = request("query ($n: Int) {a(first: $n) {b}}")
    light.selection(text, LIMITS)
    heavy.selection(text, replace(LIMITS, cost=100))

    assert light.bytes_held < heavy.bytes_held


STANDARD = get_introspection_query(input_value_deprecation=True, specified_by_url=True)


def test_the_usual_introspection_is_within_its_own_depth_and_not_in_that_of_data() -> None:
    # G41
    assert isinstance(read(STANDARD, limits=GraphQLLimits(depth=2)), Selection)
    assert refused(STANDARD, limits=GraphQLLimits(introspection_depth=13)) == (
        Reason.GRAPHQL_LIMIT_EXCEEDED,
        "over the limit of `introspection_depth`",
    )


@pytest.mark.parametrize("field", ["fields", "interfaces", "possibleTypes", "inputFields"])
def test_lists_of_the_schema_may_not_multiply_without_end(field: str) -> None:
    # G41
    def nested(times: int) -> str:
        step = f"{field} {{type {{"
        return "{__schema {types {" + step * times + "name" + "}}" * times + "}}}"

    assert isinstance(read(nested(3)), Selection)
    assert refused(nested(4))[1] == "over the limit of `introspection_depth`"
    assert refused(nested(4).replace("__schema {types", "__type(name: 1) {...F}} fragment F on __Type {a").removesuffix(
        "}"))[1] == "over the limit of `introspection_depth`"  # fmt: skip
    assert isinstance(read("{" + f"{field} {{" * 6 + "a" + "}" * 7), Selection)


def test_a_field_below_a_fragment_has_its_introspection_depth() -> None:
    query = "{...F} fragment F on Query {__schema " + deep(5) + "}"

    assert isinstance(read(query, limits=GraphQLLimits(introspection_depth=6, depth=1)), Selection)
    assert refused(query, limits=GraphQLLimits(introspection_depth=5))[1] == "over the limit of `introspection_depth`"


def test_an_operation_name_of_any_length_is_not_kept() -> None:
    cache = DocumentCache()

    assert isinstance(cache.selection(request("{a}", "A" * 257), LIMITS), Refusal)
    assert len(cache) == 0


def test_printing_is_the_parsers_own() -> None:
    assert json.loads(selected("{a}").document) == print_ast(parse("{a}"))
