"""Documents by name: looked up, never passed on; a hash is believed of no text but its own."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from gateway.core.graphql.persisted import DocumentStore, Found, find_request
from gateway.core.graphql.request import strict_json
from gateway.core.graphql.transports import Documents, Transports, hash_of
from gateway.core.reasons import Reason, Refusal

TEXT = "{ item }"
HASH = hashlib.sha256(TEXT.encode()).hexdigest()
OTHER = hash_of("{ other }")
PERSISTED = Transports(persisted=True)
DOCUMENTS = Transports(documents=Documents({"item-1": TEXT, "empty": "{ é }"}))
ONLY = Transports(documents=Documents({"item-1": TEXT}), documents_only=True)


def found(read: object, transports: Transports, store: DocumentStore | None = None) -> Found | Refusal:
    members = strict_json(orjson.dumps(read))
    assert type(members) is dict
    return find_request(members, transports, store or DocumentStore())


def knowing(*texts: str) -> DocumentStore:
    store = DocumentStore()
    for text in texts:
        store.remember(hash_of(text), text)
    return store


def by_hash(digest: object, version: object = 1) -> dict[str, object]:
    return {"persistedQuery": {"version": version, "sha256Hash": digest}}


def text_of(one: Found | Refusal) -> str | Reason:
    return one.request.query if isinstance(one, Found) else one.reason


def test_a_text_needs_no_name() -> None:
    one = found({"query": TEXT, "operationName": "A", "variables": {"a": 1}, "extensions": {"b": 1}}, Transports())

    assert isinstance(one, Found)
    assert (TEXT, "A", b'{"a":1}', "") == (
        one.request.query,
        one.request.operation_name,
        one.request.variables,
        one.registers,
    )


def test_a_text_with_its_hash_asks_to_be_remembered() -> None:
    one = found({"query": TEXT, "extensions": by_hash(HASH)}, PERSISTED)

    assert isinstance(one, Found)
    assert HASH == one.registers


def test_a_hash_with_white_space_around_it_is_read_alike() -> None:
    body = b'{ "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "%b"}} }' % HASH.encode()
    members = strict_json(body)
    assert type(members) is dict

    assert TEXT == text_of(find_request(members, PERSISTED, knowing(TEXT)))


@pytest.mark.parametrize(
    ("read", "transports", "expected"),
    [
        ({"extensions": by_hash(HASH)}, PERSISTED, TEXT),
        ({"query": None, "extensions": by_hash(HASH)}, PERSISTED, TEXT),
        ({"documentId": f"sha256:{HASH}"}, PERSISTED, TEXT),
        ({"documentId": "item-1"}, DOCUMENTS, TEXT),
        ({"documentId": f"sha256:{HASH}"}, DOCUMENTS, TEXT),
        ({"query": TEXT, "documentId": None}, DOCUMENTS, TEXT),
        ({"query": "{ é }"}, DOCUMENTS, "{ é }"),
        ({"query": TEXT}, ONLY, TEXT),
        ({"extensions": by_hash(OTHER)}, PERSISTED, Reason.PERSISTED_QUERY_NOT_FOUND),
        ({"documentId": f"sha256:{OTHER}"}, PERSISTED, Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"documentId": "item-1"}, PERSISTED, Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"documentId": f"sha256:{OTHER}"}, DOCUMENTS, Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"documentId": "item-2"}, DOCUMENTS, Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"query": "{ other }"}, ONLY, Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"query": TEXT}, Transports(documents_only=True), Reason.GRAPHQL_DOCUMENT_UNKNOWN),
        ({"extensions": by_hash(HASH)}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": by_hash(OTHER)}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": 1, "extensions": by_hash(HASH)}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": by_hash(HASH, 2)}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": by_hash(HASH, True)}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": by_hash(HASH.upper())}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": by_hash(1)}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": {"persistedQuery": {"version": 1}}}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": {"persistedQuery": []}}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": []}, PERSISTED, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "documentId": "item-1"}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"documentId": "item-1", "extensions": by_hash(HASH)}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"documentId": 1}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"documentId": "item-1"}, Transports(), Reason.GRAPHQL_REQUEST_INVALID),
        ({"id": "item-1"}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "variables": []}, DOCUMENTS, Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": {"a": 1}}, Transports(verbatim=True), Reason.GRAPHQL_REQUEST_INVALID),
        ({"query": TEXT, "extensions": {}}, Transports(verbatim=True), TEXT),
    ],
)
def test_what_a_name_stands_for(read: object, transports: Transports, expected: str | Reason) -> None:
    assert expected == text_of(found(read, transports, knowing(TEXT)))


def test_what_others_sent_is_not_found_where_hashes_are_not_taken() -> None:
    assert Reason.GRAPHQL_DOCUMENT_UNKNOWN is text_of(
        found({"documentId": f"sha256:{OTHER}"}, DOCUMENTS, knowing("{ other }"))
    )


def test_the_store_forgets_the_least_recently_used() -> None:
    store = DocumentStore(max_entries=2)
    for text in ("a", "b"):
        store.remember(hash_of(text), text)
    store.find(hash_of("a"))
    store.remember(hash_of("c"), "c")

    assert (["a", None, "c"], 2) == ([store.find(hash_of(text)) for text in "abc"], len(store))


def test_the_store_is_bounded_by_bytes_and_holds_a_text_once() -> None:
    store = DocumentStore(max_bytes=2 * (250 + 4))
    for text in ("a", "a", "b", "a"):
        store.remember(hash_of(text), text)
    assert 2 == len(store)

    store.remember(hash_of("c"), "c")
    assert 2 == len(store)
    store.remember("long", "x" * 1000)
    assert 0 == len(store)


def test_the_store_shrinks_by_half() -> None:
    store = knowing(*"abcd")
    store.shrink()

    assert 2 == len(store)


def test_documents_say_how_many_they_are() -> None:
    assert 2 == len(Documents({"a": TEXT, "b": TEXT}))


@pytest.mark.parametrize(
    ("transports", "finds", "streams"),
    [
        (Transports(), False, False),
        (PERSISTED, True, False),
        (DOCUMENTS, True, False),
        (Transports(incremental=True), False, True),
        (Transports(subscriptions=True), False, True),
    ],
)
def test_what_a_route_takes(transports: Transports, finds: bool, streams: bool) -> None:
    assert (finds, streams) == (transports.finds_documents, transports.streams)
