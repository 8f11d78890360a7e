"""Header rules both ways: what the upstream gets is built by us, and what comes back is read in one way."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import CredentialKind
from gateway.core.facts import RequestFacts, facts_of
from gateway.core.outgoing import (
    IDENTITY_FIELDS,
    VIA,
    IdentityLines,
    ResponseFacts,
    ResponseFieldNames,
    ResponseRole,
    peer_lines,
    request_head,
    response_facts,
)
from gateway.core.principal import Principal
from tests.core.samples import API_TOKEN, SCOPES, Headers, bearer, facts, parsed_by_h11, principal, user

REF = b"0b0c8a1e-5c1f-4d1e-8c1f-0123456789ab"
PEER = peer_lines(b"192.0.2.7", b"https")
WHO = principal("read_users", "users:write", "gone")


def head_of(of: RequestFacts, who: Principal | None = WHO, body: bytes | None = None) -> bytes:
    return request_head(of, b"upstream.internal:9000", PEER, IdentityLines(SCOPES).of(who), REF, body)


def tail_of(host: bytes = b"api.example", who: Principal | None = WHO) -> Headers:
    """What always stands last: where the client is, and who it is."""
    values = (b"", b"", b"", b"", b"")
    if who is not None:
        values = (who.kind.value.encode(), who.key_id.encode(), who.app_id.encode(), b"", b"users:read users:write")
    return [
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"https"),
        (b"via", VIA),
        (b"x-forwarded-host", host),
        *zip(IDENTITY_FIELDS, (*values, REF), strict=True),
    ]


# -- the request


def test_the_head_is_these_bytes() -> None:
    read = facts((b"Accept", b"a/b"), bearer(API_TOKEN), (b"X-Gateway-Key-Id", b"admin"), target=b"/v1/users?page=2")

    assert (
        b"GET /v1/users?page=2 HTTP/1.1\r\n"
        b"host: upstream.internal:9000\r\n"
        b"accept: a/b\r\n"
        b"x-forwarded-for: 192.0.2.7\r\n"
        b"x-forwarded-proto: https\r\n"
        b"via: 1.1 bearergate\r\n"
        b"x-forwarded-host: api.example\r\n"
        b"x-gateway-kind: api_key\r\n"
        b"x-gateway-key-id: ek5Tq0aVb81LmZc\r\n"
        b"x-gateway-app-id: app-1\r\n"
        b"x-gateway-user-id: \r\n"
        b"x-gateway-scopes: users:read users:write\r\n"
        b"x-gateway-request-id: 0b0c8a1e-5c1f-4d1e-8c1f-0123456789ab\r\n"
        b"\r\n"
    ) == head_of(read)


def test_without_a_principal_every_identity_field_is_there_and_empty() -> None:
    # C4: also on public routes
    request, _ = parsed_by_h11(head_of(facts((b"X-Gateway-App-Id", b"app-2")), None))

    assert [(b"host", b"upstream.internal:9000"), *tail_of(who=None)] == list(request.headers)


@pytest.mark.parametrize(
    ("method", "headers", "body", "framing"),
    [
        (b"GET", [], None, []),
        (b"GET", [(b"Content-Length", b"0")], None, []),
        (b"GET", [(b"Content-Length", b"3")], None, [(b"content-length", b"3")]),
        (b"DELETE", [(b"Content-Length", b"0")], None, []),
        (b"POST", [], None, []),
        (b"POST", [(b"Content-Length", b"0")], None, [(b"content-length", b"0")]),
        (b"PUT", [(b"Content-Length", b"0")], None, [(b"content-length", b"0")]),
        (b"PATCH", [(b"Content-Length", b"007")], None, [(b"content-length", b"7")]),
        (b"POST", [(b"Transfer-Encoding", b"Chunked")], None, [(b"transfer-encoding", b"chunked")]),
        (b"POST", [(b"Content-Length", b"999")], b"{}", [(b"content-length", b"2")]),
        (b"POST", [(b"Transfer-Encoding", b"chunked")], b"{}", [(b"content-length", b"2")]),
        (b"POST", [(b"Content-Length", b"9")], b"", [(b"content-length", b"0")]),
    ],
)
def test_the_framing_is_ours(method: bytes, headers: Headers, body: bytes | None, framing: Headers) -> None:
    request, _ = parsed_by_h11(head_of(facts(*headers, method=method), body=body))

    named = {b"content-length", b"transfer-encoding"}
    assert framing == [(name, value) for name, value in request.headers if name in named]


def test_a_part_of_a_graphql_answer_is_not_asked_for() -> None:
    # C21
    read = facts((b"Range", b"bytes=0-1"), (b"X", b"range: "), (b"If-Range", b"a"), method=b"POST")

    streamed, judged = (parsed_by_h11(head_of(read, body=body))[0].headers for body in (None, b"{}"))

    assert {b"range", b"if-range"} < {name for name, _ in streamed}
    assert not {b"range", b"if-range"} & {name for name, _ in judged}
    assert (b"x", b"range:") in [(name, value) for name, value in judged]


TOKEN_NAMES = st.text("ABCXYZabcxyz019-!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
NAMES = st.one_of(
    TOKEN_NAMES,
    st.sampled_from(
        [b"X-Gateway-Key-Id", b"x.gateway.scopes", b"X-Forwarded-For", b"Via", b"Cookie", b"Accept", b"TE"]
    ),
    st.sampled_from(
        [b"Connection", b"Keep-Alive", b"Authorization", b"Content-Type", b"Content-Length", b"Transfer-Encoding"]
    ),
    st.sampled_from([b"Expect", b"Upgrade", b"Proxy", b"X-Real-IP", b"User-Agent"]),
)
VISIBLE = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
VALUES = st.one_of(
    st.lists(st.sampled_from(VISIBLE), max_size=12).map(bytes),
    st.sampled_from([b"3", b"chunked", b"x-a, close", b"cookie", b"host", b"100-continue", b"h2c", b"a\tb c"]),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE"])


@given(METHODS, HEADERS, st.one_of(st.none(), st.binary(max_size=9)))
def test_another_parser_reads_exactly_the_request_that_was_meant(
    method: bytes, headers: Headers, body: bytes | None
) -> None:
    read = facts_of(method, b"/v1/users?a=b", [(b"Host", b"api.example:81"), *headers], True)
    if not isinstance(read, RequestFacts):
        return

    request, events = parsed_by_h11(head_of(read, body=body) + (b"" if body is None else body))

    sent = list(request.headers)
    assert (method, b"/v1/users?a=b", b"1.1") == (request.method, request.target, request.http_version)
    assert (b"host", b"upstream.internal:9000") == sent[0]
    assert tail_of(b"api.example:81") == sent[-len(tail_of()) :]
    between = [name for name, _ in sent[1 : -len(tail_of())]]
    ours = {name for name, _ in tail_of()} | {b"host", b"connection", b"authorization", b"expect", b"upgrade", b"te"}
    assert not ours & {name.replace(b".", b"-") for name in between}
    assert between.count(b"content-length") + between.count(b"transfer-encoding") <= 1
    # Each end-to-end field once for each time it came, in the client's order, with the value it came with.
    came = [(name.lower(), value) for name, value in headers]
    own = [
        (name, value)
        for name, value in sent[1 : -len(tail_of())]
        if name not in (b"content-length", b"transfer-encoding")
    ]
    assert all(field in came for field in own)
    in_order = [field for field in own if field[0] not in (b"content-type", b"content-encoding")]
    rest = iter(came)
    assert all(field in rest for field in in_order)
    if body:
        assert body == b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))


def test_the_peer_is_the_client_whatever_it_says_of_others() -> None:
    # C7
    request, _ = parsed_by_h11(head_of(facts((b"X-Forwarded-For", b"10.0.0.1"), (b"Forwarded", b"for=10.0.0.1"))))

    assert [b"192.0.2.7"] == [value for name, value in request.headers if name == b"x-forwarded-for"]


# -- identity


def test_scopes_are_sent_by_their_canonical_names() -> None:
    lines = IdentityLines(SCOPES).of(principal("read_users", "users:read", "unheard-of"))

    assert b"x-gateway-scopes: users:read\r\n" in lines


def test_lines_are_made_anew_for_each_different_principal() -> None:
    lines = IdentityLines(SCOPES)
    everybody = [
        principal("users:read"),
        principal("users:write"),
        principal("users:read", key_id="other"),
        principal("users:read", app_id="app-2"),
        principal("users:read", kind=CredentialKind.LEGACY_KEY),
        None,
    ]

    assert 6 == len({lines.of(who) for who in everybody})
    assert [IdentityLines(SCOPES).of(who) for who in everybody] == [lines.of(who) for who in everybody]


def test_remembered_lines_are_bounded_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdentityLines, "LIMIT", 3)
    lines = IdentityLines(SCOPES)

    for _ in range(2):
        for number in range(10):
            who = principal(app_id=f"app-{number}", key_id=f"key-{number % 7}")
            assert b"x-gateway-app-id: app-%d\r\n" % number in lines.of(who)
            assert IdentityLines(SCOPES).of(who) == lines.of(who)
            assert IdentityLines(SCOPES).of(None) == lines.of(None)


def test_a_user_is_named_and_has_no_scopes() -> None:
    # Whatever scopes an issuer wrote into the token.
    lines = IdentityLines(SCOPES).of(user("u-1", "users:read"))

    assert (
        b"x-gateway-kind: user_jwt\r\n"
        b"x-gateway-key-id: \r\n"
        b"x-gateway-app-id: app-1\r\n"
        b"x-gateway-user-id: u-1\r\n"
        b"x-gateway-scopes: \r\n"
        b"x-gateway-request-id: "
    ) == lines


def test_users_are_never_taken_for_each_other_or_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdentityLines, "USERS_LIMIT", 3)
    lines = IdentityLines(SCOPES)
    key = principal("users:read", key_id="u-1")
    everybody = [
        key,
        *(user(f"u-{number}", app_id=app) for number in range(5) for app in ("app-1", "app-2")),
        *(user(f"u-{number}", kind=CredentialKind.USER_OPAQUE) for number in range(5)),
    ]

    for _ in range(2):
        for who in everybody:
            assert IdentityLines(SCOPES).of(who) == lines.of(who) == lines.of(who)
    assert len(everybody) == len({lines.of(who) for who in everybody})


@pytest.mark.parametrize("user_id", ["a\r\nx-gateway-scopes: ADMIN", "a\x00b", "a\x7f", "\n"])
def test_a_user_id_that_would_end_its_line_is_never_written(user_id: str) -> None:
    # F26: the verifier refuses it; this is what stands behind the verifier.
    with pytest.raises(ValueError, match="control byte"):
        IdentityLines(SCOPES).of(user(user_id))


@given(st.sets(st.sampled_from(["read_users", "users:read", "users:write", "files:read", "users:reader", "x"])))
def test_the_request_id_is_left_to_be_said_and_every_line_ends(scopes: set[str]) -> None:
    lines = IdentityLines(SCOPES).of(principal(*scopes))

    assert lines.endswith(b"\r\nx-gateway-request-id: ")
    names = [line.partition(b": ")[0] for line in lines.split(b"\r\n")]
    assert list(IDENTITY_FIELDS) == names


# -- the answer


def answer(
    *headers: tuple[bytes, bytes], status: int = 200, is_http_11: bool = True, answers_head: bool = False
) -> ResponseFacts:
    read = response_facts(status, list(headers), is_http_11, answers_head)
    assert isinstance(read, ResponseFacts), read
    return read


@pytest.mark.parametrize(
    ("headers", "status", "answers_head", "length", "has_length"),
    [
        ([(b"Content-Length", b"5")], 200, False, 5, True),
        ([(b"Content-Length", b"0")], 200, False, 0, True),
        ([(b"Transfer-Encoding", b"chunked")], 200, False, -1, False),
        ([(b"transfer-encoding", b"Chunked")], 500, False, -1, False),
        ([], 200, False, -2, False),
        # A44: no body follows, whatever is announced.
        ([(b"Content-Length", b"5")], 200, True, 5, True),
        ([(b"Transfer-Encoding", b"chunked")], 200, True, 0, False),
        ([], 200, True, 0, False),
        ([(b"Content-Length", b"5")], 204, False, 0, False),
        ([(b"Content-Length", b"5")], 304, False, 5, True),
        ([], 304, False, 0, False),
        ([(b"Content-Length", b"5")], 204, True, 0, False),
    ],
)
def test_an_answer_has_one_length(
    headers: Headers, status: int, answers_head: bool, length: int, has_length: bool
) -> None:
    read = answer(*headers, status=status, answers_head=answers_head)

    assert (length, has_length) == (read.content_length, read.has_length)


@pytest.mark.parametrize(
    ("headers", "is_http_11"),
    [
        # A43
        ([(b"Content-Length", b"5"), (b"Content-Length", b"5")], True),
        ([(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")], True),
        ([(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], True),
        ([(b"Transfer-Encoding", b"gzip")], True),
        ([(b"Transfer-Encoding", b"gzip, chunked")], True),
        ([(b"Transfer-Encoding", b"chunked")], False),
        ([(b"Content-Length", b"-5")], True),
        ([(b"Content-Length", b"+5")], True),
        ([(b"Content-Length", b"5, 5")], True),
        ([(b"Content-Length", b"")], True),
        ([(b"Content-Length", b"0x5")], True),
        ([(b"Content-Length", b"\xb2")], True),
        ([(b"Content-Length", "٣".encode())], True),
        ([(b"Content-Length", b"9" * 19)], True),
    ],
)
@pytest.mark.parametrize("answers_head", [True, False])
def test_an_answer_of_two_lengths_is_refused_with_its_fault(
    headers: Headers, is_http_11: bool, answers_head: bool
) -> None:
    assert isinstance(response_facts(200, headers, is_http_11, answers_head), str)


@pytest.mark.parametrize(
    ("connection", "is_http_11", "expected"),
    [
        ([], True, True),
        ([b"close"], True, False),
        ([b"keep-alive, CLOSE"], True, False),
        ([b"keep-alive", b"close"], True, False),
        ([b"keep-alive"], True, True),
        ([], False, False),
        ([b"Keep-Alive"], False, True),
        ([b"x"], False, False),
        ([b"close, keep-alive"], False, False),
    ],
)
def test_a_connection_is_kept_only_if_both_sides_say_so(
    connection: list[bytes], is_http_11: bool, expected: bool
) -> None:
    headers = [(b"Content-Length", b"0"), *((b"Connection", value) for value in connection)]

    assert expected is answer(*headers, is_http_11=is_http_11).keeps_alive


def test_an_answer_that_ends_with_its_connection_keeps_none() -> None:
    assert not answer().keeps_alive


def test_hop_by_hop_fields_banners_and_names_of_ours_do_not_reach_the_client() -> None:
    # C24, C26, C33
    dropped = [
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Proxy-Authentication-Info",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
    ]
    dropped += [b"Upgrade", b"Server", b"X-Powered-By", b"X-Gateway-Key-Id", b"x_gateway_scopes", b"X-Gateway-Anything"]

    assert [] == answer(*((name, b"x") for name in dropped)).fields


def test_everything_else_passes_in_order_and_in_the_upstreams_spelling() -> None:
    # C25, C27
    read = answer(
        (b"Set-Cookie", b"a=1"),
        (b"Location", b"http://10.0.0.1/"),
        (b"set-cookie", b"b=2"),
        (b"WWW-Authenticate", b"Basic"),
        (b"Content-Length", b"0"),
        status=302,
    )

    expected = b"Set-Cookie: a=1\r\nLocation: http://10.0.0.1/\r\nset-cookie: b=2\r\nWWW-Authenticate: Basic\r\n"
    assert expected == b"".join(read.fields)
    assert 302 == read.status


def test_nominated_fields_are_hop_by_hop_except_those_that_carry_meaning() -> None:
    read = answer(
        (b"X-Y", b"1"),
        (b"Set-Cookie", b"a=1"),
        (b"Content-Type", b"a/b"),
        (b"Cache-Control", b"private"),
        (b"Connection", b"x-y, Set-Cookie, content-type"),
        (b"Connection", b"cache-control"),
    )

    assert b"Set-Cookie: a=1\r\nContent-Type: a/b\r\nCache-Control: private\r\n" == b"".join(read.fields)


def test_whether_the_upstream_says_cache_control_is_noted() -> None:
    assert answer((b"cache-control", b"no-store")).says_cache_control
    assert not answer((b"Expires", b"0")).says_cache_control


def test_response_names_are_remembered_up_to_a_limit_and_classified_alike_beyond_it() -> None:
    names = ResponseFieldNames()

    for number in range(ResponseFieldNames.LIMIT + 10):
        assert ResponseRole.FORWARD == names[b"X-%d" % number].role
        assert len(names) <= ResponseFieldNames.LIMIT

    assert ResponseRole.DROP == names[b"X-Gateway-Kind"].role
    assert ResponseRole.CONTENT_LENGTH == names[b"CONTENT-LENGTH"].role


def test_a_very_long_response_name_is_not_remembered() -> None:
    names = ResponseFieldNames()

    assert ResponseRole.FORWARD == names[b"X" * 65].role
    assert not names


ANY_NAMES = st.one_of(NAMES, st.binary(max_size=8), st.sampled_from([b"Server", b"Cache-Control", b"X-Gateway-Kind"]))
ANY_VALUES = st.one_of(VALUES, st.binary(max_size=8), st.sampled_from([b"close", b"0", b"keep-alive"]))


@given(st.integers(200, 599), st.lists(st.tuples(ANY_NAMES, ANY_VALUES), max_size=8), st.booleans(), st.booleans())
def test_no_answer_raises_and_none_has_two_lengths(
    status: int, headers: Headers, is_http_11: bool, answers_head: bool
) -> None:
    read = response_facts(status, headers, is_http_11, answers_head)

    names = [name.lower() for name, _ in headers]
    if isinstance(read, str):
        assert {b"content-length", b"transfer-encoding"} & set(names)
        return
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert read.has_length <= (read.content_length >= 0)
    assert not (read.content_length == -2 and read.keeps_alive)
    if answers_head or status in (204, 304):
        assert read.content_length >= 0


def test_the_word_for_us_in_via_is_a_pseudonym() -> None:
    # RFC 9110 7.6.3
    assert re.fullmatch(rb"1\.1 [a-z]+", VIA)


def test_a_request_for_a_websocket_says_so_in_our_words() -> None:
    asked = facts((b"Upgrade", b"WebSocket"), (b"Connection", b"x, Upgrade"), (b"X", b"1"))

    head = request_head(asked, b"up:1", b"", b"x-gateway-request-id: ", b"r")

    assert head.split(b"\r\n")[2:4] == [b"connection: upgrade", b"upgrade: websocket"]
    assert head.lower().count(b"upgrade: ") == 1


def test_after_a_switch_every_byte_is_the_other_protocols() -> None:
    read = response_facts(101, [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade"), (b"A", b"b")], True, False)

    assert isinstance(read, ResponseFacts)
    assert (read.status, read.content_length, read.keeps_alive) == (101, -2, False)
    assert read.fields == [b"A: ", b"b", b"\r\n"]
