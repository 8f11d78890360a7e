"""The WebSocket handshake, and where frames end."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.websocket import Frames, accept_of, answer_fault, close_frame, handshake_fault

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


def frame(payload: bytes, *, opcode: int = 2, is_masked: bool = False) -> bytes:
    mask = 0x80 if is_masked else 0
    length = len(payload)
    head = bytes((0x80 | opcode,))
    if length < 126:
        head += bytes((mask | length,))
    elif length < 65536:
        head += bytes((mask | 126,)) + length.to_bytes(2, "big")
    else:
        head += bytes((mask | 127,)) + length.to_bytes(8, "big")
    return head + (b"mask" if is_masked else b"") + payload


SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536, 70000])
FRAMES = st.lists(st.builds(lambda size, masked: frame(b"\x88" * size, is_masked=masked), SIZES, st.booleans()))


@given(FRAMES, st.data())
def test_the_end_of_a_frame_is_found_however_its_bytes_come(frames: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(frames)
    ends = {0}
    for one in frames:
        ends.add(max(ends) + len(one))
    cuts = sorted({*data.draw(st.lists(st.integers(0, len(whole)))), len(whole)})
    followed, before = Frames(), 0
    for cut in cuts:
        followed.feed(whole[before:cut])
        before = cut

        assert followed.is_between == (cut in ends)

    assert not followed.is_closed


def test_byte_by_byte_too() -> None:
    followed = Frames()
    whole = frame(b"x" * 126) + frame(b"", is_masked=True) + frame(b"y" * 65536)
    ends = {130, 136, len(whole)}

    for place in range(len(whole)):
        followed.feed(whole[place : place + 1])

        assert followed.is_between == (place + 1 in ends)


def test_a_close_frame_is_noticed_and_one_can_be_made() -> None:
    followed = Frames()

    assert close_frame(1008) == b"\x88\x02\x03\xf0"
    followed.feed(frame(b"x") + close_frame(1001)[:2])
    assert followed.is_closed
    assert not followed.is_between
    followed.feed(close_frame(1001)[2:])
    assert followed.is_between
