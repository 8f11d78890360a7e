"""The corridor: the order of judgement, proven by what each step never reaches."""

from __future__ import annotations

from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential import Credential, CredentialKind, KeyDigest, digest_of
from gateway.core.decision import Allowed, Preflight
from gateway.core.facts import RequestFacts
from gateway.core.lifecycle import KeyState
from gateway.core.policy.requirement import Subject, SubjectPlace, UserRequirement
from gateway.core.policy.routes import Route
from gateway.core.principal import KeyRecord, UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.core.token_kinds import kinds_of
from gateway.judge import AwaitingBody, AwaitingInit, AwaitingKey, Judge, Passed, Stopped, graphql_head_fault
from gateway.ports import MISSING, KeyFinder, Missing, StoreUnavailable
from tests.core.policy.support import compiled
from tests.core.samples import (
    API_TOKEN,
    JWT,
    LEGACY_TOKEN,
    Headers,
    bearer,
    facts,
    graphql_rules,
    policy,
    principal,
    record,
    requires,
    route,
    user,
    user_record,
)
from tests.support.manual_clock import START, ManualClock
from tests.support.values import changed, fields_of

KEY = CredentialKind.API_KEY
JSON = (b"Content-Type", b"application/json")

USERS = route(allow={KEY: requires("users:read")})
CREATE = route(
    "users.create", method=b"POST", allow={KEY: requires("users:write")}, takes_body=True, body_limit_bytes=10
)
STATUS = route("status", pattern="/status", is_public=True)
GQL = route(
    "gql",
    method=b"POST",
    pattern="/v4/gql",
    takes_body=True,
    graphql=graphql_rules({"Query.user": {KEY: requires("users:read")}}),
)
POLICY = policy(USERS, CREATE, STATUS, GQL)


class Keys:
    """A `KeyFinder` over one dict, which notes what it was asked and can be made to forget or to fail."""

    def __init__(self, *records: KeyRecord, remembers: bool = True) -> None:
        self.records = {record.digest: record for record in records}
        self.remembers = remembers
        self.is_down = False
        self.asked: list[KeyDigest] = []
        self.looked_up: list[Credential] = []

    def cached(self, digest: KeyDigest) -> KeyRecord | Missing | None:
        self.asked.append(digest)
        return self.records.get(digest) if self.remembers else MISSING

    async def find(self, credential: Credential) -> KeyRecord | None:
        self.looked_up.append(credential)
        if self.is_down:
            raise StoreUnavailable("the key store is down")
        return self.records.get(credential.digest)


def judge_of(keys: KeyFinder, clock: ManualClock | None = None) -> Judge:
    return Judge(POLICY, keys, clock or ManualClock())


def stopped(step: object) -> Stopped:
    assert isinstance(step, Stopped), step
    return step


def reason_of(step: object) -> Reason:
    return stopped(step).because.reason


