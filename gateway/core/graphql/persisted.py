"""From a request that may name its document to one that has its text, which is what is judged and sent.

The upstream is never sent a name: what it would run under it, nobody here has read (G29). A hash is believed of no
text before it was worked out from that text (G30).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final, final

import orjson

from gateway.core.graphql.request import UNKNOWN_MEMBER, GraphQLRequest, extensions_of, invalid, request_of
from gateway.core.graphql.transports import Transports, hash_of
from gateway.core.reasons import Reason, Refusal

_MEMBERS: Final = frozenset(("query", "operationName", "variables", "extensions", "documentId"))
_HASH: Final = re.compile("[0-9a-f]{64}")

_NOT_SERVED: Final = invalid("persisted documents are not served")
_HASHES_NOT_SERVED: Final = invalid("documents are not found by `extensions.persistedQuery` here")
_PERSISTED_QUERY: Final = invalid("`persistedQuery` is not `version` 1 and a `sha256Hash`")
_OTHER_TEXT: Final = invalid("the hash is that of another text")
_DOCUMENT_ID: Final = invalid("`documentId` is not a text, or stands beside another document")
_UNKNOWN: Final = Refusal(Reason.GRAPHQL_DOCUMENT_UNKNOWN, "no document of that id")
_NOT_TRUSTED: Final = Refusal(Reason.GRAPHQL_DOCUMENT_UNKNOWN, "a text that is not among the documents")
_NOT_FOUND: Final = Refusal(Reason.PERSISTED_QUERY_NOT_FOUND)
_OTHER_EXTENSIONS: Final = invalid("`extensions` on a route that forwards verbatim")


@final
class DocumentStore:
    """Texts that callers sent with their hashes. What is in it was sent by somebody with a good key, and is no secret
    to who knows its hash; who may run it is asked each time.

    Bounded twice; the least recently used goes first.
    """

    __slots__ = ("_bytes_held", "_max_bytes", "_max_entries", "_texts")

    def __init__(self, max_entries: int = 5_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes_held = 0
        self._texts: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, digest: str) -> str | None:
        """The text of which `digest` is the hash, or None."""
        text = self._texts.get(digest)
        if text is not None:
            self._texts.move_to_end(digest)
        return text

    def remember(self, digest: str, text: str) -> None:
        """Keeps `text`, of which `digest` must have been worked out."""
        if digest not in self._texts:
            self._texts[digest] = text
            self._bytes_held += _weight(text)
        self._forget_beyond(self._max_entries, self._max_bytes)

    def shrink(self) -> None:
        """Lets go of half of what is held."""
        self._forget_beyond(self._max_entries, self._bytes_held // 2)

    def _forget_beyond(self, entries: int, size: int) -> None:
        while len(self._texts) > entries or self._bytes_held > size:
            _, text = self._texts.popitem(last=False)
            self._bytes_held -= _weight(text)


def _weight(text: str) -> int:
    return 250 + 4 * len(text)


@final
class Found:
    """A request with its text; `registers` is the text's hash where the caller asks that it be remembered."""

    __slots__ = ("registers", "request")

    request: Final[GraphQLRequest]
    registers: Final[str]

    def __init__(self, request: GraphQLRequest, registers: str) -> None:
        self.request = request
        self.registers = registers


def find_request(read: dict[str, object], transports: Transports, store: DocumentStore) -> Found | Refusal:
    """The request in an object that was strict JSON, its document looked up where it is only named."""
    if not _MEMBERS.issuperset(read):
        return UNKNOWN_MEMBER
    extensions = extensions_of(read)
    if isinstance(extensions, Refusal):
        return extensions
    if transports.verbatim and extensions:
        # Whatever it means to the upstream was not judged here; written anew, a request has none (G30).
        return _OTHER_EXTENSIONS

    registers = ""
    document: object = read.get("query")
    named, hashed = read.get("documentId"), extensions.get("persistedQuery")
    if named is not None:
        document = _by_id(named, transports, store) if document is None and hashed is None else _DOCUMENT_ID
    elif hashed is not None:
        digest = _hash_in(hashed) if transports.persisted else _HASHES_NOT_SERVED
        if isinstance(digest, Refusal):
            return digest
        if type(document) is str:
            if hash_of(document) != digest:
                return _OTHER_TEXT
            registers = digest
        elif document is None:
            document = _text_of(digest, transports, store) or _NOT_FOUND
    if isinstance(document, Refusal):
        return document

    if transports.documents_only and type(document) is str and not _is_trusted(document, transports):
        return _NOT_TRUSTED
    request = request_of(read, document)
    return request if isinstance(request, Refusal) else Found(request, registers)


def _by_id(named: object, transports: Transports, store: DocumentStore) -> str | Refusal:
    """The document of an id: a hash, or a name of the route's own."""
    if type(named) is not str:
        return _DOCUMENT_ID
    if not transports.finds_documents:
        return _NOT_SERVED
    prefix, _, digest = named.partition(":")
    if prefix == "sha256":
        return _text_of(digest, transports, store) or _UNKNOWN
    text = None if transports.documents is None else transports.documents.text_by_id(named)
    return _UNKNOWN if text is None else text


def _hash_in(persisted: object) -> str | Refusal:
    if type(persisted) is not dict or persisted.keys() != {"version", "sha256Hash"}:
        return _PERSISTED_QUERY
    version, digest = persisted["version"], persisted["sha256Hash"]
    # A number of JSON with white space is kept as its text.
    if orjson.dumps(version) != b"1" or type(digest) is not str or _HASH.fullmatch(digest) is None:
        return _PERSISTED_QUERY
    return digest


def _text_of(digest: str, transports: Transports, store: DocumentStore) -> str | None:
    text = None if transports.documents is None else transports.documents.text_by_hash(digest)
    return store.find(digest) if text is None and transports.persisted else text


def _is_trusted(text: str, transports: Transports) -> bool:
    documents = transports.documents
    return documents is not None and documents.text_by_hash(hash_of(text)) == text
