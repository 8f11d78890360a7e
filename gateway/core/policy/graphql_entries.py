"""`graphql:` of a route: rules by field, who may introspect, and limits."""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from gateway.core.graphql.limits import GraphQLLimits
from gateway.core.policy.document import FieldEntry, GraphQLEntry, Text
from gateway.core.policy.faults import nearest
from gateway.core.policy.rules import GRAPHQL_SUBJECTS, allow_entry, texts
from gateway.core.policy.transport_entries import TRANSPORT_KEYS, transports_entry
from gateway.core.policy.tree import Listing, Node
from gateway.core.policy.values import Values, is_secret

GRAPHQL_KEYS: Final = ("fields", "introspection", "limits", "schema", "websocket", *TRANSPORT_KEYS)
WEBSOCKET_TOKENS: Final = ("header", "init")
ROOTS: Final = ("Query", "Mutation", "Subscription")

HIGHEST_LIMITS: Final = {
    "tokens": 20_000, "depth": 50, "aliases": 1_000, "directives": 1_000, "root_fields": 1_000,
    "introspection_depth": 50, "cost": 100_000_000,
}  # fmt: skip
"""How far a policy may raise each limit."""

_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.graphqls?")
"""No folder in it: a schema lies beside its policy."""
_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,127}")
_TYPED: Final = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern}){{0,20}}")

_COORDINATE: Final = re.compile(r"(?:Query|Mutation|Subscription)(?:\.[_A-Za-z][_0-9A-Za-z]{0,127}){1,20}")
_COLON_MISSING: Final = re.compile(_COORDINATE.pattern + r" +\{")
_FIELD_OF: Final = {"Query": "Query.user", "Mutation": "Mutation.delete_user", "Subscription": "Subscription.user"}
_NAMES: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]*(?:\.[_A-Za-z][_0-9A-Za-z]*)*")


def graphql_entry(values: Values, node: Node, title: str) -> GraphQLEntry | None:
    """What `graphql` says; None when it is not even a mapping."""
    members = values.members(node, f"`graphql` of {title}", GRAPHQL_KEYS)
    if members is None:
        return None

    schema = None
    if "schema" in members:
        rule = "name a file beside the policy that ends in `.graphql`"
        schema = values.word(members["schema"][1], "schema", _FILE, "api.graphql", rule)
    transports = transports_entry(values, members)
    websocket = None
    if "websocket" in members:
        key, node_of_websocket = members["websocket"]
        websocket = values.choice(node_of_websocket, "websocket", WEBSOCKET_TOKENS)
        if transports is not None and transports.verbatim:
            values.fault(
                key.place, "a message over a WebSocket is written anew, never verbatim", "take one of the two out"
            )
    subscribes = "websocket" in members or (transports is not None and transports.subscriptions)
    fields: tuple[FieldEntry, ...] = ()
    if "fields" in members:
        fields = _fields(values, members["fields"][1], title, "schema" in members, subscribes)
    else:
        values.fault(
            node.place,
            f"{title} names no GraphQL fields, so nobody may do anything",
            "add `fields:` with rules such as `Query.user: {api_key: USER_READ}`",
        )

    introspection = None
    if "introspection" in members:
        introspection = allow_entry(values, members["introspection"][1], "`introspection`", GRAPHQL_SUBJECTS)
    limits = _limits(values, members["limits"][1]) if "limits" in members else GraphQLLimits()
    if transports is not None:
        limits = replace(
            limits,
            incremental=transports.incremental,
            subscriptions=transports.subscriptions,
            one_operation=transports.verbatim,
        )
    return GraphQLEntry(fields, introspection, limits, schema, transports, websocket)


def _fields(values: Values, node: Node, title: str, has_schema: bool, subscribes: bool) -> tuple[FieldEntry, ...]:
    entries = values.entries(node, f"`fields` of {title}")
    if entries is None:
        return ()
    if not entries:
        values.fault(
            node.place,
            f"{title} names no GraphQL fields, so nobody may do anything",
            "add rules such as `Query.user: {api_key: USER_READ}`",
        )

    fields: list[FieldEntry] = []
    for coordinate, rule in entries:
        if is_secret(coordinate.value):
            continue  # `check_secrets` has said so, without quoting it
        is_coordinate = _is_coordinate(values, coordinate, has_schema, subscribes)
        if not is_coordinate and (coordinate.value.capitalize() in ROOTS or _NAMES.fullmatch(coordinate.value) is None):
            continue  # what follows is no rule then, and what would be said of it would mislead
        allow = allow_entry(values, rule, f"`{coordinate.value}`", GRAPHQL_SUBJECTS)
        if is_coordinate and allow is not None:
            fields.append(FieldEntry(coordinate, allow))

    roots = {coordinate.value for coordinate, _ in entries if coordinate.value.count(".") < 2}
    for coordinate, _ in entries:
        root = root_of(coordinate.value)
        is_ruled = root in roots or (has_schema and root.partition(".")[0] in roots)
        is_path = coordinate.value.count(".") > 1 if has_schema else _COORDINATE.fullmatch(coordinate.value) is not None
        if is_path and not is_ruled:
            values.fault(
                coordinate.place,
                f"`{coordinate.value}` can never be reached, because `{root}` has no rule and is refused",
                f"add a rule for `{root}`",
            )
    return tuple(fields)


