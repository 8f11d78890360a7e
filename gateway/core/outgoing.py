"""Header rules both ways: the upstream's request is built from nothing, and its answer is passed on cleaned.

The order of writing is the rule: first what the client sent and may pass, then our framing, then where the client is,
then who it is. What stands last was written by us, and nothing of the client's has its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, final

from gateway.core.facts import RequestFacts
from gateway.core.fields import has_control_bytes
from gateway.core.principal import Principal
from gateway.core.scopes import ScopeRegistry

VIA: Final = b"1.1 bearergate"

IDENTITY_FIELDS: Final = (
    b"x-gateway-kind",
    b"x-gateway-key-id",
    b"x-gateway-app-id",
    b"x-gateway-user-id",
    b"x-gateway-scopes",
    b"x-gateway-request-id",
)
"""Sent on every request, in this order, empty where there is nothing to say: an upstream never sees a client's own."""


class IdentityLines:
    """The identity header lines of a principal, written once for each and remembered. Bounded."""

    __slots__ = ("_lines", "_nobody", "_of_users", "_scopes")
    LIMIT: Final = 65536
    USERS_LIMIT: Final = 8192
    """Users are many, and each comes and goes: they have places of their own, and take none from keys."""

    def __init__(self, scopes: ScopeRegistry) -> None:
        self._scopes = scopes
        self._nobody = _identity_lines(b"", b"", b"", b"", b"")
        # By key id, with the principal that they were written for: a string's hash is kept, a struct's is not.
        self._lines: dict[str, tuple[Principal, bytes]] = {}
        # By user id, and two principals of one user id share a place: which of them it is, is asked each time.
        self._of_users: dict[str, tuple[Principal, bytes]] = {}

    def of(self, principal: Principal | None) -> bytes:
        """All identity lines but the request id, whose value must follow at once."""
        if principal is None:
            return self._nobody
        known = self._lines.get(principal.key_id)
        if known is not None and known[0] is principal:
            return known[1]
        if principal.user_id:
            return self._of_user(principal)
        lines = self._written(principal)
        if len(self._lines) >= self.LIMIT:
            self._lines.clear()
        self._lines[principal.key_id] = (principal, lines)
        return lines

    def _of_user(self, principal: Principal) -> bytes:
        known = self._of_users.get(principal.user_id)
        if known is not None and known[0] is principal:
            return known[1]
        lines = self._written(principal)
        if len(self._of_users) >= self.USERS_LIMIT:
            self._of_users.clear()
        self._of_users[principal.user_id] = (principal, lines)
        return lines

    def _written(self, principal: Principal) -> bytes:
        user_id = principal.user_id.encode()
        if has_control_bytes([(b"", user_id)]):
            # The verifier lets no such id through. If it ever does, it ends here, and not in the upstream's head (F26).
            raise ValueError("a user id with a control byte in it")
        return _identity_lines(
            principal.kind.value.encode(),
            principal.key_id.encode(),
            principal.app_id.encode(),
            user_id,
            # A user token has no scopes, whatever its issuer wrote into it.
            b"" if user_id else " ".join(self._scopes.canonical(principal.scopes)).encode(),
        )


def _identity_lines(kind: bytes, key_id: bytes, app_id: bytes, user_id: bytes, scopes: bytes) -> bytes:
    values = (kind, key_id, app_id, user_id, scopes)
    lines = b"".join(b"%s: %s\r\n" % line for line in zip(IDENTITY_FIELDS, values, strict=False))
    return lines + b"%s: " % IDENTITY_FIELDS[-1]


def peer_lines(address: bytes, scheme: bytes) -> bytes:
    """The forwarded header lines of one client connection: the peer is the client, whatever it says of others (C7)."""
    return b"x-forwarded-for: %s\r\nx-forwarded-proto: %s\r\nvia: %s\r\nx-forwarded-host: " % (address, scheme, VIA)


