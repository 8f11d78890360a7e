"""Group A, framing and connections: what two hops could read differently is refused, and the connection ends."""

from __future__ import annotations

import random
import sys
from itertools import product

import pytest

from tests.support.gateway import RunningGateway
from tests.support.raw import RawClient, Response
from tests.support.rows import (
    INCOMPLETE,
    NO_ANSWER,
    Forwarded,
    Row,
    check_goes_on,
    check_own_answer,
    get,
    numbers_covered,
    play,
    post,
    request,
    with_keys,
)

CHUNKED = b"Transfer-Encoding: chunked"
EMPTY_CHUNKS = b"0\r\n\r\n"
NEXT = b"GET /admin HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value, body=b"abc")


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value, body=EMPTY_CHUNKS)


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


LENGTHS = [
    Row("A1-length-then-chunked", post(b"Content-Length: 5", CHUNKED, body=EMPTY_CHUNKS), 400),
    Row("A1-chunked-then-length", post(CHUNKED, b"Content-Length: 5", body=EMPTY_CHUNKS), 400),
    Row("A1-length-nought-then-chunked", post(b"Content-Length: 0", CHUNKED, body=EMPTY_CHUNKS), 400),
    Row("A1-without-credential", post(b"Content-Length: 5", CHUNKED, body=EMPTY_CHUNKS, authorization=b""), 400),
    Row("A1-on-a-public-route", get(b"/public", b"Content-Length: 5", CHUNKED, body=EMPTY_CHUNKS), 400),
    Row("A2-two-equal-lengths", post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400),
    Row("A2-two-equal-lengths-of-nought", post(b"Content-Length: 0", b"Content-Length: 0"), 400),
    Row("A2-two-equal-lengths-apart", post(b"Content-Length: 3", b"X-Y: z", b"content-length: 3", body=b"abc"), 400),
    Row("A3-two-different-lengths", post(b"Content-Length: 3", b"Content-Length: 5", body=b"abcde"), 400),
    Row("A3-nought-and-more", post(b"Content-Length: 0", b"Content-Length: 43", body=NEXT), 400),
    Row("A4-list-of-equal-lengths", length(b"3, 3"), 400),
    Row("A4-list-without-space", length(b"3,3"), 400),
    Row("A5-plus-sign", length(b"+3"), 400),
    Row("A5-minus-sign", length(b"-3"), 400),
    Row("A5-hexadecimal", length(b"0x3"), 400),
    Row("A5-underscore", length(b"3_0"), 400),
    Row("A5-fraction", length(b"3.0"), 400),
    Row("A5-exponent", length(b"3e0"), 400),
    Row("A5-arabic-digit", length("٣".encode()), 400),
    Row("A5-superscript-digit", length(b"\xb3"), 400),
    Row("A5-empty", length(b""), 400),
    Row("A5-space-inside", length(b"3 3"), 400),
    Row("A5-tab-inside", length(b"3\t3"), 400),
    Row("A5-comma-alone", length(b","), 400),
    Row("A5-trailing-comma", length(b"3,"), 400),
    Row("A5-quoted", length(b'"3"'), 400),
    Row("A6-nineteen-digits", length(b"1" * 19), 400),
    Row("A6-twenty-digits", length(b"18446744073709551619"), 400),
    Row("A6-twenty-noughts-before", length(b"0" * 20 + b"3"), 400),
    Row("A6-five-thousand-digits", length(b"1" * 5000), 400),
]

