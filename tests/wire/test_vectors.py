"""Other people's collections of odd requests: what they call dangerous is refused, what they call good is read alike.

http-desync-guardian is played against a whole gateway; llhttp's own cases against our reader, message by message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.core.facts import RequestFacts, facts_of
from gateway.core.reasons import Refusal
from gateway.wire.request_reader import RequestReader
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient, Sending, read_head
from tests.support.rows import HOST, with_keys
from tests.support.vectors import Desync, Llhttp, Message, desync_vectors, llhttp_vectors, skipped

POLICY = """\
version: 1
errors: problem
scopes:
  READ: {means: read}
routes:
  - {name: foo.get, match: GET /foo/bar, upstream: rest, allow: {api_key: READ}}
  - {name: foo.post, match: POST /foo/bar, upstream: rest, allow: {api_key: READ}}
  - {name: foo.put, match: PUT /foo/bar, upstream: rest, allow: {api_key: READ}}
  - {name: test.get, match: GET /test.html, upstream: rest, allow: {api_key: READ}}
  - {name: test.post, match: POST /test.html, upstream: rest, allow: {api_key: READ}}
  - {name: test.put, match: PUT /test.html, upstream: rest, allow: {api_key: READ}}
"""

DESYNC = desync_vectors()
LLHTTP = llhttp_vectors()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("vectors"), policy=POLICY) as gateway:
        yield gateway


# -- http-desync-guardian


def head_of(vector: Desync) -> bytes:
    """The request, with the `Host` and the good credential that it needs here at its end."""
    line = b" ".join(part for part in (vector.method, vector.target, vector.version) if part or part is vector.target)
    fields = b"".join(b"%s: %s\r\n" % field for field in vector.fields)
    host = b"" if any(name.lower() == b"host" for name, _ in vector.fields) else HOST
    return line + b"\r\n" + fields + host + b"Authorization: Bearer <key:a>\r\n\r\n"


def body_of(vector: Desync) -> bytes:
    """The body that the vector announces but does not have."""
    for name, value in vector.fields:
        if name.lower() == b"content-length":
            return b"x" * int(value)
        if name.lower() == b"transfer-encoding":
            return b"0\r\n\r\n"
    return b""


@skipped("http-desync-guardian")
def test_the_tiers_are_all_there() -> None:
    tiers = [vector.tier for vector in DESYNC]

    assert {tier: tiers.count(tier) for tier in set(tiers)} == {
        "Severe": 58,
        "Ambiguous": 58,
        "Acceptable": 15,
        "Compliant": 28,
    }


@skipped("http-desync-guardian")
@pytest.mark.parametrize("vector", [vector for vector in DESYNC if vector.tier in ("Severe", "Ambiguous")], ids=str)
@pytest.mark.parametrize("sending", list(Sending), ids=lambda sending: sending.name.lower())
def test_a_dangerous_request_is_refused_and_ends_the_connection(
    gateway: RunningGateway, vector: Desync, sending: Sending
) -> None:
    gateway.forget()
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, head_of(vector)), sending)
        status, headers = read_head(client.read_until(b"\r\n\r\n"))
        assert status in (400, 405, 505)
        assert (b"connection", b"close") in headers
        rest = client.read_to_end()

    # A head that is no head has no method either: then also what began with `HEAD` is told what was wrong with it.
    assert rest == b"" or json.loads(rest)["status"] == status
    gateway.settle()
    assert gateway.upstream.received_bytes == 0


STRICTER = {
    "Valid custom header with underscore in name": "`_` in a name is an alias of `-` to CGI-style upstreams (A11, C5)",
    "Valid custom header with tchar in name and obs-text": "the name has `_` in it (A11, C5)",
    "Different Transfer-Encoding headers": "only one `Transfer-Encoding`, and only `chunked` (A8, A9)",
    "Different Transfer-Encoding headers combined": "no coding but `chunked` (A8)",
    "Transfer-Encoding with a param: chunked;custom_param": "`chunked` has no parameters (A8)",
    "Compliant URL": "a target with quotes, spaces and a fragment has several readings (B14, B16)",
    "International in URI": "raw bytes above 0x7F in a target (B14)",
    "Empty URI": "a target starts with `/` (B20)",
    "%0D in URI is OK": "an encoded control, which decoders turn into one (B24)",
    "%0A in URI is OK": "an encoded control, which decoders turn into one (B24)",
    "%09 in URI is OK": "an encoded control, which decoders turn into one (B24)",
    "Has a CL in PUT OK": "white space behind a length, which hops strip or not (A5)",
    "Very many headers": "white space behind a length, which hops strip or not (A5)",
    "Correct TE OK": "no coding but `chunked` (A8)",
    "Transfer-Encoding: identity and chunked OK": "no coding but `chunked` (A8)",
    "Multiple transfer encoding headers in a single request OK": "only one `Transfer-Encoding` (A9)",
    "TE with custom parameters OK": "`chunked` has no parameters (A8)",
}
"""Compliant by the letter of the RFC, and refused here all the same, each for a reason of its own."""


def name_of(vector: Desync) -> str:
    return vector.name.partition(": ")[2]


@skipped("http-desync-guardian")
@pytest.mark.parametrize("vector", [vector for vector in DESYNC if vector.tier == "Compliant"], ids=str)
def test_a_compliant_request_passes_the_framing_guard(gateway: RunningGateway, vector: Desync) -> None:
    gateway.forget()
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, head_of(vector)))
        if name_of(vector) in STRICTER:
            response = client.read(vector.method)
            assert (response.status, client.is_ended()) == (400, True)
            assert gateway.upstream.settled().received_bytes == 0
            return
        client.send(body_of(vector))
        response = client.read(vector.method)

    gateway.settle()
    if response.reason == "route_unknown":  # past the guard, and no rule has it
        return
    assert response.status == 200, response
    assert [sent.target for sent in gateway.upstream.requests] == [vector.target]
    assert gateway.upstream.requests[0].body in (body_of(vector), b"")


@skipped("http-desync-guardian")
def test_every_exception_is_one_of_the_vectors() -> None:
    assert STRICTER.keys() <= {name_of(vector) for vector in DESYNC if vector.tier == "Compliant"}


@skipped("http-desync-guardian")
@pytest.mark.parametrize("vector", [vector for vector in DESYNC if vector.tier == "Acceptable"], ids=str)
def test_an_acceptable_request_is_refused_or_sent_once_as_it_is_read(gateway: RunningGateway, vector: Desync) -> None:
    """That tier lets be what brings no danger alone. Here it is refused, but for a length of nought."""
    gateway.forget()
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, head_of(vector)))
        response = client.read(vector.method)

    gateway.settle()
    if response.status == 200:
        assert [sent.framing for sent in gateway.upstream.requests] == ["none"]
        assert all(name.isascii() and b"_" not in name for name, _ in gateway.upstream.requests[0].headers)
    else:
        assert response.status in (400, 405, 505)
        assert gateway.upstream.received_bytes == 0


# -- llhttp


class Reading(RequestReader):
    """Reads as the door does, and remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self.refusal: Refusal | None = None

    def head_read(self) -> None:
        headers = list(self.headers)
        if not any(name.lower() == b"host" for name, _ in headers):
            # The cases have none; that it must be there is another test's.
            headers.append((b"Host", b"gateway.test"))
        facts = facts_of(self.method, self.target, headers, self.is_http_11)
        if isinstance(facts, Refusal):
            self.refusal = facts
            return
        assert isinstance(facts, RequestFacts)
        version = b"1.1" if self.is_http_11 else b"1.0"
        self.messages.append(Message(self.method, self.target, version, list(self.headers)))
        if facts.content_length:
            self.expect_body(facts.content_length)
        else:
            self.body_ended()

    def body_read(self, data: bytes) -> None:
        self.messages[-1].body += data

    def body_ended(self) -> None:
        self.messages[-1].is_complete = True
        self.next_request()

    def reading_refused(self, refusal: Refusal) -> None:
        self.refusal = refusal


