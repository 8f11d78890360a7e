"""In which ways beside a POST of one request a GraphQL route may be asked: each is off unless its policy says so."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, final


@final
class Documents:
    """The documents that a route trusts: by the id that its clients know, and by the hash of the text."""

    __slots__ = ("_by_hash", "_by_id")

    _by_id: Final[dict[str, str]]
    _by_hash: Final[dict[str, str]]

    def __init__(self, by_id: dict[str, str]) -> None:
        self._by_id = by_id
        self._by_hash = {hash_of(text): text for text in by_id.values()}

    def __len__(self) -> int:
        return len(self._by_id)

    def text_by_id(self, document_id: str) -> str | None:
        """The text of an id that is no hash, or None."""
        return self._by_id.get(document_id)

    def text_by_hash(self, digest: str) -> str | None:
        """The text that has this hash, or None."""
        return self._by_hash.get(digest)


def hash_of(text: str) -> str:
    """The SHA-256 of a document's text in UTF-8, in small hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


@final
@dataclass(frozen=True, slots=True)
class Transports:
    """What a route takes beside a POST of one request in JSON, and in which form it goes on."""

    get: bool = False
    """Queries in the URL of a GET."""
    persisted: bool = False
    """A hash in place of a text that a caller has sent before (Apollo's automatic persisted queries)."""
    documents: Documents | None = None
    """Texts that stand in a file beside the policy, asked for by id."""
    documents_only: bool = False
    """No text that is not among `documents`."""
    batch: int = 0
    """How many requests may come in one list; 0: none."""
    incremental: bool = False
    """`@defer` and `@stream`."""
    subscriptions: bool = False
    """Subscriptions, answered as a stream of events."""
    uploads: bool = False
    """Files beside the request (the multipart request specification)."""
    verbatim: bool = False
    """The upstream is sent the very bytes that were judged."""

    @property
    def finds_documents(self) -> bool:
        """A request may name its document in place of sending it."""
        return self.persisted or self.documents is not None

    @property
    def streams(self) -> bool:
        """An answer may come in parts, as a stream of events or parts."""
        return self.incremental or self.subscriptions
