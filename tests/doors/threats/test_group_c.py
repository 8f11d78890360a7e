"""Group C, headers and identity: the upstream's request is built from nothing, and its answer is passed on cleaned."""

from __future__ import annotations

import sys

import pytest

from gateway.core.answers import REALM
from tests.support.gateway import RunningGateway
from tests.support.raw import RawClient, Response, exchange
from tests.support.recording_upstream import answer
from tests.support.rows import Forwarded, Row, get, numbers_covered, play, post, request, with_keys

OK = b"HTTP/1.1 200 OK\r\n"


def gone(name: str, *fields: bytes) -> Row:
    """The request passes, and nothing of these fields does."""
    return Row(name, get(b"/items", *fields), 200, closes=False, forwarded=Forwarded(b"/items"))


def gone_to_the_public(name: str, *fields: bytes) -> Row:
    """The same on a public route, where there is nobody to name: every identity header is there, and empty."""
    sent = get(b"/public", *fields, authorization=b"")
    return Row(name, sent, 200, closes=False, forwarded=Forwarded(b"/public", key=""))


def kept(name: str, *fields: tuple[bytes, bytes], client: tuple[tuple[bytes, bytes], ...] | None = None) -> Row:
    """The request passes with these fields, names in lower case, values byte for byte."""
    sent = get(b"/items", *(name + b": " + value for name, value in fields))
    through = tuple((name.lower(), value) for name, value in fields) if client is None else client
    return Row(name, sent, 200, closes=False, forwarded=Forwarded(b"/items", through))


def graphql(*fields: bytes, body: bytes = b'{"query":"{item}"}') -> bytes:
    return post(*fields, b"Content-Length: %d" % len(body), body=body, target=b"/gql")


JSON = b"Content-Type: application/json"
CANONICAL = b'{"query":"{\\n  item\\n}"}'

IDENTITY = (b"Kind", b"Key-Id", b"App-Id", b"User-Id", b"Scopes", b"Request-Id")