def ask(*headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/v1/users") -> RequestFacts:
    return facts(*headers, method=method, target=target)


GOOD = bearer(API_TOKEN)


# -- a request that passes


def test_a_good_key_with_the_scope_passes_without_waiting() -> None:
    step = judge_of(Keys(record(API_TOKEN, "users:read"))).on_head(ask(GOOD))

    assert isinstance(step, Passed)
    assert fields_of(Allowed(USERS, principal("users:read"))) == fields_of(step.allowed)
    assert POLICY is step.snapshot.policy


async def test_a_key_that_is_not_in_memory_is_looked_up_once() -> None:
    keys = Keys(record(API_TOKEN, "users:read"), remembers=False)
    judge = judge_of(keys)

    awaiting = judge.on_head(ask(GOOD))
    assert isinstance(awaiting, AwaitingKey)
    step = await judge.on_key(awaiting)

    assert isinstance(step, Passed)
    assert ["ek5Tq0aVb81LmZc"] == [credential.key_id for credential in keys.looked_up]


def test_a_public_route_needs_no_key_and_asks_for_none() -> None:
    keys = Keys()

    step = judge_of(keys).on_head(ask(target=b"/status"))

    assert isinstance(step, Passed)
    assert fields_of(Allowed(STATUS, None)) == fields_of(step.allowed)
    assert [] == keys.asked


def test_a_public_route_knows_who_calls_when_a_good_key_comes() -> None:
    step = judge_of(Keys(record(API_TOKEN, "x"))).on_head(ask(GOOD, target=b"/status"))

    assert isinstance(step, Passed)
    assert fields_of(Allowed(STATUS, principal("x"))) == fields_of(step.allowed)


def test_head_is_judged_as_get() -> None:
    # B29
    assert isinstance(judge_of(Keys(record(API_TOKEN, "users:read"))).on_head(ask(GOOD, method=b"HEAD")), Passed)
    assert Reason.SCOPE_MISSING is reason_of(judge_of(Keys(record())).on_head(ask(GOOD, method=b"HEAD")))


# -- the order


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], Reason.CREDENTIAL_MISSING),
        ([(b"Authorization", b"Basic dXNlcg==")], Reason.CREDENTIAL_SCHEME),
        ([(b"Authorization", b"Bearer ")], Reason.CREDENTIAL_EMPTY),
        ([bearer(b"x")], Reason.TOKEN_MALFORMED),
        ([bearer(b"undefined")], Reason.TOKEN_PLACEHOLDER),
        ([bearer(JWT)], Reason.TOKEN_KIND_UNSUPPORTED),
        ([bearer(LEGACY_TOKEN.upper())], Reason.TOKEN_MALFORMED),
    ],
)
@pytest.mark.parametrize("target", [b"/v1/users", b"/nowhere"])
def test_a_token_of_no_known_shape_never_reaches_the_finder(headers: Headers, reason: Reason, target: bytes) -> None:
    keys = Keys(record(API_TOKEN, "users:read"))

    assert reason is reason_of(judge_of(keys).on_head(ask(*headers, target=target)))
    assert [] == keys.asked
    assert [] == keys.looked_up


@pytest.mark.parametrize(
    ("target", "method"),
    [(b"/nowhere", b"GET"), (b"/v1/users", b"DELETE"), (b"/v1/users", b"GET"), (b"/v4/gql", b"POST")],
)
def test_to_a_caller_without_a_good_key_every_place_looks_alike(target: bytes, method: bytes) -> None:
    judge = judge_of(Keys())

    assert Reason.CREDENTIAL_MISSING is reason_of(judge.on_head(ask(method=method, target=target)))
    assert Reason.TOKEN_UNKNOWN is reason_of(judge.on_head(ask(GOOD, method=method, target=target)))


def test_to_a_caller_with_a_good_key_what_is_not_there_is_not_there() -> None:
    judge = judge_of(Keys(record(API_TOKEN, "users:read")))

    assert Reason.ROUTE_UNKNOWN is reason_of(judge.on_head(ask(GOOD, target=b"/nowhere")))
    refused = stopped(judge.on_head(ask(GOOD, method=b"DELETE")))
    assert Refusal(Reason.METHOD_NOT_ALLOWED, allowed_methods=("GET", "HEAD", "POST")) == refused.because
    assert refused.route is None
    assert principal("users:read") == refused.principal


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (record(API_TOKEN, "users:read", state=KeyState.REVOKED), Reason.TOKEN_REVOKED),
        (record(API_TOKEN, "users:read", expires_at=START), Reason.TOKEN_EXPIRED),
        (record(API_TOKEN, "users:read", app_is_active=False), Reason.APP_INACTIVE),
    ],
)
@pytest.mark.parametrize("remembers", [True, False])
async def test_a_key_that_is_no_longer_good_is_refused_before_the_body_is_read(
    stored: KeyRecord, reason: Reason, remembers: bool
) -> None:
    judge = Judge(POLICY, Keys(stored, remembers=remembers), ManualClock())
    head = ask(GOOD, JSON, (b"Content-Length", b"99"), method=b"POST", target=b"/v4/gql")

    step = judge.on_head(head)
    if isinstance(step, AwaitingKey):
        step = await judge.on_key(step)

    assert reason is reason_of(step)
    assert GQL is stopped(step).route


def test_expiry_is_asked_of_the_clock_on_every_request_also_on_a_warm_cache() -> None:
    # H6
    clock = ManualClock()
    judge = judge_of(Keys(record(API_TOKEN, "users:read", expires_at=START + 10)), clock)

    assert isinstance(judge.on_head(ask(GOOD)), Passed)
    clock.step(9.999)
    assert isinstance(judge.on_head(ask(GOOD)), Passed)
    clock.step(0.001)
    assert Reason.TOKEN_EXPIRED is reason_of(judge.on_head(ask(GOOD)))


