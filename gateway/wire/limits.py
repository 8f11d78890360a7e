"""Limits and time-outs of the wire: typed constants, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_LIMIT_BYTES: Final = 32 * 1024
"""Request line and header fields together. Clients and proxies stay below 16 KiB; nginx takes 4 times 8 KiB."""
RESPONSE_HEAD_LIMIT_BYTES: Final = 64 * 1024
RESPONSE_FIELDS_LIMIT: Final = 200
INFORMATIONAL_LIMIT: Final = 10
"""1xx answers before the final one (A45)."""
CHUNK_LINE_LIMIT_BYTES: Final = 18
"""16 hexadecimal digits and CRLF."""
TAIL_LIMIT_BYTES: Final = 16 * 1024
"""Chunk extensions and trailer fields of one upstream answer, together; all of them are dropped."""
PIPELINE_LIMIT_BYTES: Final = 64 * 1024
"""Bytes held of a client that sends on before it was answered; beyond it we stop reading."""
LINGER_LIMIT_BYTES: Final = 1024 * 1024
"""Bytes read and thrown away after a refusal that closes, so that the client can read it before the reset."""

WEBSOCKET_MESSAGE_BYTES: Final = 1024 * 1024
"""One message of a client, all its frames together: what Python's `websockets` and Socket.IO take, and less than the
4 MiB of aiohttp and the 16 of uvicorn, so that it is we who say that it is too much."""
WEBSOCKET_FRAMES_PER_SECOND: Final = 1000
"""From a client. Games, pens and sound send 50 to 240."""
WEBSOCKET_FLOOD_SECONDS: Final = 10.0
"""Frames are counted over so long, because what a client sent into a stalled network arrives at once."""
GRAPHQL_OPERATIONS_PER_WEBSOCKET: Final = 100
"""Operations of one client at a time. A page has some ten subscriptions; each is held, to be judged again."""
GRAPHQL_WEBSOCKET_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""One message of an upstream, which is held until it is whole: only then is it known to whom it belongs."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds. Checked by one sweep every `sweep`, so an effective time-out is up to that much later."""

    head: float = 10.0
    """From a request's first byte to the end of its head (slow-loris)."""
    body_idle: float = 15.0
    body_rate: float = 240.0
    """Not seconds: the bytes a second that a body must have come to after its first `body_idle` seconds; 0 for any."""
    keep_alive: float = 75.0
    """An idle client connection."""
    crowded_keep_alive: float = 1.0
    """The same while most places for connections are taken."""
    write_idle: float = 60.0
    """A client that takes nothing of what is ready for it."""
    linger: float = 2.0
    connect: float = 2.0
    response_head: float = 30.0
    response_idle: float = 60.0
    upstream_keep_alive: float = 45.0
    """An idle upstream connection; shorter than the usual 60 to 75 s of upstreams, so that we close first."""
    request: float = 0.0
    """From a request being forwarded to the last byte of its answer; 0 for as long as bytes come. Kept by the doors."""
    websocket_idle: float = 300.0
    """A WebSocket without a byte either way. Its two ends ping every 20 to 60 s; nginx waits 60 s, Envoy 300."""
    sweep: float = 0.25
