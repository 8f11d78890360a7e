"""Every documented call of the reference platform that a key can reach, tried in each way, through a real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from gateway.demo.example import read_example
from gateway.demo.shipped import shipped_policies
from tests.demo.running import RunningDemo, running_demo, send

_USER: Final = "5f0c3a9b7d2e41c8a6b0d913"
_UNKNOWN: Final = "e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3"


@dataclass(frozen=True, slots=True)
class Call:
    """A documented call, the scope it needs, and a scope that does not do."""

    method: str
    path: str
    scope: str
    other: str
    body: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {(self.body or {}).get('query', '')}".strip()


def _read(path: str) -> Call:
    return Call("GET", path, "USER_READ", "USER_LINK")


def _graphql(query: str, scope: str, other: str) -> tuple[Call, ...]:
    return tuple(Call("POST", path, scope, other, {"query": query}) for path in ("/v4/gql", "/v2/gql"))


_CALLS: Final = (
    _read(f"/v2/users/{_USER}"),
    _read(f"/v2/users/{_USER}/events"),
    _read(f"/v2/users/{_USER}/events/1711177270"),
    _read(f"/v2/users/{_USER}/events/1711177270/trajectory"),
    _read(f"/v2/users/{_USER}/events/1711177270/behavior_scores"),
    _read(f"/v2/users/{_USER}/events/1711177270/behavior_annotations"),
    _read(f"/v2/users/{_USER}/segments"),
    _read(f"/v2/users/{_USER}/moments"),
    _read(f"/v2/users/{_USER}/active_moments"),
    _read(f"/v2/users/{_USER}/location"),
    _read(f"/v2/users/{_USER}/location_clusters"),
    _read(f"/v2/users/{_USER}/car_behavior"),
    _read(f"/v2/users/{_USER}/anomalies"),
    _read(f"/v3/users/{_USER}/events/e1"),
    _read(f"/v3/users/{_USER}/events/e1/trajectory"),
    _read(f"/v3/users/{_USER}/events/e1/behavior_scores"),
    _read(f"/v3/users/{_USER}/events/e1/behavior_annotations"),
    _read(f"/v3/users/{_USER}/aggregated_driving_scores"),
    Call("POST", "/v2/users/install-1/link", "USER_LINK", "USER_READ", {"external_id": "x"}),
    Call("POST", "/users/auth-code", "USER_LINK", "USER_READ", {"external_id": "x"}),
    Call("DELETE", f"/users/{_USER}", "USER_DELETE", "USER_READ"),
    *_graphql(f'{{ user(id: "{_USER}") {{ id events {{ type }} }} }}', "USER_READ", "OFFLOADS_READ"),
    *_graphql('{ offloads(from: "2026-03-23", to: "2026-03-23") { day } }', "OFFLOADS_READ", "USER_READ"),
    *_graphql(f'mutation {{ delete_user(id: "{_USER}") {{ request_id }} }}', "USER_DELETE", "USER_READ"),
    *_graphql(
        'mutation { generate_offload_url(day: "2026-03-23", type: "events") { name link { url } } }',
        "OFFLOADS_GENERATE_URL",
        "OFFLOADS_READ",
    ),
    *_graphql(
        f'mutation {{ insert_fake_data(user_id: "{_USER}", day: "2026-03-23") {{ events }} }}',
        "FAKE_DATA_INSERT",
        "USER_READ",
    ),
)
_PUBLIC: Final = ("/v2/segment_definitions", "/v2/moment_definitions")

each_call = pytest.mark.parametrize("call", _CALLS, ids=str)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


def _send(demo: RunningDemo, call: Call, *tokens: str) -> tuple[int, str, dict[str, Any]]:
    answer = send(demo.announcement.gateway, call.method, call.path, *tokens, body=call.body)
    return answer.status, answer.headers.get("www-authenticate", ""), json.loads(answer.body)


@each_call
def test_a_key_with_the_scope_is_let_through_and_answered_by_the_upstream(demo: RunningDemo, call: Call) -> None:
    status, _, body = _send(demo, call, demo.token(call.scope))

    assert status == 200
    assert "errors" not in body


@each_call
def test_a_key_with_another_scope_is_refused_and_told_which_it_lacks(demo: RunningDemo, call: Call) -> None:
    status, challenge, _ = _send(demo, call, demo.token(call.other))

    assert status == 403
    assert f'scope="{call.scope}"' in challenge
    assert 'error="insufficient_scope"' in challenge


@each_call
def test_without_a_token_there_is_a_challenge_and_no_error_code(demo: RunningDemo, call: Call) -> None:
    status, challenge, _ = _send(demo, call)

    assert (status, challenge) == (401, 'Bearer realm="bearergate"')


@each_call
@pytest.mark.parametrize("which", ["unknown", "revoked"])
def test_a_token_that_is_no_good_is_an_invalid_token(demo: RunningDemo, call: Call, which: str) -> None:
    token = _UNKNOWN if which == "unknown" else demo.announcement.apps[0].revoked[0].token

    status, challenge, _ = _send(demo, call, token)

    assert status == 401
    assert 'error="invalid_token"' in challenge


@each_call
def test_two_authorization_headers_are_refused_even_when_both_are_good(demo: RunningDemo, call: Call) -> None:
    token = demo.token(call.scope)

    status, _, _ = _send(demo, call, token, token)

    assert status == 400


@pytest.mark.parametrize("path", _PUBLIC)
def test_what_is_public_needs_no_token(demo: RunningDemo, path: str) -> None:
    answer = send(demo.announcement.gateway, "GET", path)

    assert answer.status == 200


def test_what_only_a_user_may_see_refuses_every_key(demo: RunningDemo) -> None:
    tokens = [key.token for app in demo.announcement.apps for key in app.keys]

    statuses = {send(demo.announcement.gateway, "GET", "/v2/users/me", token).status for token in tokens}

    assert statuses == {403}


def test_a_user_sees_what_is_their_own_and_nobody_else(demo: RunningDemo) -> None:
    gateway, users = demo.announcement.gateway, demo.announcement.users
    mine = users[0]

    own = send(gateway, "GET", f"/v2/users/{mine.user}", mine.token).status
    me = send(gateway, "GET", "/v2/users/me", mine.token).status
    others = {send(gateway, "GET", f"/v2/users/{other.user}", mine.token).status for other in users[1:]}

    assert [2] * 2 == [sum(user.app == app.id for user in users) for app in demo.announcement.apps]
    assert (own, me, others) == (200, 200, {404})


def test_a_key_sees_no_user_of_another_app(demo: RunningDemo) -> None:
    """P21: the gateway says whose key it is, and the upstream shows that App's users alone."""
    answer = send(demo.announcement.gateway, "GET", f"/v2/users/{_USER}", demo.token("USER_READ", app=1))

    assert (answer.status, json.loads(answer.body)["errorCode"]) == (404, "USER_NOT_FOUND")


