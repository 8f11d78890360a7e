"""Group B, the request target: what is judged is what is sent, so a path of two readings is refused, never repaired."""

from __future__ import annotations

import sys

import pytest

from tests.support.gateway import RunningGateway
from tests.support.raw import exchange
from tests.support.rows import Forwarded, Row, get, numbers_covered, play, request, with_keys

REFUSED = "target_refused"


def refused(name: str, target: bytes) -> Row:
    """The target has no canonical form: 400, and the connection ends."""
    return Row(name, get(target), 400, REFUSED)


def malformed(name: str, target: bytes) -> Row:
    """The target cannot stand in a request line at all."""
    return Row(name, get(target), 400)


def unmatched(name: str, target: bytes) -> Row:
    """The target is canonical, and no rule has it: 404 with a good key."""
    return Row(name, get(target), 404, "route_unknown", closes=False)


def passed(name: str, target: bytes, *fields: bytes, client: tuple[tuple[bytes, bytes], ...] = ()) -> Row:
    return Row(name, get(target, *fields), 200, closes=False, forwarded=Forwarded(target, client))


PATHS = [
    refused("B1-dot-dot", b"/public/../admin"),
    refused("B1-dot-dot-from-the-root", b"/../admin"),
    refused("B1-dot-dot-at-the-end", b"/items/.."),
    refused("B2-encoded-dots", b"/public/%2e%2e/admin"),
    refused("B2-half-encoded-dots", b"/public/.%2e/admin"),
    refused("B2-other-half-encoded-dots", b"/public/%2e./admin"),
    refused("B2-upper-case", b"/public/%2E%2E/admin"),
    refused("B3-encoded-slash", b"/public/..%2fadmin"),
    refused("B3-encoded-slash-upper-case", b"/public/..%2Fadmin"),
    refused("B3-all-encoded", b"/public%2f%2e%2e%2fadmin"),
    refused("B4-encoded-slash-in-a-parameter", b"/items/a%2Fb"),
    refused("B4-encoded-slash-in-a-parameter-lower-case", b"/items/a%2fb"),
    refused("B5-encoded-backslash", b"/items/a%5cb"),
    refused("B5-encoded-backslash-upper-case", b"/items/a%5Cb"),
    refused("B5-raw-backslash", b"/items/a\\b"),
    refused("B5-backslash-dots", b"/public\\..\\admin"),
    refused("B6-two-slashes-first", b"//admin"),
    refused("B6-two-slashes-inside", b"/items//2"),
    refused("B6-three-slashes", b"/api//v2///x"),
    refused("B6-slashes-alone", b"///"),
    refused("B6-two-slashes-at-the-end", b"/items//"),
    unmatched("B7-slash-at-the-end", b"/items/"),
    Row("B7-slash-at-the-end-of-admin", get(b"/admin/"), 404, "route_unknown", closes=False),
    Row("B7-without-it-the-rule-holds", get(b"/admin"), 403, "scope_missing", closes=False),
    unmatched("B7-root", b"/"),
    refused("B8-dot-first", b"/./admin"),
    refused("B8-dot-last", b"/admin/."),
    refused("B8-dot-dot-last", b"/admin/.."),
    refused("B8-encoded-dot", b"/%2e/admin"),
    refused("B9-parameter", b"/admin;x=1"),
    refused("B9-parameter-and-dots", b"/public;/../admin"),
    refused("B9-dots-and-semicolon", b"/..;/admin"),
    refused("B9-semicolon-in-a-parameter", b"/items/a;b"),
    refused("B9-encoded-semicolon", b"/items/a%3bb"),
    refused("B9-encoded-semicolon-upper-case", b"/items/a%3Bb"),
    refused("B10-nul-and-suffix", b"/admin%00.css"),
    refused("B10-nul-in-a-parameter", b"/items/a%00"),
    refused("B10-nul-in-the-query", b"/items?a=%00"),
    malformed("B10-raw-nul", b"/items/a\x00"),
    refused("B11-double-encoded-dots", b"/public/%252e%252e/admin"),
    refused("B11-double-encoded-slash", b"/public%252fadmin"),
    refused("B11-encoded-percent", b"/items/a%25"),
    refused("B12-overlong-slash", b"/items/%C0%AF"),
    refused("B12-overlong-slash-lower-case", b"/items/%c0%af"),
    refused("B12-overlong-of-three", b"/items/%E0%80%AF"),
    refused("B12-overlong-of-four", b"/items/%F0%80%80%AF"),
    refused("B12-lone-ff", b"/items/%FF"),
    refused("B12-lone-continuation", b"/items/%80"),
    refused("B12-surrogate", b"/items/%ED%A0%80"),
    refused("B12-beyond-unicode", b"/items/%F4%90%80%80"),
    refused("B12-cut-short", b"/items/%E2%84"),
    refused("B13-no-hexadecimal", b"/items/%zz"),
    refused("B13-one-digit", b"/items/%1"),
    refused("B13-percent-at-the-end", b"/items/a%"),
    refused("B13-percent-u", b"/items/%u0041"),
    refused("B13-half-hexadecimal", b"/items/%2g"),
    refused("B13-percent-in-the-query", b"/items?a=%zz"),
    refused("B13-percent-at-the-end-of-the-query", b"/items?a=%"),
    *(
        malformed(f"B14-raw-{byte:02x}", b"/items/a%cb" % byte)
        for byte in (*range(0x21), 0x7F, 0x80, 0xA0, 0xC3, 0xFF)
        if byte not in b"\r\n"
    ),
    malformed("B14-raw-utf-8", "/items/ä".encode()),
    malformed("B14-raw-high-byte-in-the-query", b"/items?a=\xff"),
    malformed("B14-raw-space-in-the-query", b"/items?a=b c"),
    malformed("B14-raw-tab-in-the-query", b"/items?a=b\tc"),
    *(refused(f"B14-raw-{byte:02x}-in-a-path", b"/items/a%cb" % byte) for byte in b'"<>^`{|}'),
    *(refused(f"B14-raw-{byte:02x}-in-a-query", b"/items?a=b%cc" % byte) for byte in b'"<>'),
    refused("B15-encoded-question-mark", b"/items%3fa=b"),
    refused("B15-encoded-question-mark-upper-case", b"/items%3Fa=b"),
    refused("B15-encoded-hash", b"/items%23a"),
    refused("B16-hash-and-dots", b"/public#/../admin"),
    refused("B16-hash-at-the-end", b"/items#"),
    refused("B16-hash-in-the-query", b"/items?a=b#c"),
    unmatched("B17-upper-case", b"/ADMIN"),
    unmatched("B17-capital", b"/Admin"),
    unmatched("B17-capital-items", b"/Items"),
    refused("B18-encoded-letter", b"/%61dmin"),
    refused("B18-encoded-letter-in-a-parameter", b"/items/%41"),
    refused("B18-encoded-digit", b"/items/%31"),
    refused("B18-encoded-hyphen", b"/items/a%2Db"),
    refused("B18-encoded-tilde", b"/items/%7Ea"),
    refused("B18-lower-case-hexadecimal", b"/items/%c3%a4"),
    refused("B19-absolute-form", b"http://gateway.test/items"),
    refused("B19-absolute-form-of-another-host", b"http://evil.test/items"),
    refused("B19-absolute-form-with-user", b"http://gateway.test@evil.test/items"),
    refused("B19-absolute-form-of-https", b"https://gateway.test/items"),
    refused("B19-absolute-form-of-file", b"file:///etc/passwd"),
    refused("B19-absolute-form-without-path", b"http://gateway.test"),
    refused("B20-asterisk", b"*"),
    malformed("B20-no-slash", b"admin"),
    malformed("B20-host-and-port", b"a:80"),
    malformed("B20-query-alone", b"?a=b"),
    Row("B20-options-asterisk", request(b"OPTIONS * HTTP/1.1"), 400, REFUSED),
    unmatched("B21-fullwidth-solidus", b"/items/a%EF%BC%8Fb"),
    unmatched("B21-composed", b"/items/%C3%A4"),
    unmatched("B21-decomposed", b"/items/a%CC%88"),
    unmatched("B21-kelvin-sign", b"/items/%E2%84%AA"),
    unmatched("B21-dotless-i", b"/%C4%B1tems"),
    unmatched("B21-zero-width-joiner", b"/items%E2%80%8D"),
    refused("B22-encoded-dots-as-parameter", b"/users/%2e%2e"),
    refused("B22-dots-as-parameter", b"/users/.."),
    refused("B22-dot-as-parameter", b"/users/."),
    passed("B22-three-dots-are-a-value", b"/users/..."),
    unmatched("B23-empty-parameter", b"/users/"),
    unmatched("B23-long-parameter", b"/users/" + b"a" * 129),
    passed("B23-longest-parameter", b"/users/" + b"a" * 128),
    unmatched("B23-5000-bytes", b"/users/" + b"a" * 5000),
    unmatched("B23-comma", b"/users/a,b"),
    unmatched("B23-colon", b"/users/a:b"),
    unmatched("B23-at", b"/users/a@b"),
    unmatched("B23-plus", b"/users/a+b"),
    unmatched("B23-asterisk", b"/users/*"),
    unmatched("B23-encoded-space", b"/users/a%20b"),
    malformed("B23-space", b"/users/a b"),
    passed("B23-every-unreserved-character", b"/users/Aa09._~-"),
    refused("B24-encoded-newline", b"/admin%0a"),
    refused("B24-encoded-newline-upper-case", b"/admin%0A"),
    refused("B24-encoded-carriage-return", b"/admin%0D"),
    refused("B24-encoded-del", b"/admin%7F"),
    Row("B25-the-literal-wins", get(b"/users/me"), 403, "scope_missing", closes=False),
    passed("B25-the-parameter-takes-the-rest", b"/users/mes"),
    unmatched("B33-no-prefix-of-a-rule", b"/itemsadmin"),
    unmatched("B33-no-rule-is-a-prefix", b"/items/1/2"),
    unmatched("B33-public-is-no-prefix", b"/public/admin"),
    refused("B34-dots-behind-a-prefix", b"/items/../admin"),
    unmatched("B34-prefix-and-dots-in-one-segment", b"/items../admin"),
    refused("B34-prefix-and-encoded-dots", b"/items%2f..%2fadmin"),
    refused("B35-decoded-it-would-be-a-rule", b"/it%65ms"),
    malformed("B35-encoded-slash-that-decodes-to-a-rule", b"%2Fitems"),
    unmatched("B36-the-host-is-no-part-of-the-path", b"/gateway.test/items"),
    Row("B36-a-path-in-the-host", get(b"/items", host=b"Host: gateway.test/admin?\r\n"), 400, "host_invalid"),
]