def test_a_known_id_with_another_secret_is_unknown() -> None:
    # E2, E10: the store may give the record of the id; the digest decides.
    judge = judge_of(Keys())
    keys = Keys(remembers=True)
    wrong = API_TOKEN[:-1] + b"X"
    credential = stopped(judge.on_head(ask(bearer(wrong)))).credential
    assert credential is not None
    keys.records[credential.digest] = record(API_TOKEN, "users:read")

    assert Reason.TOKEN_UNKNOWN is reason_of(judge_of(keys).on_head(ask(bearer(wrong))))


@pytest.mark.parametrize("target", [b"/status", b"/v1/users", b"/nowhere"])
def test_a_credential_in_the_query_is_refused_before_anything_is_asked(target: bytes) -> None:
    # D14, D15, B32
    keys = Keys(record(API_TOKEN, "users:read"))
    judge = judge_of(keys)

    assert Reason.CREDENTIAL_IN_QUERY is reason_of(judge.on_head(ask(target=target + b"?access_token=x")))
    assert Reason.CREDENTIAL_REPEATED is reason_of(judge.on_head(ask(GOOD, target=target + b"?a=1&api_key=x")))
    assert [] == keys.asked


def test_a_bad_credential_is_refused_on_a_public_route_too() -> None:
    # D16
    judge = judge_of(Keys())

    assert Reason.TOKEN_UNKNOWN is reason_of(judge.on_head(ask(GOOD, target=b"/status")))
    assert Reason.TOKEN_MALFORMED is reason_of(judge.on_head(ask(bearer(b"x"), target=b"/status")))


def test_a_refusal_says_as_much_as_was_known() -> None:
    judge = judge_of(Keys(record()))

    by_scope = stopped(judge.on_head(ask(GOOD)))
    assert (USERS, principal()) == (by_scope.route, by_scope.principal)
    assert Refusal(Reason.SCOPE_MISSING, missing_scopes=("users:read",)) == by_scope.because
    unknown = stopped(judge_of(Keys()).on_head(ask(GOOD)))
    assert unknown.credential is not None
    assert (USERS, None, "ek5Tq0aVb81LmZc") == (unknown.route, unknown.principal, unknown.credential.key_id)


# -- the store


@pytest.mark.parametrize("target", [b"/v1/users", b"/nowhere", b"/v4/gql"])
async def test_a_store_that_cannot_answer_is_no_verdict_on_the_key(target: bytes) -> None:
    # H18
    keys = Keys(record(API_TOKEN, "users:read"), remembers=False)
    keys.is_down = True
    judge = judge_of(keys)

    awaiting = judge.on_head(ask(GOOD, method=b"GET", target=target))
    assert isinstance(awaiting, AwaitingKey)
    because = stopped(await judge.on_key(awaiting)).because

    assert isinstance(because, CannotDecide)
    assert (Reason.STORE_UNAVAILABLE, 503) == (because.reason, because.reason.status)


# -- bodies of REST requests


@pytest.mark.parametrize(
    ("headers", "method", "reason"),
    [
        ([(b"Content-Length", b"3")], b"GET", Reason.BODY_REFUSED),  # A24
        ([(b"Transfer-Encoding", b"chunked")], b"GET", Reason.BODY_REFUSED),
        ([(b"Content-Length", b"11")], b"POST", Reason.BODY_TOO_LARGE),  # K6
        ([(b"Content-Length", b"10")], b"POST", None),
        ([(b"Content-Length", b"0")], b"GET", None),
        ([(b"Transfer-Encoding", b"chunked")], b"POST", None),
        ([], b"POST", None),
    ],
)
def test_a_body_comes_only_where_the_route_takes_one(headers: Headers, method: bytes, reason: Reason | None) -> None:
    judge = judge_of(Keys(record(API_TOKEN, "users:read", "users:write")))

    step = judge.on_head(ask(GOOD, *headers, method=method))

    assert isinstance(step, Passed) if reason is None else reason is reason_of(step)


