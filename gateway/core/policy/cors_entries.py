"""`cors:` of a route, or of a policy for all routes that say nothing: which pages of other origins may call it."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.fields import Role, classify
from gateway.core.policy.document import CorsChoice, CorsEntry, Text
from gateway.core.policy.host_entries import NAME, PORT
from gateway.core.policy.rules import texts
from gateway.core.policy.tree import Listing, Node, Scalar
from gateway.core.policy.values import Meant, Values

CORS_KEYS: Final = ("origins", "headers", "expose", "credentials", "max_age")
CORS_WORDS: Final = tuple(choice.value for choice in CorsChoice)
DEFAULT_MAX_AGE_SECONDS: Final = 600
HIGHEST_MAX_AGE_SECONDS: Final = 86_400
"""A day. Browsers keep an answer for two hours at most, or for a day."""

_MEANT: Final[dict[str, Meant]] = {
    "origin": Meant("origins", "write `origins`, a list"),
    "allow_origins": Meant("origins", "write `origins`, a list"),
    "allow_headers": Meant("headers", "write `headers`, a list"),
    "expose_headers": Meant("expose", "write `expose`, a list"),
    "allow_credentials": Meant("credentials", "write `credentials`"),
    "methods": Meant("", "leave them out: a page may use the methods of the routes that have `cors`"),
}

_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]{{0,31}})://{NAME}{PORT}")
_USUAL_PORT: Final = re.compile(r"(http://.*):80|(https://.*):443")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}")
_PASSING: Final = (Role.FORWARD, Role.SINGLE, Role.ACCEPT, Role.CONTENT_TYPE, Role.CONTENT_ENCODING, Role.AUTHORIZATION)


def cors_entry(values: Values, node: Node) -> CorsEntry | CorsChoice | None:
    """What `cors:` says, or None after a fault."""
    if isinstance(node, Scalar):
        choice = values.choice(node, "cors", CORS_WORDS)
        return None if choice is None else CorsChoice(choice.value)

    misspelt: set[str] = set()
    members = values.members(node, "`cors`", CORS_KEYS, meant=_MEANT, misspelt=misspelt)
    if members is None:
        return None
    if "origins" not in members:
        if "origins" in misspelt:
            return None
        values.fault(
            node.place,
            "`cors` names no origins, so no page could call",
            "add `origins: [https://app.example.com]`",
        )
        return None

    origins = [
        text.value
        for text in _listed(values, members["origins"], "https://app.example.com")
        if _is_origin(values, text)
    ]
    headers = _headers(values, members["headers"]) if "headers" in members else ()
    expose = _names(values, members["expose"], "ETag") if "expose" in members else ()
    credentials = "credentials" in members and values.flag(members["credentials"][1], "credentials") is True
    max_age = DEFAULT_MAX_AGE_SECONDS
    if "max_age" in members:
        max_age = values.whole_number(members["max_age"][1], "max_age", HIGHEST_MAX_AGE_SECONDS) or max_age
    return CorsEntry(tuple(origins), headers, expose, credentials, max_age) if origins else None


def _listed(values: Values, member: tuple[Text, Node], example: str) -> tuple[Text, ...]:
    key, node = member
    if isinstance(node, Listing) and node.items:
        return texts(values, node, key.value, example)
    values.fault(node.place, f"`{key.value}` must be a list", f"write it as `{key.value}: [{example}]`")
    return ()


def _is_origin(values: Values, origin: Text) -> bool:
    """Whether a browser could send this `Origin`; what it never sends would match nothing."""
    if _is_as_sent(origin.value):
        return True
    near = _without_usual_port(re.sub(r"(?<=[^/:])/.*", "", origin.value).lower())
    if _is_as_sent(near):
        todo = f"write `{near}`"
    elif origin.value == "*":
        todo = "write each origin: what is open to every page is open to every page that your users ever visit"
    else:
        todo = "write scheme and host, and a port if it is not the usual one, such as `https://app.example.com`"
    values.fault(origin.place, f"`{origin.value}` is not an origin as browsers send it", todo)
    return False


def _is_as_sent(origin: str) -> bool:
    return _ORIGIN.fullmatch(origin) is not None and _without_usual_port(origin) == origin


def _without_usual_port(origin: str) -> str:
    match = _USUAL_PORT.fullmatch(origin)
    return origin if match is None else match.group(1) or match.group(2)


def _names(values: Values, member: tuple[Text, Node], example: str) -> tuple[str, ...]:
    names: list[str] = []
    for text in _listed(values, member, example):
        if text.value == "*" or _HEADER.fullmatch(text.value) is None:
            values.fault(text.place, f"`{text.value}` is not the name of a header", "write each name out")
        else:
            names.append(text.value.lower())
    return tuple(names)


def _headers(values: Values, member: tuple[Text, Node]) -> tuple[str, ...]:
    """The request headers that a page may send; one that the gateway never forwards would only look allowed."""
    names = _names(values, member, "Idempotency-Key")
    for name in names:
        if classify(name.encode("ascii")).role not in _PASSING:
            values.fault(member[1].place, f"the header `{name}` is never forwarded", "take it out")
    return names
