"""Group G, GraphQL in other ways than a POST of one request: each is judged like one, and nothing unjudged is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient, Response, exchange
from tests.support.recording_upstream import Recorded, Step, answer

ITEM = "query Item { item }"
BOTH = "query One { item } mutation Two { add }"
ADD = "mutation Add { add }"


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


DOCUMENTS = {"item-1": ITEM, f"sha256:{hash_of(BOTH)}": BOTH, "add-1": ADD}

FIELDS = """\
      introspection: {api_key: ADMIN}
      fields:
        Query.item: {api_key: READ}
        Query.secret: {api_key: ADMIN}
        Mutation.add: {api_key: WRITE}
"""


def a_route(name: str, *lines: str, fields: str = "", errors: str = "graphql", more: str = "") -> str:
    said = "".join(f"      {line}\n" for line in lines)
    return (
        f"  - name: gql.{name}\n    match: POST /{name}\n    upstream: rest\n    errors: {errors}\n{more}"
        f"    graphql:\n{said}{FIELDS}{fields}"
    )


POLICY = """\
version: 1
errors: problem
scopes:
  READ: {means: read items}
  WRITE: {means: write items}
  ADMIN: {means: administer}
routes:
""" + "".join(
    (
        a_route("plain"),
        a_route("old", errors="graphql/legacy-200"),
        a_route("any", "get: true")
        .replace("POST /any", "POST /{any}")
        .replace("match: POST /{any}", 'match: "POST /{any}"'),
        a_route("get", "get: true"),
        a_route("apq", "persisted: true", "get: true"),
        a_route("apq2023", "persisted: true", errors="graphql/2023"),
        a_route("docs", "documents: app.documents.json"),
        a_route("only", "documents: app.documents.json", "documents_only: true", "persisted: true"),
        a_route("batch", "batch: 3"),
        a_route("stream", "incremental: true"),
        a_route("events", "subscriptions: true", "batch: 2", fields="        Subscription.added: {api_key: READ}\n"),
        a_route("upload", "uploads: true", more="    body_limit: 64KiB\n"),
        a_route("verbatim", "forward: verbatim", "batch: 2"),
    )
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("transports")
    folder.joinpath("app.documents.json").write_text(json.dumps(DOCUMENTS), "utf-8")
    with running_gateway(folder, policy=POLICY) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.forget()
    return running


def send(
    gateway: RunningGateway,
    target: str,
    body: object = None,
    *fields: bytes,
    method: bytes = b"POST",
    key: bytes | None = None,
    media_type: bytes = b"application/json",
) -> Response:
    """One request by the good key; a `body` that is no bytes is written as JSON."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [
        method + b" " + target.encode() + b" HTTP/1.1\r\nHost: gateway.test\r\n",
        gateway.keys.a.line if key is None else key,
        *(field + b"\r\n" for field in fields),
    ]
    if body is not None:
        head.append(b"Content-Type: %s\r\nContent-Length: %d\r\n" % (media_type, len(raw)))
    return exchange(gateway.port, b"".join(head) + b"\r\n" + raw, method=method)


def sent(gateway: RunningGateway) -> list[Recorded]:
    """What the upstream was sent."""
    gateway.settle()
    assert [] == gateway.upstream.faults
    return [request for connection in gateway.upstream.connections for request in connection.requests]


def only_sent(gateway: RunningGateway) -> Recorded:
    (request,) = sent(gateway)
    return request


def in_url(**parameters: str) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def refused(gateway: RunningGateway, answer: Response) -> tuple[int, str]:
    """Status and reason of a refusal, of which nothing went out."""
    assert [] == sent(gateway)
    return answer.status, answer.reason


# -- G22 to G25: the URL


def test_g23_a_query_by_get_goes_on_as_a_canonical_post(gateway: RunningGateway) -> None:
    url = in_url(
        query="query A($n: Int) { item(n: $n) } # tail", operationName="A", variables='{ "n" : 1.0 }', extensions=""
    )
    answer = send(gateway, f"/get?{url}", None, b"X-Mine: 1", b"Content-Type: text/plain", method=b"GET")

    request = only_sent(gateway)
    assert 200 == answer.status
    assert (b"POST", b"/get") == (request.method, request.target)
    assert (
        b'{"query":"query A($n: Int) {\\n  item(n: $n)\\n}","operationName":"A","variables":{"n":1.0}}' == request.body
    )
    assert [b"application/json"] == request.values(b"content-type")
    assert [b"1"] == request.values(b"x-mine")
    assert [gateway.keys.a.key_id] == request.values(b"x-gateway-key-id")


