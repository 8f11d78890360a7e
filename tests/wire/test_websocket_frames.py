"""Frames of a WebSocket, against a plain reader of them, however the bytes come."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason
from gateway.wire.websocket_frames import (
    CLOSE_TEXT_LIMIT_BYTES,
    NOT_ALLOWED,
    PROTOCOL_ERROR,
    TOO_LARGE,
    FrameReader,
    close_frame,
)
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.wire.splits import every_way

LIMIT_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader came to."""

    passed: bytes
    frames: int = 0
    code: int = 0
    fault: str = ""
    is_closed: bool = False
    is_between: bool = True


def read(
    pieces: list[bytes], *, from_client: bool = True, compresses: bool = False, limit_bytes: int = LIMIT_BYTES
) -> Seen:
    reader = FrameReader(from_client=from_client, compresses=compresses, message_limit_bytes=limit_bytes)
    passed = b"".join([reader.feed(piece) for piece in pieces])
    return Seen(passed, reader.frames, reader.code, reader.fault, reader.is_closed, reader.is_between)


def read_every_way(data: bytes, *, from_client: bool = True, compresses: bool = False) -> Seen:
    """What whole bytes, single ones and pieces are all read as."""
    ways = [read(way, from_client=from_client, compresses=compresses) for way in every_way(data)]
    assert ways[0] == ways[1] == ways[2]
    return ways[0]


def plainly(data: bytes, *, from_client: bool, compresses: bool, limit_bytes: int = LIMIT_BYTES) -> Seen:
    """The same in one pass over all the bytes: (passed, frames, code, closed, between), without the fault's name."""
    place = frames = message = 0
    opened = closed = False
    while len(data) - place >= 2:
        first, second = data[place : place + 2]
        fin, rsv, opcode = first >> 7, first >> 4 & 7, first & 15
        masked, short = second >> 7, second & 127
        good = [
            not closed,
            opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG),
            rsv == 0 or (rsv == 4 and compresses and opcode in (TEXT, BINARY)),
            bool(masked) == from_client,
            opcode < CLOSE or (fin and short < 126 and (opcode, short) != (CLOSE, 1)),
            opcode >= CLOSE or opened == (opcode == CONTINUATION),
        ]
        if not all(good):
            return Seen(data[:place], frames, PROTOCOL_ERROR, is_closed=closed)
        start = place + {126: 4, 127: 10}.get(short, 2)
        if start + 4 * masked > len(data):
            break
        length = short if short < 126 else int.from_bytes(data[place + 2 : start], "big")
        if (short == 126 and length < 126) or (short == 127 and (length < 65536 or length >= 2**63)):
            return Seen(data[:place], frames, PROTOCOL_ERROR, is_closed=closed)
        if opcode < CLOSE:
            message = length + (message if opened else 0)
            if limit_bytes and message > limit_bytes:
                return Seen(data[:place], frames, TOO_LARGE, is_closed=closed)
            opened = not fin
        closed = closed or opcode == CLOSE
        frames += 1
        place = start + 4 * masked + length
        if place > len(data):
            return Seen(data, frames, is_closed=closed, is_between=False)
    return Seen(data[:place], frames, is_closed=closed)


# -- what is well-formed


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 999, 1000])
def test_a_frame_passes_as_it_is(masked: bool, size: int) -> None:
    data = frame(b"\x88" * size, masked=masked)

    assert read_every_way(data, from_client=masked) == Seen(data, 1)


@pytest.mark.parametrize("size", [65535, 65536, 70000, 1 << 20])
def test_a_long_one_too(size: int) -> None:
    data = frame(b"\x88" * size) + frame(b"x", TEXT)

    assert read([data], from_client=False, limit_bytes=0) == Seen(data, 2)
    assert read([data[:3], data[3:9], data[9:12], data[12:]], from_client=False, limit_bytes=0) == Seen(data, 2)


def test_a_message_comes_in_pieces_with_control_frames_between_them() -> None:
    data = b"".join(
        (
            frame(b"a", TEXT, masked=True, ends=False),
            frame(b"?" * 125, PING, masked=True),
            frame(b"", CONTINUATION, masked=True, ends=False),
            frame(b"", PONG, masked=True),
            frame(b"b", CONTINUATION, masked=True),
            frame(b"c", BINARY, masked=True),
            frame(b"", CLOSE, masked=True),
        )
    )

    assert read_every_way(data) == Seen(data, 7, is_closed=True)


