"""The head guard: one reading of a request's target, header fields, Host and framing, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.facts import (
    FIELD_LIMIT_BYTES,
    FIELDS_LIMIT,
    METHODS,
    RequestFacts,
    body_length,
    facts_of,
    host_is_valid,
    with_authorization,
    with_fields,
)
from gateway.core.fields import FieldNames
from gateway.core.reasons import Reason, Refusal
from tests.core.samples import Headers, facts, facts_or_refusal
from tests.core.test_fields import DROPPED
from tests.support.values import field_names


def refused(answer: object) -> Reason:
    assert isinstance(answer, Refusal), answer
    return answer.reason


def forwarded(of: RequestFacts) -> bytes:
    """The client's own header fields as they will be sent."""
    return b"".join(of.fields)


# -- the method


@pytest.mark.parametrize("method", METHODS)
def test_these_methods_are_served(method: bytes) -> None:
    assert method == facts(method=method).method


@pytest.mark.parametrize(
    "method",
    [b"get", b"GeT", b"FOO", b"GET?", b"", b"CONNECT", b"TRACE", b"TRACK", b"DEBUG", b"PRI", b" GET", b"GET\n"],
)
def test_other_methods_are_refused_with_those_that_are_served(method: bytes) -> None:
    # A35, B28
    answer = facts_or_refusal(method=method)

    assert Reason.METHOD_UNKNOWN is refused(answer)
    assert isinstance(answer, Refusal)
    assert tuple(known.decode() for known in METHODS) == answer.allowed_methods


# -- the target


def test_a_target_that_is_not_canonical_is_refused() -> None:
    assert Reason.TARGET_REFUSED is refused(facts_or_refusal(target=b"/public/../admin"))
    assert Reason.TARGET_TOO_LONG is refused(facts_or_refusal(target=b"/" + b"a" * 8192))


def test_a_canonical_target_is_judged_in_two_parts_and_sent_as_it_came() -> None:
    read = facts(target=b"/v1/caf%C3%A9?a=1?b")

    assert (b"/v1/caf%C3%A9", b"a=1?b", b"/v1/caf%C3%A9?a=1?b") == (read.path, read.query, read.target)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"access_token=x", True),
        (b"a=1&api_key=x", True),
        (b"token", True),
        (b"a;token=x", True),
        (b"ACCESS_TOKEN=x", True),
        (b"%61ccess_token=x", True),
        (b"access%5Ftoken=x", True),
        (b"access%5ftoken=x", True),
        (b"%54oken=x", True),
        (b"tokens=x", False),
        (b"a=token", False),
        (b"a=access_token=x", False),
        (b"page=2&q=%C3%A9", False),
        (b"", False),
    ],
)
def test_a_credential_in_the_query_is_seen_however_its_name_is_spelled(query: bytes, expected: bool) -> None:
    # B32, D14
    assert expected is facts(target=b"/v1/users?" + query).query_credential


# -- Host


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"api.example",
        b"api.example:8080",
        b"API.Example.",
        b"127.0.0.1:1",
        b"[::1]",
        b"[::1]:65535",
        b"a_b",
        b"a:0",
    ],
)
def test_these_hosts_are_valid(host: bytes) -> None:
    assert host_is_valid(host)
    assert host == facts(host=host).host


@pytest.mark.parametrize(
    "host",
    # C9
    [
        b"",
        b"a, b",
        b"a b",
        b"a/b@c",
        b"user@a",
        b"a:99999",
        b"a:65536",
        b"a:",
        b"a:b",
        b"[::1",
        b"::1",
        b"a\xff",
        b"a#b",
        b"a?b",
        b"a\\b",
        b"a\n",
        b"http://a",
        b"a" * 254,
        b"[]",
        b"[gg]",
        b"a:1:2",
        b" a",
        b"a:\xd9\xa1",
        b"a%41",
    ],
)
def test_these_hosts_are_not(host: bytes) -> None:
    assert not host_is_valid(host)
    assert Reason.HOST_INVALID is refused(facts_or_refusal(host=host))


