"""One reading of a body, or none: strict JSON, then only what a GraphQL request may have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.graphql import request as module
from gateway.core.graphql.request import GraphQLRequest, read_request
from gateway.core.reasons import Reason, Refusal
from tests.support.values import fields_of

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("BEARERGATE_VECTORS") or ROOT.parent / "shared" / "vectors") / "json-parsing"


def reason_of(body: bytes) -> Reason | None:
    read = read_request(body)
    return read.reason if isinstance(read, Refusal) else None


def nested(depth: int) -> bytes:
    """A request whose variables make it `depth` deep."""
    lists = depth - 2
    return b'{"query":"{a}","variables":{"a":' + b"[" * lists + b"]" * lists + b"}}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"query":"{a}"}', GraphQLRequest("{a}", None, b"")),
        (b' {\n"query" : "{a}" }\r\n', GraphQLRequest("{a}", None, b"")),
        (b'{"qu\\u0065ry":"\\u007ba}"}', GraphQLRequest("{a}", None, b"")),
        (b'{"query":""}', GraphQLRequest("", None, b"")),
        ('{"query":"é😀"}'.encode(), GraphQLRequest("é😀", None, b"")),
        (b'{"query":"{a}","operationName":"A"}', GraphQLRequest("{a}", "A", b"")),
        (b'{"query":"{a}","operationName":null,"variables":null,"extensions":null}', GraphQLRequest("{a}", None, b"")),
        (b'{"query":"{a}","variables":{}}', GraphQLRequest("{a}", None, b"{}")),
        (b'{"query":"{a}", "variables":{"b": [1, 2.50, -0, 1e5, "x"]}}',
         GraphQLRequest("{a}", None, b'{"b":[1,2.50,-0,1e5,"x"]}')),
        (b'{"variables":{"b":1,"a":2},"query":"{a}"}', GraphQLRequest("{a}", None, b'{"b":1,"a":2}')),
        (b'{"query":"{a}","variables":{"n":null,"z":{"__proto__":{}}}}',
         GraphQLRequest("{a}", None, b'{"n":null,"z":{"__proto__":{}}}')),
        (b'{"query":"{a}","extensions":{}}', GraphQLRequest("{a}", None, b"")),
        (b'{"query":"{a}","extensions":{"clientLibrary":{"name":"x"}}}', GraphQLRequest("{a}", None, b"")),
        (b'{"query":"{a}","variables":{"n":18446744073709551615,"m":-9223372036854775808}}',
         GraphQLRequest("{a}", None, b'{"n":18446744073709551615,"m":-9223372036854775808}')),
    ],
)  # fmt: skip
def test_a_request_is_read(body: bytes, expected: GraphQLRequest) -> None:
    assert fields_of(expected) == fields_of(read_request(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"query":"{a}"',
        b'{"query":"{a}"}x',
        b'{"query":"{a}"}{"query":"{b}"}',
        b'{"query":"{a}"}\n{"query":"{b}"}',
        b"{'query':'{a}'}",
        b'{"query":"{a}",}',
        b'{"query":"{a}"/**/}',
        b'{"query":"{a}","query":"{b}"}',
        b'{"query":"{a}","qu\\u0065ry":"{b}"}',
        b'{"query":"{a}","operationName":"A","operationName":"B"}',
        b'{"query":"{a}","variables":{"a":1},"variables":{"a":2}}',
        b'{"query":"{a}","variables":{"a":1,"a":1}}',
        b'{"query":"{a}","variables":{"a":[{"b":{"c":1,"c":2}}]}}',
        b'\xef\xbb\xbf{"query":"{a}"}',
        '{"query":"{a}"}'.encode("utf-16"),
        '{"query":"{a}"}'.encode("utf-16-le"),
        '{"query":"é"}'.encode("latin-1"),
        b'{"query":"\xff"}',
        b'{"query":"\\ud800"}',
        b'{"query":"\xed\xa0\x80"}',
        b'{"query":"a\nb"}',
        b'{"query":"{a}","variables":{"a":NaN}}',
        b'{"query":"{a}","variables":{"a":Infinity}}',
        b'{"query":"{a}","variables":{"a":-Infinity}}',
        b'{"query":"{a}","variables":{"a":1e400}}',
        b'{"query":"{a}","variables":{"a":1e-400}}',
        b'{"query":"{a}","variables":{"a":0.10000000000000001}}',
        b'{"query":"{a}","variables":{"a":18446744073709551616}}',
        b'{"query":"{a}","variables":{"a":-9223372036854775809}}',
        b'{"query":"{a}","variables":{"a":' + b"1" * 5000 + b"}}",
        b'{"query":"{a}","variables":{"a":0.' + b"1" * 5000 + b"}}",
        b'{"query":"{a}","variables":{"a":01}}',
        nested(65),
        nested(65).replace(b"[[", b"[ ["),
        nested(400),
        nested(900),
        nested(100_000),
        b"[" * 65 + b"]" * 65,
        b'{"query":"{a}","variables":{},"extensions":{"a":' + b"[" * 65 + b"]" * 65 + b"}}",
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    assert reason_of(body) is Reason.JSON_INVALID


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"1",
        b'"{a}"',
        b"[]",
        b'[{"query":"{a}"}]',
        b'[{"query":"{a}"},{"query":"{b}"}]',
        b"[[]]",
        b"{}",
        b'{"query":null}',
        b'{"query":1}',
        b'{"query":["{a}"]}',
        b'{"Query":"{a}"}',
        b'{"query":"{a}","QUERY":"{b}"}',
        b'{"query":"{a}","operationName":""}',
        b'{"query":"{a}","operationName":1}',
        b'{"query":"{a}","operationName":["A"]}',
        b'{"query":"{a}","operationName":true}',
        b'{"query":"{a}","variables":"{}"}',
        b'{"query":"{a}","variables":[]}',
        b'{"query":"{a}","variables":1}',
        b'{"query":"{a}","variables":false}',
        b'{"query":"{a}","variables": 1.5}',
        b'{"query":"{a}","extensions":[]}',
        b'{"query":"{a}","extensions":"x"}',
        b'{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}',
        b'{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}',
        b'{"query":"{a}","extensions":{"persistedQuery":null}}',
        b'{"query":"{a}","id":"1"}',
        b'{"query":"{a}","documentId":"sha256:00"}',
        b'{"query":"{a}","doc_id":"1"}',
        b'{"query":"{a}","mutation":"{b}"}',
        b'{"query":"{a}","batch":[]}',
        b'{"query":"{a}","":1}',
    ],
)
def test_json_that_is_no_graphql_request_is_refused(body: bytes) -> None:
    assert reason_of(body) is Reason.GRAPHQL_REQUEST_INVALID


def test_the_slow_way_knows_no_constants_either() -> None:
    assert module._read_slowly(b'{"query":NaN}') == module._read_slowly(b'{"query":"{a}","query":"{a}"}')


def test_the_deepest_request_and_one_deeper() -> None:
    assert reason_of(nested(64)) is None
    assert reason_of(nested(64).replace(b"[[", b"[ [")) is None
    assert reason_of(nested(65)) is Reason.JSON_INVALID


def test_brackets_in_strings_nest_nothing() -> None:
    query = "{" * 100
    read = read_request(orjson.dumps({"query": query, "variables": {"a": "[" * 100}}))

    assert isinstance(read, GraphQLRequest)
    assert query == read.query


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {"query": st.text() | JSON},
    optional={"operationName": st.text() | JSON, "variables": JSON, "extensions": JSON, "x": JSON},
)


@given(REQUESTS, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]), st.booleans())
def test_spelling_changes_nothing(written: dict[str, object], separators: tuple[str, str], ascii_only: bool) -> None:
    """The fast way and the slow way give the same answer, and number texts survive both."""
    try:
        text = json.dumps(written, separators=separators, ensure_ascii=ascii_only).encode()
        compact = json.dumps(written, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return

    assert fields_of(read_request(compact)) == fields_of(read_request(text))


@given(REQUESTS)
def test_the_fast_way_is_the_slow_way(written: dict[str, object]) -> None:
    try:
        body = orjson.dumps(written)
    except (TypeError, ValueError):
        return
    fast = read_request(body)
    slow = module._request_in(module._read_slowly(body))

    if isinstance(fast, Refusal):
        assert isinstance(slow, Refusal)
        assert fast.reason is slow.reason
    else:
        assert fields_of(fast) == fields_of(slow)


@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: f'{{"query":{text}}}'.encode("utf-8", "surrogatepass"))
)
@example(b'{"query":"\xc0\x80"}')
def test_no_body_makes_it_raise(body: bytes) -> None:
    assert isinstance(read_request(body), GraphQLRequest | Refusal)


@given(st.text(alphabet="0123456789eE+-.", min_size=1, max_size=24))
def test_a_number_is_forwarded_as_it_was_written_or_refused(number: str) -> None:
    read = read_request(b'{"query":"{a}", "variables":{"n":%b}}' % number.encode())

    if isinstance(read, GraphQLRequest):
        assert read.variables == b'{"n":%b}' % number.encode()


# The vectors that are JSON for RFC 8259 and not strict for us: a member twice has two readings (G17).
REPEATED_MEMBERS = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}


def vector_files(prefix: str) -> list[Path]:
    return sorted(VECTORS.glob(f"{prefix}_*.json")) if VECTORS.is_dir() else []


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the JSON vectors are not beside the project")
def test_json_vectors_are_read_as_their_names_say() -> None:
    for prefix in ("y", "n", "i"):
        assert vector_files(prefix)
    for file in vector_files("n"):
        # Some are "not JSON" by themselves and say nothing of their kind: what counts is that none becomes a request.
        assert reason_of(file.read_bytes()) is Reason.JSON_INVALID, file.name
    for file in vector_files("y"):
        expected = Reason.JSON_INVALID if file.name in REPEATED_MEMBERS else Reason.GRAPHQL_REQUEST_INVALID
        assert reason_of(file.read_bytes()) is expected, file.name
    for file in vector_files("i"):
        assert reason_of(file.read_bytes()) in (Reason.JSON_INVALID, Reason.GRAPHQL_REQUEST_INVALID), file.name


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the JSON vectors are not beside the project")
def test_json_vectors_as_variables_round_trip_or_are_refused() -> None:
    for file in (*vector_files("y"), *vector_files("i"), *vector_files("n")):
        value = file.read_bytes()
        read = read_request(b'{"query":"{a}","variables":{"v":' + value + b"}}")

        if isinstance(read, GraphQLRequest):
            assert json.loads(read.variables)["v"] == json.loads(value), file.name
            assert not file.name.startswith("n_"), file.name


@pytest.mark.parametrize(
    "number", ["1e-99999999999999999999999", "0e99999999999999999999999", "-0E-9999999999999999999"]
)
def test_an_exponent_beyond_all_bounds_is_refused_or_read_and_never_raises(number: str) -> None:
    read = read_request(b'{"query": "{a}", "variables": {"x": %s}}' % number.encode())

    assert isinstance(read, Refusal)
    assert read.reason is Reason.JSON_INVALID