OVERRIDES = [
    *(
        passed(f"B26-{name.decode().lower()}", b"/items", name + b": /admin")
        for name in (
            b"X-Original-URL",
            b"X-Original-Uri",
            b"X-Rewrite-URL",
            b"X-Forwarded-Uri",
            b"X-Forwarded-Path",
            b"X-Forwarded-Prefix",
            b"X-Forwarded-Method",
            b"X-Original-Method",
            b"X-Envoy-Original-Path",
        )
    ),
    *(
        Row(f"B27-{name.decode().lower()}", get(b"/items", name + b": DELETE"), 400, "header_refused")
        for name in (b"X-HTTP-Method-Override", b"x-http-method", b"X-METHOD-OVERRIDE", b"X.HTTP.Method.Override")
    ),
    # The query is the upstream's own: that it obeys `_method` is said in its documentation, and ours.
    passed("B27-query", b"/items?_method=DELETE"),
    *(
        Row(f"B28-{name}", request(line), 405, "method_unknown")
        for name, line in {
            "upper-case-but-unknown": b"FOO /items HTTP/1.1",
            "propfind": b"PROPFIND /items HTTP/1.1",
            "connect": b"CONNECT /items HTTP/1.1",
            "link": b"LINK /items HTTP/1.1",
        }.items()
    ),
    Row("B28-lower-case", request(b"get /items HTTP/1.1"), 405, "method_unknown"),
    Row("B28-mixed-case", request(b"GeT /items HTTP/1.1"), 405, "method_unknown"),
    Row("B28-prefix-of-a-method", request(b"GE /items HTTP/1.1"), 405, "method_unknown"),
    Row("B28-longer-than-a-method", request(b"GETS /items HTTP/1.1"), 405, "method_unknown"),
    Row("B28-punctuation-at-the-end", request(b"GET? /items HTTP/1.1"), 400),
    Row("B28-punctuation-inside", request(b'G=":<>e /items HTTP/1.1'), 400),
    Row("B28-nul-inside", request(b"GE\x00T /items HTTP/1.1"), 400),
    Row(
        "B28-no-rule-for-the-method",
        request(b"DELETE /items HTTP/1.1"),
        405,
        "method_not_allowed",
        closes=False,
        allow=b"GET, HEAD, POST",
    ),
    Row(
        "B28-no-rule-for-the-method-and-no-credential",
        request(b"DELETE /items HTTP/1.1", authorization=b""),
        401,
        closes=False,
    ),
    Row(
        "B29-head-follows-get",
        request(b"HEAD /items HTTP/1.1"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", method=b"HEAD"),
    ),
    Row("B29-head-where-get-is-forbidden", request(b"HEAD /admin HTTP/1.1"), 403, closes=False),
    Row("B29-head-without-credential", request(b"HEAD /items HTTP/1.1", authorization=b""), 401, closes=False),
    Row("B29-head-where-there-is-no-get", request(b"HEAD /uploads HTTP/1.1"), 405, closes=False, allow=b"POST"),
    Row("B29-options-has-no-rule", request(b"OPTIONS /items HTTP/1.1"), 405, "method_not_allowed", closes=False),
    Row(
        "B29-preflight",
        request(
            b"OPTIONS /items HTTP/1.1",
            b"Origin: https://evil.test",
            b"Access-Control-Request-Method: GET",
            b"Access-Control-Request-Headers: Authorization",
            authorization=b"",
        ),
        401,
        closes=False,
    ),
    Row("B30-target-of-8193-bytes", get(b"/items?" + b"a" * 8186), 414, "target_too_long"),
    passed("B30-target-of-8192-bytes", b"/items?" + b"a" * 8185),
    Row("B30-target-of-70000-bytes", get(b"/items?" + b"a" * 70_000), 414, "target_too_long"),
    Row("B30-path-of-70000-bytes", get(b"/items/" + b"a" * 70_000), 414, "target_too_long"),
]

QUERIES = [
    passed("B31-repeated", b"/items?a=1&a=2"),
    passed("B31-brackets", b"/items?a[]=1&a[0]=2"),
    passed("B31-semicolon", b"/items?a=1;b=2"),
    passed("B31-empty", b"/items?"),
    passed("B31-second-question-mark", b"/items?a=?"),
    passed("B31-dots", b"/items?a=/../admin"),
    passed("B31-encoded", b"/items?a=%2f%2E%c0%af"),
    *(
        Row(f"B32-{name}-alone", get(b"/items?" + query, authorization=b""), 401, "credential_in_query", closes=False)
        for name, query in {
            "access_token": b"access_token=<key:a>",
            "api_key": b"api_key=<key:a>",
            "token": b"token=<key:a>",
            "upper-case": b"ACCESS_TOKEN=<key:a>",
            "encoded-name": b"access%5Ftoken=<key:a>",
            "encoded-letter": b"%74oken=<key:a>",
            "second": b"a=b&token=<key:a>",
            "behind-a-semicolon": b"a=b;token=<key:a>",
            "empty": b"token",
        }.items()
    ),
    Row("B32-beside-a-header", get(b"/items?access_token=<key:a>"), 400, "credential_repeated"),
    Row("B32-beside-a-header-of-another", get(b"/items?access_token=<key:b>"), 400, "credential_repeated"),
    Row(
        "B32-on-a-public-route",
        get(b"/public?token=<key:a>", authorization=b""),
        401,
        "credential_in_query",
        closes=False,
    ),
    passed("B32-another-name", b"/items?tokens=1&my_token=2&access-token=3"),
]

ROWS = [*PATHS, *OVERRIDES, *QUERIES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_of_group_b_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


@pytest.mark.parametrize("target", [b"/nothing", b"/admin", b"/items", b"/users/1", b"/users/me"])
def test_b7_to_nobody_every_path_looks_alike(gateway: RunningGateway, target: bytes) -> None:
    play(gateway, Row("B7-nobody", get(target, authorization=b""), 401, "credential_missing", closes=False))


PLAIN = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def test_b18_each_byte_has_one_spelling_or_none_in_a_parameter(gateway: RunningGateway) -> None:
    """Raw, encoded in upper case and in lower case: at most one of the three is ever forwarded, and as it came."""
    for byte in set(range(0x100)) - {ord("?")}:  # where the query begins
        for spelling in {bytes((byte,)), b"%%%02X" % byte, b"%%%02x" % byte}:
            row = (
                passed("B18", b"/users/a" + spelling)
                if byte in PLAIN and len(spelling) == 1
                else Row("B18", get(b"/users/a" + spelling), 0)
            )
            if row.status == 200:
                play(gateway, row)
                continue
            gateway.upstream.clear()
            status = _status(gateway, row.sent)
            assert status in (400, 404), (spelling, status)
            assert gateway.upstream.settled().received_bytes == 0, spelling


def _status(gateway: RunningGateway, sent: bytes) -> int:
    return exchange(gateway.port, with_keys(gateway, sent)).status


NOT_HERE: dict[str, str] = {}


def test_every_row_of_group_b_is_covered_or_listed() -> None:
    covered = numbers_covered(sys.modules[__name__], ROWS, "B")

    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == {f"B{number}" for number in range(1, 37)}