def test_who_may_not_call_hears_nothing_of_the_body() -> None:
    step = judge_of(Keys(record())).on_head(ask(GOOD, (b"Content-Length", b"11"), method=b"POST"))

    assert Reason.SCOPE_MISSING is reason_of(step)


def test_a_public_route_takes_no_body_unless_it_says_so() -> None:
    assert Reason.BODY_REFUSED is reason_of(judge_of(Keys()).on_head(ask((b"Content-Length", b"1"), target=b"/status")))


# -- GraphQL


def awaiting_body(judge: Judge) -> AwaitingBody:
    step = judge.on_head(ask(GOOD, JSON, (b"Content-Length", b"20"), method=b"POST", target=b"/v4/gql"))
    assert isinstance(step, AwaitingBody)
    return step


def test_a_graphql_request_waits_for_its_body_and_is_judged_by_it() -> None:
    judge = judge_of(Keys(record(API_TOKEN, "users:read")))

    step = judge.on_body(awaiting_body(judge), b'{"query":"{ user { id } }"}')

    assert isinstance(step, Passed)
    assert GQL is step.allowed.route
    assert step.allowed.body is not None
    assert b"user" in step.allowed.body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.JSON_INVALID),
        (b"{", Reason.JSON_INVALID),
        (b"[]", Reason.GRAPHQL_REQUEST_INVALID),
        (b'{"query":"{"}', Reason.GRAPHQL_DOCUMENT_INVALID),
        (b'{"query":"{user{id}}","operationName":"A"}', Reason.GRAPHQL_OPERATION_UNKNOWN),
        (b'{"query":"{other{id}}"}', Reason.FIELD_NOT_ALLOWED),
    ],
)
def test_a_body_that_may_not_pass_says_why_and_who_it_was(body: bytes, reason: Reason) -> None:
    judge = judge_of(Keys(record(API_TOKEN, "users:read")))

    step = stopped(judge.on_body(awaiting_body(judge), body))

    assert (reason, GQL, principal("users:read")) == (step.because.reason, step.route, step.principal)


def test_a_scope_that_is_missing_is_named_after_the_body_was_read() -> None:
    judge = judge_of(Keys(record()))

    step = stopped(judge.on_body(awaiting_body(judge), b'{"query":"{user{id}}"}'))

    assert Refusal(Reason.SCOPE_MISSING, missing_scopes=("users:read",), coordinates=("Query.user",)) == step.because


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json ;charset=utf8",
    ],
)
def test_json_in_utf_8_is_read(content_type: bytes) -> None:
    assert graphql_head_fault(ask((b"Content-Type", content_type), method=b"POST"), graphql_rules({})) is None


@pytest.mark.parametrize(
    "headers",
    # C19, G26, G28, K10
    [
        [],
        [(b"Content-Type", b"")],
        [(b"Content-Type", b"text/plain")],
        [(b"Content-Type", b"application/graphql")],
        [(b"Content-Type", b"application/json, text/plain")],
        [(b"Content-Type", b"application/json;charset=utf-16")],
        [(b"Content-Type", b"application/json;charset=utf-7")],
        [(b"Content-Type", b"application/json;charset=utf-8;charset=utf-16")],
        [(b"Content-Type", b"application/jsonx")],
        [(b"Content-Type", b"multipart/form-data; boundary=x")],
        [JSON, (b"Content-Encoding", b"gzip")],
        [JSON, (b"Content-Encoding", b"identity, gzip")],
    ],
)
def test_another_media_type_or_coding_is_refused_before_the_body_is_read(headers: Headers) -> None:
    judge = Judge(POLICY, Keys(record(API_TOKEN, "users:read")), ManualClock())

    step = judge.on_head(ask(GOOD, *headers, method=b"POST", target=b"/v4/gql"))

    assert Reason.MEDIA_TYPE_UNSUPPORTED is reason_of(step)
    assert GQL is stopped(step).route


@pytest.mark.parametrize(
    "query", [b"query=user", b"a=1&operationName=A", b"variables=%7B%7D", b"extensions=", b"%71uery=x", b"a;query=x"]
)
def test_graphql_in_the_url_of_a_post_is_refused_before_the_body_is_read(query: bytes) -> None:
    # G22: servers differ on which of the two they run.
    judge = Judge(POLICY, Keys(record(API_TOKEN, "users:read")), ManualClock())

    step = judge.on_head(ask(GOOD, JSON, method=b"POST", target=b"/v4/gql?" + query))

    assert Reason.GRAPHQL_REQUEST_INVALID is reason_of(step)