def test_g23_a_plus_is_a_space_and_an_empty_parameter_none(gateway: RunningGateway) -> None:
    send(gateway, "/get?query=%7B+item(n:%22a%2Bb%22)+%7D&operationName=&variables=", method=b"GET")

    assert b'{"query":"{\\n  item(n: \\"a+b\\")\\n}"}' == only_sent(gateway).body


@pytest.mark.parametrize("text", [ADD, "mutation { add }", "mutation A { a: add }"])
def test_g23_a_mutation_by_get_is_405(gateway: RunningGateway, text: str) -> None:
    answer = send(gateway, f"/get?{in_url(query=text)}", method=b"GET")

    assert (405, "method_not_allowed") == refused(gateway, answer)
    assert b"POST" == answer.header(b"allow")


def test_g23_the_chosen_operation_says_what_it_is(gateway: RunningGateway) -> None:
    assert 405 == send(gateway, f"/get?{in_url(query=BOTH, operationName='Two')}", method=b"GET").status
    assert [] == sent(gateway)

    assert 200 == send(gateway, f"/get?{in_url(query=BOTH, operationName='One')}", method=b"GET").status
    assert b"Two" not in only_sent(gateway).body


def test_g23_get_is_judged_by_field(gateway: RunningGateway) -> None:
    answer = send(gateway, f"/get?{in_url(query='{ item secret }')}", method=b"GET")

    assert (403, "scope_missing") == refused(gateway, answer)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_g23_g52_a_route_without_get_takes_none_even_where_a_wider_one_does(
    gateway: RunningGateway, method: bytes
) -> None:
    answer = send(gateway, f"/plain?{in_url(query='{ item }')}", method=method)

    assert 405 == answer.status
    assert b"POST" == answer.header(b"allow")
    assert [] == sent(gateway)


def test_g52_head_and_put_are_405(gateway: RunningGateway) -> None:
    head = send(gateway, f"/get?{in_url(query='{ item }')}", method=b"HEAD")
    put = send(gateway, "/get", {"query": "{ item }"}, method=b"PUT")

    assert [(405, b"GET, POST"), (405, b"GET, POST")] == [(one.status, one.header(b"allow")) for one in (head, put)]
    assert [] == sent(gateway)


def test_g24_a_get_with_a_body_is_refused(gateway: RunningGateway) -> None:
    answer = send(gateway, f"/get?{in_url(query='{ item }')}", {"query": ADD}, method=b"GET")

    assert (400, "body_refused") == refused(gateway, answer)


@pytest.mark.parametrize(
    "query",
    [
        "query=%7Bitem%7D&query=%7Bsecret%7D",
        "query=%7Bitem%7D&%71uery=%7Bsecret%7D",
        "query=%7Bitem%7D&Query=%7Bsecret%7D",
        "query=%7Bitem%7D;query=%7Bsecret%7D",
        "query=%7Bitem%7D&variables=%7B%7D&variables=%7B%7D",
        "query=%7Bitem%7D&id=1",
        "query=%7Bitem%7D&",
        "query=%7Bitem%7D&query[]=%7Bsecret%7D",
        "query=%FF",
        "query=",
        "",
        "query=%7Bitem%7D&variables=[]",
        "query=%7Bitem%7D&variables=1",
        "query=%7Bitem%7D&extensions=%7B%22persistedQuery%22:%7B%7D%7D",
        "query=%7Bitem%7D&documentId=item-1",
        "documentId=item-1",
    ],
)
def test_g25_a_url_with_two_readings_is_refused(gateway: RunningGateway, query: str) -> None:
    answer = send(gateway, f"/get?{query}", method=b"GET")

    assert (422, "graphql_request_invalid") == refused(gateway, answer)


def test_g25_variables_are_strict_json(gateway: RunningGateway) -> None:
    answer = send(gateway, "/get?query=%7Bitem%7D&variables=%7B%22a%22:1,%22a%22:2%7D", method=b"GET")

    assert (400, "json_invalid") == refused(gateway, answer)


