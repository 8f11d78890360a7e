"""Envelopes: how several requests come in one, and in which form they go on."""

from __future__ import annotations

import pytest

from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.envelope import (
    PREFLIGHT_FIELDS,
    Envelope,
    accept_fault,
    is_upload,
    method_fault,
    read_body,
    read_url,
    upload_fault,
)
from gateway.core.graphql.persisted import DocumentStore
from gateway.core.graphql.transports import Transports, hash_of
from gateway.core.reasons import Reason, Refusal
from tests.core.graphql.test_multipart import GOOD, OPERATIONS
from tests.core.samples import facts

INVALID = Reason.GRAPHQL_REQUEST_INVALID
GET = Transports(get=True)
JSON = (b"Content-Type", b"application/json")
PARTS = (b"Content-Type", b"multipart/form-data; boundary=B")


def post(*headers: tuple[bytes, bytes], target: bytes = b"/gql") -> RequestFacts:
    return facts(*(headers or (JSON,)), method=b"POST", target=target)


def reason_of(one: object) -> Reason:
    assert isinstance(one, Refusal)
    return one.reason


def body_of(body: bytes, transports: Transports, came: RequestFacts | None = None) -> Envelope | Refusal:
    return read_body(came or post(), body, transports, DocumentStore())


def envelope_of(body: bytes, transports: Transports, came: RequestFacts | None = None) -> Envelope:
    read = body_of(body, transports, came)
    assert isinstance(read, Envelope)
    return read


@pytest.mark.parametrize(
    ("method", "transports", "allowed"),
    [
        (b"GET", None, ("POST",)),
        (b"GET", Transports(), ("POST",)),
        (b"HEAD", GET, ("GET", "POST")),
        (b"GET", GET, None),
    ],
)
def test_which_methods_a_route_takes(
    method: bytes, transports: Transports | None, allowed: tuple[str, ...] | None
) -> None:
    fault = method_fault(facts(method=method), transports)

    assert allowed == (None if fault is None else fault.allowed_methods)


def test_a_get_has_no_body() -> None:
    assert Reason.BODY_REFUSED is reason_of(method_fault(facts((b"Content-Length", b"1")), GET))


@pytest.mark.parametrize(
    ("accept", "transports", "is_refused"),
    [
        (b"", None, False),
        (b"*/*", None, False),
        (b"Application/*;q=0.1", None, False),
        (b"text/html, application/graphql-response+json", None, False),
        (b"text/html", None, True),
        (b"text/event-stream", None, True),
        (b"text/event-stream", Transports(), True),
        (b"Text/Event-Stream", Transports(subscriptions=True), False),
        (b"multipart/mixed", Transports(incremental=True), False),
        (b"text/html", Transports(incremental=True), True),
    ],
)
def test_who_accepts_nothing_that_could_come_is_refused(
    accept: bytes, transports: Transports | None, is_refused: bool
) -> None:
    assert is_refused is (accept_fault(accept, transports) is not None)


@pytest.mark.parametrize("start", PREFLIGHT_FIELDS)
def test_an_upload_needs_a_preflight_and_a_boundary(start: bytes) -> None:
    forced = (start[:-2], b"1")

    assert upload_fault(post(PARTS, forced)) is None
    assert Reason.PREFLIGHT_NOT_FORCED is reason_of(upload_fault(post(PARTS)))
    assert Reason.MEDIA_TYPE_UNSUPPORTED is reason_of(
        upload_fault(post((b"Content-Type", b"multipart/form-data"), forced))
    )
    assert Reason.MEDIA_TYPE_UNSUPPORTED is reason_of(upload_fault(facts(forced)))


def test_an_upload_says_so() -> None:
    assert (True, True, False, False) == tuple(
        is_upload(one) for one in (post(PARTS), post((b"Content-Type", b"Multipart/Form-Data ;x")), post(), facts())
    )


def test_a_get_goes_on_as_a_post() -> None:
    came = facts(
        (b"X-Mine", b"1"),
        (b"Content-Type", b"text/plain"),
        (b"Content-Encoding", b"identity"),
        target=b"/gql?query={a}",
    )
    envelope = read_url(came, GET, DocumentStore())
    assert isinstance(envelope, Envelope)
    head = envelope.head(came)
    assert head is not None

    assert ["{a}"] == [request.query for request in envelope.requests]
    assert (b"POST", b"/gql", b"") == (head.method, head.target, head.query)
    assert (b"1", b"application/json", None) == (
        value_of(head.fields, b"x-mine: "),
        value_of(head.fields, b"content-type: "),
        value_of(head.fields, b"content-encoding: "),
    )
    assert b"body" == envelope.body([b"body"])