def request_head(
    facts: RequestFacts,
    authority: bytes,
    peer: bytes,
    identity: bytes,
    ref: bytes,
    body: bytes | None = None,
    assertion: bytes = b"",
) -> bytes:
    """The head of the upstream request. `authority` comes from configuration, never from the client (C12).

    `peer` is from `peer_lines`, `identity` from `IdentityLines.of`; `body` is the canonical body where one was judged,
    and `assertion` is from `Assertions.line` where the route asks for it.
    """
    fields = facts.fields
    if body is not None:
        framing = b"content-length: %d\r\n" % len(body)
        if b"range: " in fields or b"if-range: " in fields:
            fields = without_fields(fields, _PARTIAL)
    elif facts.content_length > 0 or facts.has_length:
        framing = (
            b"content-length: %d\r\n" % facts.content_length
            if facts.method in _WITH_CONTENT or facts.content_length
            else b""
        )
    elif facts.content_length < 0:
        framing = b"transfer-encoding: chunked\r\n"
    else:
        framing = _UPGRADE if facts.upgrades else b""
    return b"".join(
        (
            facts.method,
            b" ",
            facts.target,
            b" HTTP/1.1\r\nhost: ",
            authority,
            b"\r\n",
            *fields,
            framing,
            peer,
            facts.host,
            b"\r\n",
            identity,
            ref,
            assertion,
            b"\r\n\r\n",
        )
    )


def without_fields(fields: list[bytes], starts: frozenset[bytes]) -> list[bytes]:
    """`fields` without those whose `name: ` is among `starts`."""
    return [piece for at in range(0, len(fields), 3) if fields[at] not in starts for piece in fields[at : at + 3]]


_PARTIAL: Final = frozenset((b"range: ", b"if-range: "))
"""A part of a GraphQL answer is no answer (C21)."""
_UPGRADE: Final = b"connection: upgrade\r\nupgrade: websocket\r\n"
_WITH_CONTENT: Final = frozenset((b"POST", b"PUT", b"PATCH"))


class ResponseRole(IntEnum):
    """What becomes of a response header field."""

    FORWARD = 0
    DROP = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    CACHE_CONTROL = 5
    CONTENT_TYPE = 6


_RESPONSE_ROLES: Final[dict[bytes, ResponseRole]] = {
    b"content-length": ResponseRole.CONTENT_LENGTH,
    b"transfer-encoding": ResponseRole.TRANSFER_ENCODING,
    b"connection": ResponseRole.CONNECTION,
    b"cache-control": ResponseRole.CACHE_CONTROL,
    b"keep-alive": ResponseRole.DROP,
    b"proxy-authenticate": ResponseRole.DROP,
    b"proxy-authentication-info": ResponseRole.DROP,
    b"proxy-connection": ResponseRole.DROP,
    b"te": ResponseRole.DROP,
    b"trailer": ResponseRole.DROP,
    b"upgrade": ResponseRole.DROP,
    # Banners of what stands behind us (C33).
    b"server": ResponseRole.DROP,
    b"x-powered-by": ResponseRole.DROP,
}


@dataclass(frozen=True, slots=True)
class ResponseField:
    """A response header field name as it was classified once. `start` is `name: `, in the upstream's spelling."""

    name: bytes
    start: bytes
    role: int


_PUNCTUATION: Final = re.compile(rb"[^0-9a-z]")


class ResponseFieldNames(dict[bytes, ResponseField]):
    """Classified response header names, remembered and bounded."""

    __slots__ = ()
    LIMIT: Final = 1024

    def __missing__(self, name: bytes) -> ResponseField:
        lower = name.lower()
        role = _RESPONSE_ROLES.get(lower, ResponseRole.FORWARD)
        if _PUNCTUATION.sub(b"-", lower).startswith(b"x-gateway-"):
            role = ResponseRole.DROP  # a client may trust these as ours (C26)
        field = ResponseField(lower, name + b": ", int(role))
        if len(name) <= 64:
            if len(self) >= self.LIMIT:
                self.clear()
            self[name] = field
        return field