def test_there_is_exactly_one_host() -> None:
    assert Reason.HOST_INVALID is refused(facts_or_refusal(host=None))
    assert Reason.HOST_INVALID is refused(facts_or_refusal((b"HOST", b"api.example")))


def test_a_host_is_judged_alike_however_many_came_before_it() -> None:
    for number in range(FieldNames.LIMIT + 10):
        assert host_is_valid(b"host-%d.example" % number)
        assert not host_is_valid(b"host-%d.example/" % number)

    assert Reason.HOST_INVALID is refused(facts_or_refusal(host=b"host-1.example/"))
    assert isinstance(facts_or_refusal(host=b"host-of-its-own.example"), RequestFacts)


@given(st.binary(max_size=40))
def test_a_valid_host_has_only_the_bytes_of_one(host: bytes) -> None:
    if host_is_valid(host):
        assert host.isascii()
        assert not set(b' \t\r\n,/@?#\\%"<>') & set(host)


# -- framing


@pytest.mark.parametrize(
    ("length", "coding", "is_http_11", "expected"),
    [
        (None, None, True, 0),
        (b"0", None, True, 0),
        (b"3", None, True, 3),
        (b"003", None, False, 3),
        (b"9" * 18, None, True, 10**18 - 1),
        (None, b"chunked", True, -1),
        (None, b"CHUNKED", True, -1),
    ],
)
def test_a_body_has_one_length(length: bytes | None, coding: bytes | None, is_http_11: bool, expected: int) -> None:
    assert expected == body_length(length, coding, is_http_11)


@pytest.mark.parametrize(
    "length",
    # A4, A5, A6
    [
        b"",
        b"+3",
        b"-3",
        b"0x3",
        b"3_0",
        b"3.0",
        "٣".encode(),
        b"3 3",
        b"3, 3",
        b"3,3",
        b" 3",
        b"3 ",
        b"3\n",
        b"1e1",
        b"\xb2",
        b"9" * 19,
        b"9" * 5000,
    ],
)
def test_a_length_that_is_not_plain_digits_is_ambiguous(length: bytes) -> None:
    assert Reason.FRAMING_AMBIGUOUS is refused(body_length(length, None, True))
    assert Reason.FRAMING_AMBIGUOUS is refused(facts_or_refusal((b"Content-Length", length), method=b"POST"))


@pytest.mark.parametrize(
    "coding",
    # A8, A10
    [
        b"",
        b"gzip",
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"xchunked",
        b",chunked",
        b"chunked,",
        b"chunked;q=1",
        b'"chunked"',
        b" chunked",
        b"chunked\t",
        b"chunked\x0b",
        b"chunked\x00",
        b"chun ked",
        b"chunked, chunked",
        b"\xffchunked",
    ],
)
def test_a_coding_that_is_not_the_word_chunked_is_ambiguous(coding: bytes) -> None:
    assert Reason.FRAMING_AMBIGUOUS is refused(body_length(None, coding, True))
    assert Reason.FRAMING_AMBIGUOUS is refused(facts_or_refusal((b"Transfer-Encoding", coding), method=b"POST"))


FRAMING_FAULTS: list[tuple[Headers, bool]] = [
    ([(b"Content-Length", b"4"), (b"Transfer-Encoding", b"chunked")], True),  # A1
    ([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"0")], True),
    ([(b"Content-Length", b"3"), (b"Content-Length", b"3")], True),  # A2
    ([(b"Content-Length", b"3"), (b"content-length", b"4")], True),  # A3
    ([(b"Transfer-Encoding", b"chunked")], False),  # A7
    ([(b"Transfer-Encoding", b"chunked"), (b"TRANSFER-ENCODING", b"chunked")], True),  # A9
    ([(b"Upgrade", b"h2c"), (b"Content-Length", b"1")], True),
    ([(b"Upgrade", b"h2c"), (b"Transfer-Encoding", b"chunked")], True),
]


@pytest.mark.parametrize(("headers", "is_http_11"), FRAMING_FAULTS)
def test_framing_that_two_hops_may_read_differently_is_refused(headers: Headers, is_http_11: bool) -> None:
    assert Reason.FRAMING_AMBIGUOUS is refused(facts_or_refusal(*headers, method=b"POST", is_http_11=is_http_11))


