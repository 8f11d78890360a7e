"""From a request's text to its `Selection`: tokens counted, parsed once, one operation chosen, remembered by digest.

The only file that parses GraphQL. What the upstream gets is printed from what was parsed here: the chosen operation
and the fragments that it uses, nothing else of what came (law 1).
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Final

from graphql.error import GraphQLError
from graphql.language import (
    DocumentNode,
    FragmentDefinitionNode,
    OperationDefinitionNode,
    OperationType,
    parse,
)

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.schema import Schema
from gateway.core.graphql.selection import Selection, read_selection, used_fragments
from gateway.core.graphql.values import bytes_of
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
_SUBSCRIBES_TWICE: Final = _invalid("a subscription with more than one root field")
_NOT_ALONE: Final = _invalid("an operation or a fragment that is not used, on a route that forwards verbatim")

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


def read_document(request: GraphQLRequest, limits: GraphQLLimits, schema: Schema | None = None) -> Selection | Refusal:
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
    is_subscription = operation.operation is OperationType.SUBSCRIPTION
    if is_subscription and not limits.subscriptions:
        return _SUBSCRIPTION

    used = used_fragments(operation, fragments)
    if isinstance(used, Refusal):
        return used

    if limits.one_operation and len(document.definitions) > 1 + len(used):
        return _NOT_ALONE

    selection = read_selection(operation, fragments, used, limits, schema)
    if is_subscription and isinstance(selection, Selection) and len(selection.coordinates) != 1:
        return _SUBSCRIBES_TWICE
    return selection


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
    """The operation that runs (GraphQL section 6.1)."""
    if name is not None:
        operation = operations.get(name)
        if operation is None:
            return _NO_SUCH
    elif len(operations) > 1:
        return _WHICH
    else:
        operation = next(iter(operations.values()))

    return operation


_Key = tuple[bytes, str | None, GraphQLLimits, bytes]


class DocumentCache:
    """Selections of documents seen before: what a document selects, never a verdict on who may.

    Bounded twice, by number and by the bytes of the documents it holds. What is too much is taken from the App that
    holds most, its least recently used first: who sends a million variants of a document forgets documents of its own,
    and nobody else's (G56). Refusals are remembered too: they say something of the document alone, and parsing is what
    costs. Measured (one core, CPython 3.11), a document of 0.9 KiB with 51 fields: 1.2 us when seen before, 600 us when
    new.
    """

    __slots__ = ("_bytes_held", "_entries", "_held", "_max_bytes", "_max_entries", "_orders")

    def __init__(self, max_entries: int = 10_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes_held = 0
        self._entries: dict[_Key, tuple[Selection | Refusal, OrderedDict[_Key, int]]] = {}
        self._orders: dict[str, OrderedDict[_Key, int]] = {}
        """Of each App that sent a document first: its keys with their bytes, the least recently used first."""
        self._held: dict[str, int] = {}
        """The bytes of each App."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_held(self) -> int:
        """Bytes of documents, paths and keys that the entries hold, roughly."""
        return self._bytes_held

    def shrink(self) -> None:
        """Lets go of half of the bytes that are held, but for a last megabyte."""
        most = max(self._bytes_held // 2, LEAST_BYTES)
        while self._bytes_held > most:
            self._forget_one()

    def selection(
        self, request: GraphQLRequest, limits: GraphQLLimits, schema: Schema | None = None, app: str = ""
    ) -> Selection | Refusal:
        """What the chosen operation of `request` selects, or why it cannot be told. `app` is who asks."""
        # A digest, not the text: 10,000 entries must not hold 10,000 bodies.
        digest = hashlib.sha256(request.query.encode()).digest()
        key = (digest, request.operation_name, limits, b"" if schema is None else schema.digest)
        found = self._entries.get(key)
        if found is not None:
            found[1].move_to_end(key)
            return found[0]

        read = read_document(request, limits, schema)
        self._remember(key, read, app)
        return read

    def _remember(self, key: _Key, read: Selection | Refusal, app: str) -> None:
        # An operation name is part of the key, and as long as the client likes.
        if len(key[1] or "") > MAX_KEPT_NAME:
            return
        order = self._orders.get(app)
        if order is None:
            order = self._orders[app] = OrderedDict()
            self._held[app] = 0
        weight = _weight(read)
        order[key] = weight
        self._entries[key] = (read, order)
        self._held[app] += weight
        self._bytes_held += weight
        while len(self._entries) > self._max_entries or self._bytes_held > self._max_bytes:
            self._forget_one()

    def _forget_one(self) -> None:
        """Forgets a document of the App that holds most. Looks at every App, in a hundredth of what parsing costs."""
        held = self._held
        app, most = "", -1
        for name, weight in held.items():
            if weight > most:
                app, most = name, weight
        order = self._orders[app]
        key, weight = order.popitem(last=False)
        del self._entries[key]
        self._bytes_held -= weight
        held[app] -= weight
        if not order:
            del self._orders[app]
            del held[app]


LEAST_BYTES: Final = 1024 * 1024
MAX_KEPT_NAME: Final = 256


def _weight(read: Selection | Refusal) -> int:
    """What an entry holds in memory, roughly: 250 bytes around it, each path with its place in a set, each field."""
    if isinstance(read, Refusal):
        return 250
    names = (*read.coordinates, *read.paths)
    held = 250 + len(read.document) + sum(map(len, names)) + 100 * len(names)
    held += sum(100 + len(field.coordinate) + bytes_of(field.arguments) for field in read.fields)
    return held if read.cost is None else held + 200 * len(read.cost.terms)
