"""From a record to a principal: every reason why a key is no longer good, on warm caches too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, KeyDigest, KeyId, digest_of
from gateway.core.lifecycle import KeyState
from gateway.core.principal import KeyRecord, Principal, UserRecord, admit, admit_user, region_of
from gateway.core.reasons import Reason, Refusal
from tests.core.samples import API_TOKEN, JWT, principal, record, user, user_record

NOW = 1_800_000_000.0
GOOD = Credential(CredentialKind.API_KEY, KeyId("ek5Tq0aVb81LmZc"), digest_of(API_TOKEN))
WRONG_SECRET = Credential(GOOD.kind, GOOD.key_id, digest_of(API_TOKEN[:-1] + b"X"))


def test_a_good_key_is_the_principal_of_its_record() -> None:
    assert principal("users:read") == admit(record(API_TOKEN, "users:read"), GOOD, NOW)


@pytest.mark.parametrize(
    ("stored", "shown", "reason"),
    [
        (None, GOOD, Reason.TOKEN_UNKNOWN),
        (record(), WRONG_SECRET, Reason.TOKEN_UNKNOWN),
        (record(state=KeyState.REVOKED), GOOD, Reason.TOKEN_REVOKED),
        (record(expires_at=NOW), GOOD, Reason.TOKEN_EXPIRED),
        (record(expires_at=0.0), GOOD, Reason.TOKEN_EXPIRED),
        (record(app_is_active=False), GOOD, Reason.APP_INACTIVE),
        # Of several faults the first in this order is told: the secret is proven before anything else is said.
        (record(state=KeyState.REVOKED, expires_at=0.0, app_is_active=False), WRONG_SECRET, Reason.TOKEN_UNKNOWN),
        (record(state=KeyState.REVOKED, expires_at=0.0, app_is_active=False), GOOD, Reason.TOKEN_REVOKED),
        (record(expires_at=0.0, app_is_active=False), GOOD, Reason.TOKEN_EXPIRED),
    ],
)
def test_a_key_that_is_not_good_is_refused_with_its_reason(
    stored: KeyRecord | None, shown: Credential, reason: Reason
) -> None:
    refused = admit(stored, shown, NOW)

    assert isinstance(refused, Refusal)
    assert reason is refused.reason


@pytest.mark.parametrize(
    ("now", "is_good"), [(NOW - 1, True), (NOW - 0.001, True), (NOW, False), (NOW + 0.001, False), (NOW + 1, False)]
)
def test_a_key_dies_at_the_instant_it_expires(now: float, is_good: bool) -> None:
    assert is_good == isinstance(admit(record(expires_at=NOW), GOOD, now), Principal)


def test_no_record_and_a_digest_of_zeros_is_still_unknown() -> None:
    zeros = Credential(CredentialKind.API_KEY, KeyId("a"), KeyDigest(bytes(32)))

    assert Refusal(Reason.TOKEN_UNKNOWN) == admit(None, zeros, NOW)


def test_unknown_keys_and_wrong_secrets_get_the_same_answer() -> None:
    assert admit(None, GOOD, NOW) == admit(record(), WRONG_SECRET, NOW)


@given(
    st.booleans(),
    st.sampled_from(KeyState),
    st.booleans(),
    st.floats(0, 4e9),
    st.floats(0, 4e9),
    st.booleans(),
)
def test_a_principal_comes_out_only_if_everything_holds(
    is_known: bool, state: KeyState, app_is_active: bool, expires_at: float, now: float, secret_is_right: bool
) -> None:
    stored = record(state=state, app_is_active=app_is_active, expires_at=expires_at) if is_known else None

    admitted = admit(stored, GOOD if secret_is_right else WRONG_SECRET, now)

    holds = is_known and secret_is_right and state is KeyState.ACTIVE and now < expires_at and app_is_active
    assert holds == isinstance(admitted, Principal)


def test_neither_record_nor_principal_can_be_changed() -> None:
    # They are cached and shared by every request of the key.
    with pytest.raises(AttributeError):
        principal().scopes = frozenset(("users:write",))  # type: ignore[misc]
    with pytest.raises(AttributeError):
        record().state = KeyState.ACTIVE  # type: ignore[misc]


def test_a_record_shows_no_digest() -> None:
    text = repr(record())

    assert "KeyRecord(key_id='ek5Tq0aVb81LmZc', state='active')" == text


# -- user tokens

USER = Credential(CredentialKind.USER_JWT, KeyId(""), digest_of(JWT))


def test_a_good_user_token_is_the_user_of_its_record() -> None:
    assert user("user-1") == admit_user(user_record(who=user("user-1")), USER, NOW)


@pytest.mark.parametrize(
    ("verified", "reason"),
    [
        (user_record(digest=KeyDigest(bytes(32))), Reason.TOKEN_UNKNOWN),
        (user_record(JWT[:-1]), Reason.TOKEN_UNKNOWN),
        # Whatever a record says, no key comes out of a user token, nor a token of another kind.
        (user_record(who=principal("users:read")), Reason.TOKEN_UNKNOWN),
        (user_record(who=user(kind=CredentialKind.USER_OPAQUE)), Reason.TOKEN_UNKNOWN),
        (user_record(starts_at=NOW + 1), Reason.TOKEN_NOT_YET_VALID),
        (user_record(expires_at=NOW), Reason.TOKEN_EXPIRED),
        (user_record(starts_at=NOW + 1, expires_at=NOW), Reason.TOKEN_NOT_YET_VALID),
    ],
)
def test_a_user_token_that_is_not_good_is_refused_with_its_reason(verified: UserRecord, reason: Reason) -> None:
    assert Refusal(reason) == admit_user(verified, USER, NOW)


@pytest.mark.parametrize(
    ("now", "is_good"),
    [(NOW - 0.001, False), (NOW, True), (NOW + 9.999, True), (NOW + 10, False), (NOW + 10.001, False)],
)
def test_a_user_token_lives_from_its_start_to_just_before_its_end(now: float, is_good: bool) -> None:
    # F21, F23, F39
    verified = user_record(starts_at=NOW, expires_at=NOW + 10)

    assert is_good == isinstance(admit_user(verified, USER, now), Principal)


def test_a_record_of_a_user_shows_no_digest_and_no_user() -> None:
    assert "UserRecord(issuer='https://issuer.example')" == repr(user_record())


@pytest.mark.parametrize(
    ("key_id", "region"),
    [
        ("ek5Tq0aVb81LmZc", "e"),
        ("xk5Tq0aVb81LmZc", "x"),
        ("ek5Tq0aVb81LmZ", ""),
        ("ek5Tq0aVb81LmZcd", ""),
        ("el5Tq0aVb81LmZc", ""),
        ("Ek5Tq0aVb81LmZc", ""),
        ("5k5Tq0aVb81LmZc", ""),
        ("", ""),
    ],
)
def test_only_an_id_of_our_making_names_a_region(key_id: str, region: str) -> None:
    assert region == region_of(KeyId(key_id))


def test_an_unknown_key_is_refused_with_the_region_that_its_id_names() -> None:
    refused = admit(None, GOOD, 0.0)
    elsewhere = admit(None, Credential(CredentialKind.LEGACY_KEY, KeyId(""), GOOD.digest), 0.0)

    assert isinstance(refused, Refusal)
    assert (Reason.TOKEN_UNKNOWN, "its id is of region `e`") == (refused.reason, refused.detail)
    assert isinstance(elsewhere, Refusal)
    assert (Reason.TOKEN_UNKNOWN, "") == (elsewhere.reason, elsewhere.detail)
