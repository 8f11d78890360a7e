"""The facts of a request: one reading of its head, or a refusal.

In the order in which it happens: method, target, header fields, Host, framing. What comes out is what the policy
judges and what the upstream is sent; nothing later looks at the client's bytes again. Ambiguity is refused, never
repaired: a path that has two readings is 400, not normalised.
"""

from __future__ import annotations

import re
from typing import Final, final

from gateway.core.fields import FieldNames, Role
from gateway.core.reasons import Reason, Refusal
from gateway.core.target import canonical_target, parameter_names

METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
_METHODS: Final = frozenset(METHODS)

FIELD_LIMIT_BYTES: Final = 8192
FIELDS_LIMIT: Final = 100


@final
class RequestFacts:
    """One request as it is judged and as it will be sent."""

    __slots__ = (
        "accept",
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "expects_continue",
        "fields",
        "has_length",
        "host",
        "keeps_alive",
        "method",
        "path",
        "query",
        "query_credential",
        "target",
        "upgrades",
    )

    method: Final[bytes]
    target: Final[bytes]
    """Path and query, byte for byte as they came: already canonical."""
    path: Final[bytes]
    query: Final[bytes]
    host: Final[bytes]
    fields: Final[list[bytes]]
    """What is forwarded of the client's header: `name: `, value, CRLF, `name: `, … in the client's order."""
    authorization: Final[bytes | None]
    content_type: Final[bytes | None]
    content_encoding: Final[bytes | None]
    accept: Final[bytes]
    content_length: Final[int]
    """Bytes of the body; -1 when the body is chunked; 0 when there is none."""
    has_length: Final[bool]
    """The client wrote a Content-Length, so a body of no bytes is said upstream as well."""
    keeps_alive: Final[bool]
    expects_continue: Final[bool]
    query_credential: Final[bool]
    """The query has a parameter that looks like a credential (B32)."""
    upgrades: Final[bool]
    """It asks for a WebSocket."""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        path: bytes,
        query: bytes,
        host: bytes,
        fields: list[bytes],
        authorization: bytes | None,
        content_type: bytes | None,
        content_encoding: bytes | None,
        accept: bytes,
        content_length: int,
        has_length: bool,
        keeps_alive: bool,
        expects_continue: bool,
        query_credential: bool,
        upgrades: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.host = host
        self.fields = fields
        self.authorization = authorization
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.accept = accept
        self.content_length = content_length
        self.has_length = has_length
        self.keeps_alive = keeps_alive
        self.expects_continue = expects_continue
        self.query_credential = query_credential
        self.upgrades = upgrades


def with_authorization(facts: RequestFacts, authorization: bytes) -> RequestFacts:
    """The same request with a credential that came later."""
    return _changed(facts, facts.fields, authorization)


def with_fields(facts: RequestFacts, fields: list[bytes]) -> RequestFacts:
    """The same request with other fields to send."""
    return _changed(facts, fields, facts.authorization)


def _changed(facts: RequestFacts, fields: list[bytes], authorization: bytes | None) -> RequestFacts:
    return RequestFacts(
        facts.method,
        facts.target,
        facts.path,
        facts.query,
        facts.host,
        fields,
        authorization,
        facts.content_type,
        facts.content_encoding,
        facts.accept,
        facts.content_length,
        facts.has_length,
        facts.keeps_alive,
        facts.expects_continue,
        facts.query_credential,
        facts.upgrades,
    )


