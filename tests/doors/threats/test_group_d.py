"""Group D, the Bearer header: one scheme, one space, one token; what has no known shape never reaches the store."""

from __future__ import annotations

import json
import sys

import pytest

from gateway.core.token_kinds import PLACEHOLDERS
from tests.support.gateway import RunningGateway
from tests.support.raw import exchange
from tests.support.rows import INCOMPLETE, Forwarded, Row, get, numbers_covered, play, post, request, with_keys

GOOD = b"<key:a>"


def authorization(value: bytes) -> bytes:
    return b"Authorization: " + value + b"\r\n"


def bad(name: str, value: bytes, reason: str = "token_malformed") -> Row:
    """401, the connection goes on, and no key was looked for."""
    return Row(name, get(b"/items", authorization=authorization(value)), 401, reason, closes=False, asks_keys=False)


def empty(name: str, value: bytes) -> Row:
    """400 `invalid_request`: there is a header, and no token in it."""
    sent = get(b"/items", authorization=authorization(value))
    return Row(name, sent, 400, "credential_empty", closes=False, asks_keys=False)


def good(name: str, value: bytes) -> Row:
    sent = get(b"/items", authorization=authorization(value))
    return Row(name, sent, 200, closes=False, forwarded=Forwarded(b"/items"))


def missing(name: str, *fields: bytes) -> Row:
    """A credential where none is read."""
    sent = get(b"/items", *fields, authorization=b"")
    return Row(name, sent, 401, "credential_missing", closes=False, asks_keys=False)


def repeated(name: str, sent: bytes) -> Row:
    return Row(name, sent, 400, "credential_repeated", asks_keys=False)


HEADERS = [
    missing("D1-none"),
    missing("D1-another-header", b"X-Authorization: Bearer <key:a>"),
    missing("D1-authorization-with-a-letter-more", b"Authorizations: Bearer <key:a>"),
    empty("D2-empty-value", b""),
    empty("D2-spaces", b"   "),
    empty("D2-scheme-alone", b"Bearer"),
    empty("D2-scheme-and-space", b"Bearer "),
    empty("D2-scheme-and-spaces", b"Bearer    "),
    empty("D2-scheme-and-tab", b"Bearer\t"),
    empty("D2-scheme-alone-any-case", b"bEARER"),
    good("D3-lower-case", b"bearer " + GOOD),
    good("D3-upper-case", b"BEARER " + GOOD),
    good("D3-mixed-case", b"bEaReR " + GOOD),
    bad("D4-two-spaces", b"Bearer  " + GOOD),
    bad("D4-tab", b"Bearer\t" + GOOD),
    bad("D4-space-and-tab", b"Bearer \t" + GOOD),
    bad("D4-no-break-space", b"Bearer\xa0" + GOOD),
    bad("D4-no-space", b"Bearer" + GOOD),
    bad("D5-two-tokens", b"Bearer " + GOOD + b" " + GOOD),
    bad("D5-token-and-word", b"Bearer " + GOOD + b" x"),
    bad("D5-comma-without-space", b"Bearer " + GOOD + b",Bearer " + GOOD),
    bad("D5-comma-behind", b"Bearer " + GOOD + b","),
    bad("D5-quoted", b'Bearer "' + GOOD + b'"'),
    bad("D5-apostrophes", b"Bearer '" + GOOD + b"'"),
    bad("D5-equals", b"Bearer=" + GOOD),
    bad("D5-colon", b"Bearer: " + GOOD),
    bad("D5-parameter", b"Bearer token=" + GOOD),
    bad("D5-angle-brackets", b"Bearer <" + GOOD + b">"),
    bad("D5-scheme-twice", b"Bearer Bearer " + GOOD),
    *(
        bad(f"D6-{name}", value, "credential_scheme")
        for name, value in {
            "basic": b"Basic YTpi",
            "basic-with-the-token": b"Basic " + GOOD,
            "token": b"Token " + GOOD,
            "apikey": b"ApiKey " + GOOD,
            "digest": b'Digest username="a"',
            "negotiate": b"Negotiate YTpi",
            "dpop": b"DPoP " + GOOD,
            "unknown": b"Whatever " + GOOD,
            "token-alone": GOOD,
            "shorter": b"Bear " + GOOD,
            "basic-then-bearer": b"Basic YTpi, Bearer " + GOOD,
        }.items()
    ),
    bad("D6-longer-scheme", b"Bearers " + GOOD),
    repeated("D7-two-equal-lines", get(b"/items", b"Authorization: Bearer <key:a>")),
    repeated("D7-two-equal-lines-apart", get(b"/items", b"X-A: b", b"authorization: Bearer <key:a>")),
    repeated("D8-good-then-bad", get(b"/items", b"Authorization: Bearer x")),
    repeated(
        "D8-bad-then-good", get(b"/items", b"Authorization: Bearer <key:a>", authorization=authorization(b"Bearer x"))
    ),
    repeated("D8-good-then-empty", get(b"/items", b"Authorization:")),
    repeated("D8-empty-then-good", get(b"/items", b"Authorization: Bearer <key:a>", authorization=authorization(b""))),
    repeated("D8-two-people", get(b"/items", b"Authorization: Bearer <key:b>")),
    repeated("D8-on-a-public-route", get(b"/public", b"Authorization: Bearer <key:b>")),
    repeated("D9-joined", get(b"/items", authorization=authorization(b"Bearer <key:a>, Bearer <key:a>"))),
    repeated("D9-joined-with-others", get(b"/items", authorization=authorization(b"Bearer <key:a>, Bearer <key:b>"))),
    repeated("D9-joined-with-basic", get(b"/items", authorization=authorization(b"Bearer <key:a>, Basic YTpi"))),
]

