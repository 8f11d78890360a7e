"""Group E, API keys: shape, digest, state, expiry, App and scopes, each asked on every request."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.assembly import CannotStart
from gateway.assembly.keys import open_key_service
from gateway.core.credential import digest_of
from gateway.core.policy.faults import PolicyInvalid
from gateway.keys.refused import KeyRefused
from gateway.keys.secret import Secret
from gateway.policy_files import compile_texts
from gateway.ports import StoreUnavailable
from gateway.settings import KeyCacheSettings
from tests.support.gateway import POLICY, Key, RunningGateway, running_gateway
from tests.support.raw import Response, exchange
from tests.support.recording_upstream import RecordingUpstream
from tests.support.rows import Forwarded, Row, get, numbers_covered, play, post, with_keys

ID = b"e5c3b842231543f"
SECRET = b"mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"


def authorization(token: bytes) -> bytes:
    return b"Authorization: Bearer " + token + b"\r\n"


def shapeless(name: str, token: bytes, reason: str = "token_malformed") -> Row:
    """401 without a look at any store."""
    sent = get(b"/items", authorization=authorization(token))
    return Row(name, sent, 401, reason, closes=False, asks_keys=False)


def unknown(name: str, token: bytes, reason: str = "token_unknown") -> Row:
    """401 after a look: the shape is right, and nobody's key has this digest."""
    return Row(name, get(b"/items", authorization=authorization(token)), 401, reason, closes=False)


def good(name: str, key: str, target: bytes = b"/items") -> Row:
    sent = get(target, authorization=authorization(b"<key:%s>" % key.encode()))
    return Row(name, sent, 200, closes=False, forwarded=Forwarded(target, key=key))


def forbidden(name: str, key: str, sent: bytes = b"") -> Row:
    sent = sent or get(b"/items", authorization=authorization(b"<key:%s>" % key.encode()))
    return Row(name, sent, 403, "scope_missing", closes=False)