def test_one_field_that_the_key_may_not_read_refuses_the_whole_document(demo: RunningDemo) -> None:
    query = '{ offloads(from: "2026-03-23", to: "2026-03-23") { day files { name link { url } } } }'

    refused = send(demo.announcement.gateway, "POST", "/v4/gql", demo.token("OFFLOADS_READ"), body={"query": query})
    allowed = send(demo.announcement.gateway, "POST", "/v4/gql", _all_scopes(demo), body={"query": query})

    assert (refused.status, allowed.status) == (403, 200)


def test_a_call_that_the_policy_does_not_have_does_not_exist(demo: RunningDemo) -> None:
    """P59: the upstream would answer the version 4 of this call, but no rule lets anyone ask."""
    answer = send(demo.announcement.gateway, "GET", f"/v4/users/{_USER}", _all_scopes(demo))

    assert answer.status == 404


def test_the_example_upstream_knows_every_call_that_is_tried_here() -> None:
    """Otherwise a right key would be let through to a 404, and the table above would say nothing."""
    example = read_example(shipped_policies() / "reference.demo.yaml")

    assert len({call.path for call in _CALLS if "gql" not in call.path}) == 21
    assert len(example.rest) >= 21


def _all_scopes(demo: RunningDemo) -> str:
    return max(demo.announcement.apps[0].keys, key=lambda key: len(key.scopes)).token