def test_other_parameters_in_the_url_are_left_to_the_upstream() -> None:
    judge = judge_of(Keys(record(API_TOKEN, "users:read")))

    step = judge.on_head(ask(GOOD, JSON, method=b"POST", target=b"/v4/gql?trace=query&querys=1"))

    assert isinstance(step, AwaitingBody)


def test_identity_is_no_coding() -> None:
    assert graphql_head_fault(ask(JSON, (b"Content-Encoding", b"Identity"), method=b"POST"), graphql_rules({})) is None


# -- one policy per request


CLOSED = policy(route(), route("gql", method=b"POST", pattern="/v4/gql", graphql=graphql_rules({})), revision="f" * 16)


def test_requests_that_begin_after_a_reload_are_judged_by_the_new_policy() -> None:
    # H7
    judge = judge_of(Keys(record(API_TOKEN, "users:read")))
    assert isinstance(judge.on_head(ask(GOOD)), Passed)

    judge.replace_policy(CLOSED)

    step = stopped(judge.on_head(ask(GOOD)))
    assert Reason.KIND_NOT_ALLOWED is step.because.reason
    assert CLOSED is step.snapshot.policy


async def test_a_request_under_way_keeps_the_policy_that_it_began_with() -> None:
    # J18
    keys = Keys(record(API_TOKEN, "users:read"), remembers=False)
    judge = judge_of(keys)
    for_key = judge.on_head(ask(GOOD))
    keys.remembers = True
    for_body = awaiting_body(judge)

    judge.replace_policy(CLOSED)

    assert isinstance(for_key, AwaitingKey)
    first = await judge.on_key(for_key)
    second = judge.on_body(for_body, b'{"query":"{user{id}}"}')
    for step in (first, second):
        assert isinstance(step, Passed)
        assert POLICY is step.snapshot.policy


# -- memory changes how long it takes, never what comes out


TOKENS = st.sampled_from([None, API_TOKEN, API_TOKEN[:-1] + b"X", LEGACY_TOKEN, b"x"])
STORED = st.one_of(
    st.none(),
    st.builds(
        lambda scopes, state, app_is_active, expires_at: record(
            API_TOKEN, *scopes, state=state, app_is_active=app_is_active, expires_at=expires_at
        ),
        st.sets(st.sampled_from(["users:read", "users:write", "x"])),
        st.sampled_from(KeyState),
        st.booleans(),
        st.sampled_from([START - 1, START, START + 1]),
    ),
)
PLACES = st.sampled_from([USERS, CREATE, STATUS, GQL, route("none", pattern="/nowhere")])
BODIES = st.sampled_from([b'{"query":"{user{id}}"}', b'{"query":"{other}"}', b"{"])


async def judged(keys: Keys, head: RequestFacts, body: bytes) -> Passed | Stopped:
    judge = judge_of(keys)
    step = judge.on_head(head)
    assert isinstance(step, AwaitingKey) is False or not keys.remembers
    if isinstance(step, AwaitingKey):
        step = await judge.on_key(step)
    step = judge.on_body(step, body) if isinstance(step, AwaitingBody) else step
    assert not isinstance(step, Preflight | AwaitingInit)
    return step


def at_once(walk: Coroutine[object, object, Passed | Stopped]) -> Passed | Stopped:
    """The end of a walk that never has to wait, without a loop."""
    try:
        walk.send(None)
    except StopIteration as ended:
        step: Passed | Stopped = ended.value
        return step
    raise AssertionError("the walk waited")


def told(step: Passed | Stopped) -> object:
    if isinstance(step, Passed):
        return step.allowed
    return (step.because, step.route, step.principal)


