"""A first policy from an SDL: what its `@requiresScopes`, `@policy` and `@authenticated` ask, as rules by type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from graphql.language import (
    ConstDirectiveNode,
    InterfaceTypeDefinitionNode,
    InterfaceTypeExtensionNode,
    ListValueNode,
    ObjectTypeDefinitionNode,
    ObjectTypeExtensionNode,
    StringValueNode,
    ValueNode,
    parse,
)

from gateway.core.graphql.schema import Schema, read_schema
from gateway.core.policy.faults import Fault, Place, PolicyInvalid
from gateway.core.scopes import SCOPE_NAME

_OTHER_CHARACTER: Final = re.compile(r"[^0-9A-Za-z_.:-]")
_ARGUMENTS: Final = {"requiresScopes": "scopes", "policy": "policies"}
_WITH_FIELDS: Final = (
    ObjectTypeDefinitionNode | ObjectTypeExtensionNode | InterfaceTypeDefinitionNode | InterfaceTypeExtensionNode
)


def policy_from(file: Path, sdl: str) -> str:
    """The text of a policy with one GraphQL route. What the SDL says nothing of stays closed, and is listed.

    Raises: PolicyInvalid when the SDL is no schema
    """
    schema = read_schema(sdl)
    if not isinstance(schema, Schema):
        name = file.as_posix()
        raise PolicyInvalid(
            Fault(Place(name, fault.line, fault.column), f"the schema is not valid ({fault.what})", "mend it")
            for fault in schema
        )

    rules = dict(_rules(sdl))
    scopes = sorted({scope for any_of, _ in rules.values() for all_of in any_of for scope in all_of})
    roots = {schema.roots[kind] for kind in ("query", "mutation") if kind in schema.roots}
    closed = [
        f"{root}.{field}"
        for root in sorted(roots)
        for field in schema.types[root].fields
        if not field.startswith("__") and f"{root}.{field}" not in rules and root not in rules
    ]
    lines = ["version: 1", ""]
    if scopes:
        lines += ["scopes:", *(f"  {scope}: {{means: say what a key with it may do}}" for scope in scopes), ""]
    lines += ["routes:", "  - name: graphql", "    match: POST /graphql", "    upstream: graphql", "    graphql:"]
    lines += [f"      schema: {file.name}", "      fields:"]
    lines += [f"        {name}: {_rule(*rule)}" for name, rule in sorted(rules.items())]
    if not rules:
        lines.append("        {}")
    lines += [f"        # {name}: the schema does not say who may" for name in closed]
    return "\n".join((*lines, ""))


_Asked = tuple[list[list[str]], bool]
"""Scopes, any of which lists has to be held whole, and whether users may."""


def _rules(sdl: str) -> Iterator[tuple[str, _Asked]]:
    for definition in parse(sdl, no_location=True).definitions:
        if not isinstance(definition, _WITH_FIELDS):
            continue
        asked = _asked(definition.directives or ())
        if asked is not None:
            yield definition.name.value, asked
        for field in definition.fields or ():
            asked = _asked(field.directives or ())
            if asked is not None:
                yield f"{definition.name.value}.{field.name.value}", asked


def _asked(directives: tuple[ConstDirectiveNode, ...]) -> _Asked | None:
    names = {directive.name.value: directive for directive in directives}
    scopes: list[list[str]] = []
    for name, argument in _ARGUMENTS.items():
        for given in names[name].arguments or () if name in names else ():
            if given.name.value == argument:
                scopes += _lists(given.value)
    if scopes:
        return scopes, False
    return ([], True) if "authenticated" in names else None


def _lists(value: ValueNode) -> list[list[str]]:
    """`[["a", "b"], ["c"]]`: a and b, or c."""
    items = value.values if isinstance(value, ListValueNode) else (value,)
    return [
        [
            _scope(one.value)
            for one in (item.values if isinstance(item, ListValueNode) else (item,))
            if isinstance(one, StringValueNode)
        ]
        for item in items
    ]


def _scope(name: str) -> str:
    """A name as scopes can have it. None is ever left out: a rule that asks for less would open something."""
    name = _OTHER_CHARACTER.sub("_", name)
    return name if SCOPE_NAME.fullmatch(name) else f"S_{name}"


def _rule(any_of: list[list[str]], is_for_users: bool) -> str:
    if is_for_users:
        return "{user_token: {}}"
    every = sorted({scope for all_of in any_of for scope in all_of})
    if len(every) == 1:
        return f"{{api_key: {every[0]}}}"
    # `a and b, or c` cannot be said in one rule; to ask for all of them opens nothing that was closed.
    quantifier = "any" if all(len(all_of) == 1 for all_of in any_of) else "all"
    return f"{{api_key: {{{quantifier}: [{', '.join(every)}]}}}}"
