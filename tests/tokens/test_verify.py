"""Only what an issuer has signed, for us, now and with a user in it, becomes a record."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from jwt.algorithms import HMACAlgorithm

from gateway.core.credential import AppId, CredentialKind, KeyId, digest_of
from gateway.core.principal import Principal, UserRecord
from gateway.core.reasons import Reason, Refusal
from gateway.tokens.issuers import Issuer, IssuerInvalid, by_iss
from gateway.tokens.jws import bare_type
from gateway.tokens.verify import KeyWanted, verify
from tests.support.values import changed
from tests.tokens.support import (
    AUDIENCE,
    CLAIMS,
    EC_KEY,
    ISS,
    ISSUER,
    KEYS,
    NOW,
    OTHER_EC_KEY,
    RSA_KEY,
    encoded,
    raw_token,
    signature,
    token,
    verified,
    with_payload,
)


def refused(text: bytes, issuer: Issuer = ISSUER, now: float = NOW) -> Refusal:
    answer = verified(text, issuer, now=now)
    assert isinstance(answer, Refusal)
    # L and F40: the log names the check, and nothing of the token is in it.
    assert not any(part.decode("latin-1") in answer.detail for part in text.split(b".") if len(part) > 3)
    return answer


def unknown(text: bytes, issuer: Issuer = ISSUER) -> str:
    answer = refused(text, issuer)
    assert answer.reason is Reason.TOKEN_UNKNOWN
    return answer.detail


def record(text: bytes, issuer: Issuer = ISSUER, now: float = NOW) -> UserRecord:
    answer = verified(text, issuer, now=now)
    assert isinstance(answer, UserRecord), answer
    return answer


def test_a_good_token_becomes_a_record_of_what_it_says() -> None:
    text = token()

    assert record(text) == UserRecord(
        digest=digest_of(text),
        issuer=ISS,
        token_id="token-1",
        issued_at=NOW - 10.0,
        starts_at=NOW - 40.0,
        expires_at=NOW + 630.0,
        principal=Principal(CredentialKind.USER_JWT, KeyId(""), AppId("app-1"), frozenset(), user_id="user-1"),
    )


@pytest.mark.parametrize("kid", ["ec", "rsa", "pss", "ed"])
def test_each_kind_of_key_verifies_its_tokens(kid: str) -> None:
    assert "user-1" == record(token(kid)).principal.user_id


# -- signature and key


def _confused(secret: bytes) -> bytes:
    """A token signed with HMAC by what everybody knows."""
    signed = encoded(b'{"alg":"HS256","kid":"rsa","typ":"at+jwt"}') + b"." + encoded(json.dumps(CLAIMS).encode())
    return signed + b"." + encoded(HMACAlgorithm(HMACAlgorithm.SHA256).sign(signed, secret))


PUBLIC = RSA_KEY.public_key()
FORMS = [
    PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
]


@pytest.mark.parametrize("secret", FORMS, ids=["pem", "der", "pkcs1"])
def test_f2_a_public_key_is_no_secret(secret: bytes) -> None:
    assert Reason.TOKEN_MALFORMED is refused(_confused(secret)).reason


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    # F3: the header chooses another algorithm, of the same kind of key or of another
    [("rsa", "RS512"), ("rsa", "PS256"), ("pss", "RS256"), ("ec", "ES512"), ("ec", "RS256"), ("ed", "ES256")],
)
def test_f3_the_key_says_by_which_algorithm(kid: str, algorithm: str) -> None:
    key, signing = (RSA_KEY, algorithm) if algorithm[0] in "RP" else (EC_KEY, "ES256")
    header = json.dumps({"alg": algorithm, "kid": kid, "typ": "at+jwt"}).encode()

    text = raw_token(header, json.dumps(CLAIMS).encode(), key, signing)

    assert "`alg` is not the algorithm of the key" == unknown(text)


def test_a_signature_by_another_key_is_refused() -> None:
    text = raw_token(b'{"alg":"ES256","kid":"ec","typ":"at+jwt"}', json.dumps(CLAIMS).encode(), OTHER_EC_KEY)

    assert "the signature is not that of the key" == unknown(text)


def test_f38_claims_that_were_swapped_under_a_signature_are_refused() -> None:
    header, _, made = token().split(b".")
    _, payload, _ = token(sub="admin").split(b".")

    assert "the signature is not that of the key" == unknown(b".".join((header, payload, made)))


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    "made",
    # F20: numbers that no signature has, and other encodings of one
    [
        bytes(64),
        bytes(31) + b"\x01" + bytes(32),
        bytes(32) + bytes(31) + b"\x01",
        ORDER.to_bytes(32, "big") * 2,
        (ORDER + 1).to_bytes(32, "big") * 2,
        b"\xff" * 64,
        bytes(63),
        bytes(65),
        bytes(128),
        b"\x30\x06\x02\x01\x01\x02\x01\x01",
        b"\x00",
    ],
)
def test_f20_a_signature_of_impossible_numbers_is_refused(made: bytes) -> None:
    header, payload, _ = token().split(b".")

    assert "the signature is not that of the key" == unknown(b".".join((header, payload, encoded(made))))


def test_f20_the_twin_of_a_signature_is_the_same_token_to_revocations() -> None:
    # Facts: with (r, s) also (r, n - s) verifies. It is another text, and so another digest, of one `jti` and user.
    text = token()
    header, payload, _ = text.split(b".")
    numbers = signature(header + b"." + payload)
    twin = numbers[:32] + (ORDER - int.from_bytes(numbers[32:], "big")).to_bytes(32, "big")

    first, second = record(text), record(b".".join((header, payload, encoded(twin))))

    assert first.digest != second.digest
    assert (first.issuer, first.token_id, first.principal) == (second.issuer, second.token_id, second.principal)


@pytest.mark.parametrize("kid", ["unknown", "../../dev/null", "' OR 1=1", "http://169.254.169.254/"])
def test_f7_an_unknown_kid_is_the_issuer_s_to_explain(kid: str) -> None:
    assert KeyWanted(ISSUER, kid) == verified(token(header={"kid": kid}))


def test_a_key_counts_for_its_own_issuer_alone() -> None:
    other = changed(ISSUER, name="other", iss="https://other.example.org")
    issuers = by_iss((ISSUER, other))
    text = token(iss=other.iss)

    answer = verify(text, digest_of(text), issuers, lambda who, kid: KEYS[kid] if who is ISSUER else None, NOW)

    assert KeyWanted(other, "ec") == answer


def test_two_issuers_of_one_name_are_refused() -> None:
    with pytest.raises(IssuerInvalid, match=r"issuers\.other: `issuer` is that of issuers\.accounts"):
        by_iss((ISSUER, changed(ISSUER, name="other")))


# -- what kind of token


@pytest.mark.parametrize("token_type", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt"])
def test_f15_the_types_of_access_tokens_pass(token_type: str) -> None:
    record(token(header={"typ": token_type}))


@pytest.mark.parametrize(
    "token_type", ["logout+jwt", "secevent+jwt", "dpop+jwt", "at", "at+jwt ", "", "id_token", None]
)
def test_f15_other_types_are_refused(token_type: str | None) -> None:
    assert "`typ` is none of the issuer's `token_types`" == unknown(token(header={"typ": token_type}))


def test_f15_a_type_may_be_missing_where_the_issuer_leaves_it_out() -> None:
    issuer = changed(ISSUER, token_types=frozenset((bare_type(""),)))

    record(token(header={"typ": None}), issuer)
    assert "`typ` is none of the issuer's `token_types`" == unknown(token(), issuer)


# -- claims


@pytest.mark.parametrize(
    "iss",
    # F25
    [
        ...,
        "",
        None,
        1,
        [ISS],
        {ISS: 1},
        ISS + "/",
        ISS[:-1],
        ISS + ".evil.example",
        ISS.upper(),
        " " + ISS,
        ISS + "\n",
        "http" + ISS[5:],
    ],
)
def test_f25_an_issuer_is_exactly_the_one_that_is_configured(iss: object) -> None:
    assert "`iss` is no issuer that is configured" == unknown(token(iss=iss))


@pytest.mark.parametrize(
    "aud",
    # F24
    [
        *(..., "", None, 1, [], [[AUDIENCE]], {AUDIENCE: 1}, [AUDIENCE, 1], [AUDIENCE, None], AUDIENCE + "/"),
        *(AUDIENCE[:-1], AUDIENCE.upper(), [AUDIENCE.upper()], f"{AUDIENCE} other", "*", ["*"]),
    ],
)
def test_f24_an_audience_that_is_not_ours_is_refused(aud: object) -> None:
    assert "`aud` does not name the audience" == unknown(token(aud=aud))


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_f24_an_audience_with_ours_in_it_passes(aud: object) -> None:
    record(token(aud=aud))


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    # F22
    [
        None,
        "",
        str(NOW + 600),
        f" {NOW + 600} ",
        "9_999_999_999",
        "٩",
        float(NOW + 600),
        True,
        False,
        [NOW + 600],
        {"a": 1},
        0,
        -1,
        253_402_300_800,
        10**18,
    ],
)
def test_f22_an_instant_is_a_whole_number_of_seconds(name: str, value: object) -> None:
    assert "`iat`, `nbf` or `exp` is missing, or no whole number of seconds" == unknown(
        token("ec", None, **{name: value})
    )


@pytest.mark.parametrize("value", [b"1e10", b"17.0", b"1" + b"0" * 30])
def test_f22_a_number_with_another_spelling_is_refused(value: bytes) -> None:
    payload = json.dumps(CLAIMS | {"exp": "EXP"}).encode().replace(b'"EXP"', value)

    assert refused(with_payload(payload)).detail in (
        "the payload is no strict JSON object",
        "`iat`, `nbf` or `exp` is missing, or no whole number of seconds",
    )


@pytest.mark.parametrize("name", ["exp", "iat"])
def test_f21_exp_and_iat_are_needed(name: str) -> None:
    assert "`iat`, `nbf` or `exp` is missing" in unknown(token("ec", None, **{name: ...}))


def test_f21_a_token_ends_with_its_exp_and_the_leeway_to_the_second() -> None:
    text = token(exp=NOW)

    assert NOW + 30.0 == record(text, now=NOW + 29.999).expires_at
    assert Reason.TOKEN_EXPIRED is refused(text, now=NOW + 30).reason
    assert Reason.TOKEN_EXPIRED is refused(text, now=NOW + 31).reason


@pytest.mark.parametrize(
    ("changes", "starts_at"),
    [
        ({}, NOW - 40),
        ({"nbf": NOW - 100}, NOW - 40),
        ({"nbf": NOW + 100}, NOW + 70),
        ({"iat": NOW + 100}, NOW + 70),
        ({"iat": NOW + 100, "nbf": NOW - 100}, NOW + 70),
    ],
)
def test_f23_a_token_begins_with_the_later_of_iat_and_nbf_less_the_leeway(
    changes: dict[str, object], starts_at: float
) -> None:
    assert starts_at == record(token("ec", None, **changes)).starts_at


@pytest.mark.parametrize(
    "changes",
    [{"iat": NOW + 600}, {"iat": NOW + 700}, {"nbf": NOW + 600}, {"nbf": NOW + 700}],
)
def test_f23_a_token_that_ends_before_it_begins_is_refused(changes: dict[str, object]) -> None:
    assert "`exp` is not after `iat` and `nbf`" == unknown(token("ec", None, **changes))


def test_f23_a_token_may_live_as_long_as_the_issuer_s_may_and_no_second_longer() -> None:
    week = 7 * 86_400

    record(token(iat=NOW, exp=NOW + week))
    assert "from `iat` to `exp` is longer than the issuer's `max_lifetime`" == unknown(
        token(iat=NOW, exp=NOW + week + 1)
    )


@pytest.mark.parametrize(
    "user",
    # F26
    [
        ...,
        "",
        None,
        1,
        True,
        [],
        ["user-1"],
        "u" * 257,
        "u" * 5_000,
        "a\r\nX-Gateway-Scopes: ADMIN",
        "a\nb",
        "a\x00b",
        "a b",
        "..",
        ".",
        "../admin",
        "a..b",
        "a/b",
        "a\\b",
        "a%2fb",
        "a?b",
        "a#b",
        'a"b',
        "usér",
        "\u202euser",
        "\uff41",
    ],
)
def test_f26_a_user_without_a_usable_name_is_refused(user: object) -> None:
    assert "the claim with the user is missing, or no name of a user" == unknown(token(sub=user))


@pytest.mark.parametrize("user", ["u", "auth0|5f7c8ec7c33c6c004bbafe82", "a.b+c@example.org", "u" * 256, "1f-2e_3~4"])
def test_usual_names_of_users_pass(user: str) -> None:
    assert user == record(token(sub=user)).principal.user_id


@pytest.mark.parametrize("app", [..., "", None, 1, ["app-1"], "a/b", "a\r\nb", "..", "a" * 129])
def test_f34_a_token_without_a_usable_app_is_refused(app: object) -> None:
    assert "the claim with the App is missing, or no name of an App" == unknown(token(client_id=app))


def test_claims_are_read_as_the_issuer_is_configured() -> None:
    issuer = changed(ISSUER, app_claim="", app_id=AppId("app-2"), user_claim="uid")

    principal = record(token(uid="user-9"), issuer).principal

    assert ("user-9", "app-2") == (principal.user_id, principal.app_id)


@pytest.mark.parametrize("token_id", [None, 1, [], "j" * 257, "a\nb", "ü"])
def test_a_jti_that_is_no_short_text_is_refused(token_id: object) -> None:
    assert "`jti` is no short text" == unknown(token(jti=token_id))


def test_a_token_without_jti_is_nobody_s_to_revoke_by_it() -> None:
    assert "" == record(token(jti=...)).token_id


@pytest.mark.parametrize(
    "scopes",
    # F29
    [{"scope": "*"}, {"scope": "READ WRITE"}, {"scp": ["ADMIN"]}, {"permissions": {"all": True}}, {"scope": 1}],
)
def test_f29_scopes_in_a_user_token_give_nothing(scopes: dict[str, object]) -> None:
    assert frozenset() == record(token("ec", None, **scopes)).principal.scopes


def test_a_record_never_shows_the_token() -> None:
    text = token()

    assert not any(part.decode() in repr(record(text)) for part in text.split(b"."))


def test_the_signature_is_looked_at_before_the_claims() -> None:
    header, payload, _ = token(aud="other").split(b".")
    text = b".".join((header, payload, encoded(bytes(64))))

    assert "the signature is not that of the key" == unknown(text)
