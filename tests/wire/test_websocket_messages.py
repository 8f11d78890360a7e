"""Messages joined from frames, whole and byte by byte, and frames as they are written."""

from __future__ import annotations

import pytest

from gateway.wire.websocket_messages import CLOSE, PING, PONG, TEXT, Message, MessageReader, frame, said_in_close
from tests.support import frames

MASK = b"\x11\x22\x33\x44"
LIMIT = 100_000


def reader(*, from_client: bool = True, limit: int = LIMIT) -> MessageReader:
    return MessageReader(from_client=from_client, limit_bytes=limit, largest_bytes=LIMIT)


def piece(kind: int, payload: bytes, *, ends: bool) -> bytes:
    """A masked frame that is a part of a message."""
    made = bytearray(frame(kind, payload, MASK))
    made[0] = 0x80 * ends | kind
    return bytes(made)


STREAM = (
    frame(TEXT, b"one", MASK)
    + piece(TEXT, b"gr", ends=False)
    + frame(PING, b"p", MASK)
    + piece(0, "üß"[:1].encode()[:1], ends=False)
    + piece(0, "ü".encode()[1:] + b"n", ends=True)
    + frame(TEXT, b"", MASK)
    + frame(TEXT, b"x" * 70_000, MASK)
    + frame(TEXT, b"y" * 200, MASK)
    + frame(PONG, b"", MASK)
    + frame(CLOSE, b"\x03\xe8", MASK)
)
MESSAGES: list[Message] = [
    (TEXT, b"one"),
    (PING, b"p"),
    (TEXT, "grün".encode()),
    (TEXT, b""),
    (TEXT, b"x" * 70_000),
    (TEXT, b"y" * 200),
    (PONG, b""),
    (CLOSE, b"\x03\xe8"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096, 1 << 20])
def test_messages_are_joined_however_they_come(size: int) -> None:
    under_test = reader()
    read: list[Message] = []
    for place in range(0, len(STREAM), size):
        read += under_test.feed(STREAM[place : place + size])

    assert (MESSAGES, 0, 10) == (read, under_test.code, under_test.frames)
    assert under_test.is_closed


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(2, b"x", MASK), 1003),
        (frame(TEXT, b"\xff", MASK), 1007),
        (piece(TEXT, b"\xc3", ends=False) + piece(0, b"x", ends=True), 1007),
        (frame(TEXT, b"x"), 1002),
        (frames.frame(b"x", frames.TEXT, masked=True, reserved=0x40), 1002),
        (frames.frame(b"", frames.TEXT, masked=True, length=LIMIT + 1), 1009),
        (piece(TEXT, b"x" * 60_000, ends=False) + piece(0, b"x" * 40_001, ends=True), 1009),
        (frame(CLOSE, b"", MASK) + frame(TEXT, b"x", MASK), 1002),
    ],
)
def test_what_is_no_message_is_a_fault_behind_those_before_it(data: bytes, code: int) -> None:
    under_test = reader()

    assert under_test.feed(frame(TEXT, b"before", MASK) + data)[0] == (TEXT, b"before")
    assert under_test.code == code
    assert under_test.fault
    assert under_test.feed(frame(TEXT, b"after", MASK)) == []


def test_a_server_sends_without_a_mask() -> None:
    under_test = reader(from_client=False)

    assert under_test.feed(frame(TEXT, b"x")) == [(TEXT, b"x")]
    assert under_test.feed(frame(TEXT, b"x", MASK)) == []
    assert under_test.code == 1002


def test_a_limit_holds_by_the_head_and_may_be_raised() -> None:
    under_test = reader(limit=10)
    assert under_test.feed(frame(TEXT, b"x" * 10, MASK)) == [(TEXT, b"x" * 10)]
    under_test.limit_bytes = 20
    assert under_test.feed(frame(TEXT, b"x" * 20, MASK)) == [(TEXT, b"x" * 20)]

    assert under_test.feed(frames.frame(b"", frames.TEXT, masked=True, length=21)) == []
    assert under_test.code == 1009


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 65535, 65536, 70_001])
def test_what_is_written_is_read_again(size: int) -> None:
    payload = bytes(range(97, 122)) * (size // 25 + 1)
    written = frame(TEXT, payload[:size], MASK)

    assert reader().feed(written) == [(TEXT, payload[:size])]
    assert size < 3 or payload[:size] not in written


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", (1000, b"")),
        (b"\x03\xe8", (1000, b"")),
        (b"\x03\xe9why", (1001, b"why")),
        (b"\x11\x94", (4500, b"")),
        (b"\x0b\xb8", (3000, b"")),
        (b"\x03", None),
        (b"\x03\xe8\xff", None),
        (b"\x03\xec", None),
        (b"\x03\xed", None),
        (b"\x03\xee", None),
        (b"\x03\xf7", None),
        (b"\x0b\xb7", None),
        (b"\x13\x88", None),
        (b"\x00\x00", None),
    ],
)
def test_a_close_frame_says_a_code_that_may_be_said(payload: bytes, said: tuple[int, bytes] | None) -> None:
    assert said_in_close(payload) == said
