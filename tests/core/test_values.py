"""What was read or decided once is never changed: an `Allowed` cannot become another, nor a credential."""

from __future__ import annotations

import pytest

from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.core.decision import Allowed
from gateway.core.facts import RequestFacts
from gateway.core.graphql.request import GraphQLRequest
from gateway.core.outgoing import ResponseFacts
from tests.core.samples import facts, route
from tests.support.values import field_names

VALUES = (
    Allowed(route(), None),
    Credential(CredentialKind.API_KEY, KeyId("a"), digest_of(b"a")),
    GraphQLRequest("{a}", None, b""),
    ResponseFacts(200, [], 0, False, True, False),
    facts(),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_cannot_be_changed(value: object) -> None:
    """Interpreted, the type checker holds it (`Final`); compiled, the class does."""
    annotations: dict[str, str] = getattr(type(value), "__annotations__", {})
    for name in field_names(type(value)):
        if annotations:
            assert annotations[name].startswith("Final[")
        else:
            with pytest.raises(AttributeError):
                setattr(value, name, getattr(value, name))


def test_a_value_takes_no_other_field() -> None:
    with pytest.raises(AttributeError):
        facts().principal = None  # type: ignore[attr-defined]

    assert isinstance(facts(), RequestFacts)
