"""Requests that the gateway must accept, as raw bytes in the pieces in which they are sent: common, odd, at limits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from gateway.core.target import canonical_target
from tests.doors.threats import test_group_a, test_group_b, test_group_c, test_group_d, test_group_e
from tests.support.gateway import POLICY
from tests.support.raw import Sending
from tests.support.rows import Forwarded, Incomplete, Row, get, post, request
from tests.support.vectors import desync_vectors, llhttp_vectors

CHUNKED = b"Transfer-Encoding: chunked"
JSON_TYPE = b"Content-Type: application/json"


class Case(NamedTuple):
    """What a client sends on one connection, and how many requests of it are to be forwarded."""

    name: str
    pieces: tuple[bytes, ...]
    forwarded: int | None = 1
    """None where the oracle of the case is another's: however many."""
    sending: Sending = Sending.WHOLE
    """How each piece goes out."""


def _length(count: int) -> bytes:
    return b"Content-Length: %d" % count


def _graphql(document: str, *fields: bytes, **members: object) -> bytes:
    body = json.dumps({"query": document, **members}, ensure_ascii=False).encode()
    return post(JSON_TYPE, _length(len(body)), *fields, body=body, target=b"/gql")


def _chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


_VISIBLE = bytes(byte for byte in range(0x21, 0x7F))
_TOKEN = bytes(byte for byte in _VISIBLE if chr(byte).isalnum() or byte in b"!#$%&'*+-.^`|~")
_ALL_BYTES = bytes(range(256))