TOKENS = [
    *(
        bad(f"D10-{name}", b"Bearer " + token)
        for name, token in {
            "high-bytes": b"\xff\xfe",
            "utf-8": "schlüssel".encode(),
            "good-and-high-byte": GOOD + b"\xff",
            "high-byte-and-good": b"\xff" + GOOD,
            "fullwidth-dot": "e5c3b842231543f．mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3".encode(),
            "emoji": "🔑".encode(),
        }.items()
    ),
    *(
        Row(
            f"D10-control-{byte:02x}",
            get(b"/items", authorization=authorization(b"Bearer " + GOOD + bytes((byte,)))),
            400,
        )
        for byte in (0x00, 0x07, 0x0B, 0x1B, 0x7F)
    ),
    bad("D11-8185-bytes", b"Bearer " + b"a" * 8185),
    Row("D11-8186-bytes", get(b"/items", authorization=authorization(b"Bearer " + b"a" * 8186)), 431, asks_keys=False),
    bad("D11-a-kibibyte-of-key", b"Bearer e5c3b842231543f." + b"a" * 1024),
    Row(
        "D11-a-mebibyte",
        get(b"/items", authorization=authorization(b"Bearer " + b"a" * (1 << 20))),
        431,
        "head_too_large",
        asks_keys=False,
    ),
    *(
        bad(f"D12-{placeholder.decode()}", b"Bearer " + placeholder, "token_placeholder")
        for placeholder in sorted(PLACEHOLDERS)
    ),
    *(
        bad(f"D12-any-case-{placeholder.decode()}", b"Bearer " + placeholder, "token_placeholder")
        for placeholder in (b"Undefined", b"NULL", b"[object Object]", b"$TOKEN", b"{{token}}", b"YOUR_API_KEY")
    ),
    bad("D13-space-behind", b"Bearer " + GOOD + b" "),
    bad("D13-tab-behind", b"Bearer " + GOOD + b"\t"),
    good("D13-white-space-before-the-scheme-is-no-part-of-the-value", b" \t Bearer " + GOOD),
    bad("D13-encoded-space", b"Bearer %20" + GOOD),
    bad("D13-encoded-space-behind", b"Bearer " + GOOD + b"%20"),
    bad("D13-encoded-dot", b"Bearer e5c3b842231543f%2EmGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"),
    bad("D13-plus-for-space", b"Bearer +" + GOOD),
    bad("D13-backslash-n", b"Bearer " + GOOD + b"\\n"),
    missing("D14-cookie", b"Cookie: token=<key:a>; Authorization=Bearer <key:a>"),
    missing("D14-x-api-key", b"X-Api-Key: <key:a>"),
    missing("D14-x-auth-token", b"X-Auth-Token: <key:a>"),
    missing("D14-x-access-token", b"X-Access-Token: <key:a>"),
    Row(
        "D14-query",
        get(b"/items?access_token=<key:a>", authorization=b""),
        401,
        "credential_in_query",
        closes=False,
        asks_keys=False,
    ),
    Row(
        "D14-form",
        post(
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: 20",
            body=b"access_token=" + b"a" * 7,
            authorization=b"",
        ),
        401,
        "credential_missing",
        asks_keys=False,
    ),
    Row(
        "D14-user-in-the-target",
        get(b"http://a:b@gateway.test/items", authorization=b""),
        400,
        "target_refused",
        asks_keys=False,
    ),
    repeated("D15-header-and-query-of-another", get(b"/items?access_token=<key:b>")),
    repeated("D15-header-and-query-of-the-same", get(b"/items?token=<key:a>")),
    repeated("D15-bad-header-and-query", get(b"/items?token=<key:a>", authorization=authorization(b"Bearer x"))),
    Row(
        "D16-bad-on-a-public-route",
        get(b"/public", authorization=authorization(b"Bearer x")),
        401,
        "token_malformed",
        closes=False,
    ),
    Row(
        "D16-unknown-on-a-public-route",
        get(b"/public", authorization=authorization(b"Bearer <key:unknown>")),
        401,
        "token_unknown",
        closes=False,
    ),
    Row(
        "D16-revoked-on-a-public-route",
        get(b"/public", authorization=authorization(b"Bearer <key:revoked>")),
        401,
        "token_revoked",
        closes=False,
    ),
    Row(
        "D16-other-scheme-on-a-public-route",
        get(b"/public", authorization=authorization(b"Basic YTpi")),
        401,
        "credential_scheme",
        closes=False,
    ),
    Row(
        "D16-empty-on-a-public-route",
        get(b"/public", authorization=authorization(b"")),
        400,
        "credential_empty",
        closes=False,
    ),
    Row(
        "D17-token-in-a-trailer-alone",
        post(
            b"Transfer-Encoding: chunked",
            b"Trailer: Authorization",
            body=b"3\r\nabc\r\n0\r\nAuthorization: Bearer <key:a>\r\n\r\n",
            authorization=b"",
        ),
        401,
        "credential_missing",
        asks_keys=False,
    ),
    Row(
        "D17-token-in-a-trailer-beside-a-header",
        post(
            b"Transfer-Encoding: chunked",
            body=b"3\r\nabc\r\n0\r\nAuthorization: Bearer <key:b>\r\n\r\n",
        ),
        400,
        "body_malformed",
        forwarded=INCOMPLETE,
    ),
    bad("D18-upper-case-hexadecimal", b"Bearer 0123456789ABCDEF0123456789ABCDEF"),
    bad("D18-mixed-case-hexadecimal", b"Bearer 0123456789abcdef0123456789abcdeF"),
    Row(
        "D18-lower-case-hexadecimal",
        get(b"/items", authorization=authorization(b"Bearer <key:legacy>")),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", key="legacy"),
    ),
    Row(
        "D20-folded",
        get(b"/items", authorization=b"Authorization: Bearer\r\n <key:a>\r\n"),
        400,
        asks_keys=False,
    ),
    Row(
        "D20-folded-behind",
        get(b"/items", authorization=b"Authorization: Bearer <key:a>\r\n \r\n"),
        400,
        asks_keys=False,
    ),
    missing("D21-proxy-authorization", b"Proxy-Authorization: Bearer <key:a>"),
    Row(
        "D21-proxy-authorization-beside-a-bad-one",
        get(b"/items", b"Proxy-Authorization: Bearer <key:a>", authorization=authorization(b"Bearer x")),
        401,
        "token_malformed",
        closes=False,
        asks_keys=False,
    ),
    missing("D22-websocket-protocol", b"Sec-WebSocket-Protocol: bearer, <key:a>"),
    Row(
        "D22-websocket",
        get(
            b"/items",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Protocol: bearer, <key:a>",
            authorization=b"",
        ),
        403,
        "upgrade_refused",
        asks_keys=False,
    ),
]

