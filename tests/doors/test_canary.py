"""No token is ever written down: not in a log, a metric, an error, an answer, the store, nor to an upstream.

Canary tokens are planted in every kind of request, by every way of being refused and by being let through. Two places
are the client's own data and do go upstream, as they must: the body of an allowed request, and a path parameter of an
allowed route. For these two alone the bytes sent upstream are not searched; everything else is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient, exchange
from tests.support.recording_upstream import Step, answer
from tests.support.rows import get, post, request, with_keys

# Of the three shapes that tokens have. Nobody's, but nobody can know that by looking.
KEY = b"canaryxk00000001.CanarySecretCanarySecretCanarySecretCanarySecret1"
LEGACY = b"ca9a51ca9a51ca9a51ca9a51ca9a51ca"
JWT = b"eyJhbGciOiJub25lIiwia2lkIjoiY2FuYXJ5In0.eyJzdWIiOiJjYW5hcnkifQ.Q2FuYXJ5U2lnbmF0dXJl"
CANARIES = {"key": KEY, "legacy": LEGACY, "jwt": JWT}

JSON = b"Content-Type: application/json"


def bearer(token: bytes) -> bytes:
    return b"Authorization: Bearer " + token + b"\r\n"


def graphql(token: bytes, authorization: bytes) -> bytes:
    body = b'{"query":"{ item(id: \\"' + token + b'\\") }"}'
    return post(JSON, b"Content-Length: %d" % len(body), body=body, target=b"/gql", authorization=authorization)


def refused_requests(token: bytes) -> dict[str, bytes]:
    """Requests that go nowhere, each with the token somewhere."""
    good = bearer(b"<key:a>")
    length = b"Content-Length: %d" % len(token)
    return {
        "unknown": get(b"/items", authorization=bearer(token)),
        "on-a-public-route": get(b"/public", authorization=bearer(token)),
        "cut-short": get(b"/items", authorization=bearer(token[:-1])),
        "one-letter-more": get(b"/items", authorization=bearer(token + b"x")),
        "twice": get(b"/items", b"Authorization: Bearer " + token, authorization=bearer(token)),
        "joined": get(b"/items", authorization=bearer(token + b", Bearer " + token)),
        "other-scheme": get(b"/items", authorization=b"Authorization: Basic " + token + b"\r\n"),
        "no-scheme": get(b"/items", authorization=b"Authorization: " + token + b"\r\n"),
        "token-as-scheme": get(b"/items", authorization=b"Authorization: " + token + b" Bearer\r\n"),
        "two-spaces": get(b"/items", authorization=b"Authorization: Bearer  " + token + b"\r\n"),
        "space-behind": get(b"/items", authorization=bearer(token + b" x")),
        "high-byte-behind": get(b"/items", authorization=bearer(token + b"\xff")),
        "control-behind": get(b"/items", authorization=bearer(token + b"\x07")),
        "long": get(b"/items", authorization=bearer(token + b"a" * 9000)),
        "folded": get(b"/items", authorization=b"Authorization: Bearer\r\n " + token + b"\r\n"),
        "no-colon": get(b"/items", b"Authorization Bearer " + token),
        "in-a-header-name": get(b"/items", token + b"(: x"),
        "in-a-header-name-with-underscore": get(b"/items", b"X_" + token + b": x"),
        "in-the-host": get(b"/items", host=b"Host: " + token + b"@x\r\n"),
        "in-an-upgrade": get(b"/items", b"Upgrade: websocket", b"Sec-WebSocket-Protocol: bearer, " + token),
        "in-an-expectation": post(b"Expect: " + token, b"Content-Length: 0"),
        "in-a-length": post(b"Content-Length: " + token),
        "in-a-coding": post(b"Transfer-Encoding: " + token),
        "in-the-method": request(token + b" /items HTTP/1.1"),
        "in-the-version": request(b"GET /items " + token),
        "in-the-query-alone": get(b"/items?access_token=" + token, authorization=b""),
        "in-the-query-beside-a-header": get(b"/items?token=" + token),
        "in-the-query-of-a-path-without-route": get(b"/nothing?a=" + token),
        "in-a-path-without-route": get(b"/nothing/" + token),
        "in-a-path-that-is-refused": get(b"/items/../" + token),
        "in-a-path-without-credential": get(b"/items/" + token, authorization=b""),
        "in-a-path-with-the-wrong-method": request(b"DELETE /users/" + token + b" HTTP/1.1"),
        "in-a-path-with-the-wrong-scope": request(
            b"PUT /items/" + token + b" HTTP/1.1", b"Content-Length: 0", authorization=bearer(b"<key:alias>")
        ),
        "in-an-absolute-target": get(b"http://" + token + b"@x/items"),
        "in-the-user-of-a-target": get(b"//" + token + b"@x/items"),
        "in-a-body-without-credential": post(length, body=token, authorization=b""),
        "in-a-body-where-there-can-be-none": get(b"/items", length, body=token),
        "in-a-chunk-size": post(b"Transfer-Encoding: chunked", body=token + b"\r\n"),
        "in-a-chunk-extension": post(b"Transfer-Encoding: chunked", body=b"1;" + token + b"\r\na\r\n0\r\n\r\n"),
        "in-a-trailer": post(b"Transfer-Encoding: chunked", body=b"0\r\nAuthorization: Bearer " + token + b"\r\n\r\n"),
        "in-graphql-that-is-no-json": post(JSON, length, body=token, target=b"/gql"),
        "in-graphql-that-does-not-parse": graphql(token + b'\\" ', good),
        "in-a-graphql-field-that-is-refused": post(
            JSON,
            b"Content-Length: %d" % (len(token) + 14),
            body=b'{"query":"{' + token.replace(b".", b"_").replace(b"-", b"_") + b'}"}',
            target=b"/gql",
        ),
        "in-graphql-without-credential": graphql(token, b""),
        "in-graphql-with-the-wrong-scope": graphql(token, bearer(b"<key:writer>")),
        "in-a-content-type": post(b"Content-Type: " + token, b"Content-Length: 2", body=b"{}", target=b"/gql"),
        "in-no-http-at-all": token + b"\r\n\r\n",
        "in-a-proxy-line": b"PROXY TCP4 " + token + b"\r\n\r\n",
        "before-a-head-that-never-ends": get(b"/items", authorization=bearer(token))[:-2],
    }


def passed_requests(token: bytes) -> dict[str, bytes]:
    """Requests that are let through, with the token where it must not go on."""
    return {
        "proxy-authorization": get(b"/items", b"Proxy-Authorization: Bearer " + token),
        "x-api-key": get(b"/items", b"X-Api-Key: " + token),
        "identity": get(b"/items", b"X-Gateway-Key-Id: " + token, b"X-Gateway-User-Id: " + token),
        "forwarded": get(b"/items", b"X-Forwarded-For: " + token, b"Forwarded: for=" + token, b"X-Real-IP: " + token),
        "hop-by-hop": get(b"/items", b"Connection: x-token", b"X-Token: " + token),
        "path-override": get(b"/items", b"X-Original-URL: /" + token, b"X-Request-Id: " + token),
    }


def own_data_requests(token: bytes) -> dict[str, bytes]:
    """Requests that are let through with the token as the client's own data."""
    length = b"Content-Length: %d" % len(token)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(token), token)
    return {
        "body": post(length, body=token),
        "chunked-body": post(b"Transfer-Encoding: chunked", body=chunk),
        "parameter": get(b"/items/" + token),
        "graphql-argument": graphql(token, bearer(b"<key:a>")),
    }


