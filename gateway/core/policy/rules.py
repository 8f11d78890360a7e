"""Who may: `allow:` of a route and the rule of a GraphQL field, read into what each kind of credential must fulfil."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.policy.document import AllowEntry, ScopeRule, Text, UserRule
from gateway.core.policy.faults import Place
from gateway.core.policy.tree import Listing, Node, Scalar
from gateway.core.policy.values import Meant, Values, says_nothing

ANYONE: Final = "anyone"
KINDS: Final = ("api_key", "user_token")
QUANTIFIERS: Final = ("all", "any")
API_KEY_KEYS: Final = (*QUANTIFIERS, "scope", "app")

REST_SUBJECTS: Final = ("path", "query")
GRAPHQL_SUBJECTS: Final = ("args", "variables")

_SUBJECT: Final = re.compile(r"([a-z]+)((?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){1,8})")

# Words that stand elsewhere, or that other tools use, and what they are called here.
_MEANT: Final[dict[str, Meant]] = {
    "legacy_key": Meant("api_key", "write `api_key`, which covers the legacy keys as well"),
    "key": Meant("api_key", "write `api_key`"),
    "jwt": Meant("user_token", "write `user_token`"),
    "user": Meant("user_token", "write `user_token`"),
    "scope": Meant("api_key", "write the kind of token before the scope: `api_key: SCOPE`"),
    "scopes": Meant("api_key", "write the kind of token before the scope: `api_key: SCOPE`"),
    "all": Meant("api_key", "write the kind of token before it: `api_key: {all: [A, B]}`"),
    "any": Meant("api_key", "write the kind of token before it: `api_key: {any: [A, B]}`"),
    ANYONE: Meant("", "write `allow: anyone`, without kinds of token"),
}
_SUBJECT_MEANT: Final = dict.fromkeys(
    ("path", "query", "args", "user_id"), Meant("subject", "write `subject`, such as `subject: path.user_id`")
)


def allow_entry(values: Values, node: Node, what: str, subjects: tuple[str, ...]) -> AllowEntry | None:
    """The rule in `node`; `subjects` are the places where a user's id can stand here."""
    if isinstance(node, Scalar) and node.text == ANYONE:
        values.fault(
            node.place, f"{what} cannot be for anyone", "name the kinds of token that may, such as `api_key: SCOPE`"
        )
        return None
    if isinstance(node, Scalar) and node.text and node.text not in ("~", "null"):
        values.fault(
            node.place,
            f"{what} does not say which kind of token `{node.text}` is for",
            f"write it as `{{api_key: {node.text}}}`",
        )
        return None
    members = values.members(node, what, KINDS, meant=_MEANT)
    if members is None:
        return None
    if not node.entries:  # type: ignore[union-attr]
        values.fault(node.place, f"{what} names no kind of token, so nobody may", "add one, such as `api_key: SCOPE`")
        return None

    api_key = _scope_rule(values, members["api_key"][1], subjects) if "api_key" in members else None
    user_token = _user_rule(values, members["user_token"][1], subjects) if "user_token" in members else None
    return AllowEntry(node.place, api_key, user_token)


def _scope_rule(values: Values, node: Node, subjects: tuple[str, ...]) -> ScopeRule | None:
    """One scope, or `{all: [...]}`, `{any: [...]}` or `{scope: X}`, these with `app` or without.

    Never none: that would open what it seems to close (J7).
    """
    if isinstance(node, Scalar):
        scope = values.text(node, "api_key", "USER_READ")
        return None if scope is None else ScopeRule((scope,))
    if isinstance(node, Listing) and node.items:
        names = ", ".join(item.text for item in node.items if isinstance(item, Scalar))
        values.fault(
            node.place,
            "a list does not say whether a key needs all of the scopes or any one of them",
            f"write it as `{{all: [{names}]}}` or `{{any: [{names}]}}`",
        )
        return None

    if isinstance(node, Listing):
        _no_scopes(values, node, "api_key")
        return None

    members = values.members(node, "`api_key`", API_KEY_KEYS)
    if members is None or len(members) != len(node.entries):
        return None
    app = None
    if "app" in members:
        app = _place_of(values, members.pop("app")[1], "app", "App's", "app_id", subjects)
        if app is None:
            return None
    if len(members) != 1:
        values.fault(
            node.place,
            "`api_key` needs one of `all`, `any` and `scope`",
            "write one scope, or `{all: [A, B]}`, or `{any: [A, B]}`",
        )
        return None

    ((quantifier, (_, listing)),) = members.items()
    if quantifier == "scope":
        scope = values.text(listing, "scope", "USER_READ")
        return None if scope is None else ScopeRule((scope,), app=app)
    scopes = _scopes(values, quantifier, listing)
    return None if scopes is None else ScopeRule(scopes, quantifier == "any", app)


