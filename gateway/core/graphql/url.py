"""The GraphQL request in the URL of a GET: each parameter once, decoded in one way, and nothing else beside them.

GraphQL over HTTP has the parameters in `application/x-www-form-urlencoded`, so `+` is a space. What the upstream makes
of such a text does not matter: it is sent what was read here, as a POST.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.core.graphql.request import invalid, strict_json
from gateway.core.reasons import Refusal

_TEXTS: Final = frozenset((b"query", b"operationName", b"documentId"))
_JSON: Final = frozenset((b"variables", b"extensions"))

_SEMICOLON: Final = invalid("a `;` in the URL, at which some servers split it")
_UNKNOWN_PARAMETER: Final = invalid("a parameter of the URL that GraphQL over HTTP does not have")
_TWICE: Final = invalid("a parameter of the URL that comes twice")
_NOT_UTF_8: Final = invalid("a parameter of the URL that is not UTF-8")


def members_in(query: bytes) -> dict[str, object] | Refusal:
    """What a JSON body would have as its members, from the query part of a canonical target (G25)."""
    if b";" in query:
        return _SEMICOLON
    members: dict[str, object] = {}
    for parameter in query.split(b"&"):
        name, _, written = parameter.partition(b"=")
        if name not in _TEXTS and name not in _JSON:
            return _UNKNOWN_PARAMETER
        member = name.decode("ascii")
        if member in members:
            return _TWICE
        value = unquote_to_bytes(written.replace(b"+", b" "))
        if not value:
            members[member] = None  # as if it were not there
        elif name in _JSON:
            read = strict_json(value)
            if isinstance(read, Refusal):
                return read
            members[member] = read
        else:
            try:
                members[member] = value.decode("utf-8")
            except UnicodeDecodeError:
                return _NOT_UTF_8
    return members