NOMINATIONS = [
    gone("C1-authorization", b"Connection: Authorization"),
    Row(
        "C1-close-and-authorization",
        get(b"/items", b"Connection: close, authorization"),
        200,
        forwarded=Forwarded(b"/items"),
    ),
    gone("C2-identity", b"Connection: X-Forwarded-For, X-Gateway-Key-Id, X-Gateway-Scopes"),
    gone("C2-every-identity-header", *(b"Connection: X-Gateway-" + name for name in IDENTITY)),
    gone("C2-via-and-forwarded-host", b"Connection: Via, X-Forwarded-Host, X-Forwarded-Proto, Host"),
    Row(
        "C3-host-length-cookie",
        post(b"Connection: host, content-length, cookie", b"Cookie: a=b", b"Content-Length: 3", body=b"abc"),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", [(b"cookie", b"a=b")], [(b"content-length", b"3")], body=b"abc", method=b"POST"),
    ),
    Row(
        "C3-transfer-encoding-and-content-type",
        post(
            b"Connection: transfer-encoding, content-type, content-encoding",
            b"Content-Type: text/plain",
            b"Content-Encoding: gzip",
            b"Transfer-Encoding: chunked",
            body=b"3\r\nabc\r\n0\r\n\r\n",
        ),
        200,
        closes=False,
        forwarded=Forwarded(
            b"/items",
            [(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")],
            [(b"transfer-encoding", b"chunked")],
            body=b"abc",
            method=b"POST",
        ),
    ),
    *(
        kept(f"C3-{name.decode()}", (name, b"x"), (b"Connection", name), client=((name, b"x"),))
        for name in (b"origin", b"accept", b"user-agent", b"range", b"if-range", b"cookie")
    ),
    gone("C3-a-field-of-ones-own-is-hop-by-hop", b"X-Mine: 1", b"Connection: x-mine"),
    gone("C3-in-two-lines", b"X-Mine: 1", b"Connection: keep-alive", b"X-Yours: 2", b"Connection: X-Yours,x-mine"),
]

IDENTITIES = [
    *(gone(f"C4-{name.decode().lower()}", b"X-Gateway-" + name + b": admin") for name in (*IDENTITY, b"Anything")),
    *(
        gone_to_the_public(f"C4-{name.decode().lower()}-to-the-public", b"X-Gateway-" + name + b": admin")
        for name in IDENTITY
    ),
    gone("C4-any-case", b"x-GATEWAY-key-ID: admin"),
    gone("C4-prefix-alone", b"X-Gateway: admin", b"X-Gateway-: admin"),
    Row("C5-underscores", get(b"/items", b"X_Gateway_Key_Id: admin"), 400, "header_refused"),
    Row("C5-one-underscore", get(b"/items", b"X-Gateway-Key_Id: admin"), 400, "header_refused"),
    Row("C5-underscore-on-a-public-route", get(b"/public", b"X_Gateway_Key_Id: admin"), 400, "header_refused"),
    gone("C5-dots", b"X.Gateway.Key.Id: admin"),
    gone("C5-one-dot", b"X-Gateway.Key-Id: admin"),
    gone("C5-dots-of-forwarded", b"X.Forwarded.For: 192.0.2.1", b"X.Real.Ip: 192.0.2.1"),
    Row("C5-space-behind-the-name", get(b"/items", b"X-Gateway-Key-Id : admin"), 400),
    Row("C5-nul-in-the-name", get(b"/items", b"X-Gateway-Key-Id\x00: admin"), 400),
    gone("C6-three-times", *(b"X-Gateway-Key-Id: admin",) * 3),
    gone("C6-joined", b"X-Gateway-Key-Id: admin, root"),
    *(
        gone(f"C7-{name.decode().lower()}", name + b": 192.0.2.1")
        for name in (
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"X-Forwarded-Host",
            b"X-Forwarded-Port",
            b"X-Forwarded-Prefix",
            b"X-Forwarded-Server",
            b"X-Forwarded-Uri",
            b"X-Forwarded-Method",
            b"X-Forwarded-Client-Cert",
            b"X-Forwarded",
            b"X-Real-IP",
            b"Forwarded",
            b"CF-Connecting-IP",
            b"True-Client-IP",
            b"X-Client-IP",
            b"X-Cluster-Client-IP",
            b"X-Envoy-External-Address",
            b"Via",
            b"X-Request-Id",
        )
    ),
    gone_to_the_public("C7-to-the-public", b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1;proto=https"),
]

HOSTS = [
    Row("C9-no-host", get(b"/items", host=b""), 400, "host_invalid"),
    Row("C9-no-host-in-http-1.0", request(b"GET /items HTTP/1.0", host=b""), 400, "host_invalid"),
    Row("C9-two-hosts", get(b"/items", b"Host: gateway.test"), 400, "host_invalid"),
    Row("C9-two-other-hosts", get(b"/items", b"Host: evil.test"), 400, "host_invalid"),
    Row("C9-two-hosts-in-another-case", get(b"/items", b"hOST: evil.test"), 400, "host_invalid"),
    *(
        Row(f"C9-{name}", get(b"/items", host=b"Host: " + value + b"\r\n"), 400, "host_invalid")
        for name, value in {
            "list": b"a, b",
            "list-without-space": b"a,b",
            "path-and-user": b"a/b@c",
            "path": b"a/b",
            "user": b"a@b",
            "password": b"a:b@c",
            "empty": b"",
            "port-out-of-range": b"a:99999",
            "port-of-letters": b"a:b",
            "port-with-sign": b"a:+80",
            "port-alone": b":80",
            "two-ports": b"a:80:81",
            "port-empty": b"a:",
            "bracket-open": b"[::1",
            "bracket-closed-alone": b"::1]",
            "brackets-empty": b"[]",
            "no-brackets": b"::1",
            "zone": b"[fe80::1%25eth0]",
            "space": b"a b",
            "query": b"a?b",
            "hash": b"a#b",
            "backslash": b"a\\b",
            "percent": b"a%2eb",
            "quote": b'"a"',
            "scheme": b"http://a",
            "high-byte": b"\xe4.test",
            "long": b"a" * 254,
        }.items()
    ),
    *(
        Row(
            f"C9-good-{name}",
            get(b"/items", host=b"Host: " + value + b"\r\n"),
            200,
            closes=False,
            forwarded=Forwarded(b"/items", host=value),
        )
        for name, value in {"port": b"a.test:8080", "address": b"192.0.2.1", "brackets": b"[2001:db8::1]:443"}.items()
    ),
    # Which host a client names decides nothing here: every host has the one policy, and the upstream's own `Host`.
    *(
        Row(
            f"C12-{name}",
            get(b"/items", host=b"Host: " + value + b"\r\n"),
            200,
            closes=False,
            forwarded=Forwarded(b"/items", host=value),
        )
        for name, value in {
            "metadata-address": b"169.254.169.254",
            "loopback": b"localhost:6379",
            "another-tenant": b"admin.internal",
        }.items()
    ),
]

STRIPPED = [
    *(
        gone(f"C13-{name.decode().lower()}", name + b": " + value)
        for name, value in (
            (b"Proxy-Authorization", b"Basic YTpi"),
            (b"Proxy-Authenticate", b"Basic"),
            (b"Proxy", b"http://evil.test"),
            (b"Proxy-Connection", b"keep-alive"),
            (b"Keep-Alive", b"timeout=5"),
            (b"TE", b"trailers"),
            (b"Trailer", b"X-A"),
            (b"Upgrade", b"h2c"),
            (b"HTTP2-Settings", b"AAMAAABk"),
            (b"Connection", b"keep-alive"),
            (b"Connection", b""),
            (b"Connection", b", ,"),
        )
    ),
    gone("C14-the-credential-itself"),
    gone("C14-x-api-key", b"X-Api-Key: <key:a>"),
    Row(
        "C14-a-good-credential-on-a-public-route",
        get(b"/public"),
        200,
        closes=False,
        forwarded=Forwarded(b"/public"),
    ),
    kept("C17-invalid-utf-8", (b"X-A", b"\xff\xfe\xc0\xaf")),
    kept("C17-latin-1", (b"X-A", b"caf\xe9")),
    Row(
        "C17-in-authorization",
        get(b"/items", authorization=b"Authorization: Bearer \xff\xfe\r\n"),
        401,
        "token_malformed",
        closes=False,
    ),
    Row(
        "C18-100-fields",
        get(b"/items", *(b"X-%d: a" % number for number in range(98))),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", [(b"x-%d" % number, b"a") for number in range(98)]),
    ),
    Row("C18-101-fields", get(b"/items", *(b"X-%d: a" % number for number in range(99))), 431, "head_too_large"),
    Row("C18-200-fields", get(b"/items", *(b"X-%d: a" % number for number in range(198))), 431, "head_too_large"),
    Row(
        "C18-a-field-of-8192-bytes",
        get(b"/items", b"X-A: " + b"a" * 8192),
        200,
        closes=False,
        forwarded=Forwarded(b"/items", [(b"x-a", b"a" * 8192)]),
    ),
    Row("C18-a-field-of-8193-bytes", get(b"/items", b"X-A: " + b"a" * 8193), 431, "head_too_large"),
    Row("C18-a-field-of-16384-bytes", get(b"/items", b"X-A: " + b"a" * 16384), 431, "head_too_large"),
    Row("C18-a-head-of-64-kibibytes", get(b"/items", *(b"X-A: " + b"a" * 8000,) * 8), 431, "head_too_large"),
    Row("C18-a-name-of-8-kibibytes", get(b"/items", b"X" * 8192 + b": a"), 400),
]

BODIES = [
    Row("C19-two-content-types", graphql(JSON, JSON), 400, "header_refused"),
    Row("C19-two-content-types-on-rest", post(JSON, JSON, b"Content-Length: 2", body=b"{}"), 400, "header_refused"),
    *(
        Row(f"C19-{name}", graphql(b"Content-Type: " + value), 415, "media_type_unsupported")
        for name, value in {
            "list": b"application/json, text/plain",
            "utf-7": b"application/json; charset=utf-7",
            "utf-16": b"application/json; charset=utf-16",
            "other-parameter": b"application/json; a=b",
            "text": b"text/plain",
            "form": b"application/x-www-form-urlencoded",
            "multipart": b"multipart/form-data; boundary=x",
            "graphql": b"application/graphql",
            "longer": b"application/jsonp",
            "suffix": b"application/graphql+json",
            "empty": b"",
        }.items()
    ),
    Row("C19-none", graphql(), 415, "media_type_unsupported"),
    *(
        Row(f"C19-{coding}", graphql(JSON, b"Content-Encoding: " + coding.encode()), 415, "media_type_unsupported")
        for coding in ("gzip", "br", "deflate")
    ),
    *(
        Row(
            f"C19-good-{name}",
            graphql(b"Content-Type: " + value),
            200,
            closes=False,
            forwarded=Forwarded(
                b"/gql",
                [(b"content-type", value)],
                [(b"content-length", b"%d" % len(CANONICAL))],
                body=CANONICAL,
                method=b"POST",
            ),
        )
        for name, value in {
            "plain": b"application/json",
            "charset": b"application/json; charset=utf-8",
            "quoted": b'application/json;charset="UTF-8"',
            "any-case": b"Application/JSON",
        }.items()
    ),
    Row("C20-content-encoding", post(*(b"Content-Encoding: gzip",) * 2), 400, "header_refused"),
    *(
        Row(f"C20-{name.decode().lower()}", get(b"/items", name + b": a", name.upper() + b": a"), 400, "header_refused")
        for name in (b"Origin", b"Cookie", b"Range", b"If-Range", b"User-Agent")
    ),
    Row(
        "C21-range-on-graphql",
        graphql(JSON, b"Range: bytes=0-1", b"If-Range: x"),
        200,
        closes=False,
        forwarded=Forwarded(
            b"/gql",
            [(b"content-type", b"application/json")],
            [(b"content-length", b"%d" % len(CANONICAL))],
            body=CANONICAL,
            method=b"POST",
        ),
    ),
    kept("C21-range-on-rest", (b"Range", b"bytes=0-1")),
    kept("C22-accept-encoding", (b"Accept-Encoding", b"gzip, br;q=0.5, identity;q=0")),
    Row(
        "C34-two-spellings-of-authorization",
        get(b"/items", b"AUTHORIZATION: Bearer <key:b>"),
        400,
        "credential_repeated",
    ),
    Row(
        "C34-two-spellings-of-host",
        get(b"/items", b"HOST: gateway.test"),
        400,
        "host_invalid",
    ),
    kept("C34-any-spelling-of-a-name-is-written-in-lower-case", (b"X-MiXeD", b"VaLuE")),
]

ROWS = [*NOMINATIONS, *IDENTITIES, *HOSTS, *STRIPPED, *BODIES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_of_group_c_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


# -- answers


def ask(gateway: RunningGateway, sent: bytes = b"", *, method: bytes = b"GET") -> Response:
    return exchange(gateway.port, with_keys(gateway, sent or get(b"/items")), method=method)


def test_c22_a_coded_answer_passes_byte_for_byte(gateway: RunningGateway) -> None:
    body = b"\x1f\x8b\x08\x00" + bytes(range(256))
    gateway.upstream.script(answer(body, fields=((b"Content-Encoding", b"gzip"),)))

    response = ask(gateway)
    assert (response.header(b"content-encoding"), response.body) == (b"gzip", body)
    assert response.header(b"content-length") == b"%d" % len(body)


def test_c23_a_cookie_for_a_is_never_sent_with_a_request_of_b(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(fields=((b"Set-Cookie", b"session=of-a; Path=/"),)))
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/items")))
        assert client.read().values(b"set-cookie") == [b"session=of-a; Path=/"]
        client.send(with_keys(gateway, get(b"/items", authorization=b"Authorization: Bearer <key:b>\r\n")))
        assert client.read().values(b"set-cookie") == []

    gateway.settle()
    assert [sent.values(b"cookie") for sent in gateway.upstream.requests] == [[], []]


def test_c24_what_the_upstream_nominates_stops_here_and_cookies_do_not(gateway: RunningGateway) -> None:
    fields = (
        (b"Connection", b"set-cookie, x-y"),
        (b"X-Y", b"1"),
        (b"Set-Cookie", b"a=b"),
        (b"Set-Cookie", b"c=d"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Proxy-Connection", b"close"),
        (b"TE", b"trailers"),
        (b"Trailer", b"X-A"),
        (b"Upgrade", b"h2c"),
        (b"X-Z", b"2"),
    )
    gateway.upstream.script(answer(fields=fields))

    response = ask(gateway)
    names = [name.lower() for name, _ in response.headers]
    assert names == [b"set-cookie", b"set-cookie", b"x-z", b"content-length", b"cache-control", b"x-gateway-request-id"]
    assert response.values(b"set-cookie") == [b"a=b", b"c=d"]


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
def test_c25_a_redirect_is_passed_on_and_never_followed(gateway: RunningGateway, status: bytes) -> None:
    location = b"http://127.0.0.1:%d/admin" % gateway.upstream.port
    gateway.upstream.script(answer(b"", status=status, fields=((b"Location", location),)))

    response = ask(gateway)
    gateway.settle()
    assert (response.status, response.header(b"location")) == (int(status[:3]), location)
    assert len(gateway.upstream.requests) == 1


def test_c26_an_upstream_cannot_speak_as_the_gateway(gateway: RunningGateway) -> None:
    names = (
        b"X-Gateway-Key-Id",
        b"x-gateway-request-id",
        b"X_Gateway_Scopes",
        b"X-Gateway-Anything",
        b"X.Gateway.Kind",
    )
    gateway.upstream.script(answer(fields=tuple((name, b"forged") for name in names)))

    response = ask(gateway)
    assert [value for _, value in response.headers if value == b"forged"] == []
    assert len(response.values(b"x-gateway-request-id")) == 1


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
def test_c27_a_refusal_of_the_upstream_is_not_counted_as_the_gateways(gateway: RunningGateway, status: bytes) -> None:
    allowed = gateway.metric("bearergate_requests_total", outcome="allowed")
    refused = gateway.metric("bearergate_requests_total", outcome="refused")
    challenge = (b"WWW-Authenticate", b'Basic realm="upstream"')
    gateway.upstream.script(answer(b"no", status=status, fields=(challenge,)))

    response = ask(gateway)
    gateway.settle()
    assert (response.status, response.body) == (int(status[:3]), b"no")
    assert response.values(b"www-authenticate") == [challenge[1]]
    assert gateway.metric("bearergate_requests_total", outcome="allowed") == allowed + 1
    assert gateway.metric("bearergate_requests_total", outcome="refused") == refused


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"a\r\n b"], ids=["cr", "lf", "nul", "fold"])
def test_c28_an_answer_that_would_split_is_502(gateway: RunningGateway, value: bytes) -> None:
    gateway.upstream.script(answer(fields=((b"X-A", value),)))

    assert ask(gateway).status == 502


def test_c28_nothing_of_a_request_is_echoed_in_a_header_of_its_answer(gateway: RunningGateway) -> None:
    response = ask(gateway, get(b"/nothing-marked?a=%0d%0aX-Marked:%201", b"X-A: marked", b"Accept: marked"))

    assert response.status == 404
    assert b"marked" not in response.head
    assert b"marked" not in response.body


REFUSALS = {
    "401": get(b"/items", authorization=b""),
    "401-bad": get(b"/items", authorization=b"Authorization: Bearer x\r\n"),
    "403": get(b"/admin"),
    "404": get(b"/nothing"),
    "405": request(b"DELETE /items HTTP/1.1"),
    "400-target": get(b"/items/.."),
    "400-framing": post(b"Content-Length: x"),
    "415-graphql": graphql(),
    "403-graphql": graphql(JSON, body=b'{"query":"{__schema{types{name}}}"}'),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_c31_no_answer_of_the_gateway_may_be_stored(gateway: RunningGateway, name: str) -> None:
    response = ask(gateway, REFUSALS[name])

    assert response.status == int(name[:3])
    assert response.values(b"cache-control") == [b"no-store"]
    assert response.values(b"vary") == [b"authorization"]


@pytest.mark.parametrize(
    ("target", "said", "expected"),
    [
        (b"/items", None, [b"private"]),
        (b"/items", b"public, max-age=60", [b"public, max-age=60"]),
        (b"/public", None, []),
        (b"/public", b"max-age=60", [b"max-age=60"]),
    ],
)
def test_c32_an_authorised_answer_is_private_unless_the_upstream_says_more(
    gateway: RunningGateway, target: bytes, said: bytes | None, expected: list[bytes]
) -> None:
    gateway.upstream.script(answer(fields=() if said is None else ((b"Cache-Control", said),)))

    response = ask(gateway, get(target))
    assert response.values(b"cache-control") == expected


def test_c33_no_answer_tells_what_stands_behind_it(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(fields=((b"Server", b"Apache/1.3"), (b"X-Powered-By", b"PHP/4"))))

    for response in (ask(gateway), *(ask(gateway, sent) for sent in REFUSALS.values())):
        text = (response.head + response.body).lower()
        for banner in (b"apache", b"php", b"uvicorn", b"python", b"127.0.0.1", b"%d" % gateway.upstream.port):
            assert banner not in text
        assert response.values(b"server") == []


def test_a_challenge_names_the_realm_and_the_missing_scope(gateway: RunningGateway) -> None:
    assert ask(gateway, REFUSALS["401"]).values(b"www-authenticate") == [f'Bearer realm="{REALM}"'.encode()]
    challenge = ask(gateway, REFUSALS["403"]).header(b"www-authenticate")
    assert challenge is not None
    assert challenge.startswith(f'Bearer realm="{REALM}", scope="ADMIN", error="insufficient_scope"'.encode())


NOT_HERE = {
    "C8": "no proxy before the gateway is trusted: the peer is the client, always (C7)",
    "C10": "in test_hosts.py; here the policy names no hosts, and every valid `Host` is served",
    "C11": "in test_hosts.py",
    "C15": "there is no admin session yet",
    "C16": "no condition of the policy reads a header",
    "C29": "in test_cors.py",
    "C30": "in test_cors.py; here no route has `cors`, and a preflight without credential is 401 (B29)",
}


def test_every_row_of_group_c_is_covered_or_listed() -> None:
    covered = numbers_covered(sys.modules[__name__], ROWS, "C")

    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == {f"C{number}" for number in range(1, 35)}