@given(st.one_of(st.none(), st.binary(max_size=25)), st.one_of(st.none(), st.binary(max_size=12)), st.booleans())
def test_any_framing_is_a_length_or_a_refusal(length: bytes | None, coding: bytes | None, is_http_11: bool) -> None:
    answer = body_length(length, coding, is_http_11)

    if not isinstance(answer, Refusal):
        assert answer == (-1 if coding is not None else int(length or b"0"))
        assert length is None or coding is None


def test_a_length_of_nothing_is_remembered() -> None:
    assert (0, True) == (facts((b"Content-Length", b"0")).content_length, facts((b"Content-Length", b"0")).has_length)
    assert (0, False) == (facts().content_length, facts().has_length)
    chunked = facts((b"Transfer-Encoding", b"chunked"), method=b"POST")
    assert (-1, False) == (chunked.content_length, chunked.has_length)


# -- header fields


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Type", b"a/b"), (b"content-type", b"a/b")],  # C19
        [(b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"br")],  # C20
        [(b"Cookie", b"a=1"), (b"Cookie", b"b=2")],
        [(b"Origin", b"null"), (b"ORIGIN", b"null")],
        [(b"Range", b"bytes=0-1"), (b"range", b"bytes=0-1")],
        [(b"If-Range", b'"a"'), (b"If-Range", b'"a"')],
        [(b"User-Agent", b"a"), (b"X", b"y"), (b"User-Agent", b"a")],
        [(b"X_Gateway_Key_Id", b"admin")],  # A11, C5
        [(b"Content_Length", b"3")],
        [(b"a_b", b"")],
        [(b"", b"x")],  # A15
        [(b"a b", b"x")],
        [(b"a:", b"x")],
        [(b"a\x00", b"x")],
        [(b"\xc3\xa9", b"x")],
        [(b"host ", b"x")],
        [(b"a" * 257, b"x")],
    ],
)
def test_a_field_that_may_come_once_or_has_no_proper_name_is_refused(headers: Headers) -> None:
    assert Reason.HEADER_REFUSED is refused(facts_or_refusal(*headers))


def test_two_credentials_are_refused_also_when_they_are_equal() -> None:
    # D7, D8, C34
    one = (b"Authorization", b"Bearer a")

    assert Reason.CREDENTIAL_REPEATED is refused(facts_or_refusal(one, (b"AUTHORIZATION", b"Bearer a")))
    assert Reason.CREDENTIAL_REPEATED is refused(facts_or_refusal((b"authorization", b""), one))


def test_fields_are_limited_in_number_and_length() -> None:
    # C18
    most = [(b"X-%d" % number, b"") for number in range(FIELDS_LIMIT - 1)]
    longest = (b"X", b"a" * FIELD_LIMIT_BYTES)

    assert isinstance(facts_or_refusal(*most), RequestFacts)
    assert Reason.HEAD_TOO_LARGE is refused(facts_or_refusal(*most, (b"X", b"")))
    assert isinstance(facts_or_refusal(longest), RequestFacts)
    assert Reason.HEAD_TOO_LARGE is refused(facts_or_refusal((b"X", longest[1] + b"a")))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(b"Expect", b"nonsense")], Reason.EXPECTATION_REFUSED),  # A25
        ([(b"Expect", b"y 100-continue")], Reason.EXPECTATION_REFUSED),
        ([(b"Expect", b"")], Reason.EXPECTATION_REFUSED),
        ([(b"Expect", b"100-continue"), (b"Expect", b"100-continue")], Reason.EXPECTATION_REFUSED),
        ([(b"Upgrade", b"websocket")], Reason.UPGRADE_REFUSED),  # A36
        ([(b"Upgrade", b"WebSocket")], Reason.UPGRADE_REFUSED),
        ([(b"Upgrade", b"h2c"), (b"Upgrade", b"websocket")], Reason.UPGRADE_REFUSED),
        ([(b"Upgrade", b"h2c, websocket/13")], Reason.UPGRADE_REFUSED),
        ([(b"Upgrade", b"websocket"), (b"Connection", b"upgrades")], Reason.UPGRADE_REFUSED),
        ([(b"Upgrade", b"websocket"), (b"Connection", b"keep-alive")], Reason.UPGRADE_REFUSED),
        ([(b"Upgrade", b"websocket, h2c"), (b"Connection", b"Upgrade")], Reason.UPGRADE_REFUSED),
        (
            [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Content-Length", b"0")],
            Reason.UPGRADE_REFUSED,
        ),
    ],
)
def test_expectations_and_upgrades_that_we_do_not_serve_are_refused(headers: Headers, reason: Reason) -> None:
    assert reason is refused(facts_or_refusal(*headers))