@pytest.mark.parametrize(
    "name", ["query", "operationName", "variables", "extensions", "documentId", "id", "DOC_ID", "queryId"]
)
def test_g22_parameters_in_the_url_of_a_post_are_refused(gateway: RunningGateway, name: str) -> None:
    answer = send(gateway, f"/get?{name}=1", {"query": "{ item }"})

    assert (422, "graphql_request_invalid") == refused(gateway, answer)


# -- G29 and G30: documents by name


def persisted(digest: object, version: object = 1) -> dict[str, object]:
    return {"persistedQuery": {"version": version, "sha256Hash": digest}}


def test_g29_a_hash_is_asked_for_its_text_once_and_the_upstream_is_always_sent_the_text(
    gateway: RunningGateway,
) -> None:
    text = "query Hashed { item }"
    ask = {"extensions": persisted(hash_of(text)), "variables": {}}

    first = send(gateway, "/apq", ask)
    assert (200, "persisted_query_not_found") == refused(gateway, first)
    assert "PersistedQueryNotFound" == first.json()["errors"][0]["message"]

    assert 200 == send(gateway, "/apq", {"query": text, **ask}).status
    assert 200 == send(gateway, "/apq", ask).status
    assert 200 == send(gateway, f"/apq?{in_url(extensions=json.dumps(persisted(hash_of(text))))}", method=b"GET").status
    bodies = [request.body for request in sent(gateway)]
    assert [b'{"query":"query Hashed {\\n  item\\n}"'] * 3 == [body[:36] for body in bodies]
    assert not any(b"persistedQuery" in body for body in bodies)


def test_g30_a_hash_of_another_text_registers_nothing(gateway: RunningGateway) -> None:
    mine, other = "query Mine { item }", "query Other { item }"
    answer = send(gateway, "/apq", {"query": mine, "extensions": persisted(hash_of(other))})

    assert (422, "graphql_request_invalid") == refused(gateway, answer)
    for text in (mine, other):
        asked = send(gateway, "/apq", {"extensions": persisted(hash_of(text))})
        assert (200, "persisted_query_not_found") == refused(gateway, asked)


def test_g30_who_may_not_run_a_document_registers_nothing(gateway: RunningGateway) -> None:
    text = "query Secret { secret }"
    answer = send(gateway, "/apq", {"query": text, "extensions": persisted(hash_of(text))})
    assert (403, "scope_missing") == refused(gateway, answer)

    asked = send(gateway, "/apq", {"extensions": persisted(hash_of(text))})
    assert (200, "persisted_query_not_found") == refused(gateway, asked)


def test_g29_a_registered_document_is_judged_for_each_caller(gateway: RunningGateway) -> None:
    text = "query Again { item }"
    ask = {"extensions": persisted(hash_of(text))}
    assert 200 == send(gateway, "/apq", {"query": text, **ask}).status
    gateway.forget()

    answer = send(gateway, "/apq", ask, key=gateway.keys.writer.line)
    assert (403, "scope_missing") == refused(gateway, answer)
    assert (401, "credential_missing") == refused(gateway, send(gateway, "/apq", ask, key=b""))


@pytest.mark.parametrize(
    "extensions",
    [
        persisted(hash_of(ITEM), 2),
        persisted(hash_of(ITEM), True),
        persisted(hash_of(ITEM), "1"),
        persisted(hash_of(ITEM).upper()),
        persisted(hash_of(ITEM)[:-1]),
        persisted(7),
        {"persistedQuery": {"version": 1}},
        {"persistedQuery": {"version": 1, "sha256Hash": hash_of(ITEM), "more": 1}},
        {"persistedQuery": "x"},
    ],
)
def test_g29_what_is_no_hash_is_refused(gateway: RunningGateway, extensions: object) -> None:
    answer = send(gateway, "/apq", {"query": ITEM, "extensions": extensions})

    assert (422, "graphql_request_invalid") == refused(gateway, answer)


@pytest.mark.parametrize("name", ["id", "doc_id", "queryId", "hash"])
def test_g29_g31_other_members_are_refused(gateway: RunningGateway, name: str) -> None:
    answer = send(gateway, "/docs", {"query": ITEM, name: "item-1"})

    assert (422, "graphql_request_invalid") == refused(gateway, answer)


