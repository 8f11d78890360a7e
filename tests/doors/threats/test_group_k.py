"""Group K, exhaustion: each limit at n - 1, n and n + 1, each crowd bounded, and who is served stays served."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.core.facts import FIELD_LIMIT_BYTES, FIELDS_LIMIT
from gateway.core.reasons import Reason
from gateway.settings import KeyCacheSettings
from gateway.wire.limits import HEAD_LIMIT_BYTES
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient, exchange
from tests.support.recording_upstream import Step

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TARGET_LIMIT_BYTES = 8192


def head_of(gateway: RunningGateway, target: bytes = b"/items", fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n" % (target, gateway.keys.a.line, fields)


def posted(gateway: RunningGateway, body: bytes) -> bytes:
    return (
        b"POST /gql HTTP/1.1\r\nHost: gateway.test\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (gateway.keys.a.line, len(body), body)
    )


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path) as gateway:
        yield gateway


# -- slow and many


@pytest.mark.parametrize("piece", [b"G", b"GET /items HTTP/1.1\r\nHost: gateway.test\r\nX-", b"\r\n"])
def test_k1_slow_heads_are_all_let_go_and_nobody_else_waits_for_them(own: RunningGateway, piece: bytes) -> None:
    # R22
    with ExitStack() as crowd, RawClient(own.port) as friend:
        slow = [crowd.enter_context(RawClient(own.port)) for _ in range(100)]
        for client in slow:
            client.send(piece)
        own.until(lambda: own.client_connections == 101, "the crowd")
        friend.send(head_of(own))
        assert friend.read().status == 200

        for _ in range(4):
            own.pass_time(own.settings.timeouts.head / 3)
            friend.send(head_of(own))
            assert friend.read().status == 200

        own.until(lambda: own.client_connections == 1, "the end of the slow")


def test_k5_a_storm_without_credentials_is_answered_and_health_answers_beside_it(own: RunningGateway) -> None:
    # R21
    with RawClient(own.port) as friend, ExitStack() as storm:
        clients = [storm.enter_context(RawClient(own.port)) for _ in range(300)]
        for client in clients:
            client.send(b"GET /items HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
        friend.send(head_of(own))

        assert friend.read().status == 200
        assert [client.read().status for client in clients] == [401] * 300
        with urllib.request.urlopen(f"http://127.0.0.1:{own.running.admin_port}/livez", timeout=5) as answer:
            assert answer.status == 200
    own.until(lambda: own.client_connections == 0, "the end of the storm")


def test_k28_very_many_pipelined_requests_take_turns_with_everybody_else(own: RunningGateway) -> None:
    many = 1000
    with RawClient(own.port) as greedy, RawClient(own.port) as friend:
        sender = threading.Thread(target=greedy.send, args=(head_of(own) * many,))
        sender.start()
        own.until(lambda: own.in_flight > 0 or bool(own.outcomes), "the first of many")
        friend.send(head_of(own, b"/items/friend"))
        assert friend.read().status == 200
        answered_before = sum(outcome.path == "/items" for outcome in own.outcomes)
        for _ in range(many):
            assert greedy.read().status == 200
        sender.join()

    assert answered_before < many
    assert len(own.upstream.settled().requests) == many + 1


def test_k12_a_flood_of_unknown_tokens_is_bounded_in_memory_and_evicts_nobody(tmp_path: Path) -> None:
    cache = KeyCacheSettings(poll=5.0, lookup_timeout=5.0, max_unknown=50)
    with running_gateway(tmp_path, key_cache=cache) as gateway, RawClient(gateway.port) as client:
        client.send(head_of(gateway))
        assert client.read().status == 200
        for number in range(200):
            token = b"e5c3b842231543f.%048d" % number
            client.send(b"GET /items HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer %b\r\n\r\n" % token)
            assert client.read().status == 401

        keys = gateway.running.gateway.keys
        assert keys.unknown_count == 50
        misses = keys.counters.misses
        client.send(head_of(gateway))
        assert client.read().status == 200
        assert keys.counters.misses == misses


# -- limits of a head


def with_fields(gateway: RunningGateway, count: int) -> bytes:
    """A head of `count` header fields in all; `Host` and `Authorization` are two of them."""
    return head_of(gateway, fields=b"".join(b"X-%d: 1\r\n" % number for number in range(count - 2)))


def with_field_of(gateway: RunningGateway, size: int) -> bytes:
    return head_of(gateway, fields=b"X-Long: %b\r\n" % (b"a" * size))


def with_head_of(gateway: RunningGateway, size: int) -> bytes:
    """A head of `size` bytes, no field of which is too long."""
    head = head_of(gateway, fields=b"".join(b"X-%d: %b\r\n" % (n, b"a" * 7000) for n in range(4)) + b"X-Rest: \r\n")
    return head.replace(b"X-Rest: ", b"X-Rest: " + b"a" * (size - len(head)))


def with_target_of(gateway: RunningGateway, size: int) -> bytes:
    return head_of(gateway, b"/items?" + b"a" * (size - len(b"/items?")))


@pytest.mark.parametrize(
    ("built", "limit", "status"),
    [
        (with_fields, FIELDS_LIMIT, 431),
        (with_field_of, FIELD_LIMIT_BYTES, 431),
        (with_head_of, HEAD_LIMIT_BYTES, 431),
        (with_target_of, TARGET_LIMIT_BYTES, 414),
    ],
)
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_k7_each_limit_of_a_head_holds_exactly(
    gateway: RunningGateway, built: Callable[[RunningGateway, int], bytes], limit: int, status: int, beyond: int
) -> None:
    # R23
    answer = exchange(gateway.port, built(gateway, limit + beyond))

    assert answer.status == (status if beyond > 0 else 200)
    assert len(gateway.upstream.settled().requests) == (0 if beyond > 0 else 1)


# -- bodies made to be costly


def nested(depth: int) -> bytes:
    return b'{"query": "{item}", "variables": {"a": %b1%b}}' % (b"[" * depth, b"]" * depth)


MANY_KEYS = json.dumps({"query": "{item}", "variables": {f"k{number}": 1 for number in range(50_000)}}).encode()
LONG_NUMBER = b'{"query": "{item}", "variables": {"a": %b}}' % (b"9" * 900_000)
COLLIDING = json.dumps({"query": "{item}", "variables": {"\u0000" * number: 1 for number in range(300)}}).encode()


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        pytest.param(nested(100_000), {400}, id="K8-nested-100000-deep"),
        pytest.param(b"[" * 500_000, {400}, id="K8-only-brackets"),
        pytest.param(b'{"a":' * 100_000, {400}, id="K8-nested-objects"),
        pytest.param(LONG_NUMBER, {200, 400}, id="K8-a-number-of-900000-digits"),
        pytest.param(MANY_KEYS, {200, 400}, id="K8-K11-fifty-thousand-keys"),
        pytest.param(COLLIDING, {200, 400}, id="K11-keys-alike"),
        pytest.param(b'{"query": "%b"}' % (b"{item " * 5000), {400}, id="K9-an-open-document"),
        pytest.param(b'{"query": "{%b}"}' % (b"item " * 6000), {400}, id="K9-too-many-tokens"),
        pytest.param(b'{"query": "{item%b}"}' % (b" #x\\n" * 6000), {400}, id="K9-too-many-comments"),
        pytest.param(b'{"query": "{%b}"}' % b" ".join(b"a%d: item" % n for n in range(31)), {400}, id="K9-aliases"),
    ],
)
def test_k8_k9_k11_a_costly_body_is_refused_or_passed_and_the_loop_goes_on(
    gateway: RunningGateway, body: bytes, statuses: set[int]
) -> None:
    answer = exchange(gateway.port, posted(gateway, body))

    assert answer.status in statuses
    assert len(gateway.upstream.settled().requests) == (1 if answer.status == 200 else 0)
    assert exchange(gateway.port, head_of(gateway)).status == 200


def test_k17_the_longest_path_is_matched_like_any_other(gateway: RunningGateway) -> None:
    longest = b"/items" * (TARGET_LIMIT_BYTES // 6)

    assert exchange(gateway.port, head_of(gateway, longest)).status == 404


# -- what is slow behind us


def test_k20_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    # R33
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with running_gateway(tmp_path, access_log=str(pipe)) as gateway, RawClient(gateway.port) as client:
            for _ in range(400):
                client.send(head_of(gateway, b"/items/" + b"a" * 100) * 10)
                for _ in range(10):
                    assert client.read().status == 200

            # 4,000 lines of some 400 bytes are far more than the 64 KiB of a pipe.
            client.send(head_of(gateway))
            assert client.read().status == 200
            assert gateway.in_flight == 0
    finally:
        os.close(reader)


def test_k21_no_client_can_make_a_series(own: RunningGateway) -> None:
    exchange(own.port, head_of(own))
    before = own.scrape().count("\n")
    for number in range(50):
        exchange(own.port, head_of(own, b"/items/%d" % number))
        exchange(own.port, head_of(own, b"/nowhere-%d" % number))
    after = own.scrape().count("\n")

    # The second route and `unmatched` have series of their own now; fifty ids and fifty paths have none.
    assert after - before < 120


def test_k25_whoever_is_turned_away_is_told_when_to_come_back(tmp_path: Path) -> None:
    with (
        running_gateway(tmp_path, max_connections=1) as gateway,
        RawClient(gateway.port) as first,
        RawClient(gateway.port) as second,
    ):
        first.send(head_of(gateway))
        assert first.read().status == 200
        second.send(head_of(gateway))
        answer = second.read()

    assert (answer.status, answer.reason) == (503, "overloaded")
    assert answer.header(b"retry-after") == b"1"


# -- streams


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"


def begun(gateway: RunningGateway, crowd: ExitStack, line: bytes) -> RawClient:
    """A client whose answer has begun and does not end."""
    gateway.upstream.script((STREAM, Step.WAIT, Step.CLOSE))
    client = crowd.enter_context(RawClient(gateway.port))
    client.send(b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + line + b"\r\n")
    client.read_until(b"data: x\n\n")
    return client


@pytest.mark.parametrize("count", [2, 3])
def test_k16_a_caller_with_all_its_streams_may_begin_nothing_and_others_may(tmp_path: Path, count: int) -> None:
    with running_gateway(tmp_path, max_streams_per_caller=3) as gateway, ExitStack() as crowd:
        for _ in range(count):
            begun(gateway, crowd, gateway.keys.a.line)
        gateway.pass_time(1.1)

        assert gateway.in_flight == count
        gateway.upstream.script(OK, OK)
        assert exchange(gateway.port, head_of(gateway)).status == (503 if count == 3 else 200)
        other = b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + gateway.keys.b.line + b"\r\n"
        assert exchange(gateway.port, other).status == 200


def test_k16_streams_beyond_the_limit_are_broken_off_and_a_free_place_can_be_used(tmp_path: Path) -> None:
    with running_gateway(tmp_path, max_streams_per_caller=3) as gateway, ExitStack() as crowd:
        clients = [begun(gateway, crowd, gateway.keys.a.line) for _ in range(5)]
        gateway.pass_time(0.9)
        assert gateway.in_flight == 5
        gateway.pass_time(0.2)

        gateway.until(lambda: gateway.in_flight == 3, "the end of two")
        assert [outcome.reason for outcome in gateway.outcomes] == [Reason.OVERLOADED] * 2
        refused = exchange(gateway.port, head_of(gateway))
        assert (refused.status, refused.reason, refused.header(b"retry-after")) == (503, "overloaded", b"1")
        for client in clients:
            client.reset()
        gateway.until(lambda: gateway.in_flight == 0, "the end of all")
        gateway.pass_time(0.3)
        gateway.upstream.script(OK)
        assert exchange(gateway.port, head_of(gateway)).status == 200
