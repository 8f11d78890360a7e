"""Users by their own tokens, through a whole gateway: what they reach, what they and the upstream are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.credential import CredentialKind
from gateway.core.reasons import CannotDecide, Reason, Refusal, Verdict
from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.raw import Response, exchange
from tests.support.users import MadeUpUsers, accept_users, jwt_of

USERS = (
    POLICY
    + """\
  - {name: me, match: GET /me, upstream: rest, allow: {user_token: {}}}
  - name: own
    match: GET /own/{user_id}/notes
    upstream: rest
    errors: platform
    deprecated: {sunset: 2030-01-01}
    cors: {origins: [https://app.test]}
    allow: {api_key: READ, user_token: {subject: path.user_id}}
  - {name: asked, match: GET /asked, upstream: rest, allow: {user_token: {subject: query.user_id}}}
"""
)
A, B = jwt_of("u-a"), jwt_of("u-b")
OPAQUE = b"2YotnFZFEjr1zCsicMWpAA"
HEX = b"ffffffffffffffffffffffffffffffff"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, MadeUpUsers]]:
    with running_gateway(tmp_path_factory.mktemp("users"), policy=USERS) as gateway:
        yield gateway, accept_users(gateway)


@pytest.fixture
def gateway(served: tuple[RunningGateway, MadeUpUsers]) -> RunningGateway:
    served[0].forget()
    return served[0]


@pytest.fixture
def users(served: tuple[RunningGateway, MadeUpUsers]) -> MadeUpUsers:
    users = served[1]
    users.said.clear()
    users.remembers = True
    users.let_in(A, "u-a")
    users.let_in(B, "u-b", app_id="app-2")
    users.let_in(OPAQUE, "u-o", kind=CredentialKind.USER_OPAQUE)
    users.let_in(HEX, "u-h", kind=CredentialKind.USER_OPAQUE)
    return users


def get(gateway: RunningGateway, target: bytes, token: bytes, more: bytes = b"") -> Response:
    line = b"Authorization: Bearer " + token + b"\r\n"
    return exchange(gateway.port, b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n" % (target, line, more))


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize(
    ("token", "kind", "user_id", "app_id"),
    [
        (A, b"user_jwt", b"u-a", b"app-1"),
        (B, b"user_jwt", b"u-b", b"app-2"),
        (OPAQUE, b"user_opaque", b"u-o", b"app-1"),
        (HEX, b"user_opaque", b"u-h", b"app-1"),
    ],
)
def test_the_upstream_hears_whose_request_it_is_and_nothing_of_the_token(
    gateway: RunningGateway,
    users: MadeUpUsers,
    remembers: bool,
    token: bytes,
    kind: bytes,
    user_id: bytes,
    app_id: bytes,
) -> None:
    # C4: whatever the client says of itself.
    users.remembers = remembers
    lies = b"X-Gateway-User-Id: u-x\r\nX-Gateway-Kind: api_key\r\nX-Gateway-Scopes: ADMIN\r\n"

    assert get(gateway, b"/me", token, lies).status == 200

    (sent,) = gateway.upstream.settled().requests
    assert [kind] == sent.values(b"x-gateway-kind")
    assert [user_id] == sent.values(b"x-gateway-user-id")
    assert [app_id] == sent.values(b"x-gateway-app-id")
    assert [b""] == sent.values(b"x-gateway-key-id") == sent.values(b"x-gateway-scopes")
    assert token not in sent.raw


@pytest.mark.parametrize(
    ("target", "token", "status", "reason"),
    [
        (b"/own/u-a/notes", A, 200, None),
        (b"/own/u-b/notes", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/own/U-A/notes", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/own/u-a/notes", B, 404, Reason.SUBJECT_MISMATCH),
        (b"/own/u-b/notes?user_id=u-a", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/own/%75-a/notes", A, 400, Reason.TARGET_REFUSED),
        (b"/asked?user_id=u-a", A, 200, None),
        (b"/asked?user_id=u-b", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/asked", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/asked?user_id=u-a&user_id=u-b", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/asked?user_id=u-a&user%5Fid=u-b", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/asked?user_id=u-a&user_id[]=u-b", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/asked?user_id=%75-a", A, 404, Reason.SUBJECT_MISMATCH),
        (b"/items", A, 403, Reason.KIND_NOT_ALLOWED),
        (b"/public", A, 200, None),
        (b"/nowhere", A, 404, Reason.ROUTE_UNKNOWN),
    ],
)
def test_a_user_reaches_what_is_theirs_and_nothing_else(
    gateway: RunningGateway, users: MadeUpUsers, target: bytes, token: bytes, status: int, reason: Reason | None
) -> None:
    # F30, F31, F32
    assert users.said
    answer = get(gateway, target, token)
    gateway.settle()

    (outcome,) = gateway.outcomes
    assert (status, reason) == (answer.status, outcome.reason)
    assert (reason is None) == bool(gateway.upstream.requests)


def test_a_key_is_no_user(gateway: RunningGateway, users: MadeUpUsers) -> None:
    # F30
    assert users.said
    assert get(gateway, b"/me", gateway.keys.a.token).status == 403
    assert get(gateway, b"/own/u-a/notes", gateway.keys.a.token).status == 200
    assert get(gateway, b"/items", gateway.keys.legacy.token).status == 200


def test_what_is_another_users_looks_like_a_path_without_a_route(gateway: RunningGateway, users: MadeUpUsers) -> None:
    # F31
    assert users.said
    origin = b"Origin: https://app.test\r\n"
    theirs, nothing = (get(gateway, target, A, origin) for target in (b"/own/u-b/notes", b"/own/u-b/nothing"))
    gateway.settle()

    def told(answer: Response) -> bytes:
        return answer.head.replace(answer.ref, b"REF") + answer.body.replace(answer.ref, b"REF")

    assert told(nothing) == told(theirs)
    assert ["own", "unmatched"] == [outcome.route for outcome in gateway.outcomes]


@pytest.mark.parametrize(
    ("because", "status", "verdict"),
    [
        (Refusal(Reason.TOKEN_REVOKED), 401, Verdict.REFUSED),
        (Refusal(Reason.TOKEN_UNKNOWN), 401, Verdict.REFUSED),
        (CannotDecide(Reason.ISSUER_UNAVAILABLE, "x", 7), 503, Verdict.CANNOT_DECIDE),
    ],
)
@pytest.mark.parametrize("remembers", [True, False])
def test_a_token_that_is_not_good_reaches_nothing(
    gateway: RunningGateway,
    users: MadeUpUsers,
    because: Refusal | CannotDecide,
    status: int,
    verdict: Verdict,
    remembers: bool,
) -> None:
    # R34: who cannot be asked has not said no.
    users.remembers = remembers
    users.say(A, because)

    answer = get(gateway, b"/me", A)
    gateway.settle()

    (outcome,) = gateway.outcomes
    assert (status, verdict, because.reason) == (answer.status, outcome.verdict, outcome.reason)
    assert (b"7" if status == 503 else None) == answer.header(b"retry-after")
    assert not gateway.upstream.requests


def test_the_log_says_the_kind_and_the_app_and_not_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_gateway(tmp_path_factory.mktemp("log"), policy=USERS) as gateway:
        accept_users(gateway).let_in(A, "u-a-in-no-log")
        assert get(gateway, b"/me", A).status == 200
        gateway.stop()

        (line,) = gateway.log_lines()
        assert ("user_jwt", "app-1") == (line["kind"], line["app_id"])
        assert not line.get("key_id")
        assert b"u-a-in-no-log" not in gateway.log_bytes()
        assert A not in gateway.log_bytes()


def test_without_an_issuer_a_user_token_is_of_no_use(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_gateway(tmp_path_factory.mktemp("none"), policy=USERS) as gateway:
        assert get(gateway, b"/me", A).status == 401
        assert get(gateway, b"/me", OPAQUE).status == 401
        gateway.settle()
        reasons = [outcome.reason for outcome in gateway.outcomes]
    assert [Reason.TOKEN_KIND_UNSUPPORTED, Reason.TOKEN_MALFORMED] == reasons