def _scopes(values: Values, quantifier: str, node: Node) -> tuple[Text, ...] | None:
    if not isinstance(node, Listing):
        values.fault(node.place, f"`{quantifier}` must be a list of scopes", f"write it as `{quantifier}: [A, B]`")
        return None
    if not node.items:
        _no_scopes(values, node, quantifier)
        return None
    return texts(values, node, quantifier, "USER_READ")


def _no_scopes(values: Values, node: Node, key: str) -> None:
    values.fault(
        node.place,
        f"`{key}` is an empty list of scopes",
        "name at least one scope, or write `allow: anyone` for a route that needs no token",
    )


def texts(values: Values, node: Listing, key: str, example: str) -> tuple[Text, ...]:
    """The texts of a list, each once."""
    read: dict[str, Text] = {}
    for item in node.items:
        text = values.text(item, key, example)
        if text is not None and text.value in read:
            values.fault(text.place, f"`{text.value}` is in this list already", "keep one of the two")
        elif text is not None:
            read[text.value] = text
    return tuple(read.values())


def _user_rule(values: Values, node: Node, subjects: tuple[str, ...]) -> UserRule | None:
    example = f"{subjects[0]}.user_id"
    if says_nothing(node):
        values.fault(
            node.place,
            "`user_token` says nothing",
            f"write `user_token: {{}}` for every user's token, or `user_token: {{subject: {example}}}`",
        )
        return None
    members = values.members(node, "`user_token`", ("subject",), meant=_SUBJECT_MEANT)
    if members is None:
        return None
    if "subject" not in members:
        return UserRule(node.place)

    subject = _place_of(values, members["subject"][1], "subject", "user's", "user_id", subjects)
    return None if subject is None else UserRule(node.place, subject)


def _place_of(values: Values, node: Node, key: str, whose: str, name: str, subjects: tuple[str, ...]) -> Text | None:
    """Where an id stands in a request."""
    example = f"{subjects[0]}.{name}"
    written = values.text(node, key, example)
    if written is None:
        return None
    match = _SUBJECT.fullmatch(written.value)
    if match is None or match.group(1) not in subjects:
        ways = " or ".join(f"`{place}.NAME`" for place in subjects)
        values.fault(
            written.place,
            f"`{written.value}` does not say where the {whose} id stands",
            f"write {ways}, such as `{key}: {example}`",
        )
        return None
    return written


def check_subject(values: Values, written: Text | None, parameters: tuple[str, ...]) -> None:
    """Refuses a subject, or an App, that is said to stand in a path parameter which the route does not have."""
    if written is None:
        return
    place, _, name = written.value.partition(".")
    if place != "path" or name in parameters:
        return
    have = ", ".join(f"`path.{parameter}`" for parameter in parameters)
    values.fault(
        written.place,
        f"the path has no parameter `{name}`",
        f"use {have}" if have else "add the parameter to `match`, such as `/users/{user_id}`",
    )


def is_open_to_every_user(rule: UserRule | None, parameters: tuple[str, ...]) -> Place | None:
    """Where a user token is let through to a path that names whose data it is, whoever the user is."""
    return rule.place if rule is not None and rule.subject is None and parameters else None
