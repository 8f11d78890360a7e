"""A36, K27 and R13, WebSockets where a route allows them: who may open one, that the bytes pass, and how it ends.

The test is the client and the upstream too: what each of them is sent is looked at byte by byte.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.assembly.keys import open_key_service
from gateway.core.reasons import Reason, Verdict
from gateway.core.websocket import accept_of
from tests.assembly.test_listening import answer_of, certificate, tls_client
from tests.support.frames import BINARY, frame
from tests.support.gateway import RunningGateway
from tests.support.raw import RawClient, read_head
from tests.support.rows import Row, get, play, request, with_keys
from tests.support.websocket import (
    HANDSHAKE,
    IDLE_SECONDS,
    KEY,
    SAID,
    SWITCHING,
    TEXT,
    Upstream,
    close_of,
    ending,
    fill,
    opened_gateway,
    tunnel,
)

IDLE = close_of(1001, b"no byte either way for too long")
STOPPING = close_of(1001)
BROKE = close_of(1011)
REVOKED = close_of(1008, b"credential revoked")
EXPIRED = close_of(1008, b"credential expired")


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
def live_gateway(tmp_path_factory: pytest.TempPathFactory, listening: Upstream) -> Iterator[RunningGateway]:
    with opened_gateway(tmp_path_factory, listening) as gateway:
        yield gateway


@pytest.fixture
def gateway(live_gateway: RunningGateway) -> RunningGateway:
    live_gateway.forget()
    return live_gateway


# -- the opening


def refused(name: str, sent: bytes, status: int, reason: str, *, closes: bool = True) -> Row:
    return Row(name, sent, status, reason, asks_keys=False, closes=closes)


def without(start: bytes, *more: bytes) -> bytes:
    return get(b"/live", *(line for line in HANDSHAKE if not line.startswith(start)), *more)


ROWS = [
    refused("A36-elsewhere", get(b"/items", *HANDSHAKE), 403, "upgrade_refused"),
    refused("A36-elsewhere-for-nobody", get(b"/items", *HANDSHAKE, authorization=b""), 403, "upgrade_refused"),
    refused("A36-no-such-path", get(b"/nothing", *HANDSHAKE, authorization=b""), 403, "upgrade_refused"),
    refused("A36-not-nominated", without(b"Connection"), 403, "upgrade_refused"),
    refused("A36-by-post", request(b"POST /live HTTP/1.1", *HANDSHAKE), 403, "upgrade_refused"),
    refused("A36-in-http-1.0", request(b"GET /live HTTP/1.0", *HANDSHAKE), 403, "upgrade_refused"),
    refused("A36-among-others", without(b"Upgrade", b"Upgrade: websocket, h2c"), 403, "upgrade_refused"),
    refused("A36-twice", get(b"/live", *HANDSHAKE, b"Upgrade: websocket"), 403, "upgrade_refused"),
    refused("A36-with-a-body", get(b"/live", *HANDSHAKE, b"Content-Length: 1") + b"x", 400, "framing_ambiguous"),
    refused("A36-with-a-length", get(b"/live", *HANDSHAKE, b"Content-Length: 0"), 403, "upgrade_refused"),
    refused("A36-without-version", without(b"Sec-WebSocket-Version"), 400, "header_refused"),
    refused(
        "A36-old-version",
        without(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 8"),
        400,
        "header_refused",
    ),
    refused("A36-without-key", without(b"Sec-WebSocket-Key"), 400, "header_refused"),
    refused("A36-short-key", without(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: YQ=="), 400, "header_refused"),
    refused("A36-two-keys", get(b"/live", *HANDSHAKE, b"Sec-WebSocket-Key: " + KEY), 400, "header_refused"),
    refused(
        "A36-a-key-that-is-nominated-away",
        get(b"/live", *HANDSHAKE, b"Connection: Sec-WebSocket-Key"),
        400,
        "header_refused",
    ),
    refused(
        "D22-a-token-among-the-protocols",
        get(b"/live", *HANDSHAKE, b"Sec-WebSocket-Protocol: bearer, <key:a>"),
        400,
        "credential_repeated",
    ),
    refused(
        "C29-a-page-that-is-not-listed",
        get(b"/pages", *HANDSHAKE, b"Origin: https://evil.test", authorization=b""),
        403,
        "cors_refused",
        closes=False,
    ),
    Row("A36-nobody", get(b"/live", *HANDSHAKE, authorization=b""), 401, "credential_missing", closes=False),
    Row(
        "A36-a-revoked-key",
        get(b"/live", *HANDSHAKE, authorization=b"Authorization: Bearer <key:revoked>\r\n"),
        401,
        "token_revoked",
        closes=False,
    ),
    Row(
        "A36-without-the-scope",
        get(b"/live", *HANDSHAKE, authorization=b"Authorization: Bearer <key:writer>\r\n"),
        403,
        "scope_missing",
        closes=False,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_websocket_that_may_not_be_opened_reaches_nobody(
    gateway: RunningGateway, upstream: Upstream, row: Row
) -> None:
    play(gateway, row)

    assert upstream.is_left_alone()


def test_a36_a_websocket_is_opened_with_a_head_of_ours(gateway: RunningGateway, upstream: Upstream) -> None:
    offers = (b"Sec-WebSocket-Protocol: chat, superchat", b"Sec-WebSocket-Extensions: permessage-deflate")
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live?room=1", *HANDSHAKE, *offers, b"Origin: https://any.test")))
        leg = upstream.accept()
        sent = leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(SWITCHING + TEXT)
        head = client.read_until(b"\r\n\r\n")
        first = client.read_until(TEXT)
        leg.socket.close()
        assert client.is_ended()

    line, *fields = sent.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert line == b"GET /live?room=1 HTTP/1.1"
    assert fields[:8] == [
        b"host: 127.0.0.1:%d" % upstream.port,
        b"sec-websocket-version: 13",
        b"sec-websocket-key: " + KEY,
        b"sec-websocket-protocol: chat, superchat",
        b"sec-websocket-extensions: permessage-deflate",
        b"origin: https://any.test",
        b"connection: upgrade",
        b"upgrade: websocket",
    ]
    assert b"x-gateway-key-id: " + gateway.keys.a.key_id in fields
    assert b"authorization" not in sent.lower()
    status, answered = read_head(head)
    assert status == 101
    assert first == TEXT
    assert [line for line in answered if line[0] != b"x-gateway-request-id"] == [
        (b"connection", b"upgrade"),
        (b"upgrade", b"websocket"),
        (b"Sec-WebSocket-Accept", accept_of(KEY)),
        (b"Sec-WebSocket-Protocol", b"chat"),
    ]
    assert ending(gateway) == (Verdict.ALLOWED, None, 101)
    assert gateway.outcomes[0].route == "live"
    assert gateway.outcomes[0].bytes_out == len(TEXT)


def test_a_page_that_is_listed_opens_one(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(get(b"/pages", *HANDSHAKE, b"Origin: https://app.test", authorization=b""))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(SWITCHING)
        assert read_head(client.read_until(b"\r\n\r\n"))[0] == 101
        leg.socket.close()


def test_an_upstream_that_does_not_switch_answers_as_ever(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live", *HANDSHAKE)))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
        answer = client.read()
        client.send(with_keys(gateway, get(b"/live")))
        second = leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(SWITCHING.replace(accept_of(KEY), accept_of(b"")))
        unasked = client.read()
        leg.socket.close()

    assert (answer.status, answer.body) == (426, b"no")
    assert b"upgrade" not in second
    assert unasked.status == 502


ACCEPT = b"Sec-WebSocket-Accept: " + accept_of(KEY)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Upgrade: websocket", b"Connection: Upgrade"),
        (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept_of(b"x")),
        (b"Upgrade: websocket", b"Connection: Upgrade", ACCEPT, ACCEPT),
        (b"Upgrade: h2c", b"Connection: Upgrade", ACCEPT),
        (b"Connection: Upgrade", ACCEPT),
        (b"Upgrade: websocket", ACCEPT),
        (b"Upgrade: websocket", b"Connection: close", ACCEPT),
    ],
)
def test_an_upstream_that_switches_to_something_else_is_at_fault(
    gateway: RunningGateway, upstream: Upstream, fields: tuple[bytes, ...]
) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live", *HANDSHAKE)))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + TEXT)
        answer = client.read()

        assert leg.ended()

    assert (answer.status, answer.reason) == (502, "upstream_invalid")
    assert ending(gateway) == (Verdict.UPSTREAM_FAILED, Reason.UPSTREAM_INVALID, 502)


# -- the tunnel


def test_bytes_pass_both_ways_as_they_are(gateway: RunningGateway, upstream: Upstream) -> None:
    noise = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(range(256)) * 300
    question, answer = frame(noise, BINARY, masked=True) + SAID, frame(noise, BINARY) + TEXT
    with tunnel(gateway, upstream) as (client, leg):
        client.send(question)
        up = leg.read_until(SAID)
        leg.socket.sendall(answer)
        down = client.read_until(TEXT)
        gateway.pass_time(IDLE_SECONDS - 1)
        leg.socket.sendall(TEXT)
        client.read_until(TEXT)
        gateway.pass_time(IDLE_SECONDS - 1)
        assert gateway.in_flight == 1
        leg.socket.close()
        assert client.is_ended()

    assert (up, down) == (question, answer)
    assert ending(gateway) == (Verdict.ALLOWED, None, 101)
    outcome = gateway.outcomes[0]
    assert (outcome.bytes_in, outcome.bytes_out) == (len(up), len(down) + len(TEXT))
    gateway.until(lambda: gateway.client_connections == 0)
    assert gateway.running.gateway.upstreams["live"].open_count == 0


def test_what_comes_before_the_101_waits_for_it(gateway: RunningGateway, upstream: Upstream) -> None:
    with RawClient(gateway.port) as client:
        client.send(with_keys(gateway, get(b"/live", *HANDSHAKE)) + SAID)
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        gateway.settle()
        assert leg.buffer == b""
        leg.socket.sendall(SWITCHING)

        assert leg.read_until(SAID) == SAID
        leg.socket.close()


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_k27_a_side_that_is_not_read_is_not_sent_more_than_it_takes(
    gateway: RunningGateway, upstream: Upstream, side: str
) -> None:
    piece = frame(b"x" * 65536, BINARY, masked=side == "upstream")
    with tunnel(gateway, upstream, client_socket=RawClient(gateway.port, receive_buffer_bytes=4096)) as (client, leg):
        taken = client.send_as_much_as_goes(piece) if side == "upstream" else fill(leg.socket, piece)
        assert taken < 32 * 2**20  # the kernel's buffers, and not the gateway's memory

        # And it all arrives once it is taken.
        arrived = 0
        while arrived < taken:
            data = leg.socket.recv(1 << 20) if side == "upstream" else client.socket.recv(1 << 20)
            assert data
            arrived += len(data)
        assert arrived == taken
        client.reset()
    assert ending(gateway)[0] is Verdict.CLIENT_GONE


def test_a_client_that_takes_nothing_is_let_go(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream, client_socket=RawClient(gateway.port, receive_buffer_bytes=4096)) as (_, leg):
        fill(leg.socket, TEXT * 9000)
        gateway.pass_time(61.0)
        assert ending(gateway) == (Verdict.CLIENT_GONE, None, 101)
        gateway.until(lambda: gateway.client_connections == 0)


# -- the end


@pytest.mark.parametrize("is_reset", [False, True])
def test_r13_a_client_that_leaves_ends_the_upstream_too(
    gateway: RunningGateway, upstream: Upstream, is_reset: bool
) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        if is_reset:
            client.reset()
        else:
            client.close()

        assert leg.ended()
    assert ending(gateway) == (Verdict.CLIENT_GONE, None, 101)


def test_after_a_close_frame_it_does_not_matter_who_leaves_first(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(TEXT + STOPPING)
        client.read_until(STOPPING)
        client.close()

        assert leg.ended()
    assert ending(gateway) == (Verdict.ALLOWED, None, 101)


def test_an_upstream_that_breaks_off_is_told_between_two_frames(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        leg.socket.sendall(TEXT)
        client.read_until(TEXT)
        leg.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        leg.socket.close()

        assert client.read_to_end() == BROKE
    assert ending(gateway) == (Verdict.UPSTREAM_FAILED, Reason.UPSTREAM_TRUNCATED, 101)


def test_a_silent_tunnel_ends(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        gateway.pass_time(IDLE_SECONDS + 1)

        assert client.read_to_end() == IDLE
        assert leg.ended()
    assert ending(gateway) == (Verdict.CLIENT_GONE, None, 101)


@pytest.mark.parametrize(
    ("sent", "passed", "told"),
    [
        (b"", b"", REVOKED),
        (TEXT, TEXT, REVOKED),
        (TEXT + TEXT[:1], TEXT, REVOKED),  # half a head does not pass
        (TEXT[:-1], TEXT[:-1], b""),  # a byte of ours would be taken for the last one of the text
        (TEXT + STOPPING, TEXT + STOPPING, b""),
    ],
)
def test_a36_a_key_that_is_revoked_ends_its_websockets(
    gateway: RunningGateway, upstream: Upstream, sent: bytes, passed: bytes, told: bytes
) -> None:
    key = gateway.new_key("READ")
    with tunnel(gateway, upstream, key) as (client, leg):
        leg.socket.sendall(sent)
        assert client.read_until(passed) == passed
        gateway.pass_time(1.5)
        assert gateway.in_flight == 1
        with open_key_service(gateway.settings.store) as service:
            service.revoke_key(key.key_id.decode())
        gateway.read_changes()
        gateway.pass_time(1.5)

        assert client.read_to_end() == told
        assert leg.ended()
    assert ending(gateway) == (Verdict.REFUSED, Reason.TOKEN_REVOKED, 101)


def test_a36_a_key_that_expires_ends_its_websockets(gateway: RunningGateway, upstream: Upstream) -> None:
    key = gateway.new_key("READ", expires_at=gateway.clock.now() + 5.0)
    with tunnel(gateway, upstream, key) as (client, _):
        gateway.pass_time(3.0)
        assert gateway.in_flight == 1
        gateway.pass_time(3.0)

        assert client.read_to_end() == EXPIRED
    assert ending(gateway) == (Verdict.REFUSED, Reason.TOKEN_EXPIRED, 101)


def test_a_client_that_waited_for_its_upstream_is_let_go_too(gateway: RunningGateway, upstream: Upstream) -> None:
    key = gateway.new_key("READ", expires_at=gateway.clock.now() + 5.0)
    with tunnel(gateway, upstream, key) as (client, _):
        client.send_as_much_as_goes(frame(b"x" * 65536, BINARY, masked=True))
        gateway.pass_time(6.0)

        assert ending(gateway) == (Verdict.REFUSED, Reason.TOKEN_EXPIRED, 101)
        gateway.until(lambda: gateway.client_connections == 0, "the end of the connection")


def test_a_key_that_memory_has_forgotten_is_looked_up_again(gateway: RunningGateway, upstream: Upstream) -> None:
    with tunnel(gateway, upstream) as (client, leg):
        misses = gateway.running.gateway.keys.counters.misses
        gateway.pass_time(60.0)
        gateway.until(lambda: gateway.running.gateway.keys.counters.misses > misses)
        leg.socket.sendall(TEXT)

        assert client.read_until(TEXT) == TEXT
        assert gateway.in_flight == 1
        leg.socket.close()


def test_a_drain_ends_websockets_with_a_word(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with (
        opened_gateway(tmp_path_factory, upstream, drain=30.0) as gateway,
        tunnel(gateway, upstream) as (client, leg),
    ):
        gateway.stop()  # at once: nothing is waited for

        assert client.read_to_end() == STOPPING
        assert leg.ended()
        assert [outcome.verdict for outcome in gateway.outcomes] == [Verdict.ALLOWED]


def test_a_websocket_over_tls_is_a_tunnel_too(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    made, key = certificate(tmp_path_factory.mktemp("certificate"))
    with (
        opened_gateway(tmp_path_factory, upstream, tls_certificate=made, tls_key=key) as gateway,
        tls_client(gateway.port, made) as client,
    ):
        client.sendall(with_keys(gateway, get(b"/live", *HANDSHAKE)))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        leg.socket.sendall(SWITCHING)
        assert answer_of(client).startswith(b"HTTP/1.1 101 ")
        client.sendall(SAID)
        assert leg.read_until(SAID) == SAID
        leg.socket.sendall(TEXT)
        assert client.recv(len(TEXT)) == TEXT
        gateway.pass_time(IDLE_SECONDS + 1)

        assert client.recv(len(IDLE)) == IDLE
        assert leg.ended()


# -- what a WebSocket may hold


def test_a_client_that_closed_its_side_before_the_opening_holds_nothing(
    gateway: RunningGateway, upstream: Upstream
) -> None:
    # R13: its end was heard before there was a tunnel to hear it.
    with RawClient(gateway.port) as client:
        client.send(get(b"/live", *HANDSHAKE, authorization=gateway.keys.a.line))
        leg = upstream.accept()
        leg.read_until(b"\r\n\r\n")
        client.finish()
        gateway.settle()
        leg.socket.sendall(SWITCHING)

        assert ending(gateway) == (Verdict.CLIENT_GONE, None, 0)
        assert b"101" not in client.read_to_end()
        assert leg.ended()
    assert gateway.running.gateway.services.tunnels.get("live", 0) == 0


def test_websockets_take_a_part_of_the_places_and_not_all(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    # K4
    with opened_gateway(tmp_path_factory, upstream, max_websockets=2) as gateway:
        with tunnel(gateway, upstream), tunnel(gateway, upstream), RawClient(gateway.port) as third:
            third.send(get(b"/live", *HANDSHAKE, authorization=gateway.keys.a.line))
            answer = third.read()
            assert (answer.status, answer.reason) == (503, "overloaded")
        gateway.until(lambda: gateway.in_flight == 0, "the end of both")
        with tunnel(gateway, upstream) as (client, leg):
            client.send(SAID)
            assert leg.read_until(SAID) == SAID


def test_websockets_that_are_opened_at_once_take_no_more_places(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    # K4
    with opened_gateway(tmp_path_factory, upstream, max_websockets=1) as gateway:
        opening = get(b"/live", *HANDSHAKE, authorization=gateway.keys.a.line)
        with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
            legs = []
            for client in (first, second):
                client.send(opening)
                legs.append(upstream.accept())
                legs[-1].read_until(b"\r\n\r\n")
            legs[0].socket.sendall(SWITCHING)
            first.read_until(b"\r\n\r\n")
            legs[1].socket.sendall(SWITCHING)
            answer = second.read()

            assert (answer.status, answer.reason) == (503, "overloaded")
            assert legs[1].ended()
            assert gateway.running.gateway.services.tunnels == {"live": 1}
            first.send(SAID)
            assert legs[0].read_until(SAID) == SAID
        gateway.until(lambda: gateway.in_flight == 0, "the end of both")
        assert gateway.running.gateway.services.tunnels == {"live": 0}
