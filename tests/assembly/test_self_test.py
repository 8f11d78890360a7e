"""Before it serves, a gateway tries its own guards; one that lets something through does not start."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.assembly import CannotStart
from gateway.assembly.self_test import ATTEMPTS, Attempt, try_guards
from gateway.assembly.serving import start
from gateway.doors.proxy import ClientConnection
from gateway.doors.services import Services
from gateway.settings import Settings
from tests.support.gateway import POLICY, running_gateway


class Laxer(asyncio.Protocol):
    """The door behind a parser that mends what it should refuse."""

    def __init__(self, services: Services, mend: Callable[[bytes], bytes]) -> None:
        self.door = ClientConnection(services, set(), set())
        self.mend = mend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.door.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.door.data_received(self.mend(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.connection_lost(exc)


def mends(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new)


MENDED: dict[str, Callable[[bytes], bytes]] = {
    "`Content-Length` beside `Transfer-Encoding`": mends(b"Content-Length: 5\r\nTransfer", b"Transfer"),
    "two `Content-Length`": mends(b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3"),
    "`Transfer-Encoding: xchunked`": mends(b"xchunked", b"chunked"),
    "a chunk size of `0x3`": mends(b"0x3\r\n", b"3\r\n"),
    "a trailer field": mends(b"0\r\nX-Gateway-Key-Id: admin\r\n", b"0\r\n"),
    "a line that ends without CR": mends(b"X-A: b\nX-C", b"X-A: b\r\nX-C"),
    "a folded field": mends(b"b\r\n c", b"b c"),
    "a NUL in a value": mends(b"\x00", b""),
    "a field name with `_`": mends(b"X_Gateway_Key_Id", b"X-Gateway-Key-Id"),
    "two `Host`": mends(b"Host: other.test\r\n", b""),
    "HTTP/0.9": mends(b"GET /open\r\n", b"GET /open HTTP/1.1\r\n"),
    "HTTP/2.0 in the request line": mends(b"HTTP/2.0", b"HTTP/1.1"),
    "a dot segment": mends(b"/open/../closed", b"/open"),
    "an encoded slash": mends(b"/open%2Fclosed", b"/open"),
    "a whole URL as the target": mends(b"http://gateway.test/open", b"/open"),
    "a body with GET": mends(b"Content-Length: 3\r\n\r\nabc", b"\r\n"),
    "no token where one is needed": mends(b"/closed", b"/open"),
    "a token that nobody has": lambda data: data.replace(b"/closed", b"/open").replace(b"Authorization", b"X-Nothing"),
}


def test_every_guard_holds() -> None:
    try_guards()


def test_it_takes_a_few_milliseconds() -> None:
    try_guards()
    began = time.process_time()
    for _ in range(10):
        try_guards()

    # 1 ms interpreted on one core at 2.8 GHz; a start may cost 50.
    assert (time.process_time() - began) / 10 < 0.05


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.what for attempt in ATTEMPTS])
def test_what_a_guard_lets_through_is_told_and_nothing_starts(attempt: Attempt) -> None:
    mend = MENDED[attempt.what]
    assert mend(attempt.sent) != attempt.sent

    with pytest.raises(CannotStart) as told:
        try_guards(lambda services: Laxer(services, mend))

    (line,) = [line for line in str(told.value).splitlines() if f"a request with {attempt.what} " in line]
    assert line.startswith("self-test: ")
    assert "was forwarded" in line


def test_every_attempt_has_its_own_way_to_be_mended() -> None:
    assert MENDED.keys() == {attempt.what for attempt in ATTEMPTS}


def test_a_door_that_refuses_everything_is_told_too() -> None:
    with pytest.raises(CannotStart, match=r"self-test: a request that may pass was answered 400, or changed"):
        try_guards(lambda services: Laxer(services, lambda data: b"\x00" + data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"X-Gateway-Key-Id: admin", b"X-Another: admin"),
        (b"X-Forwarded-For: 192.0.2.1", b"X-Forwarder: 192.0.2.1"),
        (b"Connection: x-gone", b"Connection: x-stays"),
        (b"X-Mine: a", b"X-Mine: b"),
    ],
)
def test_a_head_that_is_not_sent_on_as_it_must_be_is_told(old: bytes, new: bytes) -> None:
    with pytest.raises(CannotStart, match=r"self-test: a request that may pass was answered 0, or changed"):
        try_guards(lambda services: Laxer(services, mends(old, new)))


async def test_a_gateway_whose_guards_do_not_hold_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise CannotStart("self-test: a request with two `Host` was forwarded")

    monkeypatch.setattr("gateway.assembly.serving.try_guards", fails)
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    settings = Settings(policy=tmp_path / "policy.yaml", upstreams={"rest": "http://127.0.0.1:9"})

    with pytest.raises(CannotStart, match="two `Host`"):
        await start(settings)


def test_the_gateway_itself_hears_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "bearergate"), running_gateway(tmp_path) as gateway:
        assert gateway.outcomes == []
        assert gateway.metric("bearergate_requests_total") == 0
        assert gateway.key_lookups == 0
        assert gateway.log_bytes() == b""
        assert gateway.upstream.received_bytes == 0
        assert not [record for record in caplog.records if "fault" in record.getMessage()]