def test_a_get_may_register_a_hash() -> None:
    digest = hash_of("{a}")
    target = b"/gql?query={a}&extensions={%%22persistedQuery%%22:{%%22version%%22:1,%%22sha256Hash%%22:%%22%b%%22}}"
    envelope = read_url(facts(target=target % digest.encode()), Transports(persisted=True), DocumentStore())
    assert isinstance(envelope, Envelope)

    assert [(digest, "{a}")] == envelope.registers


@pytest.mark.parametrize("query", [b"query={a}&query={b}", b"documentId=a"])
def test_a_get_with_a_fault_is_refused(query: bytes) -> None:
    assert INVALID is reason_of(read_url(facts(target=b"/gql?" + query), GET, DocumentStore()))


def test_one_request_goes_on_by_itself() -> None:
    envelope = envelope_of(b'{"query":"{a}"}', Transports(batch=2))

    assert 1 == len(envelope.requests)
    assert b"body" == envelope.body([b"body"])
    assert envelope.head(post()) is None


def test_a_batch_goes_on_as_a_list() -> None:
    digest = hash_of("{b}")
    body = b'[{"query":"{a}"},{"query":"{b}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"%b"}}}]'
    envelope = envelope_of(body % digest.encode(), Transports(batch=2, persisted=True))

    assert ["{a}", "{b}"] == [request.query for request in envelope.requests]
    assert [(digest, "{b}")] == envelope.registers
    assert b"[a,b]" == envelope.body([b"a", b"b"])


def test_verbatim_is_what_came() -> None:
    body = b' {"query" : "{a}"}'

    assert body == envelope_of(body, Transports(verbatim=True)).body([b"other"])


@pytest.mark.parametrize(
    ("body", "transports", "reason"),
    [
        (b"[]", Transports(batch=2), INVALID),
        (b'[{"query":"{a}"},{"query":"{a}"},{"query":"{a}"}]', Transports(batch=2), INVALID),
        (b'[[{"query":"{a}"}]]', Transports(batch=2), INVALID),
        (b'[{"query":"{a}"},{}]', Transports(batch=2), INVALID),
        (b'[{"query":"{a}"}]', Transports(), INVALID),
        (b"1", Transports(batch=2), INVALID),
        (b"{", Transports(batch=2), Reason.JSON_INVALID),
    ],
)
def test_a_body_of_another_shape_is_refused(body: bytes, transports: Transports, reason: Reason) -> None:
    assert reason is reason_of(body_of(body, transports))


def test_an_upload_goes_on_with_its_files() -> None:
    came = post(PARTS, target=b"/gql?a=b")
    envelope = envelope_of(GOOD, Transports(uploads=True), came)
    head = envelope.head(came)
    assert head is not None
    media_type = value_of(head.fields, b"content-type: ")
    assert media_type is not None
    sent = body_of(envelope.body([OPERATIONS]), Transports(uploads=True), post((b"Content-Type", media_type)))

    assert isinstance(sent, Envelope)
    assert (b"/gql?a=b", b"a=b", b"POST") == (head.target, head.query, head.method)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (GOOD + b"x", PARTS[1], Reason.BODY_MALFORMED),
        (GOOD, b"multipart/form-data", Reason.MEDIA_TYPE_UNSUPPORTED),
    ],
)
def test_an_upload_with_a_fault_is_refused(body: bytes, content_type: bytes, reason: Reason) -> None:
    assert reason is reason_of(body_of(body, Transports(uploads=True), post((b"Content-Type", content_type))))


def test_which_operations_come_in_which_way() -> None:
    one = envelope_of(b'{"query":"{a}"}', Transports(batch=1))
    batch = envelope_of(b'[{"query":"{a}"}]', Transports(batch=1))
    upload = envelope_of(GOOD, Transports(uploads=True), post(PARTS))
    in_url = read_url(facts(target=b"/gql?query={a}"), GET, DocumentStore())
    assert isinstance(in_url, Envelope)
    events = b"application/json, Text/event-stream"

    def reason(envelope: Envelope, operation: str, accept: bytes = events) -> Reason | None:
        fault = envelope.operation_fault(operation, accept)
        return None if fault is None else fault.reason

    for operation in ("query", "mutation"):
        assert [None] * 3 == [reason(envelope, operation, b"") for envelope in (one, batch, upload)]
    assert reason(in_url, "query") is None
    assert Reason.METHOD_NOT_ALLOWED is reason(in_url, "mutation")
    assert Reason.METHOD_NOT_ALLOWED is reason(in_url, "subscription")
    assert reason(one, "subscription") is None
    assert reason(one, "subscription", b"multipart/mixed") is None
    assert Reason.NOT_ACCEPTABLE is reason(one, "subscription", b"application/json")
    assert Reason.GRAPHQL_OPERATION_UNKNOWN is reason(batch, "subscription")
    assert Reason.GRAPHQL_OPERATION_UNKNOWN is reason(upload, "subscription")
