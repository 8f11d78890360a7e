"""Answers as bytes of HTTP/1.1: those of upstreams, passed on with a head of ours, and those that we make."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from gateway.core.answers import Answer
from gateway.core.facts import RequestFacts
from gateway.core.outgoing import ResponseFacts
from gateway.core.policy.cors import without_cors
from gateway.core.policy.routes import Route


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode())


_STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 600)}


def passed_on(
    facts: ResponseFacts, framing: bytes, route: Route, request: RequestFacts, ref: bytes, *, keeps_alive: bool
) -> list[bytes]:
    """The head of an upstream's answer as the client is sent it, in pieces; `framing` is a whole line, or empty."""
    cors = route.cors
    if cors is None:
        parts = [_STATUS_LINES[facts.status], *facts.fields, framing]
    else:
        parts = [_STATUS_LINES[facts.status], *without_cors(facts.fields), framing]
        for name, value in cors.lines_for(request.fields):
            parts += (name, b": ", value, b"\r\n")
    if not facts.says_cache_control and not route.is_public:
        # What was answered to one caller is not for a cache that others share (C32).
        parts.append(b"cache-control: private\r\n")
    for name, value in route.deprecated:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"x-gateway-request-id: ", ref)
    parts.append(b"\r\n\r\n" if keeps_alive else b"\r\nconnection: close\r\n\r\n")
    return parts


def switched(facts: ResponseFacts, route: Route, ref: bytes) -> bytes:
    """The head of an upstream's 101, as the client is sent it."""
    parts = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n", *facts.fields]
    for name, value in route.deprecated:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"x-gateway-request-id: ", ref, b"\r\n\r\n")
    return b"".join(parts)


def opened(accept: bytes, protocol: bytes, route: Route, ref: bytes) -> bytes:
    """The head of a 101 that we answer ourselves."""
    parts = [
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ",
        accept,
        b"\r\nsec-websocket-protocol: ",
        protocol,
        b"\r\n",
    ]
    for name, value in route.deprecated:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"x-gateway-request-id: ", ref, b"\r\n\r\n")
    return b"".join(parts)


def our_own(
    answer: Answer, route: Route | None, request: RequestFacts | None, *, keeps_alive: bool, answers_head: bool
) -> bytes:
    """An answer that we make, whole; without its body where a HEAD is answered."""
    fields = answer.fields if route is None else (*answer.fields, *route.deprecated)
    if route is not None and route.cors is not None and request is not None:
        fields += route.cors.lines_for(request.fields)
    return b"".join(
        (
            _STATUS_LINES[answer.status],
            *[b"%s: %s\r\n" % field for field in fields],
            # RFC 9110 8.6: a 204 has none.
            b"" if answer.status == 204 else b"content-length: %d\r\n" % len(answer.body),
            b"\r\n" if keeps_alive else b"connection: close\r\n\r\n",
            b"" if answers_head else answer.body,
        )
    )
