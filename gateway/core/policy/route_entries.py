"""One entry of `routes:`, read whole: every key known, every value of its type, nothing that contradicts another."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.policy.cors_entries import CORS_KEYS, cors_entry
from gateway.core.policy.document import (
    AllowEntry,
    CorsChoice,
    CorsEntry,
    DeprecatedEntry,
    ErrorsEntry,
    RouteEntry,
    Text,
)
from gateway.core.policy.faults import listed, nearest
from gateway.core.policy.graphql_entries import graphql_entry
from gateway.core.policy.patterns import Complaint, Pattern, read_pattern
from gateway.core.policy.routes import UNMATCHED, ErrorShape, StatusProfile
from gateway.core.policy.rules import ANYONE, REST_SUBJECTS, allow_entry, check_subject, is_open_to_every_user
from gateway.core.policy.timeout_entries import TIMEOUT_KEYS, timeouts_entry
from gateway.core.policy.tree import Mapping, Node, Scalar
from gateway.core.policy.values import Meant, Values, is_secret, says_nothing

ROUTE_KEYS: Final = (
    "name", "match", "upstream", "allow", "graphql", "errors", "deprecated", "body", "body_limit", "timeout",
    "cors", "websocket", "assertion",
)  # fmt: skip
DEPRECATED_KEYS: Final = ("since", "sunset", "link", "replacement")
ERRORS: Final[dict[str, tuple[ErrorShape, StatusProfile]]] = {
    "problem": (ErrorShape.PROBLEM, StatusProfile.DRAFT_2026),
    "platform": (ErrorShape.PLATFORM, StatusProfile.DRAFT_2026),
    "graphql": (ErrorShape.GRAPHQL, StatusProfile.DRAFT_2026),
    **{f"graphql/{profile.value}": (ErrorShape.GRAPHQL, profile) for profile in StatusProfile},
}

GRAPHQL_BODY_LIMIT_BYTES: Final = 1024 * 1024
_HIGHEST_GRAPHQL_BODY_LIMIT_BYTES: Final = 16 * 1024 * 1024

_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_SAFE: Final = ("GET", "OPTIONS")

_ROUTE_NAME: Final = re.compile(r"(?=.{1,64}\Z)[a-z][a-z0-9_]*(?:[.-][a-z0-9_]+)*")
_ROUTE_NAME_RULE: Final = "use small letters, digits and `_`, in parts joined by dots"
_UPSTREAM_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_YEAR: Final = re.compile(r"[0-9]+\Z")
_AUDIENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_LINK: Final = re.compile(r"https?://[0-9A-Za-z._~:/?#@!$&'()*+,=%-]{1,500}")

# Words that stand elsewhere, or that other tools use, and what they are called here.
_ALLOW: Final = Meant("allow", "write `allow`, which says who may: `allow: {api_key: SCOPE}`")
_MATCH: Final = Meant("match", "write `match`, the method and the path: `match: GET /path`")
_MEANT: Final[dict[str, Meant]] = {
    **dict.fromkeys(("scope", "scopes", "auth", "require", "requires"), _ALLOW),
    **dict.fromkeys(("path", "url", "method", "methods", "route"), _MATCH),
    "public": Meant("allow", "write `allow: anyone` for a route that needs no token"),
    **dict.fromkeys(("api_key", "user_token"), Meant("allow", "it belongs below `allow`, further to the right")),
    **dict.fromkeys(("fields", "limits", "introspection"), Meant("graphql", "write it below `graphql`")),
    **dict.fromkeys(("sunset", "replacement"), Meant("deprecated", "write it below `deprecated`")),
    **dict.fromkeys(CORS_KEYS, Meant("cors", "write it below `cors`")),
    **dict.fromkeys(TIMEOUT_KEYS, Meant("timeout", "write it below `timeout`")),
    "deadline": Meant("timeout", "write `timeout`, in seconds: `timeout: 10`"),
    **dict.fromkeys(
        ("audience", "aud", "jwt"), Meant("assertion", "write `assertion`, with the audience: `assertion: orders`")
    ),
}
_ANYONE_MEANT: Final = (ANYONE, "public", "everyone", "everybody", "any", "all", "none", "*")


_NEEDED: Final = {
    "name": "add one that logs and metrics can show, such as `name: users.read`",
    "match": "add its method and path, such as `match: GET /v2/users/{user_id}`",
    "upstream": "add the name of the server behind it, such as `upstream: rest`",
}


def name_of(node: Node) -> Text | None:
    """The name of a route entry, if it has a well-formed one; for messages, before anything is read."""
    for key, value in node.entries if isinstance(node, Mapping) else ():
        if key.text == "name" and isinstance(value, Scalar) and _ROUTE_NAME.fullmatch(value.text):
            return Text(value.text, value.place)
    return None


def route_entry(values: Values, node: Node) -> RouteEntry | None:
    """The route in `node`, or None when a fault leaves it without meaning."""
    named = name_of(node)
    title = "this route" if named is None else f"route `{named.value}`"
    misspelt: set[str] = set()
    members = values.members(node, title, ROUTE_KEYS, meant=_MEANT, misspelt=misspelt)
    if members is None:
        return None

    # What stands beside `allow:` was meant below it, and has been told: that nothing is below it is the same slip.
    members = {key: member for key, member in members.items() if key not in misspelt or not says_nothing(member[1])}
    for key, todo in _NEEDED.items():
        if key not in members and key not in misspelt:
            values.fault(node.place, f"{title} has no `{key}`", todo)
    if not {"allow", "graphql"} & (members.keys() | misspelt):
        values.fault(
            node.place,
            f"{title} does not say who may call it",
            "add `allow:` with the kinds of token and their scopes, or `allow: anyone`",
        )

    name = _name(values, members)
    pattern, path = _pattern(values, members)
    upstream = _upstream(values, members)
    errors = errors_entry(values, members["errors"][1]) if "errors" in members else None
    graphql = graphql_entry(values, members["graphql"][1], title) if "graphql" in members else None
    is_public, allow = _allow(values, title, members)
    deprecated = _deprecated(values, members["deprecated"][1]) if "deprecated" in members else None
    method = "" if pattern is None else pattern.method
    takes_body, body_limit_bytes = _body(values, members, method)
    cors = _cors(values, members, method) if "cors" in members else None
    is_websocket = "websocket" in members and _is_websocket(values, members, method)
    timeouts = timeouts_entry(values, members["timeout"][1]) if "timeout" in members else None
    assertion = _assertion(values, members)

    if "graphql" in members:
        _check_graphql(values, title, members, pattern)
    elif errors is not None and errors.shape is ErrorShape.GRAPHQL:
        values.fault(errors.place, f"{title} is not a GraphQL route", "use `problem` or `platform`, or add `graphql:`")
    if pattern is not None and allow is not None and allow.user_token is not None:
        check_subject(values, allow.user_token.subject, pattern.parameters)
    if pattern is not None and allow is not None and allow.api_key is not None:
        check_subject(values, allow.api_key.app, pattern.parameters)
    if pattern is not None:
        _advise(values, title, pattern, path, is_public, allow)

    if name is None or pattern is None or path is None or upstream is None:
        return None
    return RouteEntry(
        name, pattern.method, path, pattern.parameters, upstream, is_public, allow, errors, graphql, deprecated,
        takes_body, body_limit_bytes, cors, is_websocket, timeouts, assertion,
    )  # fmt: skip


_Members = dict[str, tuple[Text, Node]]


def _name(values: Values, members: _Members) -> Text | None:
    if "name" not in members:
        return None
    name = values.word(members["name"][1], "name", _ROUTE_NAME, "users.read", _ROUTE_NAME_RULE)
    if name is not None and name.value == UNMATCHED:
        values.fault(name.place, f"`{UNMATCHED}` is what metrics call requests without a route", "choose another name")
    return name


def _pattern(values: Values, members: _Members) -> tuple[Pattern | None, Text | None]:
    if "match" not in members:
        return None, None
    text = values.text(members["match"][1], "match", "GET /v2/users/{user_id}")
    if text is None:
        return None, None
    pattern = read_pattern(text.value)
    if isinstance(pattern, Complaint):
        values.fault(text.place, pattern.what, pattern.todo)
        return None, None
    return pattern, Text(pattern.path, text.place)


def _upstream(values: Values, members: _Members) -> Text | None:
    if "upstream" not in members:
        return None
    upstream = values.text(members["upstream"][1], "upstream", "rest")
    if upstream is None or _UPSTREAM_NAME.fullmatch(upstream.value):
        return upstream
    if re.search(r"[:/]|\.[a-z0-9]", upstream.value):
        values.fault(
            upstream.place,
            "an upstream is named here, not located",
            "write a name such as `rest`, and give its address to the gateway when it starts",
        )
    else:
        values.fault(
            upstream.place,
            f"`{upstream.value}` cannot be the name of an upstream",
            "use small letters, digits, `_` and `-`, such as `rest`",
        )
    return None


def errors_entry(values: Values, node: Node) -> ErrorsEntry | None:
    """Which shape refusals have."""
    is_known = isinstance(node, Scalar) and (node.text in ERRORS or is_secret(node.text))
    if isinstance(node, Scalar) and (year := _YEAR.search(node.text)) and not is_known:
        # `graphql/2026` is not a slip of the pen for `graphql/2023`.
        near = [shape for shape in ERRORS if shape.endswith(year.group())]
        todo = f"did you mean `{near[0]}`?" if near else f"use {listed(ERRORS)}"
        values.fault(node.place, f"`{node.text}` is not a value of `errors`", todo)
        return None
    text = values.choice(node, "errors", tuple(ERRORS))
    return None if text is None else ErrorsEntry(*ERRORS[text.value], text.place)


def _allow(values: Values, title: str, members: _Members) -> tuple[bool, AllowEntry | None]:
    """(anyone may, the rule). A GraphQL route has neither: its fields say who may."""
    if "graphql" in members:
        if "allow" in members:
            values.fault(
                members["allow"][0].place,
                f"{title} is a GraphQL route, and its fields say who may",
                "move the rule to each field below `graphql`",
            )
        return False, None
    if "allow" not in members:
        return False, None

    rule = members["allow"][1]
    if isinstance(rule, Scalar):
        if rule.text == ANYONE:
            return True, None
        if nearest(rule.text, _ANYONE_MEANT) is not None:
            values.fault(
                rule.place, f"`allow` cannot be `{rule.text}`", "write `allow: anyone` for a route that needs no token"
            )
            return False, None
    return False, allow_entry(values, rule, "`allow`", REST_SUBJECTS)


def _check_graphql(values: Values, title: str, members: _Members, pattern: Pattern | None) -> None:
    if pattern is not None and pattern.method != "POST":
        values.fault(
            members["match"][1].place,
            f"{title} has `graphql` and the method `{pattern.method}`, but GraphQL is served by `POST` alone",
            f"write `POST {pattern.path}`",
        )


def _deprecated(values: Values, node: Node) -> DeprecatedEntry | None:
    members = values.members(node, "`deprecated`", DEPRECATED_KEYS)
    if members is None:
        return None
    if not members:
        values.fault(
            node.place,
            "`deprecated` says nothing",
            "add `sunset`, the day on which the route ends, such as `sunset: 2027-06-30`",
        )
        return None

    since = values.day(members["since"][1], "since") if "since" in members else None
    sunset = values.day(members["sunset"][1], "sunset") if "sunset" in members else None
    if since is not None and sunset is not None and sunset < since:
        values.fault(
            members["sunset"][1].place, "the route ends before it is deprecated", "let `sunset` be later than `since`"
        )
    link = None
    if "link" in members:
        link = values.word(
            members["link"][1], "link", _LINK, "https://docs.example.com/moving", "write a whole address"
        )
    replacement = (
        values.text(members["replacement"][1], "replacement", "users.v3") if "replacement" in members else None
    )
    return DeprecatedEntry(since, sunset, "" if link is None else link.value, replacement)


def _body(values: Values, members: _Members, method: str) -> tuple[bool, int]:
    """(takes a body, limit in bytes)."""
    is_graphql = "graphql" in members
    takes_body = is_graphql or method in _WITH_BODY
    if "body" in members:
        choice = values.choice(members["body"][1], "body", ("allowed", "refused"))
        takes_body = takes_body if choice is None else choice.value == "allowed"
        if is_graphql and not takes_body:
            values.fault(members["body"][1].place, "a GraphQL route reads its body", "take `body: refused` out")

    limit_bytes = GRAPHQL_BODY_LIMIT_BYTES if is_graphql else 0
    if "body_limit" in members:
        key, node = members["body_limit"]
        limit_bytes = values.size(node, "body_limit") or limit_bytes
        if not takes_body and method:
            values.fault(
                key.place,
                f"a `{method}` route takes no body, so it has no use for a limit",
                "take `body_limit` out, or add `body: allowed`",
            )
        if is_graphql and limit_bytes > _HIGHEST_GRAPHQL_BODY_LIMIT_BYTES:
            values.fault(
                node.place,
                "a GraphQL body is held in memory, so its limit is at most `16MiB`",
                "write a smaller `body_limit`",
            )
    return takes_body, limit_bytes


def _cors(values: Values, members: _Members, method: str) -> CorsEntry | CorsChoice | None:
    key, node = members["cors"]
    cors = cors_entry(values, node)
    if method == "OPTIONS" and cors not in (None, CorsChoice.NONE):
        values.fault(
            key.place,
            "an `OPTIONS` of a page from elsewhere is a preflight, so this route cannot be called from there",
            "put `cors` on the routes of the other methods",
        )
    return cors


def _is_websocket(values: Values, members: _Members, method: str) -> bool:
    key, node = members["websocket"]
    is_websocket = values.flag(node, "websocket") is True
    if is_websocket and "graphql" in members:
        values.fault(
            key.place,
            "the messages of a GraphQL WebSocket are read, and are the business of `graphql`",
            "write `websocket: header` below `graphql`",
        )
    elif is_websocket and method not in ("GET", ""):
        values.fault(key.place, "a WebSocket is opened by `GET` alone", "take `websocket` out, or match `GET`")
    return is_websocket


def _assertion(values: Values, members: _Members) -> str:
    if "assertion" not in members:
        return ""
    audience = values.word(
        members["assertion"][1],
        "assertion",
        _AUDIENCE,
        "orders",
        "write the audience that the upstream expects: letters, digits, `.`, `_`, `:`, `/` and `-`, 128 at most",
    )
    return "" if audience is None else audience.value


def _advise(
    values: Values, title: str, pattern: Pattern, path: Text | None, is_public: bool, allow: AllowEntry | None
) -> None:
    """What is allowed, and yet rarely meant."""
    if is_public and path is not None and pattern.method not in _SAFE:
        values.advise(
            path.place,
            f"{title} lets anyone `{pattern.method}`, without a token",
            "name the kinds of token that may, if that is not meant",
        )
    place = None if allow is None else is_open_to_every_user(allow.user_token, pattern.parameters)
    if place is not None:
        values.advise(
            place,
            f"{title} lets any user's token reach every `{{{pattern.parameters[0]}}}`",
            f"add `subject: path.{pattern.parameters[0]}`, if users may reach only their own",
        )