_METHODS = [
    Case("GET", (get(b"/items/1"),)),
    Case("HEAD", (request(b"HEAD /items/1 HTTP/1.1"),)),
    Case("DELETE", (request(b"DELETE /items/1 HTTP/1.1"),)),
    Case("OPTIONS", (request(b"OPTIONS /options HTTP/1.1"),)),
    Case("POST", (post(_length(3), body=b"abc"),)),
    Case("PUT", (request(b"PUT /items/1 HTTP/1.1", _length(3), body=b"abc"),)),
    Case("PATCH", (request(b"PATCH /items/1 HTTP/1.1", _length(3), body=b"abc"),)),
    Case("POST without a body", (post(),)),
    Case("POST with nothing as body", (post(_length(0)),)),
    Case("PUT with nothing as body", (request(b"PUT /items/1 HTTP/1.1", _length(0)),)),
    Case("GET with nothing as body", (get(b"/items/1", _length(0)),)),
    Case("DELETE with a body", (request(b"DELETE /options HTTP/1.1", _length(3), body=b"abc"),)),
    Case("GET with a body", (get(b"/search", _length(3), body=b"abc"),)),
    Case("GET with chunks", (get(b"/search", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"),)),
    Case("GET with no chunk", (get(b"/search", CHUNKED, body=b"0\r\n\r\n"),)),
    Case("HTTP/1.0", (request(b"GET /items/1 HTTP/1.0"),)),
    Case("HTTP/1.0 with a body", (request(b"POST /items HTTP/1.0", _length(3), body=b"abc"),)),
    Case("nobody's, on a public route", (get(b"/public", authorization=b""),)),
    Case("a legacy key", (get(b"/items", authorization=b"Authorization: Bearer <key:legacy>\r\n"),)),
]

_FIELDS = [
    Case("an empty value", (get(b"/items", b"X-Empty:", b"X-Also: ", b"X-After: 1"),)),
    Case("white space around values", (get(b"/items", b"X-A:\t  b  \t", b"X-B:c\t", b"X-C:  "),)),
    Case("tabs inside", (get(b"/items", b"X-A: b\tc\t\td"),)),
    Case("every visible byte in a value", (get(b"/items", b"X-A: " + _VISIBLE),)),
    Case("obs-text", (get(b"/items", b"X-A: " + bytes(range(0x80, 0x100)) + b"!"),)),
    Case("obs-text at the ends", (get(b"/items", b"X-A: \xa0b\xa0", b"X-B: \x85b\x85", b"X-C: \xff"),)),
    Case("line separators of other worlds", (get(b"/items", "X-A: a\x85b\u2028c\u2029d".encode(), b"X-B: \x85"),)),
    Case("UTF-8", (get(b"/items", "X-A: naïve € 漢字 🦁".encode()),)),
    Case("every byte that a name may have", (get(b"/items", *(b"X-%c-: 1" % byte for byte in _TOKEN)),)),
    Case("a name of one byte", (get(b"/items", b"A: 1", b"1: a", b"!: b"),)),
    Case("a long name", (get(b"/items", b"X" * 255 + b": 1"),)),
    Case("one name many times", (get(b"/items", *(b"X-A: %d" % number for number in range(50))),)),
    Case("one name in many cases", (get(b"/items", b"x-a: 1", b"X-A: 2", b"X-a: 3", b"x-A: 4"),)),
    Case("colons in a value", (get(b"/items", b"X-A: :::", b"X-B: a:b", b"X-C::d"),)),
    Case("a value like a request", (get(b"/items", b"X-A: GET /admin HTTP/1.1"),)),
    Case("a value like a field", (get(b"/items", b"X-A: Content-Length: 5", b"X-B: Transfer-Encoding: chunked"),)),
    Case("a value like framing", (get(b"/items", b"X-Length: 5", b"X-Coding: chunked", b"X-Range: bytes=0-1"),)),
    Case("quotes and commas", (get(b"/items", b'X-A: "a, b", c;d="e;f"', b'X-B: \\"'),)),
    Case("ninety fields", (get(b"/items", *(b"X-%d: %d" % (number, number) for number in range(85))),)),
    Case("a field of eight KiB", (get(b"/items", b"X-A: " + b"a" * 8192),)),
    Case("a head at its limit", (get(b"/items", *(b"X-%d: %s" % (number, b"a" * 7900) for number in range(4))),)),
    Case("two of a name that servers merge", (get(b"/items", b"Accept: a/b", b"Accept: c/d", b"Pragma: x"),)),
    Case("two Referer", (get(b"/items", b"Referer: http://a/", b"Referer: http://b/"),)),
    Case(
        "hop by hop", (get(b"/items", b"Connection: close, X-Gone", b"X-Gone: 1", b"TE: trailers", b"Keep-Alive: 5"),)
    ),
    Case("dropped", (get(b"/items", b"X-Forwarded-For: 1", b"Via: x", b"Forwarded: for=x", b"X-Gateway-Key-Id: x"),)),
    Case("conditional", (get(b"/items", b"If-None-Match: *", b"Range: bytes=0-5", b'If-Range: "x"'),)),
    Case("cookies", (get(b"/items", b"Cookie: a=b; c=d; e"),)),
    Case("an upgrade that is not done", (get(b"/items", b"Connection: Upgrade", b"Upgrade: h2c"),)),
    Case("Date, Content-Type and Encoding", (get(b"/items", b"Date: x", b"Content-Type: y", b"Content-Encoding: z"),)),
    Case("an empty line before", (b"\r\n" + get(b"/items"),)),
    Case("an odd host", (get(b"/items", host=b"Host: [::1]:8080\r\n"),)),
]

_TARGETS = [
    Case("a query of every byte it may have", (get(b"/items?" + bytes(b for b in _VISIBLE if b not in b'"#<>%')),)),
    Case("an empty query", (get(b"/items?"),)),
    Case("question marks", (get(b"/items???a=?"),)),
    Case("a query like a path", (get(b"/items?/../admin//x;y=%2F%2e%00x".replace(b"%00", b"%01")),)),
    Case("a query like a URL", (get(b"/items?u=http://evil.test/%23a@b:80"),)),
    Case("a target at its limit", (get(b"/items?" + b"a" * (8192 - 7)),)),
    Case("a parameter at its limit", (get(b"/items/" + b"a" * 128),)),
    Case("dots that are no dot segments", (get(b"/items/..."), get(b"/items/.a"), get(b"/items/a..")), 3),
    Case("encoded bytes", (get(b"/caf%C3%A9"), get(b"/a%20b%7B%7D")), 2),
    Case("characters that some servers cut at", (get(b"/a!b$c&d'e(f)g*h+i,j=k:l@m"),)),
]

_BODY = b"POST /admin HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 0\r\n\r\n"
_BODIES = [
    Case("a body that is a request", (post(_length(len(_BODY)), body=_BODY),)),
    Case("a chunk that is a request", (post(CHUNKED, body=_chunks(_BODY)),)),
    Case("a body like chunks", (post(_length(13), body=_chunks(b"abc")),)),
    Case("chunks like chunks", (post(CHUNKED, body=_chunks(_chunks(b"abc"), b"0\r\n\r\n", b"0", b"\r\n")),)),
    Case("a body of line ends", (post(_length(8), body=b"\r\n" * 4),)),
    Case("a chunk of line ends", (post(CHUNKED, body=_chunks(b"\r\n" * 2, b"\n", b"\r")),)),
    Case("a body of every byte", (post(_length(256), body=_ALL_BYTES),)),
    Case("chunks of one byte", (post(CHUNKED, body=_chunks(*(bytes((byte,)) for byte in _ALL_BYTES))),)),
    Case("chunks of many sizes", (post(CHUNKED, body=_chunks(*(b"a" * size for size in range(1, 300, 7)))),)),
    Case("no chunk", (post(CHUNKED, body=b"0\r\n\r\n"),)),
    Case("chunk sizes with noughts before", (post(CHUNKED, body=b"000003\r\nabc\r\n" + b"0" * 16 + b"\r\n\r\n"),)),
    Case("chunk sizes in capitals", (post(CHUNKED, body=b"1A\r\n" + b"a" * 26 + b"\r\n0\r\n\r\n"),)),
    Case("a large body", (post(_length(50_000), body=b"a" * 50_000, target=b"/uploads"),)),
    Case("large chunks", (post(CHUNKED, body=_chunks(b"a" * 30_000, b"b" * 30_000), target=b"/uploads"),)),
    Case("Expect", (post(b"Expect: 100-continue", _length(3)), b"abc")),
    Case("Expect with chunks", (post(b"Expect: 100-Continue", CHUNKED), _chunks(b"abc"))),
    Case("a coding in capitals", (post(b"TRANSFER-ENCODING: CHUNKED", body=_chunks(b"abc")),)),
]

_SLOWLY = Sending.BYTE_BY_BYTE
_PIECES = [
    Case("a head byte by byte", (get(b"/items", b"X-A: b"),), 1, _SLOWLY),
    Case("a body byte by byte", (post(_length(20), body=b"\r\n0\r\n\r\nGET / HTTP/1."),), 1, _SLOWLY),
    Case("chunks byte by byte", (post(CHUNKED, body=_chunks(b"abc", b"\r\n\r\n", b"0\r\n\r\n")),), 1, _SLOWLY),
    Case("a chunk in pieces", (post(CHUNKED, body=b"a"), b"\r", b"\n01234", b"56789\r", b"\n0\r\n", b"\r", b"\n")),
    Case("a head and half a body", (post(_length(6), body=b"abc"), b"def")),
]

_SEQUENCES = [
    Case("three, one after the other", (get(b"/items/1"), get(b"/items/2"), get(b"/items/3")), 3),
    Case("three in one packet", (get(b"/items/1") + get(b"/items/2") + get(b"/items/3"),), 3),
    Case(
        "bodies and none in one packet",
        (
            post(_length(3), body=b"abc")
            + get(b"/items/1")
            + post(CHUNKED, body=_chunks(b"def"))
            + request(b"HEAD /items/2 HTTP/1.1")
            + post(_length(0))
            + get(b"/search", CHUNKED, body=_chunks())
            + get(b"/items/3"),
        ),
        7,
    ),
    Case(
        "two keys on one connection",
        (get(b"/items/1") + get(b"/items/2", authorization=b"Authorization: Bearer <key:b>\r\n"),),
        2,
    ),
    Case("a refused one between", (get(b"/items/1") + get(b"/items/2", authorization=b"") + get(b"/items/3"),), 2),
    Case("fifty in one packet", (b"".join(get(b"/items/%d" % number) for number in range(50)),), 50),
    Case("the last one closes", (get(b"/items/1") + get(b"/items/2", b"Connection: close") + get(b"/items/3"),), 2),
    Case(
        "three byte by byte",
        (get(b"/items/1") + post(_length(2), body=b"ab") + get(b"/items/2"),),
        3,
        _SLOWLY,
    ),
]

_GRAPHQL = [
    Case("GraphQL", (_graphql("{ item { name } }"),)),
    Case("GraphQL with variables", (_graphql("query Q($i: ID) { item(id: $i) { name } }", variables={"i": "1"}),)),
    Case("GraphQL in other scripts", (_graphql('{ item(name: "漢字 🦁 \\u00e9") { name } }'),)),
    Case("GraphQL with line ends in a text", (_graphql('{ item(name: """a\r\n\r\nb""") { name } }'),)),
    Case("a mutation", (_graphql("mutation M { add(x: 1) { id } }", operationName="M"),)),
    Case(
        "GraphQL in chunks",
        (post(JSON_TYPE, CHUNKED, body=_chunks(b'{"query":', b'"{ item { a } }"}'), target=b"/gql"),),
    ),
    Case("GraphQL of a range", (_graphql("{ item { name } }", b"Range: bytes=0-1"),)),
    Case("GraphQL twice", (_graphql("{ item { a } }") + _graphql("{ item { b } }") + get(b"/items"),), 3),
]

HANDMADE = (*_METHODS, *_FIELDS, *_TARGETS, *_BODIES, *_PIECES, *_SEQUENCES, *_GRAPHQL)

_ROWS: tuple[Row, ...] = (
    *test_group_a.ROWS,
    *test_group_b.ROWS,
    *test_group_c.ROWS,
    *test_group_d.ROWS,
    *test_group_e.ROWS,
)


def accepted_rows() -> list[Case]:
    """The rows of the threat tables that end in a whole request upstream."""
    return [Case(row.id, (row.sent,)) for row in _ROWS if isinstance(row.forwarded, Forwarded)]


def unfinished_rows() -> list[Case]:
    """The rows that break off in the middle of a body: whatever was sent of them must never look whole."""
    return [Case(row.id, (row.sent,), 0) for row in _ROWS if isinstance(row.forwarded, Incomplete)]


def vectors() -> list[Case]:
    """The requests of other people's collections, each with a good `Host` and token where it has none."""
    cases = []
    for vector in desync_vectors():
        line = b" ".join((vector.method, vector.target, vector.version))
        fields = b"".join(b"%s: %s\r\n" % field for field in vector.fields)
        body = next((b"x" * int(value) for name, value in vector.fields if _is_length(name, value)), b"0\r\n\r\n")
        cases.append(Case(vector.name, (_with_host(line + b"\r\n" + fields + b"\r\n"), body), None))
    cases += [Case(vector.name, (_with_host(vector.sent),), None) for vector in llhttp_vectors()]
    return cases


def _is_length(name: bytes, value: bytes) -> bool:
    return name.lower() == b"content-length" and value.isdigit() and len(value) < 5


def _with_host(sent: bytes) -> bytes:
    first, end, rest = sent.partition(b"\r\n")
    host = b"" if b"\nhost:" in sent.lower() else b"Host: gateway.test\r\n"
    return first + end + host + b"Authorization: Bearer <key:a>\r\n" + rest if end else sent


def _wanted() -> set[tuple[str, str]]:
    """(method, path) of every request in the collections, so that a route can be there for it."""
    pairs = {(vector.method, vector.target) for vector in desync_vectors()}
    pairs |= {(message.method, message.target) for vector in llhttp_vectors() for message in vector.messages}
    return {
        (method.decode(), target.partition(b"?")[0].decode("ascii"))
        for method, target in pairs
        if method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
        and isinstance(canonical_target(target), tuple)
    }


def policy_with(routes: Iterable[tuple[str, str]]) -> str:
    """The policy of every test, with a route for each (method, path) besides; key A may use them all."""
    text = POLICY
    for number, (method, path) in enumerate(sorted(set(routes))):
        match = json.dumps(f"{method} {path}")
        body = ", body: allowed" if method in ("GET", "DELETE", "OPTIONS") else ""
        text += f"  - {{name: extra.n{number}, match: {match}, upstream: rest{body}, allow: {{api_key: READ}}}}\n"
    return text


EXTRA = (
    ("OPTIONS", "/options"),
    ("DELETE", "/options"),
    ("GET", "/caf%C3%A9"),
    ("GET", "/a%20b%7B%7D"),
    ("GET", "/a!b$c&d'e(f)g*h+i,j=k:l@m"),
)


def policy() -> str:
    """A policy by which every case here passes."""
    taken = {("GET", "/public"), ("GET", "/items"), ("POST", "/items"), ("GET", "/search"), ("POST", "/uploads")}
    return policy_with((*EXTRA, *(_wanted() - taken)))