_CRLF: Final = b"\r\n"
_FORWARD: Final = int(Role.FORWARD)
_DROP: Final = int(Role.DROP)
_AUTHORIZATION: Final = int(Role.AUTHORIZATION)
_HOST: Final = int(Role.HOST)
_ACCEPT: Final = int(Role.ACCEPT)
_SINGLE: Final = int(Role.SINGLE)
_CONTENT_TYPE: Final = int(Role.CONTENT_TYPE)
_CONTENT_LENGTH: Final = int(Role.CONTENT_LENGTH)
_TRANSFER_ENCODING: Final = int(Role.TRANSFER_ENCODING)
_CONNECTION: Final = int(Role.CONNECTION)
_EXPECT: Final = int(Role.EXPECT)
_UPGRADE: Final = int(Role.UPGRADE)
_CONTENT_ENCODING: Final = int(Role.CONTENT_ENCODING)
_OVERRIDE: Final = int(Role.OVERRIDE)
_CREDENTIAL_PARAMETERS: Final = frozenset((b"access_token", b"api_key", b"token"))
_NAMES: Final = FieldNames()
_HOST_AND_PORT: Final = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_HALF_AN_UPGRADE: Final = Refusal(Reason.UPGRADE_REFUSED, "`Upgrade: websocket` without all that belongs to it")
_REPEATED: Final = {
    Role.AUTHORIZATION: Refusal(Reason.CREDENTIAL_REPEATED, "more than one `Authorization`"),
    Role.HOST: Refusal(Reason.HOST_INVALID, "more than one `Host`"),
    Role.CONTENT_LENGTH: Refusal(Reason.FRAMING_AMBIGUOUS, "more than one `Content-Length`"),
    Role.TRANSFER_ENCODING: Refusal(Reason.FRAMING_AMBIGUOUS, "more than one `Transfer-Encoding`"),
}


def facts_of(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], is_http_11: bool
) -> RequestFacts | Refusal:
    """The one reading of a request head. Values must already be free of control bytes other than HTAB.

    `headers` are (name, value) pairs in the order of the wire, names in any case.
    """
    if method not in _METHODS:
        return Refusal(Reason.METHOD_UNKNOWN, allowed_methods=tuple(known.decode() for known in METHODS))

    canonical = canonical_target(target)
    if not isinstance(canonical, tuple):
        return canonical
    path, query = canonical

    if len(headers) > FIELDS_LIMIT:
        return Refusal(Reason.HEAD_TOO_LARGE, f"more than {FIELDS_LIMIT} header fields")

    fields: list[bytes] = []
    authorization = host = content_type = content_encoding = length = coding = connection = expect = upgrade = None
    accept = b""
    singles: set[bytes] | None = None
    names = _NAMES
    for name, value in headers:
        if len(value) > FIELD_LIMIT_BYTES:
            return Refusal(Reason.HEAD_TOO_LARGE, f"a header field of more than {FIELD_LIMIT_BYTES} bytes")
        field = names[name]
        role = field.role
        if role == _FORWARD:
            fields += (field.start, value, _CRLF)
        elif role == _DROP:
            continue
        elif role == _AUTHORIZATION:
            if authorization is not None:
                return _REPEATED[Role.AUTHORIZATION]
            authorization = value
        elif role == _HOST:
            if host is not None:
                return _REPEATED[Role.HOST]
            host = value
        elif role == _ACCEPT:
            accept = value if not accept else accept + b", " + value
            fields += (field.start, value, _CRLF)
        elif role == _SINGLE:
            if singles is None:
                singles = set()
            if field.name in singles:
                return Refusal(Reason.HEADER_REFUSED, f"more than one `{field.name.decode()}`")
            singles.add(field.name)
            fields += (field.start, value, _CRLF)
        elif role == _CONTENT_TYPE:
            if content_type is not None:
                return Refusal(Reason.HEADER_REFUSED, "more than one `content-type`")
            content_type = value
        elif role == _CONTENT_LENGTH:
            if length is not None:
                return _REPEATED[Role.CONTENT_LENGTH]
            length = value
        elif role == _TRANSFER_ENCODING:
            if coding is not None:
                return _REPEATED[Role.TRANSFER_ENCODING]
            coding = value
        elif role == _CONNECTION:
            connection = value if connection is None else connection + b"," + value
        elif role == _EXPECT:
            if expect is not None:
                return Refusal(Reason.EXPECTATION_REFUSED, "more than one `Expect`")
            expect = value
        elif role == _UPGRADE:
            upgrade = value if upgrade is None else upgrade + b"," + value
        elif role == _CONTENT_ENCODING:
            if content_encoding is not None:
                return Refusal(Reason.HEADER_REFUSED, "more than one `content-encoding`")
            content_encoding = value
        elif role == _OVERRIDE:
            return Refusal(Reason.HEADER_REFUSED, f"`{field.name.decode()}`: the method is that of the request line")
        else:
            return Refusal(Reason.HEADER_REFUSED, "a header name that is no token, or has `_` in it")

    if host is None or (host not in _HOSTS and not host_is_valid(host)):
        return Refusal(Reason.HOST_INVALID, "no `Host`" if host is None else "`Host` is no host and port")

    content_length = 0
    if length is not None or coding is not None:
        framing = body_length(length, coding, is_http_11)
        if not isinstance(framing, int):
            return framing
        content_length = framing

    upgrades = False
    if upgrade is not None:
        if content_length != 0:
            return Refusal(Reason.FRAMING_AMBIGUOUS, "`Upgrade` together with a body")
        if b"websocket" in upgrade.lower():
            nominated = connection is not None and b"upgrade" in connection_options(connection)
            if upgrade.lower() != b"websocket" or not (
                nominated and is_http_11 and method == b"GET" and length is None
            ):
                return _HALF_AN_UPGRADE
            upgrades = True

    if expect is not None and expect.lower() != b"100-continue":
        return Refusal(Reason.EXPECTATION_REFUSED)

    keeps_alive = is_http_11
    if connection is not None and connection not in _KEEP_ALIVE:
        keeps_alive, fields = _without_nominated(connection, keeps_alive, fields)
    if content_type is not None:
        fields += (b"content-type: ", content_type, _CRLF)
    if content_encoding is not None:
        fields += (b"content-encoding: ", content_encoding, _CRLF)

    return RequestFacts(
        method,
        target,
        path,
        query,
        host,
        fields,
        authorization,
        content_type,
        content_encoding,
        accept,
        content_length,
        length is not None,
        keeps_alive,
        expect is not None,
        bool(query) and not _CREDENTIAL_PARAMETERS.isdisjoint(parameter_names(query)),
        upgrades,
    )


