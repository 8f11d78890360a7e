"""What a refused client is told: status, headers and body, in the shape that its route speaks.

Every answer names its reason and its reference id, and nothing that the client sent, the upstream's address or the
operator's detail. Every 401 carries a challenge (RFC 6750 section 3), none may be cached (C31).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, final

import msgspec

from gateway.core.policy.cors import Lines
from gateway.core.policy.routes import ErrorShape, Route, StatusProfile
from gateway.core.reasons import CannotDecide, Reason, Refusal

REALM: Final = "bearergate"

_GRAPHQL_REASONS: Final = frozenset(
    (
        Reason.JSON_INVALID,
        Reason.GRAPHQL_REQUEST_INVALID,
        Reason.GRAPHQL_DOCUMENT_INVALID,
        Reason.GRAPHQL_OPERATION_UNKNOWN,
        Reason.GRAPHQL_SCHEMA_VIOLATED,
        Reason.GRAPHQL_LIMIT_EXCEEDED,
        Reason.GRAPHQL_DOCUMENT_UNKNOWN,
    )
)
NOT_FOUND_MESSAGE: Final = "PersistedQueryNotFound"
"""The words by which Apollo's clients know that they are to send the text as well."""


def public_code(reason: Reason) -> str:
    """What a client is told of the reason. All that is wrong with a token is one thing to who holds it: whether it
    is unknown, revoked or expired stands in the log, under the reference id.
    """
    if reason.oauth_error == "invalid_token" and reason is not Reason.TOKEN_PLACEHOLDER:
        return "token_invalid"
    if reason is Reason.SUBJECT_MISMATCH:
        return Reason.ROUTE_UNKNOWN.label
    return reason.label


def told_route(route: Route | None, reason: Reason) -> Route | None:
    """The route as far as the answer may show it: what is another user's looks like nothing (F31)."""
    return None if reason is Reason.SUBJECT_MISMATCH else route


@final
class Answer:
    """An answer that we make ourselves. `fields` are (name, value) pairs without framing."""

    __slots__ = ("body", "closes", "fields", "status")

    status: Final[int]
    fields: Final[Lines]
    body: Final[bytes]
    closes: Final[bool]

    def __init__(self, status: int, fields: Lines, body: bytes, closes: bool) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.closes = closes


def answer_to(
    because: Refusal | CannotDecide,
    *,
    ref: str,
    shape: ErrorShape = ErrorShape.PROBLEM,
    profile: StatusProfile | None = None,
    accept: bytes = b"",
) -> Answer:
    """The answer to a request that did not pass; `ref` is its reference id, `accept` the client's own `Accept`."""
    reason = because.reason
    status = _status(reason, profile if shape is ErrorShape.GRAPHQL else None)
    fields: list[tuple[bytes, bytes]] = []

    missing: tuple[str, ...] = ()
    coordinates: tuple[str, ...] = ()
    if isinstance(because, Refusal):
        missing, coordinates = because.missing_scopes, because.coordinates
        if because.allowed_methods:
            fields.append((b"allow", ", ".join(because.allowed_methods).encode()))
    elif status == 503:
        fields.append((b"retry-after", b"%d" % because.retry_after_seconds))

    if status == 401 or reason.oauth_error:
        fields.append((b"www-authenticate", challenge(reason, missing).encode()))

    sentence = reason.sentence
    if missing:
        sentence = f"{sentence}: {', '.join(missing)}"
    if shape is ErrorShape.PLATFORM:
        media_type = b"application/json"
        body: dict[str, object] = {"message": sentence, "errorCode": public_code(reason).upper(), "ref": ref}
    elif shape is ErrorShape.GRAPHQL:
        wants_new = profile is not StatusProfile.LEGACY_200 and b"application/graphql-response+json" in accept
        media_type = b"application/graphql-response+json" if wants_new else b"application/json"
        if reason is Reason.PERSISTED_QUERY_NOT_FOUND:
            sentence = NOT_FOUND_MESSAGE
        extensions: dict[str, object] = {"code": public_code(reason).upper(), "ref": ref}
        if missing:
            extensions["missingScopes"] = missing
        if coordinates:
            extensions["coordinates"] = coordinates
        body = {"errors": [{"message": sentence, "extensions": extensions}]}
    else:
        media_type = b"application/problem+json"
        body = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": sentence,
            "instance": f"urn:uuid:{ref}",
            "reason": public_code(reason),
            "ref": ref,
        }
        if missing:
            body["missing_scopes"] = missing
    fields += (
        (b"content-type", media_type),
        (b"cache-control", b"no-store"),
        (b"vary", b"authorization"),
        (b"x-gateway-request-id", ref.encode()),
    )
    return Answer(status, tuple(fields), msgspec.json.encode(body), reason.closes)


def preflight_answer(lines: Lines, *, ref: str) -> Answer:
    """The answer to a CORS preflight that is granted."""
    return Answer(204, (*lines, (b"cache-control", b"no-store"), (b"x-gateway-request-id", ref.encode())), b"", False)


def challenge(reason: Reason, missing_scopes: tuple[str, ...] = ()) -> str:
    """The `WWW-Authenticate` value. Without a credential it carries no error code (RFC 6750 section 3.1)."""
    value = f'Bearer realm="{REALM}"'
    if missing_scopes:
        value += f', scope="{" ".join(missing_scopes)}"'
    if reason.oauth_error:
        value += f', error="{reason.oauth_error}", error_description="{reason.sentence}"'
    return value


def _status(reason: Reason, profile: StatusProfile | None) -> int:
    """GraphQL over HTTP moved some statuses in April 2026; older clients expect 400, and the oldest 200."""
    if profile is not None and reason is Reason.PERSISTED_QUERY_NOT_FOUND:
        return 200  # a question, and no fault: clients that take it for one would not ask again
    if profile is None or profile is StatusProfile.DRAFT_2026 or reason not in _GRAPHQL_REASONS:
        return reason.status
    return 200 if profile is StatusProfile.LEGACY_200 else 400