CODINGS = [
    Row("A7-chunked-in-http-1.0", request(b"POST /items HTTP/1.0", CHUNKED, body=EMPTY_CHUNKS), 400),
    Row(
        "A7-chunked-in-http-1.0-keep-alive",
        request(b"POST /items HTTP/1.0", b"Connection: keep-alive", CHUNKED, body=EMPTY_CHUNKS),
        400,
    ),
    Row("A8-gzip-chunked", coding(b"gzip, chunked"), 400),
    Row("A8-chunked-gzip", coding(b"chunked, gzip"), 400),
    Row("A8-chunked-chunked", coding(b"chunked, chunked"), 400),
    Row("A8-chunked-identity", coding(b"chunked, identity"), 400),
    Row("A8-gzip", coding(b"gzip"), 400),
    Row("A8-identity", coding(b"identity"), 400),
    Row("A8-xchunked", coding(b"xchunked"), 400),
    Row("A8-chunkedx", coding(b"chunkedx"), 400),
    Row("A8-comma-before", coding(b",chunked"), 400),
    Row("A8-comma-after", coding(b"chunked,"), 400),
    Row("A8-parameter", coding(b"chunked;q=1"), 400),
    Row("A8-quoted", coding(b'"chunked"'), 400),
    Row("A8-apostrophes", coding(b"'chunked'"), 400),
    Row("A8-empty", coding(b""), 400),
    Row("A8-cow", coding(b"cow"), 400),
    Row(
        "A8-any-case-is-known",
        coding(b"cHuNkEd"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", framing=[(b"transfer-encoding", b"chunked")], method=b"POST"),
    ),
    Row("A9-two-equal", post(CHUNKED, CHUNKED, body=EMPTY_CHUNKS), 400),
    Row("A9-identity-then-chunked", post(b"Transfer-Encoding: identity", CHUNKED, body=EMPTY_CHUNKS), 400),
    Row("A9-chunked-then-identity", post(CHUNKED, b"Transfer-Encoding: identity", body=EMPTY_CHUNKS), 400),
    Row("A9-chunked-then-empty", post(CHUNKED, b"Transfer-Encoding:", body=EMPTY_CHUNKS), 400),
    Row("A11-transfer_encoding", post(b"Transfer_Encoding: chunked", body=EMPTY_CHUNKS), 400, "header_refused"),
    Row("A11-content_length", post(b"Content_Length: 3", body=b"abc"), 400, "header_refused"),
    Row(
        "A11-transfer_encoding-beside-length",
        post(b"Content-Length: 5", b"Transfer_Encoding: chunked", body=EMPTY_CHUNKS),
        400,
        "header_refused",
    ),
    Row("A11-space-before-colon", post(b"Transfer-Encoding : chunked", body=EMPTY_CHUNKS), 400),
    Row("A11-space-before-colon-of-length", post(b"Content-Length : 3", body=b"abc"), 400),
    Row("A11-tab-before-colon", post(b"Transfer-Encoding\t: chunked", body=EMPTY_CHUNKS), 400),
    Row("A11-any-name-with-underscore", get(b"/items", b"X_Anything: 1"), 400, "header_refused"),
]

LINES = [
    Row("A12-bare-lf-throughout", get(b"/items").replace(b"\r\n", b"\n"), 400),
    Row("A12-bare-lf-after-request-line", get(b"/items").replace(b"\r\n", b"\n", 1), 400),
    Row("A12-bare-lf-after-a-field", get(b"/items", b"X-A: b\nX-C: d"), 400),
    Row("A12-bare-lf-at-the-end", get(b"/items").removesuffix(b"\r\n") + b"\n", 400),
    Row("A12-lf-cr", get(b"/items", b"X-A: b\n\rX-C: d"), 400),
    Row("A13-bare-cr-in-a-value", get(b"/items", b"X-A: b\rX-C: d"), 400),
    Row("A13-bare-cr-in-a-name", get(b"/items", b"X-A\rB: c"), 400),
    Row("A13-bare-cr-before-crlf", get(b"/items", b"X-A: b\r"), 400),
    Row("A13-bare-cr-in-the-request-line", request(b"GET /items\r HTTP/1.1"), 400),
    Row("A14-folded-with-space", get(b"/items", b"X-A: b", b" c"), 400),
    Row("A14-folded-with-tab", get(b"/items", b"X-A: b", b"\tc"), 400),
    Row("A14-folded-empty-value", get(b"/items", b"X-A:", b" b"), 400),
    Row("A14-folded-length", post(b"Content-Length: 3", b" 4", body=b"abc"), 400),
    Row("A14-folded-coding", post(b"Transfer-Encoding:", b" chunked", body=EMPTY_CHUNKS), 400),
    Row("A15-space-before-the-first-header", request(b"GET /items HTTP/1.1\r\n X-A: b"), 400),
    Row("A15-tab-before-the-first-header", request(b"GET /items HTTP/1.1\r\n\tX-A: b"), 400),
    Row("A15-line-without-colon", get(b"/items", b"X-A"), 400),
    Row("A15-line-without-colon-first", request(b"GET /items HTTP/1.1\r\nX-A"), 400),
    Row("A15-empty-name", get(b"/items", b": b"), 400),
    Row("A15-empty-name-first", request(b"GET /items HTTP/1.1\r\n: b"), 400),
    Row("A15-name-with-space", get(b"/items", b"X A: b"), 400),
    Row("A15-name-with-parenthesis", get(b"/items", b"X(A): b"), 400),
    Row("A15-name-with-comma", get(b"/items", b"X,A: b"), 400),
    Row("A15-name-with-slash", get(b"/items", b"X/A: b"), 400),
    Row("A15-name-with-at", get(b"/items", b"X@A: b"), 400),
    Row("A15-name-with-quote", get(b"/items", b'X"A: b'), 400),
    Row("A15-name-with-brackets", get(b"/items", b"X[A]: b"), 400),
    Row("A15-name-with-high-byte", get(b"/items", b"X\x80A: b"), 400),
    Row("A15-name-with-nul", get(b"/items", b"X\x00A: b"), 400),
    *(
        Row(f"A16-control-{byte:02x}-in-a-value", get(b"/items", b"X-A: b%cd" % byte), 400)
        for byte in (*range(0x20), 0x7F)
        if byte not in b"\t\n\r"
    ),
    Row(
        "A16-tab-in-a-value-is-no-control",
        get(b"/items", b"X-A: b\tc"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", [(b"x-a", b"b\tc")]),
    ),
]

CHUNKS = [
    *(
        Row(f"A17-{name}", chunks(size + b"\r\nabc\r\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE)
        for name, size in {
            "hexadecimal-prefix": b"0x3",
            "plus-sign": b"+3",
            "minus-sign": b"-3",
            "underscore": b"3_0",
            "space-before": b" 3",
            "space-after": b"3 ",
            "tab-after": b"3\t",
            "seventeen-digits": b"0" * 16 + b"3",
            "seventeen-digits-of-overflow": b"1" + b"0" * 16,
            "no-digit": b"",
            "letter": b"g",
            "comma": b"3,3",
            "nul": b"3\x00",
            "arabic-digit": "٣".encode(),
        }.items()
    ),
    Row("A17-bare-lf-after-size", chunks(b"3\nabc\r\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A17-bare-cr-after-size", chunks(b"3\rabc\r\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row(
        "A17-sixteen-digits-are-a-size",
        chunks(b"0000000000000003\r\nabc\r\n0\r\n\r\n"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", framing=[(b"transfer-encoding", b"chunked")], body=b"abc", method=b"POST"),
    ),
    Row("A18-extension", chunks(b"3;a=b\r\nabc\r\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A18-extension-without-name", chunks(b"3;\r\nabc\r\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A18-extension-with-bare-lf", chunks(b"3;a\nb\r\nabc\r\n0\r\n\r\n"), 400, forwarded=INCOMPLETE),
    Row("A18-extension-with-bare-cr", chunks(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), 400, forwarded=INCOMPLETE),
    Row("A18-extension-on-the-last-chunk", chunks(b"3\r\nabc\r\n0;a=b\r\n\r\n"), 400, forwarded=INCOMPLETE),
    Row(
        "A18-one-byte-chunks-of-long-extensions",
        chunks((b"1;" + b"x" * 4096 + b"\r\na\r\n") * 20 + EMPTY_CHUNKS),
        400,
        forwarded=INCOMPLETE,
    ),
    Row("A19-data-without-crlf", chunks(b"3\r\nabc0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A19-data-followed-by-lf", chunks(b"3\r\nabc\n0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A19-data-followed-by-cr", chunks(b"3\r\nabc\r0\r\n\r\n"), 400, "body_malformed", forwarded=INCOMPLETE),
    Row("A19-data-followed-by-two-bytes", chunks(b"3\r\nabcXX0\r\n\r\n"), 400, forwarded=INCOMPLETE),
    Row("A20-last-chunk-without-crlf", chunks(b"3\r\nabc\r\n0\r\n"), NO_ANSWER, finishes=True, forwarded=INCOMPLETE),
    Row("A20-last-chunk-cut-short", chunks(b"3\r\nabc\r\n0"), NO_ANSWER, finishes=True, forwarded=INCOMPLETE),
    Row("A20-no-last-chunk", chunks(b"3\r\nabc\r\n"), NO_ANSWER, finishes=True, forwarded=INCOMPLETE),
    Row("A20-chunk-cut-short", chunks(b"30\r\nabc"), NO_ANSWER, finishes=True, forwarded=INCOMPLETE),
    Row("A20-nothing-of-the-body", chunks(b""), NO_ANSWER, finishes=True, forwarded=INCOMPLETE),
    Row(
        "A21-fin-before-the-length",
        post(b"Content-Length: 10", body=b"abc"),
        NO_ANSWER,
        finishes=True,
        forwarded=INCOMPLETE,
    ),
    Row(
        "A21-fin-before-the-length-of-graphql",
        post(b"Content-Length: 99", b"Content-Type: application/json", body=b'{"query":"{item}"}', target=b"/gql"),
        NO_ANSWER,
        finishes=True,
    ),
    Row("A21-fin-in-the-head", get(b"/items")[:-2], NO_ANSWER, finishes=True),
    *(
        Row(
            f"A22-{name.lower()}",
            chunks(b"3\r\nabc\r\n0\r\n" + name.encode() + b": x\r\n\r\n"),
            400,
            forwarded=INCOMPLETE,
        )
        for name in ("Authorization", "Host", "Content-Length", "X-Forwarded-For", "X-Gateway-Key-Id", "X-Harmless")
    ),
]

BODIES = [
    *(
        Row(
            f"A24-{method.lower()}-with-{name}",
            request(f"{method} {target} HTTP/1.1".encode(), field, body=body),
            400,
            "body_refused",
        )
        for (method, target), (name, field, body) in product(
            (("GET", "/items"), ("HEAD", "/items"), ("DELETE", "/items/1"), ("GET", "/public")),
            (("length", b"Content-Length: 43", NEXT), ("chunked", CHUNKED, b"2b\r\n" + NEXT + b"\r\n0\r\n\r\n")),
        )
    ),
    Row(
        "A24-get-with-a-body-of-nothing",
        get(b"/items", b"Content-Length: 0"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items"),
    ),
    Row(
        "A24-get-with-a-body-where-the-route-takes-one",
        get(b"/search", b"Content-Length: 3", body=b"abc"),
        200,
        closes=False,
        forwarded=Forwarded(b"/search", framing=[(b"content-length", b"3")], body=b"abc"),
    ),
    Row(
        "A24-get-chunked-where-the-route-takes-one",
        get(b"/search", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"),
        200,
        closes=False,
        forwarded=Forwarded(b"/search", framing=[(b"transfer-encoding", b"chunked")], body=b"abc"),
    ),
    *(
        Row(f"A25-{name}", post(b"Expect: " + value, b"Content-Length: 3", body=b"abc"), 417, "expectation_refused")
        for name, value in {
            "prefixed": b"y 100-continue",
            "nonsense": b"nonsense",
            "empty": b"",
            "list": b"100-continue, 100-continue",
            "parameter": b"100-continue;x=1",
        }.items()
    ),
    Row("A25-twice", post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), 417),
    Row(
        "A26-refused-before-a-body-that-is-a-request",
        post(b"Content-Length: %d" % len(NEXT), body=NEXT, authorization=b""),
        401,
        "credential_missing",
    ),
    Row(
        "A26-refused-before-a-chunked-body",
        post(CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(NEXT), NEXT), authorization=b""),
        401,
        "credential_missing",
    ),
    Row(
        "A26-not-found-before-a-body",
        post(b"Content-Length: %d" % len(NEXT), body=NEXT, target=b"/nothing"),
        404,
        "route_unknown",
    ),
]

REQUEST_LINES = [
    Row("A30-http-0.9", b"GET /items\r\n", 400),
    Row("A30-http-0.9-with-headers", b"GET /items\r\nHost: gateway.test\r\n\r\n", 400),
    Row("A30-version-0.9", request(b"GET /items HTTP/0.9"), 505, "version_unsupported"),
    Row("A30-no-target", request(b"GET"), 400),
    Row("A30-no-target-but-a-space", request(b"GET  HTTP/1.1"), 400),
    Row("A31-http-1.2", request(b"GET /items HTTP/1.2"), 505, "version_unsupported"),
    Row("A31-http-2.0", request(b"GET /items HTTP/2.0"), 505, "version_unsupported"),
    Row("A31-http-3.0", request(b"GET /items HTTP/3.0"), 505, "version_unsupported"),
    Row("A31-http-1.1x", request(b"GET /items HTTP/1.1x"), 400),
    Row("A31-http-1.10", request(b"GET /items HTTP/1.10"), 400),
    Row("A31-http-01.1", request(b"GET /items HTTP/01.1"), 400),
    Row("A31-http-1", request(b"GET /items HTTP/1"), 400),
    Row("A31-lower-case", request(b"GET /items http/1.1"), 400),
    Row("A31-other-protocol", request(b"GET /items RTSP/1.0"), 400),
    Row("A31-icecast", request(b"SOURCE /items ICE/1.0"), 400),
    Row(
        "A32-one-empty-line-before",
        b"\r\n" + get(b"/items"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items"),
    ),
    Row("A32-two-empty-lines-before", b"\r\n\r\n" + get(b"/items"), 400),
    Row("A32-bare-lf-before", b"\n" + get(b"/items"), 400),
    Row("A32-bare-cr-before", b"\r" + get(b"/items"), 400),
    Row("A32-space-before", b" " + get(b"/items"), 400),
    Row("A32-two-spaces-after-method", request(b"GET  /items HTTP/1.1"), 400),
    Row("A32-two-spaces-after-target", request(b"GET /items  HTTP/1.1"), 400),
    Row("A32-tab-after-method", request(b"GET\t/items HTTP/1.1"), 400),
    Row("A32-tab-after-target", request(b"GET /items\tHTTP/1.1"), 400),
    Row("A32-space-after-version", request(b"GET /items HTTP/1.1 "), 400),
    Row("A32-vertical-tab", request(b"GET\x0b/items HTTP/1.1"), 400),
    Row("A34-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_unsupported"),
    Row("A35-connect", request(b"CONNECT a:443 HTTP/1.1"), 405),
    Row("A35-connect-path", request(b"CONNECT /items HTTP/1.1"), 405),
    Row("A35-trace", request(b"TRACE /items HTTP/1.1"), 405),
    Row("A35-track", request(b"TRACK /items HTTP/1.1"), 405),
    Row("A35-debug", request(b"DEBUG /items HTTP/1.1"), 405),
    Row("A37-proxy-protocol-1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + get(b"/items"), 400),
    Row("A37-proxy-protocol-unknown", b"PROXY UNKNOWN\r\n" + get(b"/items"), 400),
    Row("A37-proxy-protocol-2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + get(b"/items"), 400),
    Row("A38-tls-client-hello", bytes.fromhex("16030102000100 01fc0303") + bytes(range(64)), 400),
]

UPGRADES = [
    Row(
        "A33-h2c",
        get(
            b"/items",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        ),
        200,
        closes=False,
        forwarded=Forwarded(b"/items"),
    ),
    Row(
        "A33-h2c-not-nominated",
        get(b"/items", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items"),
    ),
    Row(
        "A33-h2c-with-a-body",
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
        400,
    ),
    Row("A36-websocket", get(b"/items", b"Connection: Upgrade", b"Upgrade: websocket"), 403, "upgrade_refused"),
    Row("A36-websocket-any-case", get(b"/items", b"Connection: upgrade", b"Upgrade: WebSocket"), 403),
    Row("A36-websocket-not-nominated", get(b"/items", b"Upgrade: websocket"), 403),
    Row("A36-websocket-in-a-list", get(b"/items", b"Upgrade: h2c, websocket"), 403),
    Row("A36-websocket-in-two-lines", get(b"/items", b"Upgrade: h2c", b"Upgrade: websocket"), 403),
    Row(
        "A36-websocket-whole",
        get(
            b"/items",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        403,
    ),
    Row("A36-websocket-without-credential", get(b"/items", b"Upgrade: websocket", authorization=b""), 403),
]

ROWS = [*LENGTHS, *CODINGS, *LINES, *CHUNKS, *BODIES, *REQUEST_LINES, *UPGRADES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_of_group_a_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


# -- A10: every odd byte at every place of a hidden `Transfer-Encoding`

ODD_BYTES = (*range(0x21), *range(0x7F, 0x100))
PLACES = {
    "before the name": b"%bTransfer-Encoding: chunked",
    "after the name": b"Transfer-Encoding%b: chunked",
    "inside the name": b"Transfer%b-Encoding: chunked",
    "before the value": b"Transfer-Encoding: %bchunked",
    "after the value": b"Transfer-Encoding: chunked%b",
    "inside the value": b"Transfer-Encoding: chun%bked",
}
BESIDES = {"alone": b"", "beside a length": b"Content-Length: 5\r\n"}


@pytest.mark.parametrize("besides", BESIDES)
@pytest.mark.parametrize("place", PLACES)
def test_a10_a_hidden_transfer_encoding_is_refused_or_never_forwarded(
    gateway: RunningGateway, place: str, besides: str
) -> None:
    """1,944 gadgets in twelve tests: either 400, or one request whose framing is the gateway's own."""
    seen = set()
    for byte in ODD_BYTES:
        line = PLACES[place] % bytes((byte,))
        sent = with_keys(gateway, post(BESIDES[besides] + line, body=EMPTY_CHUNKS))
        gateway.upstream.clear()
        with RawClient(gateway.port) as client:
            client.send(sent)
            response = client.read()
            if response.status != 200:
                assert (response.status, client.is_ended()) == (400, True), (line, response)
        gateway.settle()

        upstream = gateway.upstream
        seen.add(response.status)
        assert upstream.faults == []
        if response.status == 400:
            assert upstream.received_bytes == 0, line
            continue
        # Only white space around the value is no part of it: then it is an honest `chunked`.
        assert byte in b"\t ", line
        assert besides == "alone", line
        assert len(upstream.requests) == 1
        framing = [field for field in upstream.requests[0].headers if b"ncoding" in field[0] or b"ength" in field[0]]
        assert framing == [(b"transfer-encoding", b"chunked")]

    assert 400 in seen


# -- what takes more than one request, or more than one side


def test_a23_a_trailer_that_comes_long_after_the_body_began_changes_nothing(gateway: RunningGateway) -> None:
    upstream = gateway.upstream
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, chunks(b"3\r\nabc\r\n")))
        upstream.wait_until(lambda: b"abc" in b"".join(bytes(c.received) for c in upstream.connections))
        client.send(b"0\r\nX-Gateway-Key-Id: admin\r\nAuthorization: Bearer other\r\nHost: evil\r\n\r\n")
        response = client.read()

        assert (response.status, response.reason) == (400, "body_malformed")
        assert client.is_ended()

    gateway.settle()
    received = b"".join(bytes(connection.received) for connection in upstream.connections)
    assert upstream.requests == []
    assert upstream.open_count == 0 or not any(c.is_open for c in upstream.connections if c.received)
    assert b"admin" not in received
    assert b"evil" not in received


def test_a21_a_reset_before_the_declared_length_never_completes_the_request(gateway: RunningGateway) -> None:
    upstream = gateway.upstream
    client = RawClient(gateway.port)
    client.send(with_keys(gateway, post(b"Content-Length: 10", body=b"abc")))
    upstream.wait_until(lambda: b"abc" in b"".join(bytes(c.received) for c in upstream.connections))
    client.reset()

    upstream.wait_until(lambda: not any(c.is_open for c in upstream.connections if c.received), "the upstream's end")
    assert upstream.requests == []


def test_a25_the_gateway_itself_says_continue_and_forwards_no_expectation(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, post(b"Expect: 100-continue", b"Content-Length: 3")))
        interim = client.read_until(b"\r\n\r\n")
        client.send(b"abc")
        response = client.read()
        check_goes_on(client)

    gateway.settle()
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert response.status == 200
    assert [sent.headers for sent in gateway.upstream.requests] == [
        gateway.head_fields(gateway.keys.a, framing=[(b"content-length", b"3")], ref=response.ref)
    ]
    assert gateway.upstream.requests[0].body == b"abc"


def test_a25_a_refused_request_is_not_invited_to_send_its_body(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(post(b"Expect: 100-continue", b"Content-Length: 3", authorization=b""))
        response = client.read()

        assert response.status == 401
        assert client.is_ended()


def test_a27_the_second_of_two_pipelined_requests_needs_its_own_credential(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items") + get(b"/items/2", authorization=b"") + get(b"/items/3")))
        responses = [client.read() for _ in range(3)]

    gateway.settle()
    assert [response.status for response in responses] == [200, 401, 200]
    assert [sent.target for sent in gateway.upstream.requests] == [b"/items", b"/items/3"]
    assert [_target(response) for response in responses] == ["/items", "", "/items/3"]


def test_a27_pipelined_answers_keep_their_order_whoever_asks(gateway: RunningGateway) -> None:
    wanted = [("a" if place % 3 else "b", b"/items/%d" % place) for place in range(60)]
    sent = b"".join(
        get(target, authorization=b"Authorization: Bearer <key:%s>\r\n" % key.encode()) for key, target in wanted
    )
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, sent))
        responses = [client.read() for _ in wanted]

    assert [(response.json()["key_id"], _target(response)) for response in responses] == [
        (getattr(gateway.keys, key).key_id.decode(), target.decode()) for key, target in wanted
    ]


def test_a28_a_connection_carries_no_identity(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        statuses = []
        for authorization in (
            b"Authorization: Bearer <key:a>\r\n",
            b"",
            b"Authorization: Bearer <key:revoked>\r\n",
            b"Authorization: Bearer <key:b>\r\n",
            b"",
        ):
            client.send(with_keys(gateway, get(b"/items", authorization=authorization)))
            statuses.append(client.read().status)

    gateway.settle()
    assert statuses == [200, 401, 401, 200, 401]
    assert [sent.values(b"x-gateway-key-id") for sent in gateway.upstream.requests] == [
        [gateway.keys.a.key_id],
        [gateway.keys.b.key_id],
    ]


@pytest.mark.parametrize("host", [b"", b"Host: a/b\r\n", b"Host: a\r\nHost: a\r\n", b"Host:\r\n"])
def test_a29_each_request_of_a_connection_must_name_a_valid_host(gateway: RunningGateway, host: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        first = client.read()
        client.send(with_keys(gateway, get(b"/items/2", host=host)))
        second = client.read()

        assert (first.status, second.status, client.is_ended()) == (200, 400, True)

    gateway.settle()
    assert [sent.target for sent in gateway.upstream.requests] == [b"/items"]


def test_a29_another_valid_host_is_the_next_requests_own(gateway: RunningGateway) -> None:
    with RawClient(gateway.port) as client:
        for host in (b"one.test", b"two.test:8080"):
            client.send(with_keys(gateway, get(b"/items", host=b"Host: " + host + b"\r\n")))
            assert client.read().status == 200

    gateway.settle()
    assert [sent.values(b"x-forwarded-host") for sent in gateway.upstream.requests] == [
        [b"one.test"],
        [b"two.test:8080"],
    ]
    assert {sent.values(b"host")[0] for sent in gateway.upstream.requests} == {gateway.authority}


def test_a38_random_bytes_end_the_connection_and_are_counted_once_each(gateway: RunningGateway) -> None:
    chance = random.Random(38)
    rounds = 64
    before = gateway.metric("bearergate_requests_total", outcome="refused")
    for _ in range(rounds):
        with RawClient(gateway.port) as client:
            client.send(bytes((chance.randrange(0x80, 0x100),)) + chance.randbytes(chance.randrange(200)))
            response = client.read()
            assert response.status == 400
            check_own_answer(response)
            assert client.is_ended()

    gateway.settle()
    assert gateway.upstream.received_bytes == 0
    assert gateway.metric("bearergate_requests_total", outcome="refused") - before == rounds


def _target(response: Response) -> str:
    return str(response.json().get("target", ""))


# -- A41 to A47 are tests/doors/threats/test_group_a_upstream.py

NOT_HERE = {
    **{f"A{number}": "the upstream's side: test_group_a_upstream.py" for number in range(41, 48)},
    "A39": "HTTP/2 is not served",
    "A40": "HTTP/2 is not served",
    "A48": "a loop through another hop is not recognised yet; one's own listener as upstream is refused at start",
}


def test_every_row_of_group_a_is_covered_or_listed() -> None:
    covered = numbers_covered(sys.modules[__name__], ROWS, "A")

    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == {f"A{number}" for number in range(1, 49)}
