"""What several judged requests become when they go on as one."""

from __future__ import annotations

from gateway.core.decision import Allowed, decide_envelope
from gateway.core.graphql.envelope import Envelope, read_url
from gateway.core.graphql.persisted import DocumentStore
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.graphql.transports import Transports
from tests.core.samples import facts, graphql_rules, principal, route

GQL = route("gql", method=b"POST", graphql=graphql_rules({}))
WHO = principal()


def test_all_go_on_together_for_whom_they_were_judged() -> None:
    envelope = Envelope([GraphQLRequest("{a}", None, b"")], [], is_batch=True)
    judged = [Allowed(GQL, WHO, b"a"), Allowed(GQL, WHO, b"b")]

    decided = decide_envelope(GQL, WHO, facts(method=b"POST"), envelope, judged)

    assert (GQL, WHO, b"[a,b]", None) == (decided.route, decided.principal, decided.body, decided.head)


def test_a_get_is_sent_with_the_head_of_a_post() -> None:
    came = facts(target=b"/gql?query={a}")
    envelope = read_url(came, Transports(get=True), DocumentStore())
    assert isinstance(envelope, Envelope)

    decided = decide_envelope(GQL, WHO, came, envelope, [Allowed(GQL, WHO, b"a")])

    assert decided.head is not None
    assert (b"POST", b"/gql", b"a") == (decided.head.method, decided.head.target, decided.body)
