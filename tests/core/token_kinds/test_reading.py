"""The `Authorization` value: one scheme, one space, one token, one kind; and nothing of it in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, digest_of
from gateway.core.reasons import Reason, Refusal
from gateway.core.target import TARGET_LIMIT_BYTES, canonical_target
from gateway.core.token_kinds import (
    _TOKEN_SHAPED,
    KINDS,
    PLACEHOLDERS,
    TOKEN_LIMIT_BYTES,
    Kinds,
    has_token,
    kinds_of,
    masked,
    read_authorization,
)
from tests.core.samples import API_TOKEN, JWT, LEGACY_TOKEN


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
@pytest.mark.parametrize(
    ("token", "kind"), [(API_TOKEN, CredentialKind.API_KEY), (LEGACY_TOKEN, CredentialKind.LEGACY_KEY)]
)
def test_a_token_of_a_known_shape_is_a_credential(scheme: bytes, token: bytes, kind: CredentialKind) -> None:
    # D3: the scheme is read in any case, the token never.
    credential = read_authorization(scheme + b" " + token)

    assert isinstance(credential, Credential)
    assert (kind, digest_of(token)) == (credential.kind, credential.digest)


REFUSED: list[tuple[bytes | None, Reason]] = [
    (None, Reason.CREDENTIAL_MISSING),  # D1
    (b"", Reason.CREDENTIAL_EMPTY),  # D2
    (b" ", Reason.CREDENTIAL_EMPTY),
    (b"\t", Reason.CREDENTIAL_EMPTY),
    (b"Bearer", Reason.CREDENTIAL_EMPTY),
    (b"bearer", Reason.CREDENTIAL_EMPTY),
    (b"Bearer ", Reason.CREDENTIAL_EMPTY),
    (b"Bearer    ", Reason.CREDENTIAL_EMPTY),
    (b"Bearer \t", Reason.CREDENTIAL_EMPTY),
    (b" Bearer ", Reason.CREDENTIAL_EMPTY),
    (b"Bearer  " + API_TOKEN, Reason.TOKEN_MALFORMED),  # D4
    (b"Bearer\t" + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b" Bearer " + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b"Bearer " + API_TOKEN + b" ", Reason.TOKEN_MALFORMED),  # D13
    (b"Bearer " + API_TOKEN.replace(b".", b"%2E"), Reason.TOKEN_MALFORMED),
    (b"Bearer a b", Reason.TOKEN_MALFORMED),  # D5
    (b"Bearer " + API_TOKEN + b" " + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b"Bearer " + API_TOKEN + b",Bearer " + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b'Bearer "' + API_TOKEN + b'"', Reason.TOKEN_MALFORMED),
    (b"Bearer=" + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b"Bearer: " + API_TOKEN, Reason.TOKEN_MALFORMED),
    (b"Basic dXNlcjpwYXNz", Reason.CREDENTIAL_SCHEME),  # D6
    (b"Token " + API_TOKEN, Reason.CREDENTIAL_SCHEME),
    (b"ApiKey x", Reason.CREDENTIAL_SCHEME),
    (b"Digest username=a", Reason.CREDENTIAL_SCHEME),
    (b"Negotiate x", Reason.CREDENTIAL_SCHEME),
    (API_TOKEN, Reason.CREDENTIAL_SCHEME),
    (b"\xff\xfe", Reason.CREDENTIAL_SCHEME),
    (b"Bearer " + API_TOKEN + b", Bearer " + API_TOKEN, Reason.CREDENTIAL_REPEATED),  # D9
    (b"Bearer \xff" + API_TOKEN, Reason.TOKEN_MALFORMED),  # D10, C17
    (b"Bearer \x00", Reason.TOKEN_MALFORMED),
    (b"Bearer " + b"a" * (TOKEN_LIMIT_BYTES + 1), Reason.TOKEN_MALFORMED),  # D11
    (b"Bearer " + b"a" * 1_000_000, Reason.TOKEN_MALFORMED),
    (b"Bearer undefined", Reason.TOKEN_PLACEHOLDER),  # D12
    (b"Bearer NULL", Reason.TOKEN_PLACEHOLDER),
    (b"Bearer  null ", Reason.TOKEN_PLACEHOLDER),
    (b"Bearer [object Object]", Reason.TOKEN_PLACEHOLDER),
    (b"Bearer $TOKEN", Reason.TOKEN_PLACEHOLDER),
    (b"Bearer {{token}}", Reason.TOKEN_PLACEHOLDER),
    (b"Bearer " + JWT, Reason.TOKEN_KIND_UNSUPPORTED),
    (b"Bearer " + LEGACY_TOKEN.upper(), Reason.TOKEN_MALFORMED),
    (b"Bearer x", Reason.TOKEN_MALFORMED),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=lambda case: repr(case)[:40])
def test_anything_else_is_refused_with_its_reason(value: bytes | None, reason: Reason) -> None:
    answer = read_authorization(value)

    assert isinstance(answer, Refusal)
    assert reason is answer.reason


def test_a_refusal_never_quotes_the_token() -> None:
    secret = API_TOKEN.split(b".")[1].decode()

    for value, _ in REFUSED:
        assert secret not in repr(read_authorization(value))


def test_the_longest_token_that_is_read_is_8192_bytes() -> None:
    longest = JWT + b"A" * (8192 - len(JWT))

    for token, reason in ((longest, Reason.TOKEN_KIND_UNSUPPORTED), (longest + b"A", Reason.TOKEN_MALFORMED)):
        answer = read_authorization(b"Bearer " + token)
        assert isinstance(answer, Refusal)
        assert reason is answer.reason


@pytest.mark.parametrize("placeholder", sorted(PLACEHOLDERS))
def test_every_placeholder_is_told_apart(placeholder: bytes) -> None:
    answer = read_authorization(b"Bearer " + placeholder.upper())

    assert Refusal(Reason.TOKEN_PLACEHOLDER) == answer


ALPHABET = st.sampled_from(list(b"09afAFgzZ.-_=+/ ,\t\xff\x00{}$Bearr"))
TOKENS = st.one_of(
    st.binary(max_size=80),
    st.lists(ALPHABET, max_size=80).map(bytes),
    st.sampled_from([API_TOKEN, LEGACY_TOKEN, JWT]),
)


@given(st.one_of(st.none(), TOKENS, TOKENS.map(lambda token: b"Bearer " + token)))
def test_no_value_raises(value: bytes | None) -> None:
    assert isinstance(read_authorization(value), Credential | Refusal)


@given(TOKENS)
def test_a_token_is_of_at_most_one_kind(token: bytes) -> None:
    # E8
    assert 1 >= len([read for read in KINDS if read(token) is not None])
    assert 1 >= len([read for read in kinds_of(jwt=True, opaque=True)[:-1] if read(token) is not None])


# -- user tokens

NONE, JWTS = kinds_of(jwt=False, opaque=False), kinds_of(jwt=True, opaque=False)
OPAQUE, BOTH = kinds_of(jwt=False, opaque=True), kinds_of(jwt=True, opaque=True)
OPAQUE_TOKEN = b"2YotnFZFEjr1zCsicMWpAA"
BROKEN_JWT = JWT.rpartition(b".")[0] + b"."


@pytest.mark.parametrize(
    ("kinds", "token", "expected"),
    [
        (NONE, JWT, Reason.TOKEN_KIND_UNSUPPORTED),
        (NONE, OPAQUE_TOKEN, Reason.TOKEN_MALFORMED),
        (JWTS, JWT, CredentialKind.USER_JWT),
        (JWTS, OPAQUE_TOKEN, Reason.TOKEN_MALFORMED),
        (JWTS, BROKEN_JWT, Reason.TOKEN_MALFORMED),
        (OPAQUE, JWT, Reason.TOKEN_KIND_UNSUPPORTED),
        (OPAQUE, OPAQUE_TOKEN, CredentialKind.USER_OPAQUE),
        (BOTH, JWT, CredentialKind.USER_JWT),
        (BOTH, BROKEN_JWT, Reason.TOKEN_MALFORMED),
        (BOTH, b"a.b." + b"c" * 20, CredentialKind.USER_OPAQUE),
        (BOTH, OPAQUE_TOKEN, CredentialKind.USER_OPAQUE),
        (BOTH, API_TOKEN, CredentialKind.API_KEY),
        (BOTH, LEGACY_TOKEN, CredentialKind.LEGACY_KEY),
        (BOTH, LEGACY_TOKEN.upper(), CredentialKind.USER_OPAQUE),
        (BOTH, OPAQUE_TOKEN + b" x", Reason.TOKEN_MALFORMED),
        (BOTH, OPAQUE_TOKEN + b", Bearer " + OPAQUE_TOKEN, Reason.CREDENTIAL_REPEATED),
        (BOTH, b"your_token", Reason.TOKEN_PLACEHOLDER),
        (BOTH, b"", Reason.CREDENTIAL_EMPTY),
    ],
)
def test_user_tokens_are_read_where_they_are_accepted(
    kinds: Kinds, token: bytes, expected: CredentialKind | Reason
) -> None:
    answer = read_authorization(b"Bearer " + token, kinds)

    assert expected is (answer.kind if isinstance(answer, Credential) else answer.reason)


@pytest.mark.parametrize("kinds", [NONE, JWTS, OPAQUE, BOTH])
def test_the_text_of_a_key_ends_here(kinds: Kinds) -> None:
    for token in (API_TOKEN, LEGACY_TOKEN):
        answer = read_authorization(b"Bearer " + token, kinds)
        assert isinstance(answer, Credential)
        # 32 hexadecimal digits may be a user's token, where an issuer can be asked.
        assert (answer.text is not None) == (token is LEGACY_TOKEN and kinds in (OPAQUE, BOTH))


@given(TOKENS)
def test_no_value_raises_where_user_tokens_are_accepted(token: bytes) -> None:
    assert isinstance(read_authorization(b"Bearer " + token, BOTH), Credential | Refusal)


@given(st.sampled_from([API_TOKEN, LEGACY_TOKEN]), st.data())
def test_one_changed_character_never_gives_the_same_digest(token: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))
    changed = read_authorization(b"Bearer " + token[:place] + bytes((byte,)) + token[place + 1 :])

    assert not isinstance(changed, Credential) or digest_of(token) != changed.digest


@given(st.sampled_from([API_TOKEN, LEGACY_TOKEN]), st.binary(min_size=1, max_size=4))
def test_nothing_may_stand_before_or_after_the_token(token: bytes, more: bytes) -> None:
    good = read_authorization(b"Bearer " + token)

    assert good != read_authorization(b"Bearer " + token + more)
    assert good != read_authorization(b"Bearer " + more + token)


# -- the mask


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", "/"),
        (b"/v1/users/ek5Tq0aVb81LmZc", "/v1/users/ek5Tq0aVb81LmZc"),
        (b"/v1/" + API_TOKEN, "/v1/***"),
        (b"/v1/" + API_TOKEN + b"/files", "/v1/***/files"),
        (b"/" + LEGACY_TOKEN, "/***"),
        (b"/" + LEGACY_TOKEN.upper() + b"/x", "/***/x"),
        (b"/" + JWT + b"/" + API_TOKEN, "/***/***"),
        (b"/a/" + LEGACY_TOKEN[:31], "/a/" + LEGACY_TOKEN[:31].decode()),
        (b"/token=" + API_TOKEN, "/token=***"),
        (b"/x/" + b"a" * 8 + b"." + b"b" * 20, "/x/***"),
        (b"/" + b"a" * 8 + b"." + b"b" * 20, "/***"),
    ],
)
def test_what_looks_like_a_token_is_masked(path: bytes, expected: str) -> None:
    assert expected == masked(path)


WORDS = st.sampled_from([b"", b"v1", b"users", b"~", b"a.b", b"%C3%A9", b"x" * 40])


@given(WORDS, st.sampled_from([API_TOKEN, LEGACY_TOKEN, LEGACY_TOKEN.upper(), JWT]), WORDS)
def test_no_token_survives_the_mask_wherever_it_stands(before: bytes, token: bytes, after: bytes) -> None:
    path = b"/" + before + b"/" + token + b"/" + after

    assert token.decode() not in masked(path)


@given(st.binary(max_size=60).map(lambda rest: b"/" + rest))
def test_any_canonical_path_can_be_masked(path: bytes) -> None:
    if isinstance(canonical_target(path), tuple):
        assert masked(path.partition(b"?")[0]).startswith("/")


SHORT = st.sampled_from([b"v1", b"a" * 31, b"0" * 31, b"~", b"%C3%A9"])
LONG = st.sampled_from([b"0" * 32, b"a" * 8 + b"." + b"b" * 20, b"x" * 40, b"-" * 32])


@given(st.lists(SHORT | LONG | st.just(b"/")).map(lambda pieces: b"/" + b"".join(pieces)))
def test_the_quick_look_at_a_path_misses_nothing_that_the_pattern_finds(path: bytes) -> None:
    assert _TOKEN_SHAPED.sub(b"***", path).decode() == masked(path)


# -- time


def shortest_time(act: Callable[[], object]) -> float:
    def once() -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    return min(once() for _ in range(3))


# A linear reader takes some 0.1 ms for 8 kB, a quadratic one 60 ms and more.
FAST_SECONDS = 0.010


@pytest.mark.parametrize("piece", [b"a", b"g", b"a.", b"g-", b"-", b".", b" ", b", ", b"{", b"e30.", b"0", b"\xff"])
def test_reading_takes_time_in_proportion_to_the_value(piece: bytes) -> None:
    for value in (b"Bearer " + piece * (TOKEN_LIMIT_BYTES // len(piece)), piece * (TOKEN_LIMIT_BYTES // len(piece))):
        assert shortest_time(lambda value=value: read_authorization(value, BOTH)) < FAST_SECONDS  # type: ignore[misc]


@pytest.mark.parametrize("piece", [b"a", b"g", b"g-", b"g.", b"aaaaaaaa.", b"a" * 31 + b"/", b"g" * 8 + b".a/", b"0"])
def test_masking_takes_time_in_proportion_to_the_path(piece: bytes) -> None:
    # Every refused request is logged too, so this is paid for callers without a key.
    path = b"/" + (piece * TARGET_LIMIT_BYTES)[: TARGET_LIMIT_BYTES - 1]

    assert shortest_time(lambda: masked(path)) < FAST_SECONDS


@pytest.mark.parametrize("between", [b"/", b":", b"~", b"@", b"==", b"%20"])
def test_the_secret_of_a_key_is_masked_however_it_is_set_apart_from_its_id(between: bytes) -> None:
    secret = b"mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"

    assert secret.decode() not in masked(b"/v2/users/e5c3b842231543f" + between + secret + b"/events")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"graphql-transport-ws, graphql-ws", False),
        (b"v12.stomp, v11.stomp", False),
        (b"", False),
        (b"bearer, " + API_TOKEN, True),
        (b"bearer," + LEGACY_TOKEN, True),
        (b"base64url.bearer.authorization.k8s.io." + b"a" * 40, True),
        (JWT, True),
    ],
)
def test_a_token_in_a_header_value_is_noticed(value: bytes, expected: bool) -> None:
    assert expected == has_token(value)
