"""From a request's text to its `Selection`: tokens counted, parsed once, one operation chosen, remembered by digest.

The only file that parses GraphQL. What the upstream gets is printed from what was parsed here: the chosen operation
and the fragments that it uses, nothing else of what came (law 1).
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Final

import orjson
from graphql.error import GraphQLError
from graphql.language import (
    DocumentNode,
    FragmentDefinitionNode,
    OperationDefinitionNode,
    OperationType,
    parse,
    print_ast,
)

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.selection import Selection, used_fragments, what_runs
from gateway.core.reasons import Reason, Refusal


def _invalid(detail: str) -> Refusal:
    return Refusal(Reason.GRAPHQL_DOCUMENT_INVALID, detail)


def _not_chosen(detail: str) -> Refusal:
    return Refusal(Reason.GRAPHQL_OPERATION_UNKNOWN, detail)


_TOKENS: Final = Refusal(Reason.GRAPHQL_LIMIT_EXCEEDED, "over the limit of `tokens`")
_SYNTAX: Final = _invalid("the document does not parse, or nests too deeply")
_DEFINITIONS: Final = _invalid("a definition that is neither an operation nor a fragment")
_FRAGMENT_TWICE: Final = _invalid("two fragments with one name")
_OPERATION_TWICE: Final = _invalid("two operations with one name, or an unnamed one beside others")
_NO_OPERATION: Final = _invalid("no operation")
_WHICH: Final = _not_chosen("several operations and no `operationName`")
_NO_SUCH: Final = _not_chosen("no operation of that name")
_SUBSCRIPTION: Final = _not_chosen("subscriptions are not served")

# The lexical grammar, comments included (they cost memory too: CVE-2026-75508). Possessive, so it never backtracks;
# and a string that is not closed goes to the end, or every quote in a long text would look for its end again.
_TOKEN: Final = re.compile(
    r"""
      \#[^\n\r]*+
    | "{3} (?: [^"\\] | \\"{3} | \\ | "(?!"") )*+ (?: "{3} | \Z )
    | " (?: [^"\\\n\r] | \\. )*+ "?
    | [_A-Za-z][_0-9A-Za-z]*+
    | -?[0-9][0-9.eE+\-]*+
    | \.{3}
    | [^\s,\ufeff]
    """,
    re.VERBOSE,
)


def has_more_tokens(text: str, limit: int) -> bool:
    """Whether `text` has more than `limit` tokens: counted by one linear scan, before a parser sees it."""
    # No token is shorter than a character.
    if len(text) <= limit:
        return False
    return any(count > limit for count, _ in enumerate(_TOKEN.finditer(text), start=1))


def read_document(request: GraphQLRequest, limits: GraphQLLimits) -> Selection | Refusal:
    """What the chosen operation of `request` selects, or why it cannot be told. Never raises."""
    if has_more_tokens(request.query, limits.tokens):
        return _TOKENS

    try:
        document = parse(request.query, no_location=True, max_tokens=limits.tokens, allow_empty_selection_sets=False)
    except (GraphQLError, RecursionError):
        return _SYNTAX

    sorted_out = _sort_out(document)
    if isinstance(sorted_out, Refusal):
        return sorted_out
    operations, fragments = sorted_out

    operation = _choose(operations, request.operation_name)
    if isinstance(operation, Refusal):
        return operation

    used = used_fragments(operation, fragments)
    if isinstance(used, Refusal):
        return used

    runs = what_runs(operation, fragments, used, limits)
    if isinstance(runs, Refusal):
        return runs

    coordinates, paths = runs
    sent = DocumentNode(definitions=(operation, *(fragments[name] for name in sorted(used))))
    return Selection(operation.operation.value, coordinates, paths, orjson.dumps(print_ast(sent)))


_Operations = dict[str | None, OperationDefinitionNode]
_Fragments = dict[str, FragmentDefinitionNode]


def _sort_out(document: DocumentNode) -> tuple[_Operations, _Fragments] | Refusal:
    """Operations and fragments by name. Which of two namesakes counts, servers decide differently (G16)."""
    operations: _Operations = {}
    fragments: _Fragments = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            name = None if definition.name is None else definition.name.value
            if name in operations:
                return _OPERATION_TWICE
            operations[name] = definition
        elif isinstance(definition, FragmentDefinitionNode):
            if definition.name.value in fragments:
                return _FRAGMENT_TWICE
            fragments[definition.name.value] = definition
        else:
            return _DEFINITIONS

    if not operations:
        return _NO_OPERATION
    if None in operations and len(operations) > 1:
        return _OPERATION_TWICE
    return operations, fragments


def _choose(operations: _Operations, name: str | None) -> OperationDefinitionNode | Refusal:
    """The operation that runs (GraphQL section 6.1), which must be a query or a mutation."""
    if name is not None:
        operation = operations.get(name)
        if operation is None:
            return _NO_SUCH
    elif len(operations) > 1:
        return _WHICH
    else:
        operation = next(iter(operations.values()))

    return _SUBSCRIPTION if operation.operation is OperationType.SUBSCRIPTION else operation


_Key = tuple[bytes, str | None, GraphQLLimits]


class DocumentCache:
    """Selections of documents seen before: what a document selects, never a verdict on who may.

    Bounded twice, by number and by the bytes of the documents it holds; the least recently used goes first (G56).
    Refusals are remembered too: they say something of the document alone, and parsing is what costs.
    Measured (one core, CPython 3.11), a document of 0.9 KiB with 51 fields: 1.2 us when seen before, 600 us when new.
    """

    __slots__ = ("_bytes_held", "_entries", "_max_bytes", "_max_entries")

    def __init__(self, max_entries: int = 10_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes_held = 0
        self._entries: OrderedDict[_Key, Selection | Refusal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_held(self) -> int:
        """Bytes of documents, paths and keys that the entries hold, roughly."""
        return self._bytes_held

    def selection(self, request: GraphQLRequest, limits: GraphQLLimits) -> Selection | Refusal:
        """What the chosen operation of `request` selects, or why it cannot be told."""
        # A digest, not the text: 10,000 entries must not hold 10,000 bodies.
        key = (hashlib.sha256(request.query.encode()).digest(), request.operation_name, limits)
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
            return found

        read = read_document(request, limits)
        self._remember(key, read)
        return read

    def _remember(self, key: _Key, read: Selection | Refusal) -> None:
        # An operation name is part of the key, and as long as the client likes.
        if len(key[1] or "") > MAX_KEPT_NAME:
            return
        self._entries[key] = read
        self._bytes_held += _weight(read)
        while len(self._entries) > self._max_entries or self._bytes_held > self._max_bytes:
            _, gone = self._entries.popitem(last=False)
            self._bytes_held -= _weight(gone)


MAX_KEPT_NAME: Final = 256


def _weight(read: Selection | Refusal) -> int:
    """What an entry holds in memory, roughly: 250 bytes around it, and each path with its place in a set."""
    if isinstance(read, Refusal):
        return 250
    names = (*read.coordinates, *read.paths)
    return 250 + len(read.document) + sum(map(len, names)) + 100 * len(names)