def value_of(fields: list[bytes], start: bytes) -> bytes | None:
    """The value of the forwarded field that begins with `start` (`name: `), or None; of several, the first."""
    for place in range(0, len(fields), 3):
        if fields[place] == start:
            return fields[place + 1]
    return None


def host_is_valid(host: bytes) -> bool:
    """Whether `host` is `uri-host [":" port]` (RFC 9110 section 7.2), without user info, lists or spaces (C9)."""
    match = _HOST_AND_PORT.fullmatch(host)
    if match is None or (match.group(1) is not None and int(match.group(1)) > 65535):
        return False
    if len(_HOSTS) < _HOSTS_LIMIT:
        _HOSTS.add(host)
    return True


_HOSTS_LIMIT: Final = 1024
_HOSTS: Final[set[bytes]] = set()
"""Hosts that were found valid: bounded, and what is not in it is only looked at again."""


def body_length(length: bytes | None, coding: bytes | None, is_http_11: bool) -> int | Refusal:
    """The body's length in bytes, or -1 when it is chunked. RFC 9112 section 6, without its repairs (A1-A9)."""
    if coding is not None:
        if length is not None:
            return Refusal(Reason.FRAMING_AMBIGUOUS, "`Transfer-Encoding` together with `Content-Length`")
        if not is_http_11:
            return Refusal(Reason.FRAMING_AMBIGUOUS, "`Transfer-Encoding` in HTTP/1.0")
        if coding.lower() != b"chunked":
            return Refusal(Reason.FRAMING_AMBIGUOUS, "a `Transfer-Encoding` other than `chunked`")
        return -1
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        return Refusal(Reason.FRAMING_AMBIGUOUS, "`Content-Length` is not 1 to 18 digits")
    return int(length)


_KEEP_ALIVE: Final = (b"keep-alive", b"Keep-Alive")
# A client may not talk us into dropping these by nominating them (C1-C3).
_NEVER_NOMINATED: Final = frozenset((b"cookie: ", b"origin: ", b"accept: ", b"user-agent: ", b"range: ", b"if-range: "))


def connection_options(connection: bytes) -> set[bytes]:
    """What `Connection` says, in lower case."""
    return {option.strip().lower() for option in connection.split(b",")}


def _without_nominated(connection: bytes, keeps_alive: bool, fields: list[bytes]) -> tuple[bool, list[bytes]]:
    """(keeps alive, fields) after `Connection`: options that name a field take it out (RFC 9110 section 7.6.1)."""
    options = connection_options(connection)
    if b"close" in options:
        keeps_alive = False
    nominated = {option + b": " for option in options} - _NEVER_NOMINATED
    if nominated.isdisjoint(fields[::3]):
        return keeps_alive, fields
    kept: list[bytes] = []
    for place in range(0, len(fields), 3):
        if fields[place] not in nominated:
            kept += fields[place : place + 3]
    return keeps_alive, kept
