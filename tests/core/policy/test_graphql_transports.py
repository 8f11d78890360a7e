"""In which ways a policy lets a GraphQL route be asked, and which documents it trusts."""

from __future__ import annotations

import json

import pytest

from gateway.core.graphql.transports import Transports, hash_of
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.policy.routes import Policy, Route
from gateway.core.reasons import Reason, Refusal
from gateway.policy_files import compile_texts

TEXT = "{ user }"
SDL = "type Query { user: String }"


def texts(*routes: str, manifest: object = None) -> list[tuple[str, bytes]]:
    """A policy in a folder, with a GraphQL route for each of `routes` (`METHOD-less path; what stands in graphql`)."""
    lines = ["version: 1", "scopes: {A: {means: a}}", "routes:"]
    for number, route in enumerate(routes):
        path, _, said = route.partition(";")
        lines += [
            f"  - name: r{number}",
            f'    match: "POST {path}"',
            "    upstream: graphql",
            f"    graphql: {{{said}{',' if said.strip() else ''} fields: {{Query.user: {{api_key: A}}}}}}",
        ]
    made = [("p/policy.yaml", "\n".join(lines).encode()), ("p/api.graphql", SDL.encode())]
    if manifest is not None:
        content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        made.append(("p/app.documents.json", content))
    return made


def compiled(*routes: str, manifest: object = None) -> Policy:
    return compile_texts(texts(*routes, manifest=manifest))[0]


def transports_of(said: str, manifest: object = None) -> Transports | None:
    (route,) = compiled(f"/gql;{said}", manifest=manifest).routes
    assert route.graphql is not None
    return route.graphql.transports


def faults_of(said: str, manifest: object = None) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        transports_of(said, manifest)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", None),
        ("limits: {depth: 3}", None),
        ("get: false", Transports()),
        ("get: true", Transports(get=True)),
        ("persisted: true, batch: 5", Transports(persisted=True, batch=5)),
        ("incremental: true, uploads: true", Transports(incremental=True, uploads=True)),
        ("subscriptions: true", Transports(subscriptions=True)),
        ("forward: verbatim, batch: 2, get: false", Transports(verbatim=True, batch=2)),
        ("forward: canonical", Transports()),
    ],
)
def test_what_a_route_says_is_what_it_takes(said: str, expected: Transports | None) -> None:
    assert expected == transports_of(said)


def test_what_concerns_the_document_is_among_its_limits() -> None:
    (route,) = compiled("/gql;limits: {depth: 3}, incremental: true, subscriptions: true, forward: verbatim").routes
    assert route.graphql is not None
    limits = route.graphql.limits

    assert (3, True, True, True) == (limits.depth, limits.incremental, limits.subscriptions, limits.one_operation)


# -- the methods of a path


def found(policy: Policy, method: str, path: str) -> str | tuple[str, ...]:
    route = policy.route_for(method.encode(), path.encode())
    return route.name if isinstance(route, Route) else route.allowed_methods


def test_a_get_finds_the_route_that_a_post_finds() -> None:
    policy = compiled("/a;get: true", "/{x};get: true", "/b", "/{x}/c")

    for path in ("/a", "/z", "/b", "/y/c"):
        assert found(policy, "POST", path) == found(policy, "GET", path) == found(policy, "HEAD", path)


def test_a_route_names_the_methods_that_it_takes() -> None:
    policy = compiled("/a;get: true", "/b", "/{x}/c;get: true", "/{x}/d")

    assert [("GET", "POST"), ("POST",), ("GET", "POST"), ("POST",)] == [
        found(policy, "PUT", path) for path in ("/a", "/b", "/x/c", "/x/d")
    ]
    assert Refusal(Reason.ROUTE_UNKNOWN) == policy.route_for(b"PUT", b"/none/at/all")


def test_where_no_route_takes_a_get_none_is_found() -> None:
    assert ("POST",) == found(compiled("/a", "/b;batch: 2"), "GET", "/a")


