"""The request target: the strings with one reading pass byte for byte, all others are refused."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason, Refusal
from gateway.core.target import TARGET_LIMIT_BYTES, canonical_target, only_parameter, parameter_names


def refused(answer: object) -> Reason:
    assert isinstance(answer, Refusal), answer
    return answer.reason


CANONICAL = [
    b"/",
    b"/v1/users",
    b"/v1/users/",
    b"/v1/users/a-b._~c",
    b"/a@b:c=d,e+f*g(h)i'j&k$l!m",
    b"/...",
    b"/.a",
    b"/a..b/..c/d..",
    b"/caf%C3%A9",
    b"/%E2%82%AC/x",
    b"/a%20b",
    b"/%EF%BC%8F",
    b"/%3C%3E%22%5B%5D%7B%7D%7C%5E%60",
    b"/" + b"a" * (TARGET_LIMIT_BYTES - 1),
    b"/?",
    b"/x?a=1&b=2",
    b"/x?a=%2f%2F&b=//../;[]{}|\\^`'",
    b"/x?a?b?c",
]


@pytest.mark.parametrize("target", CANONICAL)
def test_a_canonical_target_passes_byte_for_byte(target: bytes) -> None:
    path, _, query = target.partition(b"?")

    assert (path, query) == canonical_target(target)


REFUSED_TARGETS = {
    "B1": [b"/public/../admin", b"/..", b"/../", b"/a/..", b"/public/.."],
    "B2": [b"/public/%2e%2e/admin", b"/public/.%2e/admin", b"/%2E%2E", b"/a/%2E/b", b"/a/.%2E"],
    "B3": [b"/public/..%2fadmin", b"/public/..%2Fadmin"],
    "B4": [b"/users/a%2Fb", b"/users/a%2fb"],
    "B5": [b"/a%5cb", b"/a%5Cb", b"/a\\b", b"/..\\admin"],
    "B6": [b"//admin", b"/api//v2///x", b"///", b"/a//", b"//"],
    "B8": [b"/./admin", b"/admin/.", b"/admin/..", b"/."],
    "B9": [b"/admin;x=1", b"/public;/../admin", b"/..;/admin", b"/a%3Bb", b"/a%3bb", b"/;"],
    "B10": [b"/admin%00.css", b"/%00", b"/a\x00"],
    "B11": [b"/%252e%252e/", b"/%252f", b"/%25", b"/a%2525b"],
    "B12": [b"/%C0%AF", b"/%c0%af", b"/%E0%80%AF", b"/%FF", b"/%C3", b"/%C3/%A9", b"/%ED%A0%80", b"/%F4%90%80%80"],
    "B13": [b"/%zz", b"/%1", b"/%", b"/a%", b"/a%4", b"/%GG", b"/%%41", b"/%+1", b"/%0x"],
    "B14": [b"/\xc3\xa9", b"/a b", b"/a\tb", b"/a\x01", b"/a\x7f", b"/a\r\n", b"/a\n"],
    "B15": [b"/a%3fb", b"/a%3Fb", b"/a%23b"],
    "B16": [b"/public#/../admin", b"/a#", b"/a?b#c", b"/#?"],
    "B18": [b"/%61dmin", b"/%41", b"/%7E", b"/%2D", b"/%5F", b"/%30"],
    "B19": [b"http://evil/admin", b"https://a/", b"http://user@a/"],
    "B20": [b"admin", b"a:80", b"*", b"", b"?", b"?/x", b" /x", b".", b"%2Fx"],
    "B24": [b"/admin%0a", b"/admin%0A", b"/admin%0D%0A", b"/admin%7F", b"/%09"],
    "lower-case triplets have two spellings": [b"/caf%c3%a9", b"/caf%C3%a9"],
    "raw bytes that RFC 3986 does not have": [b'/"', b"/<", b"/>", b"/[", b"/]", b"/^", b"/`", b"/{", b"/|", b"/}"],
    "the query": [b"/x?a=\xff", b"/x?a b", b"/x?a\t", b'/x?a="', b"/x?<", b"/x?a%zz", b"/x?%", b"/x?a=%4", b"/x?%00"],
}


@pytest.mark.parametrize(
    "target",
    [pytest.param(target, id=f"{row}-{target!r}") for row, targets in REFUSED_TARGETS.items() for target in targets],
)
def test_a_target_with_two_readings_is_refused_and_never_repaired(target: bytes) -> None:
    assert Reason.TARGET_REFUSED is refused(canonical_target(target))


def test_a_target_beyond_the_limit_is_too_long_whatever_is_in_it() -> None:
    # B30
    assert Reason.TARGET_TOO_LONG is refused(canonical_target(b"/" + b"a" * TARGET_LIMIT_BYTES))
    assert Reason.TARGET_TOO_LONG is refused(canonical_target(b"\xff" * (TARGET_LIMIT_BYTES + 1)))
    assert Reason.TARGET_TOO_LONG is refused(canonical_target(b"/?" + b"a" * TARGET_LIMIT_BYTES))


PIECES = [
    b"/",
    b"//",
    b".",
    b"..",
    b"/.",
    b"/..",
    b";",
    b"\\",
    b"%",
    b"?",
    b"#",
    b"%25",
    b"%2e",
    b"%2E",
    b"%2F",
    b"%2f",
    b"%5C",
    b"%00",
    b"%3F",
    b"%41",
    b"%C3%A9",
    b"%c3%a9",
    b"%C3",
    b"a",
    b"Z",
    b"~",
    b"@",
    b" ",
    b"\xff",
    b"%zz",
    b"2e",
    b"%20",
    b"%0A",
    b"&",
    b"=",
    b"%22",
]
TARGETS = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: b"/" + b"".join(pieces)),
    st.lists(st.sampled_from([b"/a", b"/%C3%A9", b"/b.c", b"/%E2%82%AC", b"/~"]), min_size=1, max_size=9).map(b"".join),
)
FORBIDDEN_ONCE_DECODED = b"\\;%?#\x7f" + bytes(range(0x20))


@given(TARGETS)
def test_no_target_raises_and_an_accepted_path_has_one_reading(target: bytes) -> None:
    answer = canonical_target(target)

    if isinstance(answer, Refusal):
        assert answer.reason is Reason.TARGET_REFUSED
        return
    path, query = answer
    assert target in (path, path + b"?" + query)
    once = unquote_to_bytes(path)
    twice = unquote_to_bytes(once)
    # However often a hop decodes, it sees the same segments.
    assert once == twice
    assert path.count(b"/") == once.count(b"/")
    assert not set(once) & set(FORBIDDEN_ONCE_DECODED)
    assert once.decode("utf-8")
    for reading in (path, once):
        segments = reading.split(b"/")
        assert not {b".", b".."} & set(segments)
        assert b"" not in segments[1:-1]
    assert b"#" not in query
    assert path.isascii()
    assert query.isascii()


@given(st.text(alphabet=st.characters(exclude_characters="/\\%;?#.", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_has_exactly_one_spelling_that_passes(text: str) -> None:
    plain = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@")
    spelled = "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode()).encode()[:5000]

    if b"%" in spelled and len(text) < 500:
        assert (b"/" + spelled, b"") == canonical_target(b"/" + spelled)
        lower = spelled.replace(b"%C3", b"%c3").replace(b"%E2", b"%e2")
        assert lower == spelled or isinstance(canonical_target(b"/" + lower), Refusal)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"", {b""}),
        (b"a", {b"a"}),
        (b"a=1&b=2;c=3", {b"a", b"b", b"c"}),
        (b"A=b=c", {b"a"}),
        (b"%61ccess%5Ftoken=x&to%6ben", {b"access_token", b"token"}),
        (b"=x&&", {b""}),
    ],
)
def test_a_query_has_the_names_that_any_server_could_read(query: bytes, names: set[bytes]) -> None:
    # B31, B32
    assert names == parameter_names(query)


@pytest.mark.parametrize(
    ("query", "value"),
    # F31, F32
    [
        (b"user_id=u1", b"u1"),
        (b"a=1&user_id=u1&b=2", b"u1"),
        (b"user_id=a@b.c", b"a@b.c"),
        (b"user_id=a%40b.c", b"a@b.c"),
        (b"user_id=%C3%A9", b"\xc3\xa9"),
        (b"user_id=", b""),
        (b"user_id", b""),
        (b"user_id=a=b", b"a=b"),
        (b"", None),
        (b"user=u1", None),
        (b"user_id=u1&user_id=u1", None),
        (b"user_id=u1&user_id=u2", None),
        (b"user_id=u1&USER_ID=u2", None),
        (b"user_id=u1&user%5Fid=u2", None),
        (b"user%5Fid=u1", None),
        (b"User_id=u1", None),
        (b"user_id=%75%31", None),
        (b"user_id=%c3%a9", None),
        (b"user_id=u+1", None),
        (b"user_id=u1;user_id=u2", None),
        (b"a=1;user_id=u2&user_id=u1", None),
        (b"user_id=u1;x", None),
        (b"user_id=u1&user_id[]=u2", None),
        (b"user_id=u1&user_id%5B0%5D=u2", None),
        (b"user_id=u1&user.id=u2", None),
        (b"user_id=u1&user+id=u2", None),
        (b"user_id=u1&user%20id=u2", None),
        (b"user_id=u1&%20user_id=u2", None),
        (b"user_id=u1&user-id=u2", None),
    ],
)
def test_a_parameter_has_the_one_value_that_every_server_reads(query: bytes, value: bytes | None) -> None:
    assert value == only_parameter(query, b"user_id")


@given(
    st.lists(
        st.sampled_from(
            [b"u=1", b"u=2", b"&", b";", b"U=3", b"%75=4", b"u[]=5", b"x=6", b"u.=7", b"%3B", b"=", b"+u=8"]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_no_other_parser_reads_another_value(query: bytes) -> None:
    value = only_parameter(query, b"u")

    if value is not None:
        for separator in "&;":
            pairs = parse_qsl(query.decode(), keep_blank_values=True, separator=separator, encoding="latin-1")
            assert {value.decode("latin-1")} == {text for name, text in pairs if name.strip().lower() == "u"}


@given(
    st.lists(st.sampled_from([b"a", b"=", b"&", b";", b"%41", b"%3D", b"%C3%A9", b"%26", b"B"]), max_size=12).map(
        b"".join
    )
)
def test_no_name_that_another_parser_reads_is_missing(query: bytes) -> None:
    for separator in "&;":
        for name, _ in parse_qsl(query.decode(), keep_blank_values=True, separator=separator, encoding="latin-1"):
            own_way = name.encode("latin-1").lower()
            assert own_way in parameter_names(query) or ";" in name or "&" in name