def test_a_header_that_asks_for_another_method_is_refused_by_its_name() -> None:
    read = facts_or_refusal((b"X-HTTP-Method-Override", b"DELETE"))  # B27

    assert read == Refusal(Reason.HEADER_REFUSED, "`x-http-method-override`: the method is that of the request line")


WEBSOCKET = ((b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, Upgrade"))


def test_a_request_for_a_websocket_is_read_as_one() -> None:
    read = facts(*WEBSOCKET, (b"Sec-WebSocket-Version", b"13"))

    assert read.upgrades
    assert read.fields == [b"sec-websocket-version: ", b"13", b"\r\n"]
    assert not facts().upgrades


def test_a_websocket_is_asked_for_by_get_in_http_1_1() -> None:
    assert refused(facts_or_refusal(*WEBSOCKET, method=b"HEAD")) is Reason.UPGRADE_REFUSED
    assert refused(facts_or_refusal(*WEBSOCKET, method=b"POST")) is Reason.UPGRADE_REFUSED
    assert refused(facts_or_refusal(*WEBSOCKET, is_http_11=False)) is Reason.UPGRADE_REFUSED


def test_what_the_upstream_never_sees_is_read_and_kept_back() -> None:
    read = facts(
        (b"Authorization", b"Bearer a"),
        (b"Expect", b"100-Continue"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
        (b"Connection", b"Upgrade, HTTP2-Settings"),
        (b"Content-Length", b"0"),
        (b"X-Api-Key", b"secret"),
    )

    assert b"Bearer a" == read.authorization
    assert read.expects_continue
    assert b"" == forwarded(read)


@pytest.mark.parametrize("name", DROPPED)
def test_fields_in_which_a_client_could_claim_to_be_somebody_are_dropped(name: bytes) -> None:
    assert b"" == forwarded(facts((name.title(), b"admin"), (name.upper(), b"admin")))


def test_other_fields_pass_in_order_with_their_values_untouched() -> None:
    read = facts((b"X-B", b"\xff\xfe 1"), (b"Accept", b"a/b"), (b"x-a", b""), (b"X-B", b"2"), (b"Cookie", b"c=1"))

    assert b"x-b: \xff\xfe 1\r\naccept: a/b\r\nx-a: \r\nx-b: 2\r\ncookie: c=1\r\n" == forwarded(read)


def test_several_accepts_are_one_list() -> None:
    assert b"a/b, c/d" == facts((b"Accept", b"a/b"), (b"accept", b"c/d")).accept
    assert b"" == facts().accept


def test_content_type_and_encoding_are_read_and_forwarded() -> None:
    read = facts((b"Content-Type", b"a/b"), (b"Content-Encoding", b"gzip"), (b"Connection", b"content-type"))

    assert (b"a/b", b"gzip") == (read.content_type, read.content_encoding)
    assert b"content-type: a/b\r\ncontent-encoding: gzip\r\n" == forwarded(read)
    assert (None, None) == (facts().content_type, facts().content_encoding)


@pytest.mark.parametrize(
    ("connection", "is_http_11", "expected"),
    [
        ([], True, True),
        ([b"close"], True, False),
        ([b"Close"], True, False),
        ([b"keep-alive"], True, True),
        ([b"keep-alive, close"], True, False),
        ([b"x", b"close"], True, False),
        ([b"xclose"], True, True),
        ([b""], True, True),
        ([], False, False),
        ([b"keep-alive"], False, False),
    ],
)
def test_a_connection_goes_on_only_in_1_1_and_unless_it_is_told_to_close(
    connection: list[bytes], is_http_11: bool, expected: bool
) -> None:
    headers = [(b"Connection", value) for value in connection]

    assert expected is facts(*headers, is_http_11=is_http_11).keeps_alive


def test_a_nominated_field_is_hop_by_hop() -> None:
    # RFC 9110 7.6.1
    read = facts((b"X-A", b"1"), (b"X-B", b"2"), (b"Connection", b"x-a , close"), (b"X-A", b"3"))

    assert b"x-b: 2\r\n" == forwarded(read)
    assert not read.keeps_alive


def test_what_carries_meaning_cannot_be_nominated_away() -> None:
    # C1, C2, C3
    nominated = (
        b"authorization, host, content-length, cookie, origin, user-agent, accept, range, if-range, x-gateway-key-id"
    )
    headers = [(b"Cookie", b"c"), (b"Origin", b"o"), (b"User-Agent", b"u"), (b"Accept", b"a"), (b"Range", b"r")]

    read = facts(
        *headers, (b"Authorization", b"Bearer a"), (b"Content-Length", b"3"), (b"Connection", nominated), method=b"POST"
    )

    assert b"cookie: c\r\norigin: o\r\nuser-agent: u\r\naccept: a\r\nrange: r\r\n" == forwarded(read)
    assert (b"Bearer a", b"api.example", 3) == (read.authorization, read.host, read.content_length)


NAMES = st.one_of(
    st.sampled_from(
        [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"Accept"]
    ),
    st.sampled_from(
        [b"Authorization", b"Cookie", b"Content-Type", b"X-Gateway-Kind", b"x.gateway.kind", b"X_A", b"X-B"]
    ),
    st.binary(max_size=10),
)
VALUES = st.one_of(
    st.sampled_from(
        [b"a", b"chunked", b"3", b"0", b"close, x-b", b"100-continue", b"websocket", b"api.example:80", b""]
    ),
    st.binary(max_size=12),
)


@given(
    st.binary(max_size=5),
    st.one_of(st.binary(max_size=9), st.just(b"/x?token")),
    st.lists(st.tuples(NAMES, VALUES), max_size=8),
    st.booleans(),
)
def test_no_head_raises(method: bytes, target: bytes, headers: Headers, is_http_11: bool) -> None:
    assert isinstance(facts_of(method, target, headers, is_http_11), RequestFacts | Refusal)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.booleans())
def test_what_passes_has_one_host_one_length_and_no_name_of_ours(headers: Headers, is_http_11: bool) -> None:
    read = facts_of(b"POST", b"/x", [(b"Host", b"a"), *headers], is_http_11)

    if isinstance(read, Refusal):
        return
    lower = [name.lower() for name, _ in headers]
    assert b"host" not in lower
    assert lower.count(b"content-length") + lower.count(b"transfer-encoding") <= 1
    assert lower.count(b"authorization") <= 1
    names = [line.partition(b":")[0] for line in forwarded(read).split(b"\r\n")[:-1] if b": " in line]
    kept_back = {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"authorization",
        b"expect",
        b"upgrade",
    }
    assert not kept_back & set(names)
    assert not [name for name in names if name.replace(b".", b"-").replace(b"_", b"-").startswith(b"x-gateway")]


def test_a_request_is_the_same_with_another_credential_or_other_fields() -> None:
    before = facts(method=b"GET", target=b"/a?b=1")
    authorized = with_authorization(before, b"Bearer x")
    changed = with_fields(authorized, [b"a: ", b"1", b"\r\n"])

    assert (authorized.authorization, authorized.fields) == (b"Bearer x", before.fields)
    assert (changed.authorization, changed.fields) == (b"Bearer x", [b"a: ", b"1", b"\r\n"])
    same = [name for name in field_names(RequestFacts) if name not in ("authorization", "fields")]
    assert [getattr(changed, name) for name in same] == [getattr(before, name) for name in same]
