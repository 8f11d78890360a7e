"""C10 and C11, a policy that names its hosts: every other `Host` is 421 before anything else is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import POLICY, RunningGateway, running_gateway
from tests.support.rows import Forwarded, Row, get, play, post, request

HOSTS = 'hosts: [gateway.test, "gateway.test:8443", "*.eu.gateway.test", "[2001:db8::1]"]\n'


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(
        tmp_path_factory.mktemp("hosts"), policy=POLICY.replace("errors: problem\n", HOSTS)
    ) as gateway:
        yield gateway


def host(value: bytes) -> bytes:
    return b"Host: " + value + b"\r\n"


def served(name: str, value: bytes) -> Row:
    return Row(name, get(b"/items", host=host(value)), 200, closes=False, forwarded=Forwarded(b"/items", host=value))


def misdirected(name: str, sent: bytes) -> Row:
    return Row(name, sent, 421, "host_unknown", asks_keys=False, closes=False)


ROWS = [
    *(
        misdirected(f"C10-{name}", get(b"/items", host=host(value)))
        for name, value in {
            "another": b"evil.test",
            "longer": b"gateway.test.evil.test",
            "begins-alike": b"gateway.testing",
            "ends-alike": b"evilgateway.test",
            "below": b"www.gateway.test",
            "shorter": b"test",
            "address": b"127.0.0.1",
            "wildcard-itself": b"eu.gateway.test",
            "wildcard-without-label": b".eu.gateway.test",
            "wildcard-two-labels": b"a.b.eu.gateway.test",
            "wildcard-begins-alike": b"a.eu.gateway.test.evil.test",
            "wildcard-another-port": b"a.eu.gateway.test:8443",
        }.items()
    ),
    misdirected("C10-nobody", get(b"/items", host=host(b"evil.test"), authorization=b"")),
    misdirected("C10-public", get(b"/public", host=host(b"evil.test"), authorization=b"")),
    misdirected("C10-no-route", get(b"/nothing", host=host(b"evil.test"))),
    misdirected("C10-token-in-query", get(b"/items?token=x", host=host(b"evil.test"), authorization=b"")),
    Row(
        "C10-with-a-body",
        post(b"Content-Length: 3", body=b"abc", host=host(b"evil.test")),
        421,
        "host_unknown",
        asks_keys=False,
    ),
    Row("C10-in-http-1.0", request(b"GET /items HTTP/1.0", host=host(b"evil.test")), 421, "host_unknown"),
    served("C11-as-written", b"gateway.test"),
    served("C11-capitals", b"GATEWAY.Test"),
    served("C11-dot", b"gateway.test."),
    served("C11-dot-and-port", b"Gateway.test.:443"),
    served("C11-port-80", b"gateway.test:80"),
    served("C11-port-443", b"gateway.test:443"),
    served("C11-the-port-that-is-listed", b"gateway.test:8443"),
    served("C11-below-a-wildcard", b"R16.eu.gateway.test."),
    served("C11-an-address", b"[2001:DB8::1]:443"),
    *(
        misdirected(f"C11-{name}", get(b"/items", host=host(value)))
        for name, value in {
            "another-port": b"gateway.test:8080",
            "zero-before-the-port": b"gateway.test:080",
            "two-dots": b"gateway.test..",
        }.items()
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_host_is_served_or_misdirected(hosting: RunningGateway, row: Row) -> None:
    play(hosting, row)


def test_c10_a_host_is_looked_at_again_with_each_request_of_a_connection(hosting: RunningGateway) -> None:
    play(hosting, ROWS[0])
    play(hosting, served("C10-then-a-good-one", b"gateway.test"))
    play(hosting, ROWS[0])
