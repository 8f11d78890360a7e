"""Request header fields by name: what becomes of each, in any case and any spelling that a hop could take for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fields import FieldNames, Role, classify, has_control_bytes

DROPPED = [
    # C13, D21
    *(b"keep-alive", b"proxy-authorization", b"proxy-authenticate", b"proxy-connection", b"proxy", b"te", b"trailer"),
    # C7
    *(b"forwarded", b"x-forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port"),
    *(b"x-forwarded-prefix", b"x-forwarded-uri", b"x-real-ip", b"cf-connecting-ip", b"true-client-ip", b"x-client-ip"),
    # B26
    *(b"x-original-url", b"x-rewrite-url"),
    # C4, L21
    *(b"x-gateway-key-id", b"x-gateway-anything", b"x-gateway", b"x-request-id", b"via", b"x-envoy-original-path"),
    # C5: `.` is an alias of `-` for some hops
    *(b"x.gateway.key.id", b"x-gateway.scopes", b"x.forwarded.for", b"x.real-ip", b"x.request.id"),
    # C5: and every other byte that is no letter and no digit becomes `_` in a CGI-style upstream
    *(
        b"x!gateway!key!id",
        b"x~gateway-scopes",
        b"x'gateway'app'id",
        b"x!api!key",
        b"x^real^ip",
    ),
]


@pytest.mark.parametrize("name", DROPPED)
def test_fields_in_which_a_client_could_claim_to_be_somebody_are_dropped_by_any_spelling(name: bytes) -> None:
    for spelling in (name, name.upper(), name.title()):
        assert Role.DROP == classify(spelling).role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (b"Authorization", Role.AUTHORIZATION),
        (b"HOST", Role.HOST),
        (b"content-length", Role.CONTENT_LENGTH),
        (b"Transfer-Encoding", Role.TRANSFER_ENCODING),
        (b"Cookie", Role.SINGLE),
        # B27
        (b"X-HTTP-Method-Override", Role.OVERRIDE),
        (b"x-http-method", Role.OVERRIDE),
        (b"X-METHOD-OVERRIDE", Role.OVERRIDE),
        (b"x!http!method!override", Role.OVERRIDE),
        (b"X-Anything", Role.FORWARD),
        (b"x-forward", Role.FORWARD),
        (b"xx-gateway-key-id", Role.FORWARD),
        (b"authorization.x", Role.FORWARD),
        (b"X_Gateway_Key_Id", Role.REFUSE),
        (b"a_b", Role.REFUSE),
        (b"", Role.REFUSE),
        (b"a b", Role.REFUSE),
        (b"host ", Role.REFUSE),
        (b"a\n", Role.REFUSE),
        (b"\xff", Role.REFUSE),
    ],
)
def test_a_name_has_one_role(name: bytes, role: Role) -> None:
    assert role == classify(name).role


def test_names_are_remembered_up_to_a_limit_and_classified_alike_beyond_it() -> None:
    names = FieldNames()

    for number in range(FieldNames.LIMIT + 50):
        assert classify(b"x-%d" % number) == names[b"x-%d" % number]
        assert len(names) <= FieldNames.LIMIT

    # Full of junk, it begins anew: what comes after the junk is remembered again.
    assert Role.DROP == names[b"x-gateway-key-id"].role
    assert b"x-gateway-key-id" in names


def test_a_very_long_name_is_not_remembered() -> None:
    names = FieldNames()

    assert Role.FORWARD == names[b"x" * 65].role
    assert not names


@given(
    st.one_of(st.binary(max_size=20), st.sampled_from([b"x-gateway-kind", b"x-forwarded-for", b"authorization"])),
    st.data(),
)
def test_no_spelling_of_a_name_of_ours_is_forwarded(name: bytes, data: st.DataObject) -> None:
    # C5, A11: `_` and `.` are `-` to some hop, and case is nothing to any.
    spelling = bytes(
        data.draw(st.sampled_from(b"-_."))
        if byte == ord("-")
        else data.draw(st.sampled_from((byte, byte ^ 0x20)))
        if chr(byte).isascii() and chr(byte).isalpha()
        else byte
        for byte in name
    )

    field = classify(spelling)

    plain = spelling.lower().replace(b"_", b"-").replace(b".", b"-")
    if plain.startswith((b"x-gateway-", b"x-forwarded-")) or plain == b"authorization":
        assert Role.FORWARD != field.role
    assert spelling.lower() == field.name


@pytest.mark.parametrize("byte", range(256))
def test_a_control_byte_is_any_below_space_but_tab_and_delete(byte: int) -> None:
    # A16, C28
    is_control = (byte < 32 and byte != 9) or byte == 127

    assert is_control is has_control_bytes([(b"a", b"x"), (b"b", b"x" + bytes((byte,)) + b"y")])


def test_no_header_has_no_control_byte() -> None:
    assert not has_control_bytes([])


@pytest.mark.parametrize(
    "name",
    [
        *(b"Transfer---Encoding", b"content--length", b"transfer-encoding-", b"Content-Length1", b"content.length"),
        *(b"Host!", b"ho-st", b"authorization'", b"Authori-zation"),
    ],
)
def test_a_name_that_spells_framing_by_its_letters_is_refused(name: bytes) -> None:
    assert Role.REFUSE == classify(name).role
