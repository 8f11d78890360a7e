"""The WebSocket handshake."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.websocket import accept_of, answer_fault, compresses, handshake_fault, own_answer_fault

# RFC 6455 section 1.3
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_handshake_is_answered_as_in_the_rfc() -> None:
    assert handshake_fault(b"13", KEY) == ""
    assert accept_of(KEY) == ACCEPT
    assert answer_fault([b"x: ", b"y", b"\r\n", b"Sec-WebSocket-Accept: ", ACCEPT, b"\r\n"], KEY) == ""


@given(st.binary(min_size=16, max_size=16))
def test_every_key_of_16_bytes_is_one(key: bytes) -> None:
    assert handshake_fault(b"13", base64.b64encode(key)) == ""


@pytest.mark.parametrize(
    ("version", "key"),
    [
        (None, KEY),
        (b"", KEY),
        (b"8", KEY),
        (b"13, 8", KEY),
        (b"013", KEY),
        (b"13", None),
        (b"13", b""),
        (b"13", KEY[:-1]),
        (b"13", KEY + b"="),
        (b"13", b"dGhlIHNhbXBsZSBub25jZR=="),  # bits that stand for nothing
        (b"13", b"dGhlIHNhbXBsZSBub25j"),
        (b"13", b"-Ghl_HNhbXBsZSBub25jZQ=="),
        (b"13", KEY + b"\n"),
    ],
)
def test_a_handshake_of_anything_else_is_at_fault(version: bytes | None, key: bytes | None) -> None:
    assert handshake_fault(version, key)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"sec-websocket-accept: ", b"", b"\r\n"],
        [b"sec-websocket-accept: ", ACCEPT.lower(), b"\r\n"],
        [b"sec-websocket-accept: ", ACCEPT, b"\r\n", b"Sec-WebSocket-Accept: ", ACCEPT, b"\r\n"],
        [b"x: ", b"sec-websocket-accept: ", b"\r\n"],
    ],
)
def test_an_answer_that_does_not_prove_its_reading_is_at_fault(fields: list[bytes]) -> None:
    assert answer_fault(fields, KEY)


@pytest.mark.parametrize(
    ("values", "agreed"),
    [
        ([], False),
        ([b""], False),
        ([b" , "], False),
        ([b"permessage-deflate"], True),
        ([b"Permessage-Deflate; client_max_window_bits=15; server_no_context_takeover"], True),
        ([b"permessage-deflate ,"], True),
        ([b"", b"permessage-deflate"], True),
    ],
)
def test_compression_is_the_one_extension_that_may_be_agreed_on(values: list[bytes], agreed: bool) -> None:
    assert answer_fault(answered(values), KEY) == ""
    assert compresses(answered(values)) is agreed


@pytest.mark.parametrize(
    "values",
    [
        [b"x-webkit-deflate-frame"],
        [b"permessage-bzip2"],
        [b"permessage-deflate-2"],
        [b"permessage-deflate, mux"],
        [b"permessage-deflate", b"mux"],
        [b"permessage-deflate, permessage-deflate"],
        [b"permessage-deflate", b"permessage-deflate; server_no_context_takeover"],
        [b"; permessage-deflate", b"permessage deflate"],
    ],
)
def test_an_answer_that_agrees_to_another_extension_is_at_fault(values: list[bytes]) -> None:
    assert "extension" in answer_fault(answered(values), KEY)


def answered(values: list[bytes]) -> list[bytes]:
    fields = [b"Sec-WebSocket-Accept: ", ACCEPT, b"\r\n"]
    return fields + [part for value in values for part in (b"Sec-WebSocket-Extensions: ", value, b"\r\n")]


@pytest.mark.parametrize(
    ("status", "fields", "is_right"),
    [
        (101, [(b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-Websocket-Protocol", b"graphql-ws")], True),
        (200, [(b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-Websocket-Protocol", b"graphql-ws")], False),
        (101, [(b"Sec-WebSocket-Accept", b"x"), (b"Sec-Websocket-Protocol", b"graphql-ws")], False),
        (101, [(b"Sec-WebSocket-Accept", ACCEPT)], False),
        (101, [(b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-Websocket-Protocol", b"graphql-transport-ws")], False),
        (
            101,
            [
                (b"Sec-WebSocket-Accept", ACCEPT),
                (b"Sec-Websocket-Protocol", b"graphql-ws"),
                (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
            ],
            False,
        ),
    ],
)
def test_a_handshake_of_ours_is_answered_with_what_it_offered(
    status: int, fields: list[tuple[bytes, bytes]], is_right: bool
) -> None:
    written = [piece for name, value in fields for piece in (name + b": ", value, b"\r\n")]

    assert (own_answer_fault(status, written, KEY, b"graphql-ws") == "") is is_right