@pytest.mark.parametrize("document_id", ["item-1", f"sha256:{hash_of(ITEM)}"])
def test_g29_a_trusted_document_goes_on_as_its_text(gateway: RunningGateway, document_id: str) -> None:
    assert 200 == send(gateway, "/docs", {"documentId": document_id}).status

    assert b'{"query":"query Item {\\n  item\\n}"}' == only_sent(gateway).body


def test_g29_a_trusted_document_is_judged_like_any_other(gateway: RunningGateway) -> None:
    reader = gateway.new_key("READ").line
    answer = send(gateway, "/docs", {"documentId": "add-1"}, key=reader)

    assert (403, "scope_missing") == refused(gateway, answer)


@pytest.mark.parametrize("document_id", ["item-2", f"sha256:{hash_of('{ item }')}", "sha256:", "ITEM-1", ""])
def test_g29_an_unknown_document_is_a_graphql_error(gateway: RunningGateway, document_id: str) -> None:
    answer = send(gateway, "/docs", {"documentId": document_id})

    assert (422, "graphql_document_unknown") == refused(gateway, answer)
    assert 1 == len(answer.json()["errors"])


@pytest.mark.parametrize(
    "body",
    [
        {"documentId": "item-1", "query": ITEM},
        {"documentId": 1},
        {"documentId": "item-1", "extensions": persisted(hash_of(ITEM))},
        {"extensions": persisted(hash_of(ITEM))},
    ],
)
def test_g29_two_documents_or_none_are_refused(gateway: RunningGateway, body: object) -> None:
    assert (422, "graphql_request_invalid") == refused(gateway, send(gateway, "/docs", body))


def test_documents_only_takes_no_other_text(gateway: RunningGateway) -> None:
    other = "query Item { item item }"
    for body in ({"query": other}, {"query": other, "extensions": persisted(hash_of(other))}):
        assert (422, "graphql_document_unknown") == refused(gateway, send(gateway, "/only", body))

    assert 200 == send(gateway, "/only", {"query": ITEM}).status
    assert 200 == send(gateway, "/only", {"extensions": persisted(hash_of(ITEM))}).status


def test_what_another_route_registered_is_not_trusted(gateway: RunningGateway) -> None:
    text = "query Elsewhere { item }"
    ask = {"extensions": persisted(hash_of(text))}
    assert 200 == send(gateway, "/apq", {"query": text, **ask}).status
    gateway.forget()

    assert (422, "graphql_document_unknown") == refused(gateway, send(gateway, "/only", ask))


# -- G21: batches


