"""A token's text is one strict JWS or it is refused, before anything of it is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason, Refusal
from gateway.tokens.jws import TOKEN_LIMIT_BYTES, Jws, decoded, read_compact
from tests.tokens.support import EC_KEY, encoded, token, verified, with_header, with_payload

GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")


def detail(text: bytes) -> str:
    """Why it is malformed. No refusal ever quotes the token."""
    answer = read_compact(text)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.TOKEN_MALFORMED
    return answer.detail


def header(**members: object) -> bytes:
    return json.dumps({"alg": "ES256", "kid": "ec", "typ": "at+jwt", **members}, separators=(",", ":")).encode()


def test_a_good_token_is_taken_apart() -> None:
    read = read_compact(GOOD)

    assert isinstance(read, Jws)
    assert ("ES256", "ec", "at+jwt", "user-1") == (read.algorithm, read.kid, read.token_type, read.claims["sub"])
    assert HEADER + b"." + PAYLOAD == read.signed


@pytest.mark.parametrize(
    "text",
    # F16, F17, F18, F19: other forms, missing and additional parts, and everything around them
    [
        b"",
        b".",
        b"..",
        b"...",
        HEADER,
        HEADER + b"." + PAYLOAD,
        HEADER + b"." + PAYLOAD + b".",
        HEADER + b".." + SIGNATURE,
        b"." + PAYLOAD + b"." + SIGNATURE,
        b"." + GOOD,
        GOOD + b".",
        GOOD + b".e30",
        GOOD + b".e30.e30",
        b" " + GOOD,
        GOOD + b" ",
        GOOD + b"\n",
        HEADER + b". " + PAYLOAD + b"." + SIGNATURE,
        GOOD + b"=",
        GOOD + b"==",
        HEADER + b"=." + PAYLOAD + b"." + SIGNATURE,
        GOOD[:-1] + b"+",
        GOOD[:-1] + b"/",
        GOOD[:-1] + b"\x00",
        GOOD[:-1] + b"\xd9\xa3",
        b'{"payload":"'
        + PAYLOAD
        + b'","signatures":[{"protected":"'
        + HEADER
        + b'","signature":"'
        + SIGNATURE
        + b'"}]}',
    ],
)
def test_what_is_not_three_parts_of_base64url_is_refused(text: bytes) -> None:
    assert "not three parts of base64url" == detail(text)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_f19_bits_that_nobody_needs_are_zero_or_the_token_is_refused(part: int) -> None:
    # Of a last character two or four bits count: 4 or 16 of 64 spell the part, and each another one.
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts = [encoded(b'{"a":1}'), encoded(b'{"a":10}'), SIGNATURE]
    spellings = []
    for last in alphabet:
        changed = list(parts)
        changed[part] = changed[part][:-1] + bytes((last,))
        if decoded(changed[part]) is not None:
            spellings.append(last)

    assert len(parts[part]) % 4 != 0
    assert len(spellings) == (4 if len(parts[part]) % 4 == 2 else 16)


def test_f19_a_part_that_is_one_character_too_long_is_refused() -> None:
    assert "a part that is not spelled as base64url spells its bytes" == detail(HEADER + b"." + PAYLOAD + b".AAAAA")


@given(st.binary(max_size=200))
def test_every_byte_string_has_exactly_one_spelling(value: bytes) -> None:
    text = encoded(value)

    assert decoded(text) == value
    assert len(value) % 3 == 0 or decoded(text + b"=") is None


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "NONE", "", "HS256", "HS384", "HS512", "es256", "ES256K"]
)
def test_f1_f2_an_algorithm_without_a_public_key_is_refused(algorithm: str) -> None:
    assert "`alg` is no algorithm with a public key" == detail(with_header(header(alg=algorithm)))


@pytest.mark.parametrize("algorithm", [None, 1, True, ["ES256"], {"ES256": 1}])
def test_an_algorithm_that_is_no_text_is_refused(algorithm: object) -> None:
    assert "`alg` is no algorithm with a public key" == detail(with_header(header(alg=algorithm)))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        # F4, F5, F6: a token that brings or locates its own key
        ("jwk", {"kty": "EC"}),
        ("jku", "https://evil.example/jwks"),
        ("x5u", "http://169.254.169.254/latest"),
        ("x5c", ["MIIB"]),
        # F14: what has to be understood, and is not; an unencoded payload
        ("crit", ["x"]),
        ("crit", []),
        ("crit", "exp"),
        ("b64", False),
        # F16: nested, compressed, encrypted
        ("cty", "JWT"),
        ("zip", "DEF"),
        ("enc", "A128GCM"),
        ("epk", {}),
        ("p2c", 1_000_000_000),
        ("anything", 1),
    ],
)
def test_a_header_member_that_is_not_known_is_refused(member: str, value: object) -> None:
    assert "a header member other than `alg`, `kid`, `typ`" == detail(with_header(header(**{member: value})))


@pytest.mark.parametrize("member", ["x5t", "x5t#S256", "cat"])
def test_a_header_member_that_says_nothing_is_passed_over(member: str) -> None:
    assert isinstance(read_compact(with_header(header(**{member: "abc"}))), Jws)


@pytest.mark.parametrize(
    "kid",
    # F7: names that are none
    [None, 1, True, {}, [], "", "k" * 257, "k" * 6000, "a\nb", "a\x00b", "schlüssel"],
)
def test_f7_a_kid_that_is_no_short_text_is_refused(kid: object) -> None:
    assert detail(with_header(header(kid=kid))) in ("`kid` is missing, or no name", "a user token that is too long")


def test_f7_a_missing_kid_is_refused() -> None:
    assert "`kid` is missing, or no name" == detail(with_header(b'{"alg":"ES256","typ":"at+jwt"}'))


@pytest.mark.parametrize("kid", ["../../dev/null", "/etc/passwd", "' OR 1=1 --", "http://169.254.169.254/", "k" * 256])
def test_f7_a_strange_kid_is_looked_up_and_nothing_else(kid: str) -> None:
    read = read_compact(with_header(header(kid=kid)))

    assert isinstance(read, Jws)
    assert kid == read.kid


@pytest.mark.parametrize("token_type", [None, 1, ["JWT"], {}])
def test_a_typ_that_is_no_text_is_refused(token_type: object) -> None:
    assert "`typ` is no text" == detail(with_header(header(typ=token_type)))


@pytest.mark.parametrize(
    "text",
    # F27, F28: members that come twice, and what is no object in UTF-8
    [
        b'{"alg":"none","alg":"ES256","kid":"ec"}',
        b'{"alg":"ES256","kid":"ec","kid":"rsa"}',
        b'{"alg":"ES256","kid":"ec","\\u0061lg":"ES256"}',
        b'{"alg":"ES256","kid":"ec","x5t":{"a":1,"a":2}}',
        b"[]",
        b"1",
        b"null",
        b'"ES256"',
        b"{",
        b"{} {}",
        b'\xef\xbb\xbf{"alg":"ES256","kid":"ec"}',
        '{"alg":"ES256","kid":"ec"}'.encode("utf-16"),
        b'{"alg":"ES256","kid":"e\xff"}',
        b"{'alg':'ES256'}",
        b'{"alg":"ES256","kid":"ec",}',
        b'{"alg":"ES256","kid":"\\ud800"}',
    ],
)
def test_a_header_that_is_not_one_strict_object_is_refused(text: bytes) -> None:
    assert "the header is no strict JSON object" == detail(with_header(text))


@pytest.mark.parametrize(
    "text",
    # F22, F27, F28
    [
        b'{"sub":"user","sub":"admin"}',
        b'{"sub":"user","su\\u0062":"admin"}',
        b'{"a":{"b":1,"b":2}}',
        b'[{"sub":"user"}]',
        b'"user"',
        b"17",
        b'\xef\xbb\xbf{"sub":"user"}',
        '{"sub":"user"}'.encode("utf-16-le"),
        b'{"sub":"\xed\xa0\x80"}',
        b'{"sub":"\\ud800"}',
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"exp":1e400}',
        b'{"exp":' + b"9" * 5_000 + b"}",
        b'{"exp":01}',
        b'{"a":' + b"[" * 20 + b"]" * 20 + b"}",
        b'{"a":' * 17 + b"1" + b"}" * 17,
        b"[" * 2_000,
        b'{"exp":1} ,',
    ],
)
def test_a_payload_that_is_not_one_strict_object_is_refused(text: bytes) -> None:
    assert "the payload is no strict JSON object" == detail(with_payload(text))


def test_a_payload_with_white_space_and_escapes_is_read() -> None:
    read = read_compact(with_payload(b'{ "sub" : "\\u0075ser", "n": [1.50, -3, {"x": "[[[[[[[[[[[[[[[[[[["}] }'))

    assert isinstance(read, Jws)
    assert {"sub": "user", "n": [1.5, -3, {"x": "[" * 19}]} == read.claims


def test_f37_a_token_that_is_too_long_is_refused_unread() -> None:
    assert "a user token that is too long" == detail(b"a" * (TOKEN_LIMIT_BYTES + 1))
    assert "a user token that is too long" == detail(with_payload(b'{"a":"' + b"x" * 8_000 + b'"}'))


def test_f37_many_claims_are_read_in_bounded_time() -> None:
    text = with_payload(json.dumps({f"c{number}": 1 for number in range(500)}, separators=(",", ":")).encode())

    assert isinstance(read_compact(text), Jws)


@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_a_token_with_one_changed_byte_never_passes(place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes((byte,)) + GOOD[place + 1 :]

    answer = verified(changed)

    assert changed == GOOD or not hasattr(answer, "principal")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_is_raised(text: bytes) -> None:
    assert isinstance(read_compact(text), Refusal)


def test_nothing_of_a_token_is_in_what_is_shown_of_it() -> None:
    shown = repr(read_compact(GOOD))

    assert "Jws(algorithm='ES256')" == shown
    assert EC_KEY.curve.name == "secp256r1"