@given(TOKENS, STORED, PLACES, BODIES, st.sampled_from([b"0", b"5", b"11"]))
def test_a_key_in_memory_and_one_in_the_store_are_judged_alike(
    token: bytes | None, stored: KeyRecord | None, place: Route, body: bytes, length: bytes
) -> None:
    credential = [] if token is None else [bearer(token)]
    head = ask(*credential, JSON, (b"Content-Length", length), method=place.method, target=place.pattern.encode())
    records = [] if stored is None else [stored]

    cached = at_once(judged(Keys(*records), head, body))
    looked_up = at_once(judged(Keys(*records, remembers=False), head, body))

    assert told(cached) == told(looked_up)


# -- what is judged before anybody is asked who they are

LIVE = compiled(
    "version: 1\n"
    "hosts: [api.example]\n"
    "scopes: {R: {means: read}}\n"
    "routes:\n"
    "  - name: live\n"
    "    match: GET /live\n"
    "    upstream: rest\n"
    "    allow: {api_key: R}\n"
    "    websocket: true\n"
    "    cors: {origins: [https://app.example]}\n"
    "  - {name: plain, match: GET /plain, upstream: rest, allow: anyone}\n"
)
WEBSOCKET = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
HANDSHAKE = (*WEBSOCKET, (b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="))


def opened(
    *headers: tuple[bytes, bytes], target: bytes = b"/live", host: bytes = b"api.example"
) -> tuple[object, Keys]:
    keys = Keys(record(API_TOKEN, "R"))
    return Judge(LIVE, keys, ManualClock()).on_head(facts(*headers, target=target, host=host)), keys


def test_a_websocket_with_a_good_key_passes() -> None:
    step, _ = opened(*HANDSHAKE, GOOD)

    assert isinstance(step, Passed)
    assert isinstance(opened(*HANDSHAKE, GOOD, (b"Origin", b"https://app.example"))[0], Passed)
    assert isinstance(opened(GOOD)[0], Passed)


@pytest.mark.parametrize(
    ("headers", "target", "reason"),
    [
        (HANDSHAKE, b"/live", Reason.CREDENTIAL_MISSING),
        ((*HANDSHAKE, bearer(LEGACY_TOKEN)), b"/live", Reason.TOKEN_UNKNOWN),
    ],
)
def test_a_websocket_is_judged_like_any_get(headers: Headers, target: bytes, reason: Reason) -> None:
    assert reason is reason_of(opened(*headers, target=target)[0])


@pytest.mark.parametrize(
    ("headers", "target", "reason"),
    [
        ((*HANDSHAKE, GOOD), b"/plain", Reason.UPGRADE_REFUSED),
        ((*HANDSHAKE, GOOD), b"/nothing", Reason.UPGRADE_REFUSED),
        ((*WEBSOCKET, GOOD), b"/live", Reason.HEADER_REFUSED),
        (
            (*HANDSHAKE, GOOD, (b"Sec-WebSocket-Protocol", b"bearer, " + API_TOKEN)),
            b"/live",
            Reason.CREDENTIAL_REPEATED,  # D22
        ),
        ((*HANDSHAKE, GOOD, (b"Origin", b"https://evil.example")), b"/live", Reason.CORS_REFUSED),
    ],
)
def test_a_websocket_that_may_not_be_is_refused_before_a_key_is_asked(
    headers: Headers, target: bytes, reason: Reason
) -> None:
    step, keys = opened(*headers, target=target)

    assert reason is reason_of(step)
    assert [] == keys.asked


def test_another_host_is_refused_before_a_route_is_looked_up() -> None:
    step, keys = opened(GOOD, host=b"other.example")

    assert Reason.HOST_UNKNOWN is reason_of(step)
    assert stopped(step).route is None
    assert [] == keys.asked


def test_a_preflight_asks_for_no_key() -> None:
    keys = Keys(record(API_TOKEN, "R"))
    asked = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"GET"), GOOD]

    step = Judge(LIVE, keys, ManualClock()).on_head(facts(*asked, method=b"OPTIONS", target=b"/live"))

    assert isinstance(step, Preflight)
    assert [] == keys.asked


# -- user tokens

