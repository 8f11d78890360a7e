"""Every stream of bytes that the gateway sends upstream is the same list of requests to five independent parsers.

It needs no idea of an attack: whatever could make two servers disagree on where a request begins, ends or goes is
refused, or sent in a form on which they agree. A stream on which one of them differs is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from tests.oracles import corpus
from tests.oracles.corpus import Case
from tests.oracles.parsers import LAST, NotRead, Parser, Seen, by_h11, by_http_server, by_httptools, nginx, node, seen
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.rows import with_keys

NAMES = ("h11", "httptools", "http.server", "Node", "nginx")


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Parser]]:
    with ExitStack() as stack:
        yield {
            "h11": by_h11,
            "httptools": by_httptools,
            "http.server": by_http_server,
            "Node": stack.enter_context(node()),
            "nginx": stack.enter_context(nginx(tmp_path_factory.mktemp("nginx"))),
        }


class Stream:
    """What one connection of the upstream was sent in one case, and the requests that the gateway meant by it."""

    def __init__(self, case: str, data: bytes, meant: list[Seen]) -> None:
        self.case = case
        self.data = data
        self.meant = meant


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("oracles"), policy=corpus.policy()) as gateway:
        yield gateway


def played(gateway: RunningGateway, case: Case) -> list[Stream]:
    """The streams of one case."""
    gateway.forget()
    upstream = gateway.upstream
    with RawClient(gateway.port) as client:
        for piece in case.pieces:
            client.send(with_keys(gateway, piece), case.sending)
        if case.forwarded:
            upstream.wait_until(lambda: len(upstream.requests) >= (case.forwarded or 0), f"all of {case.name}")
        client.finish()
        client.read_to_end()
    gateway.settle()

    assert upstream.faults == [], case.name
    if case.forwarded is not None:
        assert len(upstream.requests) == case.forwarded, (case.name, upstream.requests)
    return [
        Stream(
            case.name,
            bytes(connection.received),
            [seen(one.method, one.target, one.headers, one.body) for one in connection.requests],
        )
        for connection in upstream.connections
        if connection.received
    ]


@pytest.fixture(scope="module")
def whole(gateway: RunningGateway) -> list[Stream]:
    """The streams of everything that is accepted: our own cases, the threat tables' and other people's."""
    cases = (*corpus.HANDMADE, *corpus.accepted_rows(), *corpus.vectors())
    return [stream for case in cases for stream in played(gateway, case) if stream.meant]


@pytest.fixture(scope="module")
def unfinished(gateway: RunningGateway) -> list[Stream]:
    """The streams of requests that broke off."""
    return [stream for case in corpus.unfinished_rows() for stream in played(gateway, case)]


def disagreement(name: str, parser: Parser, data: bytes, meant: list[Seen]) -> str:
    """How `parser` differs on `data`; empty where it does not."""
    try:
        found = parser(data)
    except NotRead as fault:
        return f"{name} refuses it: {fault}"
    if name == "nginx":
        found = [one.without_framing() for one in found]
        meant = [one.without_framing() for one in meant]
    if found == meant:
        return ""
    differing = next((pair for pair in zip(found, meant, strict=False) if pair[0] != pair[1]), None)
    return f"{name} sees {len(found)} requests, {len(meant)} were meant; the first that differs: {differing}"


def disagreements(name: str, parser: Parser, streams: list[Stream], last: bytes) -> list[str]:
    after = [seen(b"GET", b"/the-last", [(b"host", b"oracle.test"), (b"connection", b"close")], b"")] if last else []
    if name == "nginx":  # it makes that field itself
        after = [one._replace(headers=one.headers[:1]) for one in after]
    told = []
    for stream in streams:
        fault = disagreement(name, parser, stream.data + last, stream.meant + after)
        if fault:
            told.append(f"{stream.case}: {fault}\n  bytes: {stream.data!r}")
    return told


@pytest.mark.parametrize("name", NAMES)
def test_every_parser_sees_the_requests_that_were_meant(
    name: str, parsers: dict[str, Parser], whole: list[Stream]
) -> None:
    told = disagreements(name, parsers[name], whole, LAST)

    assert told == [], f"{len(told)} of {len(whole)} streams:\n" + "\n".join(told[:5])


@pytest.mark.parametrize("name", NAMES)
def test_no_parser_takes_the_beginning_of_a_request_for_a_whole_one(
    name: str, parsers: dict[str, Parser], unfinished: list[Stream]
) -> None:
    told = disagreements(name, parsers[name], unfinished, b"")

    assert told == [], "\n".join(told[:5])


@pytest.mark.parametrize("name", NAMES)
def test_any_two_streams_in_a_row_are_read_as_both(name: str, parsers: dict[str, Parser], whole: list[Stream]) -> None:
    """Connections are kept: what follows on one is read as what it is, whatever came before."""
    rows = [
        Stream(f"{first.case}, then {second.case}", first.data + second.data, first.meant + second.meant)
        for first, second in pairwise(whole)
    ]

    told = disagreements(name, parsers[name], rows, LAST)

    assert told == [], "\n".join(told[:5])


def test_the_streams_are_many_and_of_every_framing(whole: list[Stream], unfinished: list[Stream]) -> None:
    requests = [request for stream in whole for request in stream.meant]
    framings = {
        name for request in requests for name, _ in request.headers if name in (b"content-length", b"transfer-encoding")
    }

    assert len(whole) > 200
    assert len(unfinished) > 30
    assert {b"content-length", b"transfer-encoding"} == framings
    assert {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"} == {one.method for one in requests}


_CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
AMBIGUOUS = {
    "two framings": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
    "a coding that is none": b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a bare LF": b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\nX-B: c\r\n\r\n",
    "a folded field": b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "a control byte": b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
    "a length with a sign": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a chunk size with a prefix": _CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_the_oracle_tells_what_the_gateway_must_never_send(what: str, parsers: dict[str, Parser]) -> None:
    data = AMBIGUOUS[what]

    told = [disagreement(name, parser, data + LAST, _plain(data)) for name, parser in parsers.items()]

    assert any(told), "all five read it alike"


def _plain(data: bytes) -> list[Seen]:
    """One reading of `data` and of what follows it, so that the parsers have something to disagree with."""
    try:
        return by_httptools(data + LAST)
    except NotRead:
        return []
