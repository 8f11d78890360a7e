"""From the files as they were written to the policy document: every key known, every value of its type.

Reads on after a fault, so that one run names them all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.core.policy.cors_entries import cors_entry
from gateway.core.policy.document import (
    CorsChoice,
    CorsEntry,
    ErrorsEntry,
    HostsEntry,
    PolicyDocument,
    RouteEntry,
    ScopeEntry,
    Text,
)
from gateway.core.policy.faults import Fault, Place
from gateway.core.policy.host_entries import hosts_entry
from gateway.core.policy.route_entries import errors_entry, name_of, route_entry
from gateway.core.policy.routes import ErrorShape
from gateway.core.policy.rules import texts
from gateway.core.policy.tree import Listing, Mapping, Node, Scalar
from gateway.core.policy.values import Meant, Values, in_braces, is_secret, says_nothing
from gateway.core.scopes import SCOPE_NAME

VERSION: Final = "1"

FILE_KEYS: Final = ("version", "hosts", "errors", "cors", "subject_mismatch", "scopes", "routes")
SCOPE_KEYS: Final = ("means", "aliases", "sensitive", "only_for")

_FEATURE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SCOPE_RULE: Final = "use letters, digits and `_ . : -`, beginning with a letter"


def read_policy(files: Sequence[Node]) -> tuple[PolicyDocument, list[Fault]]:
    """The document that all files of a policy (at least one) make together, and what is wrong with them."""
    values = Values()
    scopes: list[ScopeEntry] = []
    routes: list[RouteEntry] = []
    names: list[Text] = []
    errors: ErrorsEntry | None = None
    hosts: HostsEntry | None = None
    cors: CorsEntry | CorsChoice | None = None
    cors_key: Text | None = None
    mismatch_key: Text | None = None
    tells_mismatch = False
    has_routes = False
    for file in files:
        values.check_secrets(file)
        members = values.members(file, "a policy file", FILE_KEYS)
        if members is None:
            has_routes = True  # it may have some, if it could be read
            continue

        _check_version(values, file, members["version"][1] if "version" in members else None)
        if "errors" in members:
            errors = _errors(values, members["errors"], errors)
        if "hosts" in members:
            key, node = members["hosts"]
            read = hosts_entry(values, key, node)
            if hosts is not None:
                _said_already(values, key, hosts.place)
            hosts = hosts or read
        if "cors" in members:
            key, node = members["cors"]
            if cors_key is not None:
                _said_already(values, key, cors_key.place)
            else:
                cors_key, cors = key, cors_entry(values, node)
        if "subject_mismatch" in members:
            key, node = members["subject_mismatch"]
            if mismatch_key is not None:
                _said_already(values, key, mismatch_key.place)
            else:
                mismatch_key, tells_mismatch = key, _tells_mismatch(values, node)
        if "scopes" in members:
            for name, node in values.entries(members["scopes"][1], "`scopes`") or ():
                scope = _scope(values, name, node)
                if scope is not None:
                    scopes.append(scope)
        if "routes" in members:
            listed = _listed(values, members["routes"])
            has_routes = has_routes or listed is None or bool(listed)
            for node in listed or ():
                named = name_of(node)
                if named is not None:
                    names.append(named)
                route = route_entry(values, node)
                if route is not None:
                    routes.append(route)

    document = PolicyDocument(
        tuple(scopes), tuple(routes), tuple(names), errors, files[0].place, has_routes, hosts, cors, tells_mismatch
    )
    return document, values.faults


def _said_already(values: Values, key: Text, before: Place) -> None:
    """One file says it for all."""
    values.fault(
        key.place, f"`{key.value}` is said already, in {before.file} on line {before.line}", "keep one of the two"
    )


def _tells_mismatch(values: Values, node: Node) -> bool:
    """Whether users are told that something is another's."""
    if not isinstance(node, Scalar) or node.text not in ("403", "404"):
        values.fault(
            node.place,
            "`subject_mismatch` must be 404 or 403",
            "write `subject_mismatch: 403` to tell users that something is another user's, or leave it out",
        )
        return False
    return node.text == "403"