USER_JWT, USER_OPAQUE = CredentialKind.USER_JWT, CredentialKind.USER_OPAQUE
ANY_USER = UserRequirement()
OWN = UserRequirement(Subject(SubjectPlace.PATH, "user_id", 2), Refusal(Reason.SUBJECT_MISMATCH))
ME = route("users.me", pattern="/users/me", allow={USER_JWT: ANY_USER, USER_OPAQUE: ANY_USER})
KEYS_ONLY = route("keys", pattern="/keys", allow={KEY: requires("users:read")})
PROFILE = changed(route("users.own", pattern="/users/{user_id}", allow={USER_JWT: OWN}), parameters=("user_id",))
USER_GQL = route(
    "gql",
    method=b"POST",
    pattern="/gql",
    takes_body=True,
    graphql=graphql_rules({"Query.me": {USER_JWT: ANY_USER}, "Query.key": {KEY: requires("users:read")}}),
)
USER_POLICY = policy(ME, PROFILE, KEYS_ONLY, USER_GQL, STATUS)
OPAQUE_TOKEN = b"2YotnFZFEjr1zCsicMWpAA"


class Users:
    """A `UserFinder` over one dict, which notes what it was asked and can be made to forget or to fail."""

    def __init__(self, *records: UserRecord, remembers: bool = True) -> None:
        self.records = {record.digest: record for record in records}
        self.remembers = remembers
        self.says: Refusal | CannotDecide = Refusal(Reason.TOKEN_UNKNOWN)
        self.asked: list[tuple[CredentialKind, bytes]] = []
        self.looked_up: list[tuple[CredentialKind, bytes]] = []

    def cached(self, credential: Credential) -> UserRecord | Refusal | CannotDecide | Missing:
        self.asked.append(self._note(credential))
        return self.records.get(credential.digest, self.says) if self.remembers else MISSING

    async def find(self, credential: Credential) -> UserRecord | Refusal | CannotDecide:
        self.looked_up.append(self._note(credential))
        return self.records.get(credential.digest, self.says)

    def _note(self, credential: Credential) -> tuple[CredentialKind, bytes]:
        assert credential.text is not None
        assert digest_of(credential.text.reveal()) == credential.digest
        return credential.kind, credential.text.reveal()


def users_judge(users: Users | None, keys: Keys | None = None, clock: ManualClock | None = None) -> Judge:
    kinds = kinds_of(jwt=True, opaque=True)
    return Judge(USER_POLICY, keys or Keys(), clock or ManualClock(), users=users, kinds=kinds)


def asks(token: bytes, target: bytes = b"/users/me", **more: bytes) -> RequestFacts:
    return facts(bearer(token), target=target, **more)  # type: ignore[arg-type]


def test_a_verified_user_passes_without_waiting_and_without_a_look_at_the_keys() -> None:
    users, keys = Users(user_record()), Keys()

    step = users_judge(users, keys).on_head(asks(JWT))

    assert isinstance(step, Passed)
    assert fields_of(Allowed(ME, user())) == fields_of(step.allowed)
    assert [(USER_JWT, JWT)] == users.asked
    assert [] == keys.asked


async def test_a_user_token_that_is_not_in_memory_is_verified_once() -> None:
    users = Users(user_record(), remembers=False)
    judge = users_judge(users)

    awaiting = judge.on_head(asks(JWT))
    assert isinstance(awaiting, AwaitingKey)
    step = await judge.on_key(awaiting)

    assert isinstance(step, Passed)
    assert [(USER_JWT, JWT)] == users.looked_up


@pytest.mark.parametrize(
    "because",
    [
        Refusal(Reason.TOKEN_UNKNOWN),
        Refusal(Reason.TOKEN_REVOKED),
        CannotDecide(Reason.ISSUER_UNAVAILABLE, "x"),
        CannotDecide(Reason.STORE_UNAVAILABLE, "x"),
    ],
)
@pytest.mark.parametrize("remembers", [True, False])
async def test_what_the_finder_says_of_a_token_is_said(because: Refusal | CannotDecide, remembers: bool) -> None:
    users = Users(remembers=remembers)
    users.says = because
    judge = users_judge(users)

    step = judge.on_head(asks(JWT))
    if isinstance(step, AwaitingKey):
        step = await judge.on_key(step)

    halted = stopped(step)
    assert (because, ME, None) == (halted.because, halted.route, halted.principal)
    assert halted.credential is not None
    assert USER_JWT is halted.credential.kind


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-1.0, Reason.TOKEN_NOT_YET_VALID), (0.0, None), (9.9, None), (10.0, Reason.TOKEN_EXPIRED)],
)
def test_a_user_token_in_memory_is_asked_each_time_whether_it_is_good_now(
    seconds: float, reason: Reason | None
) -> None:
    # F21, F39
    clock = ManualClock(START + seconds)
    users = Users(user_record(starts_at=START, expires_at=START + 10.0))

    step = users_judge(users, clock=clock).on_head(asks(JWT))

    assert reason is (None if isinstance(step, Passed) else reason_of(step))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"/users/user-1", None),
        (b"/users/user-2", Reason.SUBJECT_MISMATCH),
        (b"/keys", Reason.KIND_NOT_ALLOWED),
        (b"/nowhere", Reason.ROUTE_UNKNOWN),
        (b"/status", None),
    ],
)
def test_a_user_reaches_what_is_theirs(target: bytes, reason: Reason | None) -> None:
    # F30, F31
    step = users_judge(Users(user_record())).on_head(asks(JWT, target))

    assert reason is (None if isinstance(step, Passed) else reason_of(step))


