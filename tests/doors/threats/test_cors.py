"""C29, C30 and B29, pages of other origins: what the policy lists is told to browsers, and nothing else ever is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.reasons import Reason, Verdict
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import RawClient, Response, exchange
from tests.support.recording_upstream import answer
from tests.support.rows import Forwarded, Row, get, play, request, with_keys

APP = b"https://app.test"
EDITOR = b"https://editor.test"

CORS = """\
  - name: notes.read
    match: GET /notes/{id}
    upstream: rest
    allow: {api_key: READ}
    cors: {origins: [https://app.test, "http://localhost:3000"]}
  - name: notes.write
    match: PUT /notes/{id}
    upstream: rest
    allow: {api_key: WRITE}
    cors: {origins: [https://app.test, "http://localhost:3000"]}
  - name: notes.edit
    match: PATCH /notes/{id}
    upstream: rest
    allow: {api_key: ADMIN}
    cors: {origins: [https://editor.test], headers: [Idempotency-Key], expose: [ETag], credentials: true, max_age: 60}
  - {name: notes.delete, match: "DELETE /notes/{id}", upstream: rest, allow: {api_key: WRITE}}
  - {name: theirs, match: GET /theirs, upstream: rest, allow: {api_key: READ}, cors: pass}
  - {name: theirs.post, match: POST /theirs, upstream: rest, allow: {api_key: WRITE}}
"""
EXPOSED = b"x-gateway-request-id, www-authenticate, retry-after, allow, deprecation, sunset, link"


@pytest.fixture(scope="module")
def cors_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("cors"), policy=POLICY + CORS) as gateway:
        yield gateway


@pytest.fixture
def gateway(cors_gateway: RunningGateway) -> RunningGateway:
    cors_gateway.forget()
    return cors_gateway


def ask(gateway: RunningGateway, sent: bytes, method: bytes = b"GET") -> Response:
    return exchange(gateway.port, with_keys(gateway, sent), method=method)


def preflight(target: bytes, method: bytes, origin: bytes, *fields: bytes, authorization: bytes = b"") -> bytes:
    return request(
        b"OPTIONS " + target + b" HTTP/1.1",
        b"Origin: " + origin,
        b"Access-Control-Request-Method: " + method,
        *fields,
        authorization=authorization,
    )


def cors_lines(response: Response) -> list[tuple[bytes, bytes]]:
    return [line for line in response.headers if line[0].startswith(b"access-control-") or line[0] == b"vary"]


VARIES = (b"vary", b"origin, access-control-request-method, access-control-request-headers")


@pytest.mark.parametrize(
    ("method", "origin", "expected"),
    [
        (
            b"GET",
            APP,
            [
                (b"access-control-allow-origin", APP),
                (b"access-control-allow-methods", b"GET, HEAD, PUT"),
                (b"access-control-allow-headers", b"authorization"),
                (b"access-control-max-age", b"600"),
                VARIES,
            ],
        ),
        (
            b"PUT",
            b"http://localhost:3000",
            [
                (b"access-control-allow-origin", b"http://localhost:3000"),
                (b"access-control-allow-methods", b"GET, HEAD, PUT"),
                (b"access-control-allow-headers", b"authorization, content-type"),
                (b"access-control-max-age", b"600"),
                VARIES,
            ],
        ),
        (
            b"PATCH",
            EDITOR,
            [
                (b"access-control-allow-origin", EDITOR),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-allow-methods", b"PATCH"),
                (b"access-control-allow-headers", b"authorization, content-type, idempotency-key"),
                (b"access-control-max-age", b"60"),
                VARIES,
            ],
        ),
    ],
)
def test_c30_a_preflight_is_answered_here_and_nobody_is_asked_for(
    gateway: RunningGateway, method: bytes, origin: bytes, expected: list[tuple[bytes, bytes]]
) -> None:
    lookups = gateway.key_lookups
    sent = preflight(b"/notes/n1", method, origin, b"Access-Control-Request-Headers: authorization, x-evil")
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, sent))
        response = client.read()
        client.send(with_keys(gateway, get(b"/notes/n1")))
        after = client.read()

    assert (response.status, after.status) == (204, 200)
    assert cors_lines(response) == expected
    assert response.header(b"content-length") is None
    assert response.header(b"cache-control") == b"no-store"
    assert response.ref != after.ref
    assert len(gateway.upstream.settled().requests) == 1
    assert gateway.key_lookups == lookups + 1
    outcome = gateway.outcomes[0]
    assert (outcome.verdict, outcome.reason, outcome.status) == (Verdict.PREFLIGHT, None, 204)
    routes = {b"GET": "notes.read", b"PUT": "notes.write", b"PATCH": "notes.edit"}
    assert (outcome.route, outcome.upstream, outcome.key_id, outcome.method) == (routes[method], "", "", "OPTIONS")


def test_c30_a_preflight_with_a_token_is_no_more_than_one_without(gateway: RunningGateway) -> None:
    lookups = gateway.key_lookups

    response = ask(gateway, preflight(b"/notes/n1", b"GET", APP, authorization=b"Authorization: Bearer <key:a>\r\n"))

    assert response.status == 204
    assert gateway.key_lookups == lookups
    assert gateway.outcomes[0].key_id == ""


def refused(name: str, sent: bytes) -> Row:
    return Row(name, sent, 403, "cors_refused", asks_keys=False, closes=False)


UNLISTED = {
    "null": b"null",
    "suffix": b"https://evil-app.test",
    "below": b"https://www.app.test",
    "longer": b"https://app.test.evil.test",
    "another-scheme": b"http://app.test",
    "another-port": b"https://app.test:8443",
    "capitals": b"https://APP.test",
    "slash": b"https://app.test/",
    "two": b"https://app.test https://evil.test",
    "list": b"https://app.test, https://evil.test",
    "everything": b"*",
    "empty": b"",
}

ROWS = [
    *(refused(f"C29-preflight-{name}", preflight(b"/notes/n1", b"GET", origin)) for name, origin in UNLISTED.items()),
    refused("C29-origin-of-another-route", preflight(b"/notes/n1", b"GET", EDITOR)),
    refused("C29-method-without-cors", preflight(b"/notes/n1", b"DELETE", APP)),
    refused("C29-method-without-route", preflight(b"/notes/n1", b"POST", APP)),
    refused("C29-method-in-lower-case", preflight(b"/notes/n1", b"put", APP)),
    refused("C29-method-options", preflight(b"/notes/n1", b"OPTIONS", APP)),
    refused("C29-method-empty", preflight(b"/notes/n1", b"", APP)),
    refused("C29-methods", preflight(b"/notes/n1", b"GET, PUT", APP)),
    Row("C29-two-origins", preflight(b"/notes/n1", b"GET", APP, b"Origin: " + APP), 400, "header_refused"),
    Row(
        "C29-two-methods",
        preflight(b"/notes/n1", b"GET", APP, b"Access-Control-Request-Method: PUT"),
        400,
        "header_refused",
    ),
    Row(
        "C30-preflight-with-a-body",
        preflight(b"/notes/n1", b"GET", APP, b"Content-Length: 3") + b"abc",
        400,
        "body_refused",
    ),
    Row("C30-no-cors-on-the-path", preflight(b"/items", b"GET", APP), 401, "credential_missing", closes=False),
    Row("C30-no-such-path", preflight(b"/nothing", b"GET", APP), 401, "credential_missing", closes=False),
    Row(
        "C30-token-in-the-query",
        preflight(b"/notes/n1?token=x", b"GET", APP),
        401,
        "credential_in_query",
        closes=False,
    ),
    Row(
        "C30-no-origin",
        request(b"OPTIONS /notes/n1 HTTP/1.1", b"Access-Control-Request-Method: GET", authorization=b""),
        401,
        "credential_missing",
        closes=False,
    ),
    Row(
        "C30-no-method",
        request(b"OPTIONS /notes/n1 HTTP/1.1", b"Origin: " + APP, authorization=b""),
        401,
        "credential_missing",
        closes=False,
    ),
    Row(
        "C30-no-preflight-with-a-token",
        request(b"OPTIONS /notes/n1 HTTP/1.1", b"Origin: " + APP),
        405,
        "method_not_allowed",
        closes=False,
    ),
    Row(
        "C30-a-get-with-the-fields-of-a-preflight",
        get(b"/notes/n1", b"Origin: " + APP, b"Access-Control-Request-Method: GET", authorization=b""),
        401,
        "credential_missing",
        closes=False,
    ),
    # `cors: pass`
    Row(
        "C30-passed",
        preflight(b"/theirs", b"GET", b"https://any.test"),
        200,
        asks_keys=False,
        closes=False,
        forwarded=Forwarded(
            b"/theirs",
            [(b"origin", b"https://any.test"), (b"access-control-request-method", b"GET")],
            method=b"OPTIONS",
            key="",
        ),
    ),
    Row(
        "C30-passed-without-its-token",
        preflight(b"/theirs", b"GET", APP, authorization=b"Authorization: Bearer <key:a>\r\n"),
        200,
        asks_keys=False,
        closes=False,
        forwarded=Forwarded(
            b"/theirs",
            [(b"origin", APP), (b"access-control-request-method", b"GET")],
            method=b"OPTIONS",
            key="",
        ),
    ),
    refused("C30-passed-for-one-method-only", preflight(b"/theirs", b"POST", APP)),
    Row(
        "C30-pass-with-a-body",
        preflight(b"/theirs", b"GET", APP, b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        "body_refused",
    ),
    *(
        Row(f"C30-pass-is-no-opening-{name}", sent, 401, "credential_missing", closes=False)
        for name, sent in {
            "get": get(b"/theirs", b"Origin: " + APP, b"Access-Control-Request-Method: GET", authorization=b""),
            "plain-options": request(b"OPTIONS /theirs HTTP/1.1", authorization=b""),
            "options-with-origin": request(b"OPTIONS /theirs HTTP/1.1", b"Origin: " + APP, authorization=b""),
        }.items()
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


@pytest.mark.parametrize("origin", UNLISTED.values(), ids=UNLISTED.keys())
def test_c29_an_origin_that_is_not_listed_is_never_repeated(gateway: RunningGateway, origin: bytes) -> None:
    asked = ask(gateway, preflight(b"/notes/n1", b"GET", origin))
    called = ask(gateway, get(b"/notes/n1", b"Origin: " + origin))
    turned_away = ask(gateway, get(b"/notes/n1", b"Origin: " + origin, authorization=b""))

    assert (asked.status, called.status, turned_away.status) == (403, 200, 401)
    assert cors_lines(asked) == [(b"vary", b"authorization")]
    assert cors_lines(called) == [(b"vary", b"origin")]
    assert cors_lines(turned_away) == [(b"vary", b"authorization"), (b"vary", b"origin")]


SENT = {
    "200": get(b"/notes/n1", b"Origin: " + APP),
    "401": get(b"/notes/n1", b"Origin: " + APP, authorization=b""),
    "400": get(b"/notes/n1", b"Origin: " + APP, b"Content-Length: 1") + b"x",
    "502": get(b"/notes/n1", b"Origin: " + APP),
}


@pytest.mark.parametrize("status", SENT)
def test_c29_every_answer_to_a_listed_origin_says_so_once(gateway: RunningGateway, status: str) -> None:
    gateway.upstream.script(b"nonsense\r\n\r\n" if status == "502" else answer())

    response = ask(gateway, SENT[status])

    assert response.status == int(status)
    assert response.values(b"access-control-allow-origin") == [APP]
    assert response.values(b"access-control-allow-credentials") == []
    assert response.values(b"access-control-expose-headers") == [EXPOSED]
    assert b"origin" in response.values(b"vary")


def test_c29_credentials_and_more_headers_only_where_the_route_says_so(gateway: RunningGateway) -> None:
    response = ask(gateway, request(b"PATCH /notes/n1 HTTP/1.1", b"Origin: " + EDITOR))

    assert response.status == 403
    assert response.values(b"access-control-allow-origin") == [EDITOR]
    assert response.values(b"access-control-allow-credentials") == [b"true"]
    assert response.values(b"access-control-expose-headers") == [EXPOSED + b", etag"]


THEIRS = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"access-control-allow-credentials", b"true"),
    (b"ACCESS-CONTROL-EXPOSE-HEADERS", b"*"),
    (b"Vary", b"accept"),
)


def test_c29_an_upstream_has_no_say_where_the_route_has(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(fields=THEIRS))

    response = ask(gateway, get(b"/notes/n1", b"Origin: https://evil.test"))

    assert response.status == 200
    assert [name for name, _ in response.headers if name.lower().startswith(b"access-control-")] == []
    assert response.values(b"vary") == [b"accept", b"origin"]


def test_c29_an_upstream_has_the_only_say_where_the_route_passes(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(fields=THEIRS))

    response = ask(gateway, get(b"/theirs", b"Origin: " + APP))

    assert [line for line in response.headers if line in THEIRS] == list(THEIRS)


def test_b29_a_passed_preflight_is_counted_as_allowed_and_its_answer_is_the_upstreams(gateway: RunningGateway) -> None:
    gateway.upstream.script(answer(b"", status=b"204 No Content", fields=THEIRS, framing="none"))

    response = ask(gateway, preflight(b"/theirs", b"GET", APP))

    assert response.status == 204
    assert response.values(b"access-control-allow-origin") == [b"*"]
    gateway.until(lambda: bool(gateway.outcomes))
    assert (gateway.outcomes[0].verdict, gateway.outcomes[0].route) == (Verdict.ALLOWED, "theirs")


def test_preflights_are_counted_apart(gateway: RunningGateway) -> None:
    name = "bearergate_requests_total"
    before = gateway.metric(name, outcome="preflight", route="notes.write")
    refusals = gateway.metric("bearergate_refusals_total", reason=Reason.CORS_REFUSED.label)

    ask(gateway, preflight(b"/notes/n1", b"PUT", APP))
    ask(gateway, preflight(b"/notes/n1", b"PUT", EDITOR))

    assert gateway.metric(name, outcome="preflight", route="notes.write") == before + 1
    assert gateway.metric("bearergate_refusals_total", reason=Reason.CORS_REFUSED.label) == refusals + 1
