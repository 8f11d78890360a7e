"""The documents that a policy trusts: read once each, and every text held against the limits of its route."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.core.graphql.document import read_document
from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.graphql.request import GraphQLRequest, strict_json
from gateway.core.graphql.schema import Schema
from gateway.core.graphql.transports import Documents, Transports, hash_of
from gateway.core.policy.document import PolicyDocument, Text, TransportsEntry
from gateway.core.policy.faults import Fault, Place
from gateway.core.policy.graphql_schemas import beside
from gateway.core.reasons import Reason, Refusal

MAX_DOCUMENTS: Final = 5_000

_ID: Final = re.compile(r"(?:x-[a-z0-9-]{1,32}:)?[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_SHAPE: Final = 'write one JSON object: `{"the id": "query {...}"}`'


def document_files(document: PolicyDocument) -> tuple[str, ...]:
    """The files with documents that a policy names, in order, each once."""
    entries = (None if route.graphql is None else route.graphql.transports for route in document.routes)
    return tuple(sorted({beside(one.documents) for one in entries if one is not None and one.documents is not None}))


class Manifests:
    """The documents of one policy. `faults` grows as they are asked for."""

    def __init__(self, texts: Mapping[str, bytes], faults: list[Fault]) -> None:
        self._texts = texts
        self._faults = faults
        self._read: dict[str, dict[str, str]] = {}

    def transports(
        self, entry: TransportsEntry | None, limits: GraphQLLimits, schema: Schema | None
    ) -> Transports | None:
        """In which ways a route may be asked; None where it says nothing of them."""
        if entry is None:
            return None
        documents = None if entry.documents is None else self._documents(entry.documents, limits, schema)
        return Transports(
            entry.get,
            entry.persisted,
            documents,
            entry.documents_only,
            entry.batch,
            entry.incremental,
            entry.subscriptions,
            entry.uploads,
            entry.verbatim,
        )

    def _documents(self, named: Text, limits: GraphQLLimits, schema: Schema | None) -> Documents:
        file = beside(named)
        if file not in self._read:
            self._read[file] = self._manifest(file, named)
        by_id = self._read[file]
        for document_id, text in by_id.items():
            read = read_document(GraphQLRequest(text, None, b""), limits, schema)
            # Which one of several operations runs, a request says.
            if isinstance(read, Refusal) and read.reason is not Reason.GRAPHQL_OPERATION_UNKNOWN:
                self._fault(
                    file, f"document `{document_id}` would be refused ({read.detail})", "mend it, or its limits"
                )
        return Documents(by_id)

    def _manifest(self, file: str, named: Text) -> dict[str, str]:
        content = self._texts.get(file)
        if content is None:
            what = f"there is no file `{named.value}` beside the policy"
            self._faults.append(
                Fault(named.place, what, "check the name, or write the documents of your clients there")
            )
            return {}
        read = strict_json(content)
        if type(read) is not dict or not read:
            self._fault(file, "this is no strict JSON object with documents in it", _SHAPE)
            return {}
        if len(read) > MAX_DOCUMENTS:
            self._fault(file, f"there are more than {MAX_DOCUMENTS} documents", "take out those that no client sends")
            return {}

        by_id: dict[str, str] = {}
        for document_id, text in read.items():
            prefix, _, digest = document_id.partition(":")
            if type(text) is not str:
                self._fault(file, f"document `{document_id[:128]}` is no text", _SHAPE)
            elif prefix == "sha256":
                if hash_of(text) != digest:
                    self._fault(
                        file,
                        f"the hash in `{document_id[:128]}` is that of another text",
                        "write the SHA-256 of the text in small hexadecimal digits",
                    )
                by_id[document_id] = text
            elif _ID.fullmatch(document_id) is None:
                self._fault(
                    file,
                    f"`{document_id[:128]}` cannot be the id of a document",
                    "use letters, digits and `_ . -`, or `sha256:` and the hash of the text",
                )
            else:
                by_id[document_id] = text
        return by_id

    def _fault(self, file: str, what: str, todo: str) -> None:
        self._faults.append(Fault(Place(file, 1, 1), what, todo))
