"""The body that is forwarded: written from the judged selection, never from the bytes that came."""

from __future__ import annotations

from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection


def canonical_body(request: GraphQLRequest, selection: Selection) -> bytes:
    """The compact JSON body for the upstream: `query`, then `operationName` and `variables` where present.

    Parts that are encoded already, joined. An operation name that was found in a document is a GraphQL name, so
    it needs no escape.
    """
    document, name, variables = selection.document, request.operation_name, request.variables
    if name is None:
        if variables:
            return b'{"query":%b,"variables":%b}' % (document, variables)
        return b'{"query":%b}' % document

    if variables:
        return b'{"query":%b,"operationName":"%b","variables":%b}' % (document, name.encode("ascii"), variables)
    return b'{"query":%b,"operationName":"%b"}' % (document, name.encode("ascii"))
