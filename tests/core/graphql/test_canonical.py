"""The body that is sent on has what was judged, and nothing else."""

from __future__ import annotations

import orjson
import pytest

from gateway.core.graphql.canonical import canonical_body
from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest, read_request
from gateway.core.graphql.selection import Selection


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{ "query": "{a}" }', b'{"query":"{\\n  a\\n}"}'),
        (b'{"query":"{a}","extensions":{"x":1}}', b'{"query":"{\\n  a\\n}"}'),
        (b'{"query":"{a}","variables":{"b": 1.0}}', b'{"query":"{\\n  a\\n}","variables":{"b":1.0}}'),
        (b'{"query":"{a}","variables":{}}', b'{"query":"{\\n  a\\n}","variables":{}}'),
        (b'{"query":"query A{a}","operationName":"A"}', b'{"query":"query A {\\n  a\\n}","operationName":"A"}'),
        (
            b'{"variables":{"b":1},"operationName":"A","query":"query A{a} query B{b} fragment F on T {c}"}',
            b'{"query":"query A {\\n  a\\n}","operationName":"A","variables":{"b":1}}',
        ),
    ],
)
def test_what_is_sent(body: bytes, expected: bytes) -> None:
    request = read_request(body)
    assert isinstance(request, GraphQLRequest)
    selection = read_document(request, GraphQLLimits())
    assert isinstance(selection, Selection)

    sent = canonical_body(request, selection)

    assert expected == sent
    assert orjson.dumps(orjson.loads(sent)) == sent
    again = read_request(sent)
    assert isinstance(again, GraphQLRequest)
    assert read_document(again, GraphQLLimits()) == selection