SHAPES = [
    unknown("E1-unknown-id", b"<key:unknown>"),
    unknown("E2-known-id-and-wrong-secret", b"<id:a>." + SECRET),
    unknown("E2-known-id-and-shortest-secret", b"<id:a>." + b"a" * 20),
    shapeless("E3-two-dots", ID + b"." + SECRET + b"." + SECRET),
    shapeless("E3-no-id", b"." + SECRET),
    shapeless("E3-no-secret", ID + b"."),
    shapeless("E3-dot-alone", b"."),
    shapeless("E3-two-dots-alone", b".."),
    shapeless("E3-id-alone", ID),
    shapeless("E3-secret-alone", SECRET),
    shapeless("E3-short-secret", ID + b"." + b"a" * 19),
    shapeless("E3-short-id", b"a" * 7 + b"." + SECRET),
    shapeless("E3-long-id", b"a" * 41 + b"." + SECRET),
    shapeless("E3-long-secret", ID + b"." + b"a" * 129),
    *(
        shapeless(f"E4-{name}", ID[:8] + letters + b"." + SECRET)
        for name, letters in {
            "apostrophe": b"'",
            "sql": b"'or'1'='1",
            "percent": b"%",
            "underscore": b"_",
            "asterisk": b"*",
            "question-mark": b"?",
            "dollar": b"$",
            "slash": b"/../",
            "backslash": b"\\",
            "semicolon": b";--",
            "emoji": "🔑".encode(),
            "hyphen": b"-",
            "braces": b"${jndi:ldap}",
        }.items()
    ),
    Row("E4-nul", get(b"/items", authorization=authorization(ID + b"\x00." + SECRET)), 400, asks_keys=False),
    Row(
        "E4-ten-kibibytes",
        get(b"/items", authorization=authorization(b"a" * 10240 + b"." + SECRET)),
        431,
        asks_keys=False,
    ),
    shapeless("E5-arabic-digit", ID[:14] + "٣".encode() + b"." + SECRET),
    shapeless("E5-fullwidth-letter", ID[:14] + "ａ".encode() + b"." + SECRET),
    shapeless("E5-arabic-digit-in-the-secret", ID + b"." + SECRET[:-1] + "٣".encode()),
    Row(
        "E5-newline-behind",
        get(b"/items", authorization=authorization(ID + b"." + SECRET + b"\n")),
        400,
        asks_keys=False,
    ),
    shapeless("E5-encoded-newline-behind", ID + b"." + SECRET + b"%0A"),
    shapeless("E6-31-digits", b"0123456789abcdef0123456789abcde"),
    shapeless("E6-33-digits", b"0123456789abcdef" * 2 + b"0"),
    shapeless("E6-32-with-a-g", b"g123456789abcdef0123456789abcdef"),
    shapeless("E6-32-fullwidth-digits", ("０" * 32).encode()),
    shapeless("E6-with-prefix", b"0x23456789abcdef0123456789abcdef"),
    shapeless("E6-with-hyphens", b"01234567-89ab-cdef-0123-456789abcdef"),
    unknown("E6-another-of-32", b"f" * 32),
    shapeless("E7-upper-case", b"0123456789ABCDEF0123456789ABCDEF"),
    shapeless("E7-one-upper-case-letter", b"0123456789abcdef0123456789abcdeF"),
    good("E7-lower-case", "legacy"),
    # `{"alg":"none"}` in base64url, so this is a JWT to everybody who looks, and a key to nobody.
    shapeless("E8-jwt-like", b"eyJhbGciOiJub25lIn0.e30.", "token_kind_unsupported"),
    shapeless("E8-jwt-like-with-a-keys-parts", b"eyJhbGciOiJub25lIn0." + ID + b"." + SECRET, "token_kind_unsupported"),
    unknown("E8-key-like-with-a-jwts-header", b"eyJhbGciOiJub25lIn0." + SECRET),
    shapeless("E8-key-and-legacy-key", ID + b"." + SECRET + b".0123456789abcdef0123456789abcdef"),
    unknown("E10-id-of-a-secret-of-b", b"<id:a>.<secret:b>"),
    unknown("E10-id-of-b-secret-of-a", b"<id:b>.<secret:a>"),
    unknown("E11-revoked", b"<key:revoked>", "token_revoked"),
    unknown("E12-expired", b"<key:expired>", "token_expired"),
    unknown("E14-of-a-disabled-app", b"<key:orphan>", "app_inactive"),
    good("E17-exact-scope", "a"),
    good("E17-alias", "alias"),
    forbidden("E17-a-longer-name-is-another-scope", "stranger"),
    forbidden("E17-another-scope", "writer"),
    forbidden("E17-a-scope-that-the-key-has-for-something-else", "a", get(b"/admin")),
    forbidden(
        "E17-post-with-the-scope-of-get",
        "alias",
        post(b"Content-Length: 0", authorization=authorization(b"<key:alias>")),
    ),
    forbidden(
        "E18-no-scope-that-the-policy-knows",
        "stranger",
        get(b"/users/1", authorization=authorization(b"<key:stranger>")),
    ),
    Row(
        "E26-nul-in-the-secret",
        get(b"/items", authorization=authorization(ID + b"." + SECRET[:20] + b"\x00" + SECRET[20:])),
        400,
        asks_keys=False,
    ),
    shapeless("E26-encoded-nul-in-the-secret", ID + b"." + SECRET[:20] + b"%00" + SECRET[20:]),
]

ROWS = SHAPES


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_of_group_e_ends_as_the_table_says(gateway: RunningGateway, row: Row) -> None:
    play(gateway, row)


def ask(gateway: RunningGateway, token: bytes, target: bytes = b"/items") -> Response:
    return exchange(gateway.port, with_keys(gateway, get(target, authorization=authorization(token))))


