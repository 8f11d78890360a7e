"""Cases beside a policy, read: a request, a token in short form, and the judgement that is expected of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import orjson

from gateway.core.credential import CredentialKind
from gateway.core.policy.document import Text
from gateway.core.policy.faults import Fault, Place, PolicyInvalid
from gateway.core.policy.rules import texts
from gateway.core.policy.tree import Listing, Node, Scalar
from gateway.core.policy.values import Values
from gateway.core.reasons import Reason, Verdict
from gateway.policy_files import MAX_FILE_BYTES, read_tree

CASE_KEYS: Final = ("it", "host", "token", "send", "preflight", "variables", "operation_name", "body", "expect")
EXPECT_KEYS: Final = ("outcome", "status", "reason", "missing", "fields", "route")
TOKEN_WORDS: Final = ("none", "malformed", "unknown", "revoked", "expired")
TOKEN_KEYS: Final = ("api_key", "legacy_key", "user_token", "features")

REASONS: Final = tuple(reason.label for reason in Reason)
OUTCOMES: Final = (Verdict.ALLOWED.value, Verdict.REFUSED.value, Verdict.PREFLIGHT.value)


class Token(msgspec.Struct, frozen=True):
    """Who calls: a word such as `unknown`, or a good token of some kind with what it was granted."""

    word: str = ""
    kind: CredentialKind | None = None
    scopes: tuple[Text, ...] = ()
    features: tuple[Text, ...] = ()
    user_id: str = ""
    """Whose it is, of a user token."""


class Expectation(msgspec.Struct, frozen=True):
    """What a judgement is compared with; what is None is not compared."""

    place: Place
    outcome: str | None = None
    status: int | None = None
    reason: str | None = None
    missing: tuple[Text, ...] | None = None
    fields: tuple[Text, ...] | None = None
    route: Text | None = None

    @property
    def says_why(self) -> bool:
        """Whether a refusal for another reason would be noticed."""
        return self.outcome != Verdict.REFUSED.value or self.status is not None or self.reason is not None


class Case(msgspec.Struct, frozen=True):
    """One case as it was written."""

    it: str
    place: Place
    token: Token
    method: str
    target: str
    body: bytes | None
    expect: Expectation
    host: str = ""
    """What is in `Host`; by default a host of the policy."""
    preflight_from: str = ""
    """The origin of a page: then what is sent is what a browser asks before it sends the request."""


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases in one file.

    Raises: PolicyInvalid with every fault, in order of place
    """
    name = path.as_posix()
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as fault:
        problem = (fault.strerror or "unknown").lower()
        todo = "check the path and its permissions"
        raise PolicyInvalid([Fault(Place(name, 1, 1), f"this cannot be read ({problem})", todo)]) from fault

    faults: list[Fault] = []
    tree = read_tree(name, content, faults, "- it: …")
    if tree is None:
        raise PolicyInvalid(faults)
    values = Values()
    values.check_secrets(tree)
    cases = _cases(values, tree)
    if values.faults:
        raise PolicyInvalid(values.faults)
    return cases


def _cases(values: Values, tree: Node) -> tuple[Case, ...]:
    if not isinstance(tree, Listing) or not tree.items:
        values.fault(tree.place, "a file of cases must be a list", "begin each case with `- it: …`")
        return ()
    read = [_case(values, item) for item in tree.items]
    return tuple(case for case in read if case is not None)


def _case(values: Values, node: Node) -> Case | None:
    misspelt: set[str] = set()
    members = values.members(node, "a case", CASE_KEYS, misspelt=misspelt)
    if members is None:
        return None
    lacking = [key for key in ("it", "send", "expect") if key not in members]
    for key in lacking:
        if key in misspelt:
            continue
        values.fault(node.place, f"the case has no `{key}`", f"add `{key}: {_EXAMPLES[key]}`")
    if lacking:
        return None

    it = values.text(members["it"][1], "it", _EXAMPLES["it"])
    token = _token(values, members["token"][1]) if "token" in members else Token(word="none")
    send = values.text(members["send"][1], "send", _EXAMPLES["send"])
    expect = _expectation(values, members["expect"][1])
    variables = _json_object(values, members["variables"][1], "variables") if "variables" in members else None
    name = None
    if "operation_name" in members:
        name = values.text(members["operation_name"][1], "operation_name", "Offloads")
    raw = values.text(members["body"][1], "body", "'{}'") if "body" in members else None
    host = values.text(members["host"][1], "host", "api.example.com") if "host" in members else None
    origin = (
        values.text(members["preflight"][1], "preflight", _EXAMPLES["preflight"]) if "preflight" in members else None
    )
    if it is None or token is None or send is None or expect is None:
        return None

    match = _SEND.fullmatch(send.value)
    if match is None:
        values.fault(send.place, "`send` is not a method and a path", f"write it as `{_EXAMPLES['send']}`")
        return None
    method, target, document = match.group(1), match.group(2), match.group(3)
    body = None if raw is None else raw.value.encode()
    if document is not None:
        request: dict[str, object] = {"query": document}
        if name is not None:
            request["operationName"] = name.value
        if variables is not None:
            request["variables"] = variables
        body = orjson.dumps(request)
    return Case(
        it.value,
        it.place,
        token,
        method,
        target,
        body,
        expect,
        "" if host is None else host.value,
        "" if origin is None else origin.value,
    )