def test_g21_a_batch_goes_on_as_one_list_written_anew(gateway: RunningGateway) -> None:
    body = b'[ {"query":"{ item } # a"}, {"query":"mutation M { add }","variables":{"a":1.50}} ]'
    gateway.upstream.script(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[{},{}]")

    answer = send(gateway, "/batch", body)

    assert (200, b"[{},{}]") == (answer.status, answer.body)
    assert (
        b'[{"query":"{\\n  item\\n}"},{"query":"mutation M {\\n  add\\n}","variables":{"a":1.50}}]'
        == only_sent(gateway).body
    )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_g21_one_forbidden_request_refuses_all(gateway: RunningGateway, place: int) -> None:
    batch = [{"query": "{ item }"}] * 3
    batch[place] = {"query": "{ secret }"}

    assert (403, "scope_missing") == refused(gateway, send(gateway, "/batch", batch))


@pytest.mark.parametrize(
    "batch", [[], [{"query": "{ item }"}] * 4, [[{"query": "{ item }"}]], [{"query": "{ item }"}, 1], [None]]
)
def test_g21_a_batch_of_another_shape_is_refused(gateway: RunningGateway, batch: object) -> None:
    assert (422, "graphql_request_invalid") == refused(gateway, send(gateway, "/batch", batch))


@pytest.mark.parametrize("path", ["/plain", "/get", "/upload"])
@pytest.mark.parametrize("batch", [[], [{"query": "{ item }"}]])
def test_g21_batches_are_off_unless_a_route_takes_them(gateway: RunningGateway, path: str, batch: object) -> None:
    assert (422, "graphql_request_invalid") == refused(gateway, send(gateway, path, batch))


@pytest.mark.parametrize(
    "body",
    [
        b'[{"query":"{item}"}] [{"query":"{secret}"}]',
        b'[{"query":"{item}"}]x',
        b'[{"query":"{item}","query":"{secret}"}]',
        b'{"query":"{item}"}\n{"query":"{secret}"}',
    ],
)
def test_g20_nothing_follows_the_json(gateway: RunningGateway, body: bytes) -> None:
    assert (400, "json_invalid") == refused(gateway, send(gateway, "/batch", body))


# -- G12 and G39: answers in parts


@pytest.mark.parametrize("text", ["{ ... @defer { item } }", "{ item @stream(initialCount: 1) }"])
def test_g12_defer_and_stream_pass_where_the_route_says_so(gateway: RunningGateway, text: str) -> None:
    assert (400, "graphql_document_invalid") == refused(gateway, send(gateway, "/plain", {"query": text}))

    assert 200 == send(gateway, "/stream", {"query": text}).status
    assert b"@defer" in only_sent(gateway).body or b"@stream" in only_sent(gateway).body


@pytest.mark.parametrize("text", ["query @defer { item }", "query A($a: Int @stream) { item }", "{ item @live }"])
def test_g12_elsewhere_and_any_other_directive_is_refused(gateway: RunningGateway, text: str) -> None:
    assert (400, "graphql_document_invalid") == refused(gateway, send(gateway, "/stream", {"query": text}))


def test_g12_what_is_deferred_is_judged(gateway: RunningGateway) -> None:
    answer = send(gateway, "/stream", {"query": "{ item ... @defer { secret } }"})

    assert (403, "scope_missing") == refused(gateway, answer)


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "text", "accept"),
    [
        ("/stream", "{ ... @defer { item } }", b"multipart/mixed;deferSpec=20220824, application/json"),
        ("/stream", "{ ... @defer { item } }", b"multipart/mixed"),
        ("/events", "subscription { added }", b"text/event-stream"),
    ],
)
def test_g39_each_part_of_an_answer_is_passed_on_at_once(
    gateway: RunningGateway, path: str, text: str, accept: bytes
) -> None:
    gateway.upstream.script((EVENTS + b"7\r\npart 1\n\r\n", Step.WAIT, b"7\r\npart 2\n\r\n0\r\n\r\n"))
    body = json.dumps({"query": text}).encode()
    with RawClient(gateway.port) as client:
        client.send(
            b"POST %s HTTP/1.1\r\nHost: gateway.test\r\n%sAccept: %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (path.encode(), gateway.keys.a.line, accept, len(body), body)
        )
        # The second part is not sent before the first has come.
        assert b"part 1" in client.read_until(b"part 1\n")
        gateway.upstream.go_on()
        client.read_until(b"part 2\n\r\n0\r\n\r\n")

    request = only_sent(gateway)
    assert [accept] == request.values(b"accept")


def test_g39_a_stream_ends_with_the_key(gateway: RunningGateway) -> None:
    key = gateway.new_key("READ", expires_at=gateway.clock.now() + 5.0)
    gateway.upstream.script((EVENTS + b"7\r\npart 1\n\r\n", Step.WAIT))
    body = b'{"query":"subscription { added }"}'
    with RawClient(gateway.port) as client:
        client.send(
            b"POST /events HTTP/1.1\r\nHost: gateway.test\r\n%sAccept: text/event-stream\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (key.line, len(body), body)
        )
        client.read_until(b"part 1\n")
        gateway.pass_time(10.0)

        assert not client.read_to_end().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "body", "fields", "expected"),
    [
        (
            "/plain",
            {"query": "subscription { added }"},
            (b"Accept: text/event-stream, */*",),
            "graphql_operation_unknown",
        ),
        ("/events", {"query": "subscription { added }"}, (), "not_acceptable"),
        ("/events", {"query": "subscription { added }"}, (b"Accept: application/json",), "not_acceptable"),
        ("/events", {"query": "subscription { other }"}, (b"Accept: text/event-stream",), "field_not_allowed"),
        (
            "/events",
            {"query": "subscription { added added2: other }"},
            (b"Accept: text/event-stream",),
            "graphql_document_invalid",
        ),
        (
            "/events",
            [{"query": "subscription { added }"}],
            (b"Accept: text/event-stream",),
            "graphql_operation_unknown",
        ),
    ],
)
def test_g39_a_subscription_passes_only_as_a_stream_on_a_route_that_takes_it(
    gateway: RunningGateway, path: str, body: object, fields: tuple[bytes, ...], expected: str
) -> None:
    answer = send(gateway, path, body, *fields)

    assert expected == refused(gateway, answer)[1]