def log_reason(gateway: RunningGateway) -> str:
    gateway.settle()
    reason = gateway.outcomes[-1].reason
    return "" if reason is None else reason.label


# -- E1, E2: no answer tells which part was wrong


def test_e1_e2_whatever_is_wrong_with_a_token_the_answer_is_the_same(gateway: RunningGateway) -> None:
    keys = gateway.keys
    tokens = [
        keys.unknown.token,
        keys.a.key_id + b"." + SECRET,
        keys.revoked.token,
        keys.expired.token,
        keys.orphan.token,
        b"f" * 32,
        b"not-a-token-at-all",
        b"eyJhbGciOiJub25lIn0.e30.",
        keys.a.token[:-1],
    ]
    answers = set()
    for token in tokens:
        response = ask(gateway, token)
        ref = response.ref
        answers.add((response.status, response.head.replace(ref, b"ref"), response.body.replace(ref, b"ref")))

    assert len(answers) == 1
    gateway.settle()
    assert gateway.upstream.received_bytes == 0


@pytest.mark.parametrize("place", range(-48, 0))
def test_e2_every_character_of_the_secret_counts(gateway: RunningGateway, place: int) -> None:
    token = bytearray(gateway.keys.a.token)
    token[place] = ord("A") if token[place] != ord("A") else ord("B")

    assert ask(gateway, bytes(token)).status == 401
    assert ask(gateway, gateway.keys.a.token).status == 200


def test_e7_a_legacy_key_that_was_taken_over_in_upper_case_is_known_in_lower_case_alone(
    gateway: RunningGateway,
) -> None:
    with open_key_service(gateway.settings.store) as service:
        text = "FEDCBA9876543210FEDCBA9876543210"
        service.import_legacy_key(gateway.keys.a.app_id.decode(), Secret(text), name="upper", scopes=["READ"])

    assert ask(gateway, text.encode()).status == 401
    assert ask(gateway, text.lower().encode()).status == 200


def test_e9_a_digest_is_no_key(gateway: RunningGateway) -> None:
    digest = digest_of(gateway.keys.a.token)
    for token in (
        digest.hex().encode(),
        digest.hex()[:32].encode(),
        gateway.keys.a.key_id + b"." + digest.hex().encode(),
    ):
        assert ask(gateway, token).status == 401


def test_e10_a_key_opens_with_its_own_secret_alone(gateway: RunningGateway) -> None:
    secrets = {name: getattr(gateway.keys, name).token.partition(b".")[2] for name in ("a", "b", "writer")}
    for holder in secrets:
        for name, secret in secrets.items():
            token = getattr(gateway.keys, holder).key_id + b"." + secret
            status = ask(gateway, token, b"/public").status
            assert (status == 200) == (holder == name)


# -- E11 to E19: what changes in the store is seen within its bound


def test_e11_a_key_revoked_after_use_is_refused_once_the_change_is_read(gateway: RunningGateway) -> None:
    key = gateway.new_key("READ")
    assert ask(gateway, key.token).status == 200
    with open_key_service(gateway.settings.store) as service:
        service.revoke_key(key.key_id.decode())
    gateway.read_changes()

    assert (ask(gateway, key.token).status, log_reason(gateway)) == (401, "token_revoked")


def test_e11_a_key_whose_revocation_is_never_told_is_refused_after_the_hard_bound(gateway: RunningGateway) -> None:
    key = gateway.new_key("READ")
    assert ask(gateway, key.token).status == 200
    with open_key_service(gateway.settings.store) as service:
        service.revoke_key(key.key_id.decode())
    gateway.clock.advance(gateway.settings.key_cache.ttl + 0.1)

    assert (ask(gateway, key.token).status, log_reason(gateway)) == (401, "token_revoked")


