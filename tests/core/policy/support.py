"""Policies for tests: routes from a line, and whole policies from text."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.credential import AppId, CredentialKind, KeyId
from gateway.core.policy.routes import ErrorShape, Policy, Route
from gateway.core.principal import Principal
from gateway.core.scopes import ScopeRegistry
from gateway.policy_files import compile_texts


def route(match: str, name: str = "") -> Route:
    """A public route for `METHOD /path/{parameter}`."""
    method, path = match.split(" ")
    parameters = tuple(segment[1:-1] for segment in path.split("/") if segment.startswith("{"))
    return Route(name or match, method.encode(), path, "rest", True, {}, ErrorShape.PROBLEM, None, False, 0, parameters)


def policy_of(matches: Iterable[str]) -> Policy:
    """A policy with a public route for each of `matches`, named by it."""
    return Policy("0" * 16, ScopeRegistry(()), [route(match) for match in matches], ErrorShape.PROBLEM)


def compiled(text: str) -> Policy:
    """The policy that a file makes."""
    return compile_texts([("policy.yaml", text.encode())])[0]


def advice_on(text: str) -> list[str]:
    """What is worth a look in a policy file."""
    return [str(fault) for fault in compile_texts([("policy.yaml", text.encode())])[1]]


def principal(*scopes: str, kind: CredentialKind = CredentialKind.API_KEY, features: Iterable[str] = ()) -> Principal:
    """A caller with these scopes."""
    return Principal(kind, KeyId("key"), AppId("app"), frozenset(scopes), frozenset(features))
