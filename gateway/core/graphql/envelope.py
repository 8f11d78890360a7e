"""What came in one HTTP request: one GraphQL request or several, however they were wrapped, each to be judged alone.

Only routes whose policy takes more than a POST of one request in JSON come here. What an envelope holds is read by the
one strict reader, and is sent as a POST in JSON that was written anew, unless the route forwards verbatim.
"""

from __future__ import annotations

from typing import Final, final

from gateway.core.facts import RequestFacts, value_of
from gateway.core.graphql.multipart import MEDIA_TYPE, Upload, boundary_in, read_upload
from gateway.core.graphql.persisted import DocumentStore, find_request
from gateway.core.graphql.request import GraphQLRequest, invalid, not_object, strict_json
from gateway.core.graphql.transports import Transports
from gateway.core.graphql.url import members_in
from gateway.core.reasons import Reason, Refusal

JSON: Final = b"application/json"
PREFLIGHT_FIELDS: Final = (
    b"graphql-require-preflight: ",
    b"apollo-require-preflight: ",
    b"x-apollo-operation-name: ",
)
"""No page sends one of these to another origin before that origin was asked whether it may."""

_EVENTS: Final = (b"text/event-stream", b"multipart/mixed")
_ANSWERS: Final = (JSON, b"application/graphql-response+json", b"application/*", b"*/*")

_BODY: Final = Refusal(Reason.BODY_REFUSED, "a GET with a body")
_NOT_A_QUERY: Final = Refusal(
    Reason.METHOD_NOT_ALLOWED, "an operation other than a query by GET", allowed_methods=("POST",)
)
_ONLY_POST: Final = Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=("POST",))
_ONLY_GET_AND_POST: Final = Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=("GET", "POST"))
_NOT_FORCED: Final = Refusal(Reason.PREFLIGHT_NOT_FORCED)
_NOT_ACCEPTABLE: Final = Refusal(Reason.NOT_ACCEPTABLE, "`Accept` has neither JSON nor what the route streams")
_NO_STREAM: Final = Refusal(Reason.NOT_ACCEPTABLE, "a subscription, and `Accept` has no stream of events")
_EMPTY_BATCH: Final = invalid("a batch of nothing")
_LONG_BATCH: Final = invalid("a batch of more requests than the route takes")
_SUBSCRIPTION_BESIDE: Final = Refusal(Reason.GRAPHQL_OPERATION_UNKNOWN, "a subscription in a batch or beside files")


@final
class Envelope:
    """The requests in one HTTP request, and how they go on."""

    __slots__ = ("_is_batch", "_is_get", "_upload", "registers", "requests", "sent")

    requests: Final[list[GraphQLRequest]]
    registers: Final[list[tuple[str, str]]]
    """Hash and text of the documents that the caller asks to be remembered, once it may run them."""
    sent: Final[bytes | None]
    """The bytes that go on as they came; None: they are written anew."""
    _is_batch: Final[bool]
    _is_get: Final[bool]
    _upload: Final[Upload | None]

    def __init__(
        self,
        requests: list[GraphQLRequest],
        registers: list[tuple[str, str]],
        *,
        sent: bytes | None = None,
        is_batch: bool = False,
        is_get: bool = False,
        upload: Upload | None = None,
    ) -> None:
        self.requests = requests
        self.registers = registers
        self.sent = sent
        self._is_batch = is_batch
        self._is_get = is_get
        self._upload = upload

    def operation_fault(self, operation: str, accept: bytes) -> Refusal | None:
        """Why an operation of this kind (`query`, `mutation`, `subscription`) may not come in this way."""
        if self._is_get and operation != "query":
            # A link or a page's image may not change anything (G23).
            return _NOT_A_QUERY
        if operation == "subscription":
            if self._is_batch or self._upload is not None:
                return _SUBSCRIPTION_BESIDE
            if not any(media_type in accept.lower() for media_type in _EVENTS):
                return _NO_STREAM
        return None

    def body(self, bodies: list[bytes]) -> bytes:
        """What the upstream is sent, from the canonical body of each request."""
        if self.sent is not None:
            return self.sent
        if self._is_batch:
            return b"[%b]" % b",".join(bodies)
        return bodies[0] if self._upload is None else self._upload.written(bodies[0])

    def head(self, facts: RequestFacts) -> RequestFacts | None:
        """The head that the upstream is sent, where it is another than came."""
        if self._upload is not None:
            return _as_post(facts, facts.target, b"%b; boundary=%b" % (MEDIA_TYPE, self._upload.boundary))
        return _as_post(facts, facts.path, JSON) if self._is_get else None


