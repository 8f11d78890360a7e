"""The corridor for GraphQL that is no POST of one request: how far a head leads, and what is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.credential import CredentialKind
from gateway.core.graphql.transports import Transports, hash_of
from gateway.core.policy.requirement import Requirements
from gateway.core.reasons import Reason
from gateway.judge import AwaitingBody, AwaitingKey, Judge, Passed, Stopped
from tests.core.samples import API_TOKEN, bearer, facts, graphql_rules, policy, record, requires, route
from tests.support.manual_clock import ManualClock
from tests.test_judge import Keys

FIELDS: dict[str, Requirements] = {"Query.user": {CredentialKind.API_KEY: requires("users:read")}}
RULES = replace(graphql_rules(FIELDS), transports=Transports(get=True, persisted=True))
POLICY = policy(route("gql", method=b"POST", pattern="/gql", takes_body=True, graphql=RULES))
JSON = (b"Content-Type", b"application/json")


def judge_of(keys: Keys | None = None) -> Judge:
    return Judge(POLICY, keys or Keys(record(API_TOKEN, "users:read")), ManualClock())


def ask(judge: Judge, body: bytes) -> Passed | Stopped:
    step = judge.on_head(facts(bearer(API_TOKEN), JSON, method=b"POST", target=b"/gql"))
    assert isinstance(step, AwaitingBody)
    return judge.on_body(step, body)


def test_a_get_is_decided_without_a_wait() -> None:
    step = judge_of().on_head(facts(bearer(API_TOKEN), target=b"/gql?query={user}"))

    assert isinstance(step, Passed)
    assert b'{"query":"{\\n  user\\n}"}' == step.allowed.body


def test_a_get_of_a_key_that_is_not_in_memory_is_decided_after_it_was_found() -> None:
    judge = judge_of(Keys(record(API_TOKEN), remembers=False))
    awaiting = judge.on_head(facts(bearer(API_TOKEN), target=b"/gql?query={user}"))
    assert isinstance(awaiting, AwaitingKey)

    step = asyncio.run(judge.on_key(awaiting))

    assert isinstance(step, Stopped)
    assert Reason.SCOPE_MISSING is step.because.reason


def test_nothing_of_a_url_is_read_for_who_has_no_good_key() -> None:
    # G57
    steps = [
        judge_of(Keys()).on_head(facts(bearer(API_TOKEN), target=target))
        for target in (b"/gql?query={user}", b"/gql?query={", b"/gql", b"/none")
    ]

    assert {Reason.TOKEN_UNKNOWN} == {step.because.reason for step in steps if isinstance(step, Stopped)}
    assert 4 == len(steps)


def test_short_memory_lets_go_of_half_of_the_texts() -> None:
    judge = judge_of()
    texts = [f"query Q{number} {{user}}" for number in range(4)]
    for text in texts:
        body = b'{"query":"%b","extensions":{"persistedQuery":{"version":1,"sha256Hash":"%b"}}}'
        assert isinstance(ask(judge, body % (text.encode(), hash_of(text).encode())), Passed)

    judge.shrink()
    known = [isinstance(ask(judge, b'{"documentId":"sha256:%b"}' % hash_of(text).encode()), Passed) for text in texts]

    assert [False, False, True, True] == known
