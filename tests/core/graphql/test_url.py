"""The parameters of a GET: each once, spelled and decoded in one way."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.graphql.url import members_in
from gateway.core.reasons import Reason, Refusal


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"query=%7Ba%7D", {"query": "{a}"}),
        (b"query=%7ba%7d", {"query": "{a}"}),
        (b"query=+a+%2B+%2b", {"query": " a + +"}),
        (b"query={a}&operationName=null", {"query": "{a}", "operationName": "null"}),
        (b"query&operationName=", {"query": None, "operationName": None}),
        (b"documentId=sha256:a=b", {"documentId": "sha256:a=b"}),
        (b"variables={%22a%22:+1}&extensions=", {"variables": {"a": 1}, "extensions": None}),
        (b"variables=null", {"variables": None}),
        (b"query=%C3%A9", {"query": "é"}),
    ],
)
def test_parameters_are_read_as_members(query: bytes, expected: dict[str, object]) -> None:
    read = members_in(query)

    assert not isinstance(read, Refusal)
    assert orjson.dumps(expected) == orjson.dumps(read)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=a;query=b", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=a&query=b", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=a&query=", Reason.GRAPHQL_REQUEST_INVALID),
        (b"qu%65ry=a", Reason.GRAPHQL_REQUEST_INVALID),
        (b"Query=a", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=a&token=b", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=%FF", Reason.GRAPHQL_REQUEST_INVALID),
        (b"query=%ED%A0%80", Reason.GRAPHQL_REQUEST_INVALID),
        (b"variables={", Reason.JSON_INVALID),
        (b"variables={%22a%22:1,%22a%22:1}", Reason.JSON_INVALID),
    ],
)
def test_parameters_with_two_readings_are_refused(query: bytes, reason: Reason) -> None:
    read = members_in(query)

    assert isinstance(read, Refusal)
    assert reason is read.reason


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1)


@given(TEXTS, TEXTS)
def test_what_a_client_wrote_is_what_is_read(query: str, name: str) -> None:
    expected = {"query": query, "operationName": name}

    assert expected == members_in(urlencode(expected).encode())
    assert expected == members_in(f"query={quote(query, safe='')}&operationName={quote(name, safe='')}".encode())