def test_e11_a_key_that_was_asked_for_too_early_works_once_it_is_made(gateway: RunningGateway) -> None:
    """The memory of an unknown key is short, and a change ends it at once."""
    assert ask(gateway, gateway.keys.unknown.token).status == 401
    key = gateway.new_key("READ")
    gateway.read_changes()

    assert ask(gateway, key.token).status == 200


@pytest.mark.parametrize(("left", "status"), [(1.0, 200), (0.001, 200), (0.0, 401), (-0.001, 401), (-1.0, 401)])
def test_e12_a_key_dies_at_the_instant_of_its_expiry_also_in_a_warm_cache(
    gateway: RunningGateway, left: float, status: int
) -> None:
    expires_at = round(gateway.clock.now() + 100.0)
    key = gateway.new_key("READ", expires_at=float(expires_at))
    assert ask(gateway, key.token).status == 200
    now = gateway.clock.now()
    gateway.clock.step(expires_at - left - now)
    try:
        assert ask(gateway, key.token).status == status
        if status == 401:
            assert log_reason(gateway) == "token_expired"
    finally:
        gateway.clock.step(now - gateway.clock.now())


def test_e14_a_disabled_app_takes_every_key_with_it_and_enabled_it_brings_them_back(gateway: RunningGateway) -> None:
    with open_key_service(gateway.settings.store) as service:
        app = service.create_app("passing").id
    owner = Key(b"", b"", app.encode())
    keys = [gateway.new_key("READ", app=owner) for _ in range(2)]
    assert [ask(gateway, key.token).status for key in keys] == [200, 200]
    with open_key_service(gateway.settings.store) as service:
        service.disable_app(app)
    gateway.read_changes()

    assert [ask(gateway, key.token).status for key in keys] == [401, 401]
    assert log_reason(gateway) == "app_inactive"
    assert ask(gateway, gateway.keys.a.token).status == 200

    with open_key_service(gateway.settings.store) as service:
        service.enable_app(app)
    gateway.read_changes()
    assert [ask(gateway, key.token).status for key in keys] == [200, 200]


@pytest.mark.parametrize(
    "scope", ["READS", "READ.all", "read", "Read", "REA", "READ-", "READ_", "items", "items.read.all"]
)
def test_e17_a_scope_is_compared_whole(gateway: RunningGateway, scope: str) -> None:
    key = gateway.new_key(scope)

    response = ask(gateway, key.token)
    assert (response.status, log_reason(gateway)) == (403, "scope_missing")
    assert response.json()["missing_scopes"] == ["READ"]
    assert gateway.upstream.settled().received_bytes == 0


@pytest.mark.parametrize("scope", ["*", "READ ", " READ", "READ\n", "READ WRITE", "READ,WRITE", "ＲＥＡＤ", "", "R*"])
def test_e17_what_is_no_scope_name_cannot_be_granted(gateway: RunningGateway, scope: str) -> None:
    with open_key_service(gateway.settings.store) as service, pytest.raises(KeyRefused):
        service.create_key(gateway.keys.a.app_id.decode(), name="odd", scopes=[scope])


def test_e18_a_key_without_scopes_cannot_be_made(gateway: RunningGateway) -> None:
    with open_key_service(gateway.settings.store) as service, pytest.raises(KeyRefused):
        service.create_key(gateway.keys.a.app_id.decode(), name="none", scopes=[])


@pytest.mark.parametrize("rule", ["[]", "{all: []}", "{any: []}", "''"])
def test_e20_a_rule_that_needs_nothing_is_a_load_error(rule: str) -> None:
    policy = POLICY.replace("{api_key: ADMIN}}\n  - {name: old", "{api_key: " + rule + "}}\n  - {name: old")
    assert policy != POLICY

    with pytest.raises(PolicyInvalid):
        compile_texts([("policy.yaml", policy.encode())])


def test_e22_an_app_has_no_more_active_keys_than_it_may(gateway: RunningGateway) -> None:
    with open_key_service(gateway.settings.store) as service:
        app = service.create_app("full").id
        for _ in range(10):
            service.create_key(app, name="one", scopes=["READ"])
        with pytest.raises(KeyRefused):
            service.create_key(app, name="eleventh", scopes=["READ"])