_EXAMPLES: Final = {
    "it": "refuses a key without the scope",
    "send": "GET /v2/users/u1",
    "preflight": "https://app.example.com",
    "expect": "{status: 403, reason: scope_missing, missing: [USER_READ]}",
}
_SEND: Final = re.compile(r"([A-Za-z]+) (/\S*)(?:\s+(\S.*))?", re.DOTALL)
_STATUS: Final = re.compile(r"[1-5][0-9]{2}")


def _json_object(values: Values, node: Node, key: str) -> dict[str, object] | None:
    text = values.text(node, key, """'{"id": "u1"}'""")
    if text is None:
        return None
    try:
        read = orjson.loads(text.value)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        values.fault(text.place, f"`{key}` is not a JSON object", """write it in quotes, such as `'{"id": "u1"}'`""")
        return None
    return read


def _token(values: Values, node: Node) -> Token | None:
    if isinstance(node, Scalar):
        word = values.choice(node, "token", TOKEN_WORDS)
        return None if word is None else Token(word.value)

    members = values.members(node, "`token`", TOKEN_KEYS)
    if members is None:
        return None
    kinds = [key for key in ("api_key", "legacy_key", "user_token") if key in members]
    if len(kinds) != 1:
        values.fault(node.place, "`token` is not of one kind", "write one, such as `{api_key: [USER_READ]}`")
        return None
    if kinds == ["user_token"]:
        return _user_token(values, members)
    return Token(
        kind=CredentialKind(kinds[0]),
        scopes=_names(values, members[kinds[0]][1], kinds[0]),
        features=_names(values, members["features"][1], "features") if "features" in members else (),
    )


def _user_token(values: Values, members: dict[str, tuple[Text, Node]]) -> Token | None:
    user_id = values.text(members["user_token"][1], "user_token", "u1")
    if "features" in members:
        values.fault(members["features"][0].place, "a user token has no features", "take `features` out")
    return None if user_id is None else Token(kind=CredentialKind.USER_JWT, user_id=user_id.value)


def _names(values: Values, node: Node, key: str) -> tuple[Text, ...]:
    """One name, or a list of names, which may be empty: a key without scopes is a good case."""
    if isinstance(node, Listing):
        return texts(values, node, key, "USER_READ")
    text = values.text(node, key, "[USER_READ]")
    return () if text is None else (text,)


def _expectation(values: Values, node: Node) -> Expectation | None:
    if isinstance(node, Scalar):
        word = values.choice(node, "expect", OUTCOMES)
        return None if word is None else Expectation(node.place, word.value)

    members = values.members(node, "`expect`", EXPECT_KEYS)
    if members is None:
        return None
    if not members.keys() & {"outcome", "status", "reason"}:
        values.fault(
            node.place, "`expect` says neither `outcome`, `status` nor `reason`", "add one, such as `outcome: allowed`"
        )
        return None

    outcome = values.choice(members["outcome"][1], "outcome", OUTCOMES) if "outcome" in members else None
    reason = values.choice(members["reason"][1], "reason", REASONS) if "reason" in members else None
    route = values.text(members["route"][1], "route", "users.read") if "route" in members else None
    return Expectation(
        node.place,
        None if outcome is None else outcome.value,
        _status(values, members["status"][1]) if "status" in members else None,
        None if reason is None else reason.value,
        _names(values, members["missing"][1], "missing") if "missing" in members else None,
        _names(values, members["fields"][1], "fields") if "fields" in members else None,
        route,
    )


def _status(values: Values, node: Node) -> int | None:
    if isinstance(node, Scalar) and _STATUS.fullmatch(node.text):
        return int(node.text)
    values.fault(node.place, "`status` must be an HTTP status", "write three digits, such as `status: 403`")
    return None
