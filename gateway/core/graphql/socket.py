"""GraphQL over a WebSocket as a conversation: one message comes in, and what it asks for goes out (G39, G40).

Two protocols, each with a closed list of messages; whatever is not in it ends the conversation with the code that the
protocol has for it. Nothing of a client's message goes on as it came: a message is read strictly, and written anew. An
operation goes on only when somebody has judged it (`Ask`), and of what an upstream says, only what belongs to an
operation that was let through.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

import msgspec
import orjson

from gateway.core.fields import Role, classify
from gateway.core.graphql.request import strict_json
from gateway.core.reasons import Refusal

BAD_MESSAGE: Final = 4400
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
INIT_TIMEOUT: Final = 4408
ID_IN_USE: Final = 4409
TOO_MANY_INITS: Final = 4429

MAX_ID_CHARACTERS: Final = 256


class SocketProtocol(Enum):
    """The WebSocket protocols of GraphQL, by the names that clients offer."""

    TRANSPORT_WS = "graphql-transport-ws"
    LEGACY = "graphql-ws"
    """Of `subscriptions-transport-ws`."""


_PROTOCOLS: Final = {protocol.value.encode(): protocol for protocol in SocketProtocol}


def chosen_protocol(offered: bytes | None) -> SocketProtocol | None:
    """The first of a client's offers (`Sec-WebSocket-Protocol`) that is spoken here."""
    for offer in (offered or b"").split(b","):
        protocol = _PROTOCOLS.get(offer.strip(b" \t"))
        if protocol is not None:
            return protocol
    return None


@final
class ToUpstream(msgspec.Struct, frozen=True):
    """The upstream is sent this message."""

    message: bytes


@final
class ToClient(msgspec.Struct, frozen=True):
    """The client is sent this message."""

    message: bytes


@final
class Begin(msgspec.Struct, frozen=True):
    """The client has begun. What it showed as its credential stands in no message."""

    message: bytes
    """For the upstream, once it may be spoken to."""
    authorization: bytes | None

    def __repr__(self) -> str:
        return "Begin([redacted])"


@final
class Ask(msgspec.Struct, frozen=True):
    """The client asks for an operation, which has to be judged."""

    id: str
    body: bytes
    """The payload, as the body of a POST would have it."""


@final
class End(msgspec.Struct, frozen=True):
    """The conversation is over: a close frame says so."""

    code: int
    text: str
    is_upstreams: bool = False
    """It is the upstream that has said what it may not."""


Action = ToUpstream | ToClient | Begin | Ask | End


class _Payload(Enum):
    NONE = 0
    """Absent or null."""
    MAY = 1
    """An object, or absent or null."""
    MUST = 2
    """An object."""


_NO, _MAY, _MUST = _Payload.NONE, _Payload.MAY, _Payload.MUST

# (has an id, its payload) of every message that a client may send.
_FROM_CLIENT: Final[dict[SocketProtocol, dict[str, tuple[bool, _Payload]]]] = {
    SocketProtocol.TRANSPORT_WS: {
        "connection_init": (False, _MAY),
        "ping": (False, _MAY),
        "pong": (False, _MAY),
        "subscribe": (True, _MUST),
        "complete": (True, _NO),
    },
    SocketProtocol.LEGACY: {
        "connection_init": (False, _MAY),
        "start": (True, _MUST),
        "stop": (True, _NO),
        "connection_terminate": (False, _NO),
    },
}

# Of what an upstream may say: what goes on in any case, what goes on for an operation, and what ends one.
_PLAIN: Final = {
    SocketProtocol.TRANSPORT_WS: frozenset(("ping", "pong")),
    SocketProtocol.LEGACY: frozenset(("ka", "connection_error")),
}
_RESULT: Final = {SocketProtocol.TRANSPORT_WS: "next", SocketProtocol.LEGACY: "data"}
_LAST: Final = frozenset(("error", "complete"))

_MEMBERS: Final = frozenset(("id", "type", "payload"))
_PONG: Final = ToClient(b'{"type":"pong"}')

_MALFORMED: Final = End(BAD_MESSAGE, "a message that is not of the protocol")
_TWO_TOKENS: Final = End(BAD_MESSAGE, "more than one credential")
_NO_TOKEN: Final = End(BAD_MESSAGE, "a credential in `connection_init`, which is not taken here")
_TWO_INITS: Final = End(TOO_MANY_INITS, "too many initialisation requests")
_EARLY: Final = End(UNAUTHORIZED, "unauthorized: no acknowledged `connection_init`")
_BROKE: Final = End(0, "a message that is not of the protocol", is_upstreams=True)
_ID_IN_USE: Final = End(ID_IN_USE, "an id that is in use")
_TERMINATED: Final = End(1000, "")


class _State(Enum):
    NEW = 0
    BEGUN = 1
    """The client has sent its init."""
    OPEN = 2
    """The upstream has acknowledged it."""


class _FromUpstream(msgspec.Struct):
    type: str
    id: str | None = None