def test_a_preflight_asks_for_the_methods_that_a_route_takes() -> None:
    made = texts("/a;get: true", "/b")
    name, content = made[0]
    made[0] = (name, content + b'\ncors: {origins: ["https://app.example"]}\n')
    policy = compile_texts(made)[0]

    assert [{b"GET", b"POST"}, {b"POST"}] == [set(policy.cors_routes(path)) for path in (b"/a", b"/b")]


# -- documents


def test_documents_are_found_by_id_and_by_hash() -> None:
    transports = transports_of(
        "documents: app.documents.json, documents_only: true",
        {"user-1": TEXT, f"sha256:{hash_of('{user}')}": "{user}", "x-app:7": "query A {user} query B {user}"},
    )
    assert transports is not None
    documents = transports.documents
    assert documents is not None

    assert (3, TEXT, TEXT, "{user}", None) == (
        len(documents),
        documents.text_by_id("user-1"),
        documents.text_by_hash(hash_of(TEXT)),
        documents.text_by_hash(hash_of("{user}")),
        documents.text_by_id("user-2"),
    )


def test_the_documents_are_part_of_the_revision() -> None:
    said = "/gql;documents: app.documents.json"
    one, other = compiled(said, manifest={"a": TEXT}), compiled(said, manifest={"a": "{user}"})

    assert one.revision != other.revision


def test_routes_may_share_their_documents() -> None:
    policy = compiled("/a;documents: app.documents.json", "/b;documents: app.documents.json", manifest={"a": TEXT})

    assert 2 == len(policy.routes)


SAID = "documents: app.documents.json"


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (None, "p/policy.yaml:7:26: there is no file `app.documents.json` beside the policy; check the name"),
        (b"{", "this is no strict JSON object with documents in it"),
        (b'{"a":"{user}","a":"{other}"}', "this is no strict JSON object with documents in it"),
        ([TEXT], "this is no strict JSON object with documents in it"),
        ({}, "this is no strict JSON object with documents in it"),
        ({"a": 1}, "document `a` is no text"),
        ({"a b": TEXT}, "`a b` cannot be the id of a document"),
        ({"md5:abc": TEXT}, "`md5:abc` cannot be the id of a document"),
        ({f"sha256:{hash_of('x')}": TEXT}, "is that of another text"),
        ({"sha256:": TEXT}, "the hash in `sha256:` is that of another text"),
        ({"a": "{"}, "document `a` would be refused (the document does not parse"),
        ({"a": "subscription {user}", "b": "{user"}, "document `b` would be refused"),
        ({str(number): TEXT for number in range(5_001)}, "there are more than 5000 documents"),
    ],
)
def test_documents_with_a_fault_are_told(manifest: object, told: str) -> None:
    (fault,) = faults_of(SAID, manifest)

    assert told in fault
    assert fault.startswith(("p/app.documents.json:1:1: ", "p/policy.yaml:7:26: "))


def test_documents_are_held_against_limits_and_schema() -> None:
    assert "`aliases`" in faults_of(f"{SAID}, limits: {{aliases: 1}}", {"a": "{a: user b: user}"})[0]
    assert "document `a` would be refused" in faults_of(f"{SAID}, schema: api.graphql", {"a": "{other}"})[0]


def test_hashes_need_errors_that_their_clients_read() -> None:
    made = texts("/gql;persisted: true")
    name, content = made[0]
    made[0] = (name, content.replace(b"    upstream: graphql", b"    upstream: graphql\n    errors: problem"))
    with pytest.raises(PolicyInvalid) as refused:
        compile_texts(made)

    assert (
        "p/policy.yaml:7:13: clients that send a hash look for a GraphQL error when it is not known; "
        "write `errors: graphql`, or take `persisted` out" == str(refused.value)
    )
    compile_texts([(name, made[0][1].replace(b"errors: problem", b"errors: graphql")), *made[1:]])
    compile_texts([(name, made[0][1].replace(b"persisted: true", b"get: true")), *made[1:]])