ROWS = [*HEADERS, *TOKENS]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_of_group_d_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


def test_d1_a_challenge_without_a_credential_names_no_error(gateway: RunningGateway) -> None:
    response = exchange(gateway.port, get(b"/items", authorization=b""))

    assert response.values(b"www-authenticate") == [b'Bearer realm="bearergate"']


@pytest.mark.parametrize(
    "value", [b"Bearer x", b"Bearer <key:unknown>", b"Bearer <key:revoked>", b"Bearer <key:expired>"]
)
def test_d1_a_challenge_after_a_credential_names_the_error(gateway: RunningGateway, value: bytes) -> None:
    sent = with_keys(gateway, get(b"/items", authorization=authorization(value)))
    challenge = exchange(gateway.port, sent).header(b"www-authenticate")

    assert challenge is not None
    assert challenge.startswith(b'Bearer realm="bearergate", error="invalid_token"')


def test_d2_an_empty_credential_is_told_as_an_invalid_request(gateway: RunningGateway) -> None:
    challenge = exchange(gateway.port, get(b"/items", authorization=authorization(b"Bearer"))).header(
        b"www-authenticate"
    )

    assert challenge is not None
    assert b'error="invalid_request"' in challenge


@pytest.mark.parametrize("path", [b"/items", b"/public", b"/nothing", b"/gql"])
def test_d16_a_bad_credential_is_401_on_every_path(gateway: RunningGateway, path: bytes) -> None:
    method = b"POST " if path == b"/gql" else b"GET "
    sent = request(method + path + b" HTTP/1.1", authorization=authorization(b"Bearer <key:unknown>"))
    response = exchange(gateway.port, with_keys(gateway, sent))

    assert response.status == 401
    assert gateway.upstream.settled().received_bytes == 0


def test_d16_a_refusal_on_a_graphql_route_speaks_graphql(gateway: RunningGateway) -> None:
    response = exchange(gateway.port, request(b"POST /gql HTTP/1.1", authorization=b""))

    assert response.status == 401
    assert response.header(b"www-authenticate") == b'Bearer realm="bearergate"'
    assert json.loads(response.body)["errors"][0]["extensions"]["code"] == "CREDENTIAL_MISSING"


NOT_HERE = {
    "D19": "in group F, where tokens are verified",
}


def test_every_row_of_group_d_is_covered_or_listed() -> None:
    covered = numbers_covered(sys.modules[__name__], ROWS, "D")

    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == {f"D{number}" for number in range(1, 23)}
