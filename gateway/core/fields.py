"""Request header fields: what becomes of each name. The list is closed; what is not in it is forwarded as it came."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Role(IntEnum):
    """What becomes of a request header field."""

    FORWARD = 0
    DROP = 1
    AUTHORIZATION = 2
    HOST = 3
    CONTENT_LENGTH = 4
    TRANSFER_ENCODING = 5
    CONNECTION = 6
    EXPECT = 7
    UPGRADE = 8
    CONTENT_TYPE = 9
    CONTENT_ENCODING = 10
    ACCEPT = 11
    SINGLE = 12
    """Forwarded, and refused when it comes twice (C20)."""
    REFUSE = 13
    OVERRIDE = 14
    """Refused: it asks for another method than the request line (B27)."""


_ROLES: Final[dict[bytes, Role]] = {
    b"authorization": Role.AUTHORIZATION,
    b"host": Role.HOST,
    b"content-length": Role.CONTENT_LENGTH,
    b"transfer-encoding": Role.TRANSFER_ENCODING,
    b"connection": Role.CONNECTION,
    b"expect": Role.EXPECT,
    b"upgrade": Role.UPGRADE,
    b"content-type": Role.CONTENT_TYPE,
    b"content-encoding": Role.CONTENT_ENCODING,
    b"accept": Role.ACCEPT,
    b"cookie": Role.SINGLE,
    b"origin": Role.SINGLE,
    b"range": Role.SINGLE,
    b"if-range": Role.SINGLE,
    b"user-agent": Role.SINGLE,
    b"access-control-request-method": Role.SINGLE,
    b"access-control-request-headers": Role.SINGLE,
    b"sec-websocket-key": Role.SINGLE,
    b"sec-websocket-version": Role.SINGLE,
    b"sec-websocket-protocol": Role.SINGLE,
    # Hop by hop (RFC 9110 section 7.6.1), whether nominated or not (C13).
    b"keep-alive": Role.DROP,
    b"proxy-authorization": Role.DROP,
    b"proxy-authenticate": Role.DROP,
    b"proxy-connection": Role.DROP,
    b"proxy": Role.DROP,
    b"te": Role.DROP,
    b"trailer": Role.DROP,
    b"http2-settings": Role.DROP,
    # Credentials that are not read here do not pass either (D14).
    b"x-api-key": Role.DROP,
    # It would have an answer sent to whom it belongs: nobody here knows whose it is (G39).
    b"x-graphql-event-stream-token": Role.DROP,
    # Where the client claims to be, or what it claims to have asked for: rebuilt by us, or gone (C7, B26).
    b"forwarded": Role.DROP,
    b"x-real-ip": Role.DROP,
    b"cf-connecting-ip": Role.DROP,
    b"true-client-ip": Role.DROP,
    b"x-client-ip": Role.DROP,
    b"x-cluster-client-ip": Role.DROP,
    b"x-request-id": Role.DROP,
    b"via": Role.DROP,
    b"x-http-method": Role.OVERRIDE,
    b"x-http-method-override": Role.OVERRIDE,
    b"x-method-override": Role.OVERRIDE,
}
_DROPPED_PREFIXES: Final = (b"x-gateway-", b"x-forwarded-", b"x-original-", b"x-rewrite-", b"x-envoy-")

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")


_NO_LETTERS: Final = bytes(byte for byte in range(256) if not 0x61 <= byte <= 0x7A)
_NEVER_ALIKE: Final = frozenset((b"transferencoding", b"contentlength", b"host", b"authorization"))
_DASHED: Final = bytes(byte if chr(byte).isalnum() and byte < 128 else 0x2D for byte in range(256))
"""Every byte but letters and digits as a dash: what a CGI-style upstream would make of a name (C5)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A header field name as it was classified once. `start` is `name: ` in lower case, ready to be written."""

    name: bytes
    start: bytes
    role: int
    """A `Role`, as a plain int: comparing members of an IntEnum costs the loop over the fields three times as much."""


def classify(name: bytes) -> Field:
    """What becomes of the request header field `name`, in any case."""
    lower = name.lower()
    if _TOKEN.fullmatch(name) is None or b"_" in name:
        # CGI-style upstreams read `_` as `-`: `X_Gateway_Key_Id` would be an identity of the client's making (A11, C5).
        return Field(lower, lower + b": ", int(Role.REFUSE))

    dashed = lower.translate(_DASHED)
    role = _ROLES.get(lower, Role.FORWARD)
    if dashed.startswith(_DROPPED_PREFIXES) or dashed in (b"x-forwarded", b"x-gateway"):
        role = Role.DROP
    elif dashed != lower and dashed in _ROLES:
        role = Role.OVERRIDE if _ROLES[dashed] is Role.OVERRIDE else Role.DROP
    if lower not in _ROLES and lower.translate(None, _NO_LETTERS) in _NEVER_ALIKE:
        # `Transfer---Encoding`, `Host!`: some hop may take for the real one what would pass here as another (A10, C9).
        role = Role.REFUSE
    return Field(lower, lower + b": ", int(role))


class FieldNames(dict[bytes, Field]):
    """Classified names, remembered: clients send the same few spellings again and again. Bounded."""

    __slots__ = ()
    LIMIT: Final = 1024

    def __missing__(self, name: bytes) -> Field:
        field = classify(name)
        if len(name) <= 64:
            if len(self) >= self.LIMIT:
                # Begun anew rather than closed: who fills it with junk must not slow every other client for good.
                self.clear()
            self[name] = field
        return field


_CONTROLS_KEPT: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))


def has_control_bytes(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether any value has a control byte other than HTAB, for doors whose server does not promise it (A16, C28)."""
    return bool(b"".join([value for _, value in headers]).translate(None, _CONTROLS_KEPT))
