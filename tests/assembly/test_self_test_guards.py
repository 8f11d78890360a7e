"""Guards taken out one by one: each time the self-test says what came through.

Only those that stand alone: where two readers refuse the same thing, it takes both to let it through. And only where
the guards are plain Python: a compiled function calls the others of its module without looking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway import judge
from gateway.assembly import CannotStart
from gateway.assembly.self_test import try_guards
from gateway.core import facts, fields
from gateway.core.credential import AppId, Credential, CredentialKind, KeyDigest, KeyId
from gateway.core.principal import Principal
from gateway.wire import chunked

Removal = Callable[[pytest.MonkeyPatch], None]


def replaced(place: Any, name: str, value: Any) -> Removal:
    return lambda patch: patch.setattr(place, name, value)


def names_without_refusals(patch: pytest.MonkeyPatch) -> None:
    class Names(fields.FieldNames):
        def __missing__(self, name: bytes) -> fields.Field:
            field = super().__missing__(name)
            passes = field.role == int(fields.Role.REFUSE)
            return fields.Field(field.name, field.start, int(fields.Role.FORWARD)) if passes else field

    patch.setattr(facts, "_NAMES", Names())


SOMEBODY = Principal(CredentialKind.LEGACY_KEY, KeyId("x"), AppId("x"), frozenset(("ANY",)))


def anybody_admitted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judge, "admit", lambda *_: SOMEBODY)


def a_token_out_of_thin_air(patch: pytest.MonkeyPatch) -> None:
    anybody_admitted(patch)
    credential = Credential(CredentialKind.LEGACY_KEY, KeyId(""), KeyDigest(b""))
    patch.setattr(judge, "read_authorization", lambda value, kinds: credential)


def any_path(target: bytes) -> tuple[bytes, bytes]:
    path, _, query = target.partition(b"?")
    return path, query


def decided_without_a_look_at_the_body(_: object, decision: Any, facts: object, snapshot: Any, *rest: object) -> Any:
    return judge.Passed(decision, snapshot)


REMOVALS: dict[str, Removal] = {
    "a chunk size of `0x3`": replaced(chunked, "_HEX", frozenset(b"0123456789abcdefABCDEFxX")),
    "a trailer field": replaced(chunked.ChunkedReader, "_spend", lambda self, count: None),
    "a field name with `_`": names_without_refusals,
    "a dot segment": replaced(facts, "canonical_target", any_path),
    "an encoded slash": replaced(facts, "canonical_target", any_path),
    "a whole URL as the target": replaced(facts, "canonical_target", any_path),
    "a body with GET": replaced(judge.Judge, "_decided", decided_without_a_look_at_the_body),
    "no token where one is needed": a_token_out_of_thin_air,
    "a token that nobody has": anybody_admitted,
}


@pytest.mark.parametrize("what", REMOVALS)
def test_without_its_guard_a_request_comes_through_and_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    REMOVALS[what](monkeypatch)

    with pytest.raises(CannotStart) as told:
        try_guards()

    assert f"a request with {what} was" in str(told.value)
