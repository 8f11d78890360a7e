"""K27, what may pass through an open WebSocket: frames that all read alike, messages of a size, so many a second."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.core.reasons import Reason, Verdict
from gateway.settings import TimeoutSettings
from gateway.wire.limits import LINGER_LIMIT_BYTES, WEBSOCKET_FLOOD_SECONDS, WEBSOCKET_MESSAGE_BYTES
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.gateway import RunningGateway
from tests.support.raw import RawClient, Sending
from tests.support.rows import get, with_keys
from tests.support.websocket import HANDSHAKE, SAID, SWITCHING, Upstream, close_of, ending, fill, opened_gateway, tunnel
from tests.support.websocket import TEXT as ANSWER

LIMIT_BYTES = 1000
FRAMES = 20
IDLE_SECONDS = 8.0
"""Longer than keys are looked at, and shorter than they stay in memory."""

MALFORMED = close_of(1002, b"the frames of the WebSocket are not well-formed")
TOO_LARGE = close_of(1009, b"a message of the WebSocket is too large")
FLOOD = close_of(1008, b"too many frames come over the WebSocket")
IDLE = close_of(1001, b"no byte either way for too long")
BROKE = close_of(1011)
CLOSED = frame(b"\x03\xe8", CLOSE, masked=True)
COMPRESSING = SWITCHING[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n"


@pytest.fixture(scope="module")
def listening() -> Iterator[Upstream]:
    made = Upstream()
    with closing(made.listener):
        yield made


@pytest.fixture
def upstream(listening: Upstream) -> Iterator[Upstream]:
    yield listening
    listening.close_legs()


@pytest.fixture(scope="module")
def narrow_gateway(tmp_path_factory: pytest.TempPathFactory, listening: Upstream) -> Iterator[RunningGateway]:
    with opened_gateway(
        tmp_path_factory,
        listening,
        max_websocket_message_bytes=LIMIT_BYTES,
        max_websocket_frames_per_second=int(FRAMES / WEBSOCKET_FLOOD_SECONDS),
        timeouts=TimeoutSettings(websocket_idle=IDLE_SECONDS),
    ) as gateway:
        yield gateway


@pytest.fixture
def gateway(narrow_gateway: RunningGateway) -> RunningGateway:
    narrow_gateway.forget()
    return narrow_gateway


# -- frames

FIRST_OF_TWO = frame(b"x", TEXT, masked=True, ends=False)
BAD = {
    "reserved-1": frame(b"x", masked=True, reserved=0x40),
    "reserved-2": frame(b"x", masked=True, reserved=0x20),
    "reserved-3": frame(b"x", masked=True, reserved=0x10),
    "unknown-data": frame(b"x", 3, masked=True),
    "unknown-control": frame(b"x", 11, masked=True),
    "no-mask": frame(b"x"),
    "ping-in-pieces": frame(b"x", PING, masked=True, ends=False),
    "long-pong": frame(b"x" * 126, PONG, masked=True),
    "half-a-code": frame(b"x", CLOSE, masked=True),
    "long-length-2": frame(b"x" * 125, masked=True, length_bytes=2),
    "long-length-8": frame(b"x" * 126, masked=True, length_bytes=8),
    "top-bit": frame(b"x", masked=True, length=2**63, length_bytes=8),
    "continuation-of-nothing": frame(b"x", CONTINUATION, masked=True),
    "message-in-a-message": FIRST_OF_TWO + frame(b"y", TEXT, masked=True),
}


@pytest.mark.parametrize("sending", [Sending.WHOLE, Sending.BYTE_BY_BYTE], ids=lambda sending: sending.name)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_k27_frames_that_are_not_well_formed_end_it(
    gateway: RunningGateway, upstream: Upstream, bad: bytes, sending: Sending
) -> None:
    counted = gateway.metric("bearergate_refusals_total", reason="websocket_malformed")
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(ANSWER)
        assert client.read_until(ANSWER) == ANSWER
        client.send(SAID)
        assert leg.read_until(SAID) == SAID
        client.send(bad, sending)

        assert client.read_to_end() == MALFORMED
        assert not client.was_reset
        arrived = leg.buffer
        while data := leg.socket.recv(65536):
            arrived += data
        assert FIRST_OF_TWO.startswith(arrived) if bad.startswith(FIRST_OF_TWO) else not arrived
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_MALFORMED, 101)
    assert gateway.metric("bearergate_refusals_total", reason="websocket_malformed") == counted + 1


def test_no_word_of_ours_comes_within_a_frame_of_the_upstreams(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(ANSWER[:-1])
        assert client.read_until(ANSWER[:-1]) == ANSWER[:-1]
        client.send(BAD["no-mask"])

        assert client.is_ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_MALFORMED, 101)


def test_frames_that_come_with_the_opening_are_read_too(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live", *HANDSHAKE)) + BAD["no-mask"])
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(SWITCHING + ANSWER)

        assert client.read_to_end().endswith(b"\r\n\r\n" + ANSWER + MALFORMED)
        assert leg.ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_MALFORMED, 101)


@pytest.mark.parametrize(
    "bad",
    [
        frame(b"x", masked=True),
        frame(b"x", 3),
        frame(b"x", reserved=0x40),
        frame(b"x", CONTINUATION),
        frame(b"x", PING, ends=False),
        frame(b"x", length_bytes=8),
        close_of(1000) + ANSWER,
    ],
)
def test_an_upstream_whose_frames_are_not_well_formed_is_at_fault(
    gateway: RunningGateway, upstream: Upstream, bad: bytes
) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(ANSWER + bad)

        said = close_of(1000) if bad.startswith(close_of(1000)) else BROKE
        assert client.read_to_end() == ANSWER + said
        assert leg.ended()
    assert ending(gateway) == (Verdict.UPSTREAM_FAILED, Reason.UPSTREAM_INVALID, 101)


def test_what_is_compressed_passes_where_both_sides_agreed_to_it(gateway: RunningGateway, upstream: Upstream) -> None:
    question, answer = frame(b"x", TEXT, masked=True, reserved=0x40), frame(b"y", TEXT, reserved=0x40)
    with tunnel(gateway, upstream, switching=COMPRESSING) as (client, leg):
        client.send(question)
        assert leg.read_until(question) == question
        leg.socket.sendall(answer)
        assert client.read_until(answer) == answer
        client.send(frame(b"x", TEXT, masked=True, reserved=0x20))
        assert client.read_to_end() == MALFORMED


def test_an_upstream_that_agrees_to_another_extension_is_at_fault(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live", *HANDSHAKE)))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(COMPRESSING.replace(b"permessage-deflate", b"x-webkit-deflate-frame"))
        answer = client.read()

        assert (answer.status, answer.reason) == (502, "upstream_invalid")
        assert leg.ended()


def test_frames_pass_as_they_are_however_their_bytes_come(gateway: RunningGateway, upstream: Upstream) -> None:
    question = SAID + frame(b"x" * 300, masked=True) + frame(b"", PING, masked=True)
    answer = ANSWER + frame(b"y" * 300) + frame(b"", PONG)
    with tunnel(gateway, upstream) as (client, leg):
        client.send(question, Sending.BYTE_BY_BYTE)
        assert leg.read_until(question) == question
        for place in range(len(answer)):
            leg.socket.sendall(answer[place : place + 1])
        assert client.read_until(answer) == answer


# -- messages


@pytest.mark.parametrize("size", [LIMIT_BYTES - 1, LIMIT_BYTES, LIMIT_BYTES + 1])
@pytest.mark.parametrize("first", [0, 1, 900])
def test_k27_a_message_that_is_too_large_ends_it(
    gateway: RunningGateway, upstream: Upstream, size: int, first: int
) -> None:
    piece = frame(b"a" * first, masked=True, ends=False) + frame(b"", PING, masked=True) if first else b""
    rest = frame(b"b" * (size - first), CONTINUATION if first else BINARY, masked=True)
    with tunnel(gateway, upstream) as (client, leg):
        client.send(piece)
        assert leg.read_until(piece) == piece
        client.send(rest)
        if size <= LIMIT_BYTES:
            assert leg.read_until(rest) == rest
            client.send(SAID)  # and the next one begins anew
            assert leg.read_until(SAID) == SAID
            return

        assert client.read_to_end() == TOO_LARGE
        assert leg.ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_TOO_LARGE, 101)


def test_an_upstreams_message_may_have_any_size(gateway: RunningGateway, upstream: Upstream) -> None:
    answer = frame(b"x" * 300_000)
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(answer + ANSWER)
        assert client.read_until(ANSWER) == answer + ANSWER


def test_a_client_that_is_still_sending_hears_why(gateway: RunningGateway, upstream: Upstream) -> None:
    # A close with bytes unread is a reset, and a reset takes away what the client has not read yet.
    with tunnel(gateway, upstream) as (client, leg):
        client.send(frame(b"x" * (LINGER_LIMIT_BYTES // 2), masked=True))
        assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_TOO_LARGE, 101)
        gateway.settle()

        assert client.read_to_end() == TOO_LARGE
        assert not client.was_reset
        assert leg.ended()


@pytest.mark.parametrize("how", ["by a close frame", "by its end", "in time", "by many bytes"])
def test_a_client_that_was_told_is_let_go(gateway: RunningGateway, upstream: Upstream, how: str) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        for _ in range(FRAMES + 1):
            client.send(SAID)
        assert client.read_to_end() == FLOOD
        assert leg.socket.recv(65536)
        gateway.settle()
        assert gateway.client_connections == 1
        if how == "by a close frame":
            client.send(CLOSED)
        elif how == "by its end":
            client.finish()
        elif how == "in time":
            gateway.pass_time(TimeoutSettings().linger + 0.1)
        else:
            for _ in range(LINGER_LIMIT_BYTES // 65536 + 1):
                client.send(SAID * (65536 // len(SAID) + 1))

        gateway.until(lambda: gateway.client_connections == 0, "the end of the connection")


def test_one_that_has_closed_already_is_let_go_at_once(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        client.send(CLOSED)
        assert leg.read_until(CLOSED) == CLOSED
        gateway.pass_time(IDLE_SECONDS + 0.1)

        assert client.read_to_end() == IDLE
        gateway.until(lambda: gateway.client_connections == 0, "the end of the connection")


def test_one_that_reads_slowly_has_its_time(gateway: RunningGateway, upstream: Upstream) -> None:
    pings = frame(b"", PING) * 32768
    with tunnel(gateway, upstream, client_socket=RawClient(gateway.port, receive_buffer_bytes=4096)) as (client, leg):
        fill(leg.socket, pings)
        client.send(BAD["no-mask"])
        assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_MALFORMED, 101)
        gateway.pass_time(TimeoutSettings().linger + 0.1)
        gateway.pass_time(TimeoutSettings().write_idle - 0.1)

        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        heard = bytearray()
        while data := client.socket.recv(1 << 20):
            heard += data
        assert len(heard) == gateway.outcomes[0].bytes_out + len(MALFORMED)
        assert heard.endswith(pings[:100] + MALFORMED)


# -- floods


@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES, FRAMES + 1])
@pytest.mark.parametrize("one", [SAID, frame(b"", PING, masked=True)])
def test_k27_too_many_frames_end_it(gateway: RunningGateway, upstream: Upstream, count: int, one: bytes) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        client.send(one * (FRAMES - 2))
        leg.read_until(one * (FRAMES - 2))
        more = one * (count - FRAMES + 2)
        client.send(more)
        if count <= FRAMES:
            assert leg.read_until(more) == more
            return

        assert client.read_to_end() == FLOOD
        assert leg.ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.WEBSOCKET_FLOOD, 101)


@pytest.mark.parametrize("seconds", [WEBSOCKET_FLOOD_SECONDS - 0.5, WEBSOCKET_FLOOD_SECONDS])
def test_frames_are_counted_over_a_while(gateway: RunningGateway, upstream: Upstream, seconds: float) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        client.send(SAID * (FRAMES - 1))
        leg.read_until(SAID * (FRAMES - 1))
        gateway.pass_time(seconds / 2)
        client.send(SAID)
        leg.read_until(SAID)
        gateway.pass_time(seconds / 2)
        client.send(SAID * FRAMES)
        if seconds < WEBSOCKET_FLOOD_SECONDS:
            assert client.read_to_end() == FLOOD
            return

        leg.read_until(SAID * FRAMES)
        client.send(SAID)
        assert client.read_to_end() == FLOOD


def test_an_upstream_may_send_as_many_frames_as_it_likes(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(frame(b"", PING) * FRAMES * 5 + ANSWER)
        assert client.read_until(ANSWER)
        assert gateway.in_flight == 1


# -- silence


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_byte_of_either_side_ends_the_silence(gateway: RunningGateway, upstream: Upstream, side: str) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        for _ in range(3):
            gateway.pass_time(IDLE_SECONDS)
            if side == "client":
                client.send(SAID)
                leg.read_until(SAID)
            else:
                leg.socket.sendall(ANSWER)
                client.read_until(ANSWER)
        gateway.pass_time(IDLE_SECONDS)
        assert gateway.in_flight == 1
        gateway.pass_time(0.1)

        assert client.read_to_end() == IDLE
        assert leg.ended()
    assert ending(gateway) == (Verdict.CLIENT_GONE, None, 101)


# -- what is set when nothing is


def test_a_message_of_a_mebibyte_passes_and_no_larger_one(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    head = frame(masked=True, length=WEBSOCKET_MESSAGE_BYTES, length_bytes=8)
    larger = frame(masked=True, length=WEBSOCKET_MESSAGE_BYTES + 1, length_bytes=8)
    with opened_gateway(tmp_path_factory, upstream) as gateway:
        with tunnel(gateway, upstream) as (client, leg):
            client.send(head)
            assert leg.read_until(head) == head
        with tunnel(gateway, upstream) as (client, leg):
            client.send(larger)
            assert client.read_to_end() == TOO_LARGE