@final
class Conversation:
    """What has been said so far, as far as it matters. `live` are the operations that were let through, by id."""

    __slots__ = ("_protocol", "_state", "_takes_token", "live")

    def __init__(self, protocol: SocketProtocol, *, takes_token: bool) -> None:
        """`takes_token`: a credential may come in `connection_init`."""
        self._protocol = protocol
        self._takes_token = takes_token
        self._state = _State.NEW
        self.live: dict[str, Ask] = {}

    def from_client(self, text: bytes) -> Action | None:
        """What a message of the client asks for; None: nothing."""
        message = strict_json(text)
        if isinstance(message, Refusal) or type(message) is not dict or not _MEMBERS.issuperset(message):
            return _MALFORMED
        kind, operation_id, payload = message.get("type"), message.get("id"), message.get("payload")
        if type(kind) is not str or kind not in _FROM_CLIENT[self._protocol]:
            return _MALFORMED
        has_id, wanted = _FROM_CLIENT[self._protocol][kind]
        if payload is None:
            if wanted is _MUST:
                return _MALFORMED
        elif wanted is _NO or type(payload) is not dict:
            return _MALFORMED

        if has_id:
            if type(operation_id) is not str or not 0 < len(operation_id) <= MAX_ID_CHARACTERS:
                return _MALFORMED
            return self._on_operation(kind, operation_id, payload)
        if operation_id is not None:
            return _MALFORMED
        if kind == "connection_init":
            return self._on_init(payload)
        if kind == "connection_terminate":
            return _TERMINATED
        if self._state is _State.OPEN:
            return ToUpstream(_plain(kind, payload))
        return _PONG if kind == "ping" else None

    def _on_operation(self, kind: str, operation_id: str, payload: dict[str, object] | None) -> Action | None:
        if payload is None:
            if self.live.pop(operation_id, None) is None:
                return None  # it has ended, and the client did not know yet
            return ToUpstream(_with_id(operation_id, kind))
        # The older protocol's clients do not wait for the answer to their init; its servers do.
        if self._state is _State.NEW or (self._state is _State.BEGUN and kind == "subscribe"):
            return _EARLY
        return _ID_IN_USE if operation_id in self.live else Ask(operation_id, orjson.dumps(payload))

    def _on_init(self, payload: dict[str, object] | None) -> Action:
        if self._state is not _State.NEW:
            return _TWO_INITS
        tokens: list[object] = []
        kept = None if payload is None else _without_identity(payload, tokens)
        if tokens and not self._takes_token:
            return _NO_TOKEN
        if len(tokens) > 1:
            return _TWO_TOKENS
        token = tokens[0] if tokens else None
        if token is not None and type(token) is not str:
            return _MALFORMED
        self._state = _State.BEGUN
        return Begin(_plain("connection_init", kept), None if token is None else token.encode())

    def from_upstream(self, text: bytes) -> ToClient | End | None:
        """What becomes of a message of the upstream; None: the client is not told."""
        try:
            message = msgspec.json.decode(text, type=_FromUpstream)
        except msgspec.DecodeError:
            return _BROKE
        kind = message.type
        if kind == "connection_ack":
            if self._state is not _State.BEGUN:
                return _BROKE
            self._state = _State.OPEN
            return ToClient(text)
        if kind in _PLAIN[self._protocol]:
            return ToClient(text)
        if kind not in _LAST and kind != _RESULT[self._protocol]:
            return _BROKE
        if message.id is None or message.id not in self.live:
            return None
        if kind in _LAST:
            del self.live[message.id]
        return ToClient(text)

    def let_through(self, ask: Ask, body: bytes) -> bytes:
        """The message for the upstream; `body` is what was judged, written anew."""
        self.live[ask.id] = ask
        kind = b"subscribe" if self._protocol is SocketProtocol.TRANSPORT_WS else b"start"
        return b'{"id":%b,"type":"%b","payload":%b}' % (orjson.dumps(ask.id), kind, body)

    def refused(self, operation_id: str, errors: list[object]) -> bytes:
        """The message that tells the client that an operation is refused: the older protocol has one error in it."""
        payload = errors if self._protocol is SocketProtocol.TRANSPORT_WS else errors[0]
        return orjson.dumps({"id": operation_id, "type": "error", "payload": payload})

    def taken_back(self, operation_id: str) -> bytes:
        """The message that ends, at the upstream, an operation that is no longer allowed."""
        del self.live[operation_id]
        return _with_id(operation_id, "complete" if self._protocol is SocketProtocol.TRANSPORT_WS else "stop")


def _plain(kind: str, payload: dict[str, object] | None) -> bytes:
    return orjson.dumps({"type": kind} if payload is None else {"type": kind, "payload": payload})


def _with_id(operation_id: str, kind: str) -> bytes:
    return orjson.dumps({"id": operation_id, "type": kind})


def _without_identity(payload: dict[str, object], tokens: list[object]) -> dict[str, object]:
    """What an upstream is sent of an init: many servers take its members for header fields, so they pass as those do.

    Fills `tokens` with what stood for a credential, in the payload itself or in its `headers`.
    """
    kept: dict[str, object] = {}
    for name, value in payload.items():
        if name.lower() == "authorization":
            tokens.append(value)
        elif _may_pass(name):
            kept[name] = value
            if name.lower() == "headers" and isinstance(value, dict):
                kept[name] = _without_identity(value, tokens)
    return kept


_PASSING: Final = (Role.FORWARD, Role.SINGLE)


def _may_pass(name: str) -> bool:
    # Whoever makes a header of it makes `_` a dash, as CGI does.
    return classify(name.replace("_", "-").encode()).role in _PASSING