@final
class ResponseFacts:
    """An upstream's answer as it will be passed on. `fields` are `name: `, value, CRLF, … in the upstream's order."""

    __slots__ = ("content_length", "fields", "has_length", "keeps_alive", "says_cache_control", "status")

    status: Final[int]
    fields: Final[list[bytes]]
    content_length: Final[int]
    """Bytes; -1: chunked; -2: until the connection ends; 0 also where the status or method allows no body."""
    has_length: Final[bool]
    keeps_alive: Final[bool]
    says_cache_control: Final[bool]

    def __init__(
        self,
        status: int,
        fields: list[bytes],
        content_length: int,
        has_length: bool,
        keeps_alive: bool,
        says_cache_control: bool,
    ) -> None:
        self.status = status
        self.fields = fields
        self.content_length = content_length
        self.has_length = has_length
        self.keeps_alive = keeps_alive
        self.says_cache_control = says_cache_control


_NAMES: Final = ResponseFieldNames()
_FORWARD: Final = int(ResponseRole.FORWARD)
_DROP: Final = int(ResponseRole.DROP)
_CONTENT_LENGTH: Final = int(ResponseRole.CONTENT_LENGTH)
_CACHE_CONTROL: Final = int(ResponseRole.CACHE_CONTROL)
_CONNECTION: Final = int(ResponseRole.CONNECTION)
_CRLF: Final = b"\r\n"
_KEEP_ALIVE: Final = (b"keep-alive", b"Keep-Alive")


def response_facts(
    status: int, headers: list[tuple[bytes, bytes]], is_http_11: bool, answers_head: bool
) -> ResponseFacts | str:
    """The one reading of an upstream's answer, or what is wrong with it (RFC 9112 6.3, without repairs: A43)."""
    fields: list[bytes] = []
    length: bytes | None = None
    coding: bytes | None = None
    connection: bytes | None = None
    says_cache_control = False
    names = _NAMES
    for name, value in headers:
        field = names[name]
        role = field.role
        if role == _FORWARD:
            fields += (field.start, value, _CRLF)
        elif role == _DROP:
            continue
        elif role == _CONTENT_LENGTH:
            if length is not None:
                return "more than one `Content-Length`"
            length = value
        elif role == _CACHE_CONTROL:
            says_cache_control = True
            fields += (field.start, value, _CRLF)
        elif role == _CONNECTION:
            connection = value if connection is None else connection + b"," + value
        else:
            if coding is not None:
                return "more than one `Transfer-Encoding`"
            coding = value

    keeps_alive = is_http_11
    if connection is not None and (connection not in _KEEP_ALIVE or not is_http_11):
        options = {option.strip().lower() for option in connection.split(b",")}
        if b"close" in options:
            keeps_alive = False
        elif not is_http_11:
            keeps_alive = b"keep-alive" in options
        nominated = options - {b"set-cookie", b"content-type", b"content-encoding", b"cache-control"}
        fields = [
            piece
            for place in range(0, len(fields), 3)
            if fields[place][:-2].lower() not in nominated
            for piece in fields[place : place + 3]
        ]

    if coding is not None:
        if length is not None:
            return "`Transfer-Encoding` together with `Content-Length`"
        if not is_http_11 or coding.lower() != b"chunked":
            return "a `Transfer-Encoding` other than `chunked`"
    if length is not None and not (length.isdigit() and len(length) <= 18):
        return "`Content-Length` is not 1 to 18 digits"

    if status == 101:
        # Read on only where it was asked for: from here to the end, every byte is the other protocol's.
        return ResponseFacts(status, fields, -2, False, False, True)
    if answers_head or status in (204, 304):
        # The length says what a GET would have had; no byte of it follows.
        declared = int(length) if length is not None and status != 204 else 0
        return ResponseFacts(
            status, fields, declared, length is not None and status != 204, keeps_alive, says_cache_control
        )
    if coding is not None:
        return ResponseFacts(status, fields, -1, False, keeps_alive, says_cache_control)
    if length is not None:
        return ResponseFacts(status, fields, int(length), True, keeps_alive, says_cache_control)
    return ResponseFacts(status, fields, -2, False, False, says_cache_control)