def read(vector: Llhttp, size: int) -> Reading:
    reading = Reading()
    for place in range(0, len(vector.sent), size):
        if reading.refusal is None:
            reading.feed(vector.sent[place : place + size])
    return reading


def whole_messages(reading: Reading) -> list[Message]:
    return [message for message in reading.messages if message.is_complete]


def trimmed(message: Message) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    fields = [(name, value.strip(b" \t")) for name, value in message.fields]
    return message.method, message.target, message.version, fields, message.body


NOT_REFUSED: dict[str, str] = {}
"""What llhttp refuses and we read, each with its reason."""


@skipped("llhttp-request")
def test_the_cases_of_llhttp_are_all_there() -> None:
    assert len(LLHTTP) > 120
    assert sum(vector.is_refused for vector in LLHTTP) > 40


@skipped("llhttp-request")
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("vector", [vector for vector in LLHTTP if vector.is_refused], ids=str)
def test_what_llhttp_refuses_is_refused(vector: Llhttp, size: int) -> None:
    reading = read(vector, size)

    whole = whole_messages(reading)
    if vector.name in NOT_REFUSED:
        assert reading.refusal is None
        return
    assert reading.refusal is not None or len(whole) <= sum(message.is_complete for message in vector.messages)
    for ours, theirs in zip(whole, vector.messages, strict=False):
        assert trimmed(ours) == trimmed(theirs)


@skipped("llhttp-request")
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("vector", [vector for vector in LLHTTP if not vector.is_refused], ids=str)
def test_what_llhttp_reads_is_read_alike_or_refused(vector: Llhttp, size: int) -> None:
    reading = read(vector, size)

    whole = whole_messages(reading)
    for ours, theirs in zip(whole, vector.messages, strict=False):
        assert trimmed(ours) == trimmed(theirs)
    if reading.refusal is None:
        assert len(whole) == sum(message.is_complete for message in vector.messages)


@skipped("llhttp-request")
def test_each_case_ends_alike_however_it_is_cut() -> None:
    for vector in LLHTTP:
        readings = [read(vector, size) for size in (1, 2, 3, 5, 64, 1 << 20)]
        ends = {
            (reading.refusal is None, *((whole.method, whole.target, whole.body) for whole in whole_messages(reading)))
            for reading in readings
        }
        assert len(ends) == 1, vector.name


@skipped("llhttp-request")
@pytest.mark.parametrize("vector", LLHTTP, ids=str)
def test_no_case_of_llhttp_gets_past_the_door_without_a_credential(gateway: RunningGateway, vector: Llhttp) -> None:
    gateway.forget()
    with RawClient(gateway.port) as client:
        client.send(vector.sent)
        client.finish()
        came = client.read_to_end()

    gateway.settle()
    assert gateway.upstream.received_bytes == 0
    for status in came.split(b"HTTP/1.1 ")[1:]:
        assert status[:1] == b"4" or status[:3] == b"505", came