def root_of(coordinate: str) -> str:
    """The root coordinate that a field path stands below, or is: `Query.user` of `Query.user.name`."""
    return ".".join(coordinate.split(".")[:2])


def _is_coordinate(values: Values, coordinate: Text, has_schema: bool, subscribes: bool) -> bool:
    """Whether the key of a rule names a field by its path from a root type, or by what a schema has."""
    written = coordinate.value
    first, _, rest = written.partition(".")
    shape = _TYPED if has_schema and (subscribes or first != "Subscription") else _COORDINATE
    if shape.fullmatch(written) and (first != "Subscription" or subscribes):
        if not rest.startswith("__") and not first.startswith("__"):
            return True
        if rest == "__typename":
            values.fault(coordinate.place, "`__typename` needs no rule: it is free", "take this rule out")
        else:
            values.fault(
                coordinate.place, f"`{written}` is introspection", "write the rule as `introspection:`, beside `fields`"
            )
        return False

    if "*" in written:
        values.fault(
            coordinate.place, f"`{written}` has a wildcard, and there are none", "name each field that is allowed"
        )
    elif first == "Subscription" and not subscribes:
        values.fault(
            coordinate.place,
            "subscriptions are not served",
            "add `subscriptions: true` or `websocket: header` below `graphql`, or take this rule out",
        )
    elif _COLON_MISSING.match(written):
        field = written.partition(" ")[0]
        values.fault(
            coordinate.place,
            f"a colon is missing after `{field}`",
            f"write the rule as `{field}: {{api_key: SCOPE}}`",
        )
    elif _NAMES.fullmatch(written) is None:
        values.fault(coordinate.place, f"`{written}` is not a GraphQL field", "write a path such as `Query.user`")
    elif written.capitalize() in ROOTS:
        values.fault(
            coordinate.place,
            f"`{written}` names no field",
            f"write each field in one word, such as `{_FIELD_OF[written.capitalize()]}`",
        )
    elif not rest:
        values.fault(
            coordinate.place,
            f"`{written}` does not say whether it is a query or a mutation",
            f"write `Query.{written}` or `Mutation.{written}`",
        )
    else:
        root = nearest(first, ROOTS)
        if root is not None:
            values.fault(
                coordinate.place,
                f"`{written}` does not begin with `Query` or `Mutation`",
                f"did you mean `{root}.{rest}`?",
            )
        else:
            values.fault(
                coordinate.place,
                f"`{written}` names a field by its type, which only a schema could tell",
                f"add `schema:`, or write the path from the root, such as `Query.offloads.files.{rest}`",
            )
    return False


def _limits(values: Values, node: Node) -> GraphQLLimits:
    members = values.members(node, "`limits`", (*HIGHEST_LIMITS, "multipliers")) or {}
    limits = GraphQLLimits()
    for key, (name, value) in members.items():
        if key == "multipliers":
            limits = replace(limits, multipliers=_multipliers(values, value))
            if "cost" not in members:
                values.fault(name.place, "`multipliers` have a part in `cost` alone", "add `cost`, or take them out")
            continue
        number = values.whole_number(value, key, HIGHEST_LIMITS[key])
        if number is not None:
            limits = replace(limits, **{key: number})
    return limits


def _multipliers(values: Values, node: Node) -> tuple[str, ...]:
    if not isinstance(node, Listing) or not node.items:
        values.fault(
            node.place, "`multipliers` must be a list of arguments", "write it as `multipliers: [first, last]`"
        )
        return ()
    names = texts(values, node, "multipliers", "first")
    for name in names:
        if _NAME.fullmatch(name.value) is None:
            values.fault(
                name.place, f"`{name.value}` cannot be the name of an argument", "write a name such as `first`"
            )
    return tuple(name.value for name in names)
