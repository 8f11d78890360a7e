"""Why a request did not pass: the closed list of reasons, and the two values that carry one.

A `Reason` fixes everything that clients and operators may learn from its name alone: the HTTP status, the
public sentence, the RFC 6750 error code and whether the connection may go on. Nothing a client sent is in it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class Verdict(Enum):
    """How one request ended, as the metric label `outcome` says it."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    CANNOT_DECIDE = "cannot_decide"
    UPSTREAM_FAILED = "upstream_failed"
    CLIENT_GONE = "client_gone"
    PREFLIGHT = "preflight"
    """A CORS preflight that was answered here: nobody was asked who they are, and nothing was forwarded."""


class Reason(Enum):
    """One line per reason: label, HTTP status, RFC 6750 error code or "", closes the connection, public sentence."""

    # -- the wire: framing that two hops could read differently ends the connection (RFC 9112 section 11.2)
    REQUEST_MALFORMED = ("request_malformed", 400, "", True, "the request is not well-formed HTTP/1.1")
    FRAMING_AMBIGUOUS = ("framing_ambiguous", 400, "", True, "the request's body length is ambiguous")
    HOST_INVALID = ("host_invalid", 400, "", True, "the request needs exactly one valid `Host`")
    HEADER_REFUSED = ("header_refused", 400, "", True, "a header of the request is not accepted")
    VERSION_UNSUPPORTED = ("version_unsupported", 505, "", True, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    HEAD_TOO_LARGE = ("head_too_large", 431, "", True, "the request's headers are too large")
    TARGET_TOO_LONG = ("target_too_long", 414, "", True, "the request target is too long")
    TARGET_REFUSED = ("target_refused", 400, "", True, "the request target is not in canonical form")
    METHOD_UNKNOWN = ("method_unknown", 405, "", True, "this method is not served here")
    EXPECTATION_REFUSED = ("expectation_refused", 417, "", True, "only `Expect: 100-continue` is understood")
    UPGRADE_REFUSED = ("upgrade_refused", 403, "", True, "protocol upgrades are not allowed here")
    HEAD_TIMEOUT = ("head_timeout", 408, "", True, "the request's head did not arrive in time")
    BODY_TIMEOUT = ("body_timeout", 408, "", True, "the request's body did not arrive in time")
    BODY_REFUSED = ("body_refused", 400, "", True, "this method takes no body here")
    BODY_TOO_LARGE = ("body_too_large", 413, "", True, "the request's body is too large")
    BODY_MALFORMED = ("body_malformed", 400, "", True, "the request's body is not well-formed")

    # -- the credential (RFC 6750 section 3.1)
    CREDENTIAL_MISSING = ("credential_missing", 401, "", False, "a Bearer token is needed")
    CREDENTIAL_SCHEME = ("credential_scheme", 401, "", False, "only the Bearer scheme is accepted")
    CREDENTIAL_IN_QUERY = ("credential_in_query", 401, "", False, "a token in the query string is not accepted")
    CREDENTIAL_EMPTY = ("credential_empty", 400, "invalid_request", False, "the Bearer token is empty")
    CREDENTIAL_REPEATED = (
        "credential_repeated",
        400,
        "invalid_request",
        True,
        "the request carries more than one credential",
    )
    TOKEN_MALFORMED = ("token_malformed", 401, "invalid_token", False, "the token is not valid")
    TOKEN_PLACEHOLDER = ("token_placeholder", 401, "invalid_token", False, "the token is a placeholder, not a token")
    TOKEN_KIND_UNSUPPORTED = ("token_kind_unsupported", 401, "invalid_token", False, "the token is not valid")
    TOKEN_UNKNOWN = ("token_unknown", 401, "invalid_token", False, "the token is not valid")
    TOKEN_REVOKED = ("token_revoked", 401, "invalid_token", False, "the token is not valid")
    TOKEN_EXPIRED = ("token_expired", 401, "invalid_token", False, "the token is not valid")
    TOKEN_NOT_YET_VALID = ("token_not_yet_valid", 401, "invalid_token", False, "the token is not valid")
    APP_INACTIVE = ("app_inactive", 401, "invalid_token", False, "the token is not valid")

    # -- the policy
    HOST_UNKNOWN = ("host_unknown", 421, "", False, "this host is not served here")
    CORS_REFUSED = ("cors_refused", 403, "", False, "this may not be called from that origin")
    ROUTE_UNKNOWN = ("route_unknown", 404, "", False, "there is nothing here")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, "", False, "this method is not allowed here")
    KIND_NOT_ALLOWED = ("kind_not_allowed", 403, "insufficient_scope", False, "this kind of token may not do this")
    SCOPE_MISSING = ("scope_missing", 403, "insufficient_scope", False, "the token lacks a scope that this needs")
    # Another user's data: to this user there is nothing, unless the policy says that it may be told (F31).
    SUBJECT_MISMATCH = ("subject_mismatch", 404, "", False, "there is nothing here")
    SUBJECT_FORBIDDEN = ("subject_forbidden", 403, "", False, "this belongs to another user")
    APP_FORBIDDEN = ("app_forbidden", 403, "", False, "this belongs to another App")

    # -- GraphQL over HTTP
    MEDIA_TYPE_UNSUPPORTED = ("media_type_unsupported", 415, "", True, "the body must be `application/json` in UTF-8")
    NOT_ACCEPTABLE = ("not_acceptable", 406, "", False, "the client accepts no form that the answer could have")
    PREFLIGHT_NOT_FORCED = (
        "preflight_not_forced",
        400,
        "",
        True,
        "an upload needs a header such as `GraphQL-Require-Preflight`",
    )
    JSON_INVALID = ("json_invalid", 400, "", False, "the body is not strict JSON")
    GRAPHQL_REQUEST_INVALID = ("graphql_request_invalid", 422, "", False, "the body is not a GraphQL request")
    GRAPHQL_DOCUMENT_INVALID = ("graphql_document_invalid", 400, "", False, "the GraphQL document does not parse")
    GRAPHQL_OPERATION_UNKNOWN = ("graphql_operation_unknown", 422, "", False, "the operation cannot be chosen")
    GRAPHQL_SCHEMA_VIOLATED = (
        "graphql_schema_violated",
        422,
        "",
        False,
        "the GraphQL document does not fit the schema",
    )
    GRAPHQL_DOCUMENT_UNKNOWN = ("graphql_document_unknown", 422, "", False, "the document is not known here")
    # Apollo's clients then send the text with its hash: to them it is a 200, whatever the profile.
    PERSISTED_QUERY_NOT_FOUND = ("persisted_query_not_found", 404, "", False, "no text of that hash was sent here yet")
    GRAPHQL_LIMIT_EXCEEDED = ("graphql_limit_exceeded", 400, "", False, "the GraphQL document exceeds a limit")
    FIELD_NOT_ALLOWED = ("field_not_allowed", 403, "insufficient_scope", False, "a selected field is not allowed")

    # -- an open WebSocket: it is ended by a close frame with this sentence, and its status stays 101
    WEBSOCKET_MALFORMED = ("websocket_malformed", 400, "", True, "the frames of the WebSocket are not well-formed")
    WEBSOCKET_TOO_LARGE = ("websocket_too_large", 413, "", True, "a message of the WebSocket is too large")
    GRAPHQL_MESSAGE_INVALID = (
        "graphql_message_invalid",
        400,
        "",
        True,
        "a message of the GraphQL WebSocket is not of its protocol",
    )
    WEBSOCKET_FLOOD = ("websocket_flood", 429, "", True, "too many frames come over the WebSocket")

    # -- what could not be decided: 503 (500 for a fault of ours), never 401 or 403, and nothing is forwarded
    STORE_UNAVAILABLE = ("store_unavailable", 503, "", False, "the request cannot be decided now")
    ISSUER_UNAVAILABLE = ("issuer_unavailable", 503, "", False, "the request cannot be decided now")
    OVERLOADED = ("overloaded", 503, "", False, "too many requests are in progress")
    INTERNAL_FAULT = ("internal_fault", 500, "", True, "the gateway failed")

    # -- allowed, and then the upstream failed
    UPSTREAM_UNREACHABLE = ("upstream_unreachable", 502, "", False, "the upstream cannot be reached")
    UPSTREAM_INVALID = ("upstream_invalid", 502, "", False, "the upstream's answer is not well-formed HTTP/1.1")
    UPSTREAM_CLOSED = ("upstream_closed", 502, "", False, "the upstream closed the connection before it answered")
    UPSTREAM_TIMEOUT = ("upstream_timeout", 504, "", False, "the upstream did not answer in time")
    UPSTREAM_TRUNCATED = ("upstream_truncated", 502, "", True, "the upstream's answer broke off")

    def __init__(self, label: str, status: int, oauth_error: str, closes: bool, sentence: str) -> None:
        self.label = label
        self.status = status
        self.oauth_error = oauth_error
        self.closes = closes
        self.sentence = sentence


CANNOT_DECIDE_REASONS: Final = (
    Reason.STORE_UNAVAILABLE,
    Reason.ISSUER_UNAVAILABLE,
    Reason.OVERLOADED,
    Reason.INTERNAL_FAULT,
)


class Refusal(msgspec.Struct, frozen=True):
    """The request may not pass. `detail` is for operators: it never quotes a token, and clients never see it."""

    reason: Reason
    detail: str = ""
    missing_scopes: tuple[str, ...] = ()
    allowed_methods: tuple[str, ...] = ()
    coordinates: tuple[str, ...] = ()
    """GraphQL coordinates (`Query.user`) that were not allowed, for the answer's `coordinates` member."""


class CannotDecide(msgspec.Struct, frozen=True):
    """The request could not be judged. It is answered 503 (500 for a fault of ours) and nothing is forwarded."""

    reason: Reason
    detail: str = ""
    retry_after_seconds: int = 1