def test_e23_a_key_cannot_be_born_dead(gateway: RunningGateway) -> None:
    with open_key_service(gateway.settings.store) as service, pytest.raises(KeyRefused):
        service.create_key(gateway.keys.a.app_id.decode(), name="dead", scopes=["READ"], expires_at=1.0)


def test_e24_e27_the_store_holds_no_token(gateway: RunningGateway) -> None:
    folder = Path(gateway.settings.store.removeprefix("sqlite:///")).parent
    stored = b"".join(path.read_bytes() for path in folder.glob("keys.sqlite3*"))
    tokens = [getattr(gateway.keys, name).token for name in ("a", "b", "legacy", "revoked", "expired")]

    for token in tokens:
        for part in {token, token.rpartition(b".")[2]}:
            assert part not in stored
            assert part.hex().encode() not in stored


@pytest.mark.parametrize("length", [72, 73, 100, 128])
def test_e25_the_last_byte_of_a_long_secret_counts(length: int) -> None:
    secret = b"a" * (length - 1)

    assert digest_of(ID + b"." + secret + b"b") != digest_of(ID + b"." + secret + b"c")


def test_e28_guesses_are_looked_up_and_remembered_in_a_bounded_memory(tmp_path: Path) -> None:
    """There is no limit by address yet: what is promised is that the memory of guesses has an end."""
    with running_gateway(tmp_path, key_cache=KeyCacheSettings(poll=5.0, max_unknown=16)) as gateway:
        for number in range(64):
            assert ask(gateway, ID + b"." + b"%020d" % number).status == 401
        assert gateway.running.gateway.keys.unknown_count <= 16
        assert ask(gateway, gateway.keys.a.token).status == 200


def test_a_store_that_cannot_be_read_grants_nothing_and_denies_nothing(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert ask(gateway, gateway.keys.a.token).status == 200
        gateway.await_(gateway.running.gateway._store.aclose())
        for path in tmp_path.glob("keys.sqlite3*"):
            path.unlink()
        tmp_path.joinpath("keys.sqlite3").mkdir()
        unknown = ask(gateway, gateway.keys.b.token)
        known = ask(gateway, gateway.keys.a.token)
        gateway.clock.advance(gateway.settings.key_cache.ttl + 1)
        forgotten = ask(gateway, gateway.keys.a.token)

        assert [response.status for response in (unknown, known, forgotten)] == [503, 200, 503]
        assert unknown.header(b"retry-after") is not None
        assert unknown.values(b"www-authenticate") == []
        assert len(gateway.upstream.settled().requests) == 2


def test_a_gateway_whose_store_cannot_be_opened_does_not_start(tmp_path: Path) -> None:
    upstream = RecordingUpstream().start()
    try:
        with running_gateway(tmp_path, upstream=upstream):
            pass
        tmp_path.joinpath("keys.sqlite3").write_bytes(b"no database" * 1000)
        with (
            pytest.raises((CannotStart, StoreUnavailable), match="key store"),
            running_gateway(tmp_path, upstream=upstream),
        ):
            pass
    finally:
        upstream.stop()


NOT_HERE = {
    "E13": "a key has no beginning other than its making",
    "E15": "members of an App are not kept yet",
    "E16": "one gateway has one store; the region letter of a key id decides nothing",
    "E19": "scopes of a key cannot be changed: a new key is made",
    "E21": "rotation is not built: two keys, and a revocation",
    "E29": "a signal alone, and not built",
    "E30": "the endpoint for leaked keys is not built",
}


def test_every_row_of_group_e_is_covered_or_listed() -> None:
    covered = numbers_covered(sys.modules[__name__], ROWS, "E")

    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == {f"E{number}" for number in range(1, 31)}