def _check_version(values: Values, file: Node, node: Node | None) -> None:
    if node is None:
        values.fault(
            file.place,
            "the file does not say which version of the policy language it is written in",
            "begin it with `version: 1`",
        )
        return
    written = node.text if isinstance(node, Scalar) and node.is_plain else ""
    if written == VERSION:
        return
    if re.fullmatch("[1-9][0-9]*", written):
        values.fault(
            node.place,
            f"version {written} of the policy language is newer than this gateway",
            "write `version: 1`, or upgrade the gateway",
        )
    else:
        values.fault(node.place, "`version` must be the number 1", "write `version: 1`")


def _errors(values: Values, member: tuple[Text, Node], before: ErrorsEntry | None) -> ErrorsEntry | None:
    """The shape of refusals that belong to no route; one file says it for all."""
    errors = errors_entry(values, member[1])
    if errors is None:
        return before
    if before is not None:
        values.fault(
            errors.place,
            f"`errors` is said already, in {before.place.file} on line {before.place.line}",
            "keep one of the two",
        )
        return before
    if errors.shape is ErrorShape.GRAPHQL:
        values.fault(errors.place, "requests that match no route are not GraphQL", "use `problem` or `platform`")
    return errors


def _listed(values: Values, member: tuple[Text, Node]) -> tuple[Node, ...] | None:
    key, node = member
    if isinstance(node, Listing):
        return node.items
    values.fault(key.place, "`routes` must be a list", "begin each route with a dash, as in `- name: users.read`")
    return None


def _scope(values: Values, name: Text, node: Node) -> ScopeEntry | None:
    if is_secret(name.value):
        return None  # `check_secrets` has said so, without quoting it
    if SCOPE_NAME.fullmatch(name.value) is None:
        values.fault(name.place, f"`{name.value}` cannot be the name of a scope", f"{_SCOPE_RULE}, such as `USER_READ`")
        return None
    title = f"scope `{name.value}`"
    if name.value in SCOPE_KEYS and not isinstance(node, Mapping) and not says_nothing(node):
        values.fault(
            name.place,
            f"`{name.value}` stands where the name of a scope is needed",
            "it belongs below a scope, further to the right",
        )
        return None
    if isinstance(node, Scalar) and not says_nothing(node) and not is_secret(node.text):
        values.fault(
            node.place,
            f"{title} is one text, but keys and values are needed",
            f"write it as `{name.value}: {{means: {in_braces(node.text)}}}`",
        )
        return ScopeEntry(name, "")
    misspelt: set[str] = set()
    members = values.members(
        node, title, SCOPE_KEYS, meant={"description": Meant("means", "write `means`")}, misspelt=misspelt
    )
    if members is None:
        return ScopeEntry(name, "")  # declared all the same: routes may name it

    means = only_for = None
    if "means" in members:
        means = values.text(members["means"][1], "means", "read user data")
    elif "means" not in misspelt:
        values.fault(
            name.place,
            f"{title} does not say what it means",
            "add `means:` with a few words on what a key with it may do",
        )
    aliases = _aliases(values, members["aliases"][1]) if "aliases" in members else ()
    is_sensitive = "sensitive" in members and values.flag(members["sensitive"][1], "sensitive") is True
    if "only_for" in members:
        only_for = values.word(
            members["only_for"][1], "only_for", _FEATURE, "engagement", "name a feature of Apps in small letters"
        )
    return ScopeEntry(
        name, "" if means is None else means.value, aliases, is_sensitive, "" if only_for is None else only_for.value
    )


def _aliases(values: Values, node: Node) -> tuple[Text, ...]:
    if not isinstance(node, Listing) or not node.items:
        values.fault(
            node.place,
            "`aliases` must be a list of older spellings",
            "write it as `aliases: [user.read]`, or leave it out",
        )
        return ()
    aliases = texts(values, node, "aliases", "user.read")
    for alias in aliases:
        if SCOPE_NAME.fullmatch(alias.value) is None:
            values.fault(
                alias.place, f"`{alias.value}` cannot be an alias of a scope", f"{_SCOPE_RULE}, such as `user.read`"
            )
    return aliases