def test_g39_a_subscription_by_get_is_405(gateway: RunningGateway) -> None:
    answer = send(
        gateway,
        f"/get?{in_url(query='subscription { added }')}",
        None,
        b"Accept: text/event-stream, */*",
        method=b"GET",
    )

    assert [] == sent(gateway)
    assert 400 < answer.status < 500


def test_g39_a_reservation_of_a_stream_never_passes(gateway: RunningGateway) -> None:
    send(gateway, "/events", {"query": "{ item }"}, b"X-GraphQL-Event-Stream-Token: another-ones")

    assert [] == only_sent(gateway).values(b"x-graphql-event-stream-token")


# -- what the client accepts


@pytest.mark.parametrize("accept", [b"text/html", b"image/png, text/plain", b"text/event-stream", b"multipart/mixed"])
def test_a_client_that_takes_no_json_is_406_but_on_old_routes(gateway: RunningGateway, accept: bytes) -> None:
    answer = send(gateway, "/plain", {"query": "{ item }"}, b"Accept: " + accept)
    assert (406, "not_acceptable") == refused(gateway, answer)

    assert 200 == send(gateway, "/old", {"query": "{ item }"}, b"Accept: " + accept).status


@pytest.mark.parametrize(
    "accept", [b"*/*", b"application/*", b"Application/JSON", b"application/graphql-response+json"]
)
def test_a_client_that_takes_json_in_any_way_is_served(gateway: RunningGateway, accept: bytes) -> None:
    assert 200 == send(gateway, "/plain", {"query": "{ item }"}, b"Accept: " + accept).status


# -- G27: uploads

FORCED = b"GraphQL-Require-Preflight: 1"
OPERATIONS = b'{"query":"mutation ($f: Upload!) { add(f: $f) }","variables":{"f":null}}'
FILE = b"\x00\xffbytes\r\n--other\r\n"


def part(head: bytes, content: bytes) -> bytes:
    return b"--XyZ\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="%s"' % name, content)


def file(name: bytes, content: bytes = FILE, file_name: bytes = b"a.bin") -> bytes:
    return part(
        b'Content-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: image/png' % (name, file_name),
        content,
    )


END = b"--XyZ--\r\n"
MAP = field(b"map", b'{"0":["variables.f"]}')
GOOD = field(b"operations", OPERATIONS) + MAP + file(b"0") + END


def upload(
    gateway: RunningGateway, body: bytes, *fields: bytes, media_type: bytes = b"multipart/form-data; boundary=XyZ"
) -> Response:
    return send(gateway, "/upload", body, *(fields or (FORCED,)), media_type=media_type)


@pytest.mark.parametrize("forced", [FORCED, b"Apollo-Require-Preflight: true", b"X-Apollo-Operation-Name: Add"])
def test_g27_an_upload_is_parsed_judged_and_written_anew(gateway: RunningGateway, forced: bytes) -> None:
    assert 200 == upload(gateway, GOOD, forced).status

    request = only_sent(gateway)
    (media_type,) = request.values(b"content-type")
    boundary = media_type.removeprefix(b"multipart/form-data; boundary=")
    assert b"XyZ" not in request.body
    assert [b"%d" % len(request.body)] == request.values(b"content-length")
    head, operations, mapping, content, tail = request.body.split(b"--" + boundary)
    assert (b"", b"--\r\n") == (head, tail)
    assert operations.endswith(
        b'\r\n\r\n{"query":"mutation ($f: Upload!) {\\n  add(f: $f)\\n}","variables":{"f":null}}\r\n'
    )
    assert mapping.endswith(b'\r\n\r\n{"0":["variables.f"]}\r\n')
    assert (
        b'\r\ncontent-disposition: form-data; name="0"; filename="a.bin"\r\ncontent-type: image/png\r\n\r\n'
        + FILE
        + b"\r\n"
        == content
    )