def test_a_key_is_not_a_user() -> None:
    # F30
    keys = Keys(record(API_TOKEN, "users:read"))

    assert Reason.KIND_NOT_ALLOWED is reason_of(users_judge(Users(), keys).on_head(asks(API_TOKEN)))


def test_a_user_token_may_select_what_is_open_to_users() -> None:
    judge = users_judge(Users(user_record()))

    for field, is_allowed in ((b"me", True), (b"key", False)):
        awaiting = judge.on_head(facts(bearer(JWT), JSON, (b"Content-Length", b"9"), method=b"POST", target=b"/gql"))
        assert isinstance(awaiting, AwaitingBody)
        step = judge.on_body(awaiting, b'{"query":"{ %s }"}' % field)
        assert is_allowed == isinstance(step, Passed)


def test_without_a_finder_every_user_token_is_unsupported() -> None:
    judge = users_judge(None)

    assert Reason.TOKEN_KIND_UNSUPPORTED is reason_of(judge.on_head(asks(JWT)))
    assert Reason.TOKEN_MALFORMED is reason_of(judge.on_head(asks(OPAQUE_TOKEN)))


@pytest.mark.parametrize("remembers_key", [True, False])
@pytest.mark.parametrize("remembers_user", [True, False])
async def test_32_digits_that_are_no_key_may_be_a_users_token(remembers_key: bool, remembers_user: bool) -> None:
    verified = user_record(LEGACY_TOKEN, user(kind=USER_OPAQUE))
    users, keys = Users(verified, remembers=remembers_user), Keys(remembers=remembers_key)
    judge = users_judge(users, keys)

    step = judge.on_head(asks(LEGACY_TOKEN))
    if isinstance(step, AwaitingKey):
        step = await judge.on_key(step)

    assert isinstance(step, Passed)
    assert fields_of(Allowed(ME, user(kind=USER_OPAQUE))) == fields_of(step.allowed)
    assert {USER_OPAQUE} == {kind for kind, _ in (*users.asked, *users.looked_up)}


@pytest.mark.parametrize("state", KeyState)
@pytest.mark.parametrize("remembers", [True, False])
async def test_a_legacy_key_of_the_store_is_never_shown_to_an_issuer(state: KeyState, remembers: bool) -> None:
    # E8: also when it was revoked.
    stored = record(LEGACY_TOKEN, "users:read", state=state)
    users, keys = Users(), Keys(stored, remembers=remembers)
    judge = users_judge(users, keys)

    step = judge.on_head(asks(LEGACY_TOKEN, b"/status"))
    if isinstance(step, AwaitingKey):
        step = await judge.on_key(step)

    assert (state is KeyState.ACTIVE) == isinstance(step, Passed)
    assert [] == users.asked + users.looked_up


async def test_a_store_that_is_down_shows_no_legacy_key_to_an_issuer() -> None:
    users, keys = Users(), Keys(remembers=False)
    keys.is_down = True
    judge = users_judge(users, keys)

    awaiting = judge.on_head(asks(LEGACY_TOKEN))
    assert isinstance(awaiting, AwaitingKey)

    assert Reason.STORE_UNAVAILABLE is reason_of(await judge.on_key(awaiting))
    assert [] == users.asked + users.looked_up