def _as_post(facts: RequestFacts, target: bytes, media_type: bytes) -> RequestFacts:
    fields: list[bytes] = []
    for place in range(0, len(facts.fields), 3):
        if facts.fields[place] not in (b"content-type: ", b"content-encoding: "):
            fields += facts.fields[place : place + 3]
    fields += (b"content-type: ", media_type, b"\r\n")
    return RequestFacts(
        b"POST",
        target,
        facts.path,
        target.partition(b"?")[2],
        facts.host,
        fields,
        facts.authorization,
        media_type,
        None,
        facts.accept,
        facts.content_length,
        facts.has_length,
        facts.keeps_alive,
        facts.expects_continue,
        facts.query_credential,
        facts.upgrades,
    )


# -- what the head says


def method_fault(facts: RequestFacts, transports: Transports | None) -> Refusal | None:
    """Why a request of another method than POST may not come to a GraphQL route (G24, G52)."""
    if transports is None or not transports.get:
        return _ONLY_POST
    if facts.method != b"GET":
        return _ONLY_GET_AND_POST
    return _BODY if facts.content_length != 0 else None


def is_upload(facts: RequestFacts) -> bool:
    """Whether the body says that it has files in it."""
    return (facts.content_type or b"").partition(b";")[0].strip().lower() == MEDIA_TYPE


def upload_fault(facts: RequestFacts) -> Refusal | None:
    """Why the head of an upload does not do: pages may send this media type to anyone, unasked."""
    if not any(value_of(facts.fields, field) for field in PREFLIGHT_FIELDS):
        return _NOT_FORCED
    boundary = boundary_in(facts.content_type or b"")
    return boundary if isinstance(boundary, Refusal) else None


def accept_fault(accept: bytes, transports: Transports | None) -> Refusal | None:
    """Why no answer could be sent that the client takes (GraphQL over HTTP, section 6.2)."""
    lower = accept.lower()
    if not accept or any(media_type in lower for media_type in _ANSWERS):
        return None
    if transports is not None and transports.streams and any(media_type in lower for media_type in _EVENTS):
        return None
    return _NOT_ACCEPTABLE


# -- what stands in it


def read_url(facts: RequestFacts, transports: Transports, store: DocumentStore) -> Envelope | Refusal:
    """The request of a GET."""
    members = members_in(facts.query)
    if isinstance(members, Refusal):
        return members
    found = find_request(members, transports, store)
    if isinstance(found, Refusal):
        return found
    registers = [(found.registers, found.request.query)] if found.registers else []
    return Envelope([found.request], registers, is_get=True)


def read_body(facts: RequestFacts, body: bytes, transports: Transports, store: DocumentStore) -> Envelope | Refusal:
    """The requests of a POST whose head had no fault."""
    upload: Upload | None = None
    if is_upload(facts):
        boundary = boundary_in(facts.content_type or b"")
        read_parts = boundary if isinstance(boundary, Refusal) else read_upload(body, boundary)
        if isinstance(read_parts, Refusal):
            return read_parts
        upload = read_parts
        read: object = upload.operations
    else:
        read = strict_json(body)

    is_batch = type(read) is list and transports.batch > 0
    items: list[object] = [read]
    if type(read) is list and is_batch:
        items = read
        if not items:
            return _EMPTY_BATCH
        if len(items) > transports.batch:
            return _LONG_BATCH

    requests: list[GraphQLRequest] = []
    registers: list[tuple[str, str]] = []
    for item in items:
        if type(item) is not dict:
            return not_object(item)
        found = find_request(item, transports, store)
        if isinstance(found, Refusal):
            return found
        requests.append(found.request)
        if found.registers:
            registers.append((found.registers, found.request.query))
    sent = body if transports.verbatim else None
    return Envelope(requests, registers, sent=sent, is_batch=is_batch, upload=upload)