def test_g27_without_a_header_that_forces_a_preflight_it_is_refused(gateway: RunningGateway) -> None:
    assert (400, "preflight_not_forced") == refused(gateway, upload(gateway, GOOD, b"X-Other: 1"))


def test_g27_uploads_are_off_unless_a_route_takes_them(gateway: RunningGateway) -> None:
    answer = send(gateway, "/plain", GOOD, FORCED, media_type=b"multipart/form-data; boundary=XyZ")

    assert (415, "media_type_unsupported") == refused(gateway, answer)


def test_g27_the_operation_of_an_upload_is_judged(gateway: RunningGateway) -> None:
    body = GOOD.replace(b"add(f: $f)", b"add(f: $f) delete")

    assert (403, "field_not_allowed") == refused(gateway, upload(gateway, body))


def test_g27_a_large_upload_is_refused_by_the_limit_of_the_route(gateway: RunningGateway) -> None:
    body = field(b"operations", OPERATIONS) + MAP + file(b"0", b"x" * 70_000) + END

    assert (413, "body_too_large") == refused(gateway, upload(gateway, body))


@pytest.mark.parametrize(
    "media_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=XyZ; boundary=Abc",
        b"multipart/form-data; charset=utf-8; boundary=XyZ",
        b'multipart/form-data; boundary="Xy\\Z"',
        b"multipart/form-data; boundary=" + b"x" * 71,
    ],
)
def test_g27_a_boundary_with_two_readings_is_refused(gateway: RunningGateway, media_type: bytes) -> None:
    assert (415, "media_type_unsupported") == refused(gateway, upload(gateway, GOOD, media_type=media_type))


OPS = field(b"operations", OPERATIONS)


def mapped(mapping: bytes, *files: bytes, operations: bytes = OPERATIONS) -> bytes:
    return field(b"operations", operations) + field(b"map", mapping) + b"".join(files) + END


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (OPS + OPS + MAP + file(b"0") + END, "graphql_request_invalid"),
        (OPS + MAP + OPS + END, "graphql_request_invalid"),
        (OPS + MAP + MAP + file(b"0") + END, "graphql_request_invalid"),
        (MAP + OPS + file(b"0") + END, "graphql_request_invalid"),
        (OPS + END, "graphql_request_invalid"),
        (END, "graphql_request_invalid"),
        (b"", "body_malformed"),
        (file(b"operations", OPERATIONS) + MAP + file(b"0") + END, "graphql_request_invalid"),
        (OPS + file(b"map", b'{"0":["variables.f"]}') + file(b"0") + END, "graphql_request_invalid"),
        (mapped(b'{"0":["operations.query"]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["query"]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables"]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.g"]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f","variables.f"]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"],"1":["variables.f"]}', file(b"0"), file(b"1")), "graphql_request_invalid"),
        (mapped(b'{"0":[]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":"variables.f"}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":[1]}', file(b"0")), "graphql_request_invalid"),
        (mapped(b'[]'), "graphql_request_invalid"),
        (mapped(b'{}'), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"],"0":["variables.f"]}', file(b"0")), "json_invalid"),
        (mapped(b'{"0":["variables.f"]}', file(b"1")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"]}', file(b"0"), file(b"0")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"]}', field(b"0", b"x")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"]}'), "graphql_request_invalid"),
        (mapped(b'{"operations":["variables.f"]}', file(b"operations")), "graphql_request_invalid"),
        (mapped(b'{"MAP":["variables.f"]}', file(b"MAP")), "graphql_request_invalid"),
        (mapped(b'{"a.b":["variables.f"]}', file(b"a.b")), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"]}', file(b"0"), operations=b"[" + OPERATIONS + b"]"), "graphql_request_invalid"),
        (mapped(b'{"0":["variables.f"]}', file(b"0"), operations=b"{"), "json_invalid"),
        (GOOD.replace(b"null", b'"x"'), "graphql_request_invalid"),
        (GOOD.removesuffix(END), "body_malformed"),
        (GOOD + b"tail", "body_malformed"),
        (b"preamble\r\n" + GOOD, "body_malformed"),
        (GOOD.replace(b"--XyZ\r\n", b"--XyZ \r\n"), "body_malformed"),
        (GOOD.replace(b"\xffbytes", b"\r\n--XyZa"), "body_malformed"),
        (GOOD.replace(b'filename="a.bin"', b'filename="a.bin"; filename*=UTF-8\'\'b'), "body_malformed"),
        (GOOD.replace(b'filename="a.bin"', b'filename="../a.bin"'), "body_malformed"),
        (GOOD.replace(b'filename="a.bin"', b'filename="a\\"b.bin"'), "body_malformed"),
        (GOOD.replace(b'filename="a.bin"', b'filename="a\nb.bin"'), "body_malformed"),
        (GOOD.replace(b'name="map"', b'name="map"; name="operations"'), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"Content-Type: a\r\nContent-Type: b"), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"Content-Type: image/png\nX: y"), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"X-Other: 1"), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"Content-Transfer-Encoding: base64"), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"Content-Length: 3"), "body_malformed"),
        (GOOD.replace(b"Content-Type: image/png", b"X" * 2100), "body_malformed"),
    ],
)  # fmt: skip
def test_g27_an_upload_with_two_readings_is_refused(gateway: RunningGateway, body: bytes, reason: str) -> None:
    assert reason == refused(gateway, upload(gateway, body))[1]