@pytest.mark.parametrize("size", [0, 2, 125])
def test_a_close_frame_is_noticed_before_its_end(size: int) -> None:
    data = frame(b"\x03\xe8" + b"x" * (size - 2) if size else b"", CLOSE)
    reader = FrameReader(from_client=False, compresses=False, message_limit_bytes=0)

    seen = [(reader.feed(part), reader.is_closed, reader.is_between) for part in (data[:1], data[1:2], data[2:])]

    assert seen == [(b"", False, True), (data[:2], True, size == 0), (data[2:], True, True)]


def test_a_head_passes_whole_or_not_at_all_and_a_payload_at_once() -> None:
    data = frame(b"x" * 300, masked=True)
    reader = FrameReader(from_client=True, compresses=False, message_limit_bytes=LIMIT_BYTES)

    for place in range(7):
        assert reader.feed(data[place : place + 1]) == b""
        assert reader.is_between
    assert reader.feed(data[7:8]) == data[:8]
    for place in range(8, len(data)):
        assert not reader.is_between
        assert reader.feed(data[place : place + 1]) == data[place : place + 1]
    assert reader.is_between


def test_what_is_compressed_says_so_in_the_first_frame_of_a_message_alone() -> None:
    first = frame(b"x", TEXT, masked=True, ends=False, reserved=0x40)
    data = first + frame(b"y", CONTINUATION, masked=True) + frame(b"z", BINARY, masked=True, reserved=0x40)

    assert read_every_way(data, compresses=True) == Seen(data, 3)
    assert read_every_way(data).code == PROTOCOL_ERROR
    for opcode in (CONTINUATION, CLOSE, PING, PONG):
        seen = read_every_way(first + frame(b"", opcode, masked=True, reserved=0x40), compresses=True)
        assert (seen.passed, seen.code) == (first, PROTOCOL_ERROR)


# -- what is not

GOOD = frame(b"good", TEXT, masked=True)
OPEN = frame(b"open", TEXT, masked=True, ends=False)
LAST = frame(b"x", CONTINUATION, masked=True)


@pytest.mark.parametrize(
    ("before", "bad", "fault"),
    [
        *(
            (GOOD, frame(b"x", masked=True, reserved=reserved), "a reserved bit that no extension gives a meaning")
            for reserved in (0x10, 0x20, 0x40, 0x50, 0x60, 0x70)
        ),
        *(
            (GOOD, frame(b"x", opcode, masked=True), f"a frame of the unknown kind {opcode}")
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        ),
        (GOOD, frame(b"x"), "a frame without a mask"),
        (GOOD, frame(b"", PING), "a frame without a mask"),
        *(
            (GOOD, frame(b"", kind, masked=True, ends=False), "a control frame in pieces")
            for kind in (CLOSE, PING, PONG)
        ),
        *(
            (GOOD, frame(b"x" * 126, kind, masked=True), "a control frame of more than 125 bytes")
            for kind in (CLOSE, PING, PONG)
        ),
        (GOOD, frame(b"x" * 70000, PING, masked=True), "a control frame of more than 125 bytes"),
        (GOOD, frame(b"x", CLOSE, masked=True), "a close frame with half a code"),
        (GOOD, frame(b"x", masked=True, length_bytes=2), "a length in more bytes than it takes"),
        (GOOD, frame(b"x" * 125, masked=True, length_bytes=2), "a length in more bytes than it takes"),
        (GOOD, frame(b"x", masked=True, length_bytes=8), "a length in more bytes than it takes"),
        (GOOD, frame(masked=True, length=65535, length_bytes=8), "a length in more bytes than it takes"),
        (GOOD, frame(masked=True, length=2**63, length_bytes=8), "a length beyond 63 bits"),
        (GOOD, frame(masked=True, length=2**64 - 1, length_bytes=8), "a length beyond 63 bits"),
        (b"", frame(b"x", CONTINUATION, masked=True), "a continuation of nothing"),
        (GOOD, frame(b"x", CONTINUATION, masked=True, ends=False), "a continuation of nothing"),
        (OPEN + LAST, LAST, "a continuation of nothing"),
        (OPEN, frame(b"x", TEXT, masked=True), "a message within another one"),
        (OPEN + frame(b"", PING, masked=True), frame(b"x", BINARY, masked=True), "a message within another one"),
        (frame(b"", CLOSE, masked=True), GOOD, "a frame behind the close frame"),
        (frame(b"", CLOSE, masked=True), frame(b"", CLOSE, masked=True), "a frame behind the close frame"),
    ],
)
def test_k27_what_two_readers_could_take_differently_does_not_pass(before: bytes, bad: bytes, fault: str) -> None:
    seen = read_every_way(before + bad + GOOD)

    assert (seen.passed, seen.code, seen.fault) == (before, PROTOCOL_ERROR, fault)
    assert seen.is_between


