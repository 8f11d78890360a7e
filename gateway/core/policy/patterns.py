"""`METHOD /path/{parameter}`: read strictly, so that a route names paths that requests can really have.

A literal segment must be canonical, by the very function that guards requests: a route for `/a/../b` or `/a%2Fb`
would never match anything (J24).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.core.policy.faults import did_you_mean
from gateway.core.policy.routes import METHODS
from gateway.core.reasons import Refusal
from gateway.core.target import canonical_target

MAX_PATH_CHARACTERS: Final = 2000

METHOD_NAMES: Final = tuple(method.decode("ascii") for method in METHODS)

_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_LOOSE_PARAMETER: Final = re.compile(r"[{:<](\w[\w-]*)[}>]?", re.ASCII)
_AMBIGUOUS: Final = re.compile(r"%(2f|5c|25|3b|3f|23|[01][0-9a-f]|7f)", re.IGNORECASE)
_TRIPLET: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")


class Pattern(msgspec.Struct, frozen=True):
    """What a route matches."""

    method: str
    path: str
    parameters: tuple[str, ...]


class Complaint(msgspec.Struct, frozen=True):
    """Why a text is no pattern, and what to do; where it stands is the caller's to say."""

    what: str
    todo: str


def read_pattern(text: str) -> Pattern | Complaint:
    """The pattern that `text` writes, or the first thing that is wrong with it."""
    words = text.split(" ")
    if len(words) == 3 and words[0].endswith(","):
        words = ["".join(words[:2]), words[2]]
    if len(words) != 2 or not all(words):
        path = words[0] if words[0].startswith("/") else "/path"
        return Complaint(f"`{text}` is not a method and a path", f"write them with one space between, as `GET {path}`")

    method, path = words
    complaint = _method_complaint(method) or _path_complaint(path)
    if complaint is not None:
        return complaint

    parameters = tuple(_PARAMETER.findall(path))
    if len(set(parameters)) != len(parameters):
        twice = next(name for name in parameters if parameters.count(name) > 1)
        return Complaint(f"the path has the parameter `{{{twice}}}` twice", "give each parameter its own name")

    return Pattern(method, path, parameters)


def _method_complaint(method: str) -> Complaint | None:
    if method in METHOD_NAMES:
        return None
    if re.search(r"[,|*/+]", method) or method.upper() in ("ANY", "ALL"):
        return Complaint(
            f"`{method}` is not one method", "write one route for each method, so that each is allowed on purpose"
        )
    if method.upper() == "HEAD":
        return Complaint("`HEAD` has no routes of its own", "write `GET`: the same route answers `HEAD`")
    if method.upper() in METHOD_NAMES:
        return Complaint(f"the method `{method}` is not in capital letters", f"write `{method.upper()}`")
    return Complaint(f"`{method}` is not a method that a route can have", did_you_mean(method.upper(), METHOD_NAMES))


def _path_complaint(path: str) -> Complaint | None:
    if not path.startswith("/"):
        return Complaint(f"the path `{path}` does not begin with a slash", _write("/" + path, "begin it with a slash"))
    if len(path) > MAX_PATH_CHARACTERS:
        return Complaint(
            f"the path is longer than {MAX_PATH_CHARACTERS} characters", "shorten it: no request could match it"
        )
    if "?" in path:
        return Complaint("a route matches the path alone, without a query", _write(path, "take the query out"))
    ambiguous = _AMBIGUOUS.search(path)
    if ambiguous is not None:
        return Complaint(
            f"`{ambiguous.group()}` in a path has more than one reading, so such requests are refused",
            "write the path without it",
        )
    if _LONE_PERCENT.search(path) is not None:
        return Complaint("a `%` stands without two hexadecimal digits", "take it out, or complete it")
    if "*" in path.split("/"):
        return Complaint("`*` is not a wildcard", "write a parameter such as `{id}`; it stands for one segment")

    for segment in path.split("/"):
        complaint = _segment_complaint(segment)
        if complaint is not None:
            return complaint

    if _is_canonical(path):
        return None
    canonical = _canonical(path)
    if not _is_canonical(canonical):
        return Complaint("the path has percent-encoded bytes that are not UTF-8", "encode its characters as UTF-8")
    return Complaint(f"the path `{path}` is not in its canonical form", f"write `{canonical}`")


def _write(path: str, otherwise: str) -> str:
    """What to write for `path`, if its canonical form is a path that a route can have."""
    canonical = _canonical(path.partition("?")[0])
    return f"write `{canonical}`" if _path_complaint(canonical) is None else otherwise


def _is_canonical(path: str) -> bool:
    return not isinstance(canonical_target(_PARAMETER.sub("x", path).encode("utf-8")), Refusal)


def _segment_complaint(segment: str) -> Complaint | None:
    """What is wrong with a segment that looks like a parameter, in this or another tool's spelling."""
    if _PARAMETER.fullmatch(segment) or not (set(segment) & set("{}<>") or segment.startswith(":")):
        return None

    if segment == "{}":
        return Complaint("`{}` is a parameter without a name", "name it, such as `{user_id}`")
    loose = _LOOSE_PARAMETER.fullmatch(segment)
    if loose is None:
        return Complaint(
            f"`{segment}` mixes a parameter with other characters",
            "let a parameter be a whole segment, such as `{user_id}`",
        )
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", loose.group(1)).lower().replace("-", "_").lstrip("_0123456789")
    return Complaint(f"`{segment}` is not how a parameter is written", f"write `{{{name[:32] or 'id'}}}`")


def _canonical(path: str) -> str:
    """The canonical path that `path` most likely meant."""
    # What follows `;` is a matrix parameter: encoded it would be refused as well.
    plain = re.sub(r";[^/]*|#.*", "", path).replace("\\", "/")
    encoded = re.sub(r"[^\x21-\x7e]|[\"<>^`|]", lambda match: _percent(match.group()), plain)
    encoded = _TRIPLET.sub(_canonical_triplet, encoded)
    segments: list[str] = []
    for segment in encoded.split("/")[1:]:
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8"))


def _canonical_triplet(match: re.Match[str]) -> str:
    character = chr(int(match.group(1), 16))
    return character if _UNRESERVED.fullmatch(character) else match.group().upper()