# -- verbatim


@pytest.mark.parametrize(
    "body",
    [
        b'{ "query" : "query A{item}#c" , "operationName":"A" }',
        b'{"query":"{ item(n: \\u0022a\\u0022) }"}',
        b'[{"query":"{item}"}, {"query":"{item item}"}]',
    ],
)
def test_verbatim_sends_the_very_bytes_that_were_judged(gateway: RunningGateway, body: bytes) -> None:
    assert 200 == send(gateway, "/verbatim", body).status

    assert body == only_sent(gateway).body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"query":"{item}","query":"{secret}"}', "json_invalid"),
        (b'{"query":"{item}","qu\\u0065ry":"{secret}"}', "json_invalid"),
        (b'\xef\xbb\xbf{"query":"{item}"}', "json_invalid"),
        (b'{"query":"{item}","variables":{"a":1e400}}', "json_invalid"),
        (b'{"query":"{item}","Query":"{secret}"}', "graphql_request_invalid"),
        (b'{"query":"{item}","extensions":{"a":1}}', "graphql_request_invalid"),
        (b'{"query":"query A{item} query B{item}","operationName":"A"}', "graphql_document_invalid"),
        (b'{"query":"{item} fragment F on Query{secret}"}', "graphql_document_invalid"),
        (b'{"query":"{secret}"}', "scope_missing"),
    ],
)
def test_verbatim_sends_nothing_that_could_be_read_otherwise(gateway: RunningGateway, body: bytes, reason: str) -> None:
    assert reason == refused(gateway, send(gateway, "/verbatim", body))[1]


# -- R9 and the log


def test_r9_a_query_by_get_goes_once_more_on_a_new_connection(gateway: RunningGateway) -> None:
    send(gateway, "/plain", {"query": "{ item }"})
    gateway.settle()
    gateway.upstream.script((Step.RESET,), answer(b"{}"))

    response = send(gateway, f"/get?{in_url(query='{ item }')}", method=b"GET")

    assert 200 == response.status
    assert [b"POST", b"POST", b"POST"] == [request.method for request in sent(gateway)]
    assert 1 == len({(request.target, request.body) for request in sent(gateway)[1:]})


def test_r9_a_mutation_never_goes_twice(gateway: RunningGateway) -> None:
    send(gateway, "/plain", {"query": "{ item }"})
    gateway.settle()
    gateway.upstream.script((Step.RESET,), answer(b"{}"))

    assert 502 == send(gateway, "/batch", [{"query": ADD}]).status
    assert 2 == len(sent(gateway))


def test_the_text_in_a_url_stands_in_no_log(gateway: RunningGateway) -> None:
    send(gateway, f"/get?{in_url(query='{ item(n: 71830) }')}", method=b"GET")
    gateway.settle()

    assert not any("71830" in str(outcome) for outcome in gateway.outcomes)
    assert "/get" == gateway.outcomes[-1].path