def test_a_servers_frame_has_no_mask() -> None:
    seen = read_every_way(frame(b"good") + frame(b"bad", masked=True), from_client=False)

    assert (seen.passed, seen.code, seen.fault) == (frame(b"good"), PROTOCOL_ERROR, "a frame with a mask")


def test_the_fault_is_told_as_soon_as_it_is_there_and_nothing_passes_after_it() -> None:
    reader = FrameReader(from_client=True, compresses=False, message_limit_bytes=LIMIT_BYTES)

    assert reader.feed(b"\x83\x80") == b""
    assert reader.code == PROTOCOL_ERROR
    assert reader.feed(GOOD) == b""
    assert reader.frames == 0


# -- messages


@pytest.mark.parametrize(("size", "code"), [(LIMIT_BYTES - 1, 0), (LIMIT_BYTES, 0), (LIMIT_BYTES + 1, TOO_LARGE)])
@pytest.mark.parametrize("cuts", [(), (1,), (500,), (1, 2, 3, 998)])
def test_k27_a_message_is_as_large_as_all_its_frames(size: int, code: int, cuts: tuple[int, ...]) -> None:
    frames = [
        frame(b"x" * (end - start), CONTINUATION if start else BINARY, masked=True, ends=end == size)
        for start, end in pairwise((0, *cuts, size))
    ]
    ping = frame(b"?" * 125, PING, masked=True)
    before = GOOD + b"".join(piece + ping for piece in frames[:-1])
    seen = read_every_way(before + frames[-1] + GOOD)

    assert seen.code == code
    assert seen.fault == (f"a message of more than {LIMIT_BYTES} bytes" if code else "")
    assert seen.passed == (before if code else before + frames[-1] + GOOD)


def test_a_length_that_is_said_is_enough_to_refuse_it() -> None:
    head = frame(masked=True, length=2**63 - 1, length_bytes=8)

    assert read([head]) == Seen(b"", 0, TOO_LARGE, f"a message of more than {LIMIT_BYTES} bytes")
    assert read([head], limit_bytes=0) == Seen(head, 1, is_between=False)


def test_each_message_is_counted_anew() -> None:
    data = frame(b"x" * LIMIT_BYTES, masked=True) * 5

    assert read_every_way(data) == Seen(data, 5)


# -- against the plain reader

ODD = st.builds(
    frame,
    st.builds(lambda size: b"\x88\x00" * (size // 2) + b"x" * (size % 2), st.sampled_from((0, 1, 2, 125, 126, 400))),
    st.sampled_from((0, 0, 1, 1, 2, 2, 8, 9, 10, 3)),
    masked=st.sampled_from((True, True, True, True, True, False)),
    ends=st.booleans(),
    reserved=st.sampled_from((0, 0, 0, 0, 0x40, 0x20)),
    length_bytes=st.sampled_from((None, None, None, None, None, 8)),
)


@given(st.lists(ODD, max_size=6), st.booleans(), st.booleans(), st.integers(0, 12))
def test_it_reads_as_the_plain_reader_does(frames: list[bytes], from_client: bool, compresses: bool, less: int) -> None:
    data = b"".join(frames)
    data = data[: len(data) - less]
    seen = read_every_way(data, from_client=from_client, compresses=compresses)
    plain = plainly(data, from_client=from_client, compresses=compresses)

    assert (seen.passed, seen.frames, seen.code) == (plain.passed, plain.frames, plain.code)
    assert (seen.is_closed, seen.is_between) == (plain.is_closed, plain.is_between)
    assert bool(seen.fault) == bool(seen.code)


# -- our own


def test_a_close_frame_can_be_made() -> None:
    assert close_frame(1008) == b"\x88\x02\x03\xf0"
    assert close_frame(NOT_ALLOWED, "no") == b"\x88\x04\x03\xf0no"
    assert read_every_way(close_frame(1001, "x" * CLOSE_TEXT_LIMIT_BYTES), from_client=False).code == 0


def test_every_sentence_fits_into_a_close_frame() -> None:
    for reason in Reason:
        assert reason.sentence.isascii()
        assert len(reason.sentence) <= CLOSE_TEXT_LIMIT_BYTES