def forms(token: bytes) -> set[bytes]:
    """What to look for: the token and its secret part, as they are."""
    parts = {token, token[:-1]}
    if b"." in token:
        parts.add(token.rpartition(b".")[2])
    return parts


class Everything(logging.Handler):
    """Every record of every logger, with its arguments and its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(logging.Formatter("%(name)s %(message)s").format(record))


@pytest.fixture
def logged() -> Iterator[Everything]:
    handler = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def send(gateway: RunningGateway, sent: bytes) -> bytes:
    """Everything that comes back."""
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, sent))
        client.finish()
        return client.read_to_end()


def check_nowhere(gateway: RunningGateway, places: dict[str, bytes], tokens: list[bytes]) -> None:
    for token in tokens:
        for form in forms(token):
            for place, written in places.items():
                found = written.find(form)
                assert found < 0, f"{form!r} in {place}: {written[max(0, found - 200) : found + 200]!r}"


def places_of(gateway: RunningGateway, logged: Everything, capfd: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """Every place where the gateway writes, once it has ended."""
    metrics = gateway.scrape().encode()
    outcomes = repr(gateway.outcomes).encode()
    gateway.stop()
    written = capfd.readouterr()
    return {
        "the access log": gateway.log_bytes(),
        "the metrics": metrics,
        "the outcomes": outcomes,
        "the log": "\n".join(logged.text).encode(),
        "standard output": written.out.encode(),
        "standard error": written.err.encode(),
        "the store": b"".join(path.read_bytes() for path in gateway.folder.glob("keys.sqlite3*")),
    }


def test_a_token_that_is_refused_or_dropped_is_written_nowhere(
    tmp_path: Path, logged: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_gateway(tmp_path) as gateway:
        answers = []
        for token in CANARIES.values():
            for name, sent in refused_requests(token).items():
                got = send(gateway, sent)
                answers.append(got)
                assert not got.startswith(b"HTTP/1.1 2"), (name, got)
            for name, sent in passed_requests(token).items():
                got = send(gateway, sent)
                answers.append(got)
                assert got.startswith(b"HTTP/1.1 200"), (name, got)
        gateway.settle()
        refused = len(refused_requests(KEY)) * len(CANARIES)
        received = b"".join(bytes(connection.received) for connection in gateway.upstream.connections)
        places = places_of(gateway, logged, capfd)

    lines = gateway.log_lines()
    assert len(lines) >= refused - len(CANARIES)
    check_nowhere(gateway, {**places, "the answers": b"".join(answers), "the upstream": received}, [*CANARIES.values()])


def test_a_token_as_the_clients_own_data_is_written_nowhere_but_upstream(
    tmp_path: Path, logged: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """The upstream is sent what was allowed; its answers here do not repeat it."""
    with running_gateway(tmp_path) as gateway:
        answers = []
        for token in CANARIES.values():
            for name, sent in own_data_requests(token).items():
                gateway.upstream.script(answer(b"{}"))
                got = exchange(gateway.port, with_keys(gateway, sent)).head
                answers.append(got)
                assert got.startswith(b"HTTP/1.1 200"), (name, got)
        gateway.settle()
        received = b"".join(bytes(connection.received) for connection in gateway.upstream.connections)
        places = places_of(gateway, logged, capfd)

    assert all(token in received for token in CANARIES.values())
    check_nowhere(gateway, {**places, "the answers": b"".join(answers)}, [*CANARIES.values()])


def test_a_good_key_is_written_nowhere(tmp_path: Path, logged: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    """The main case: the keys that open something, in every way of being used, by every end that a request has."""
    with running_gateway(tmp_path) as gateway:
        keys = gateway.keys
        tokens = [
            getattr(keys, name).token
            for name in ("a", "b", "writer", "alias", "stranger", "legacy", "expired", "revoked", "orphan", "unknown")
        ]
        answers: list[bytes] = []
        for token in tokens:
            authorization = bearer(token)
            for sent in (
                get(b"/items", authorization=authorization),
                get(b"/public", authorization=authorization),
                get(b"/admin", authorization=authorization),
                get(b"/nothing", authorization=authorization),
                get(b"/items/..", authorization=authorization),
                get(b"/items?token=" + token, authorization=authorization),
                get(b"/items", b"Cookie: a=b", b"Connection: authorization", authorization=authorization),
                request(b"DELETE /items HTTP/1.1", authorization=authorization),
                request(b"HEAD /items HTTP/1.1", authorization=authorization),
                post(b"Content-Length: 3", body=b"abc", authorization=authorization),
                post(b"Content-Length: x", authorization=authorization),
                post(b"Transfer-Encoding: chunked", body=b"x", authorization=authorization),
                graphql(b"1", authorization),
            ):
                answers += (send(gateway, sent),)
        # An upstream that fails in every way, asked with a key of the best.
        for steps in (
            (Step.CLOSE,),
            (Step.RESET,),
            (b"x\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", Step.CLOSE),
        ):
            gateway.upstream.script(steps, steps)
            answers.append(send(gateway, get(b"/items")))
        gateway.upstream.stop()
        answers.append(send(gateway, get(b"/items")))
        gateway.upstream.restart()
        received = b"".join(bytes(connection.received) for connection in gateway.upstream.connections)
        places = places_of(gateway, logged, capfd)

    assert received
    check_nowhere(gateway, {**places, "the answers": b"".join(answers), "the upstream": received}, tokens)


def test_an_internal_fault_does_not_quote_the_request_that_met_it(
    tmp_path: Path, logged: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_gateway(tmp_path) as gateway:

        def broken() -> float:
            raise RuntimeError(f"met by {gateway.keys.a.token!r}")

        gateway.running.gateway.services.judge._now = broken
        got = send(gateway, get(b"/items"))
        places = places_of(gateway, logged, capfd)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert gateway.upstream.received_bytes == 0
    check_nowhere(gateway, {**places, "the answer": got}, [gateway.keys.a.token])


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """The oracle itself."""
    with running_gateway(tmp_path) as gateway, pytest.raises(AssertionError, match="in the place"):
        check_nowhere(gateway, {"the place": b"..." + KEY.rpartition(b".")[2] + b"..."}, [KEY])
