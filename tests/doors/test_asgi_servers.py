"""What each ASGI server makes of the requests of group A before our door sees them, measured with real processes.

Nothing here is a wish: `LETS_THROUGH` and the table in `docs/asgi.md` are what these servers do, and the tests hold
both to it. None of them makes two requests out of one; what they let through that our own door refuses is what a user
of that server gives up. Where a hidden framing field is among it, the application does not start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from gateway.assembly.asgi import _LAX_SERVERS
from tests.doors.threats.test_group_a import CHUNKED, ROWS
from tests.support.asgi_servers import APPLICATION, SAFETY_SECONDS, SERVERS, serving, started
from tests.support.gateway import RunningGateway
from tests.support.raw import BrokenAnswer, RawClient
from tests.support.recording_upstream import Recorded
from tests.support.rows import AUTHORIZATION, Forwarded, get, post, with_keys

DOCUMENT = Path(__file__).parents[2] / "docs" / "asgi.md"
QUIET_SECONDS = 1.0
"""A server that has said nothing for so long waits for more, where no request is expected to pass."""

LETS_THROUGH = {
    "uvicorn, httptools": """
        A17-seventeen-digits
        A18-extension A18-extension-on-the-last-chunk A18-one-byte-chunks-of-long-extensions
        A22-x-forwarded-for A22-x-gateway-key-id A22-x-harmless
        A31-other-protocol
        A32-two-empty-lines-before A32-bare-lf-before A32-bare-cr-before
        A32-two-spaces-after-method A32-two-spaces-after-target
    """,
    "uvicorn, h11": """
        A2-two-equal-lengths A2-two-equal-lengths-of-nought A2-two-equal-lengths-apart
        A4-list-of-equal-lengths A4-list-without-space
        A12-bare-lf-throughout A12-bare-lf-after-request-line A12-bare-lf-after-a-field A12-bare-lf-at-the-end
        A14-folded-with-space A14-folded-with-tab A14-folded-empty-value A14-folded-coding
        A17-space-after A17-tab-after A17-seventeen-digits
        A18-extension A18-extension-without-name A18-extension-with-bare-cr A18-extension-on-the-last-chunk
        A18-one-byte-chunks-of-long-extensions
        A22-authorization A22-host A22-x-forwarded-for A22-x-gateway-key-id A22-x-harmless
    """,
    "granian": """
        A1-length-then-chunked A1-chunked-then-length A1-length-nought-then-chunked
        A2-two-equal-lengths A2-two-equal-lengths-of-nought A2-two-equal-lengths-apart
        A12-bare-lf-throughout A12-bare-lf-after-request-line A12-bare-lf-after-a-field A12-bare-lf-at-the-end
        A17-space-after A17-tab-after A17-seventeen-digits
        A18-extension A18-extension-without-name A18-extension-on-the-last-chunk
        A22-authorization A22-host A22-content-length A22-x-forwarded-for A22-x-gateway-key-id A22-x-harmless
        A32-two-empty-lines-before A32-bare-lf-before
    """,
    "hypercorn": """
        A2-two-equal-lengths A2-two-equal-lengths-of-nought A2-two-equal-lengths-apart
        A4-list-of-equal-lengths A4-list-without-space
        A12-bare-lf-throughout A12-bare-lf-after-request-line A12-bare-lf-after-a-field A12-bare-lf-at-the-end
        A14-folded-with-space A14-folded-with-tab A14-folded-empty-value A14-folded-coding
        A17-space-after A17-tab-after A17-seventeen-digits
        A18-extension A18-extension-without-name A18-extension-with-bare-cr A18-extension-on-the-last-chunk
        A18-one-byte-chunks-of-long-extensions
        A22-authorization A22-host A22-x-forwarded-for A22-x-gateway-key-id A22-x-harmless
    """,
}
"""Rows that our own door refuses, and after which the upstream has a whole request."""

HIDDEN_FRAMING = ("A1", "A12", "A14")
REFUSED_TOO = {
    "uvicorn, httptools": "",
    "uvicorn, h11": "A32-one-empty-line-before",
    "granian": "",
    "hypercorn": "A32-one-empty-line-before A33-h2c A33-h2c-not-nominated",
}
"""Rows that our own door lets through, and the server does not."""


@pytest.fixture(scope="module")
def ports(shared_gateway: RunningGateway) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(name, shared_gateway)) for name in SERVERS}


def whole_requests(
    gateway: RunningGateway, port: int, sent: bytes, *, passes: bool = True, finishes: bool = False
) -> list[Recorded]:
    """What the upstream was sent when `sent` came on a connection of its own; `passes`: something is expected."""
    gateway.upstream.clear()
    with RawClient(port) as client:
        client.socket.settimeout(SAFETY_SECONDS if passes else QUIET_SECONDS)
        client.send(with_keys(gateway, sent))
        if finishes:
            client.finish()
        try:
            while client.read(sent.partition(b" ")[0]).status < 200:
                pass
        except (BrokenAnswer, AssertionError):
            pass  # no answer is one, too, and so is one that no HTTP/1.1 client understands
    return gateway.upstream.settled().requests


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_server_lets_through_is_what_was_measured(
    name: str, ports: dict[str, int], shared_gateway: RunningGateway
) -> None:
    expected, passed = set(LETS_THROUGH[name].split()), set()
    for row in ROWS:
        if isinstance(row.forwarded, Forwarded):
            continue
        requests = whole_requests(
            shared_gateway, ports[name], row.sent, passes=row.id in expected, finishes=row.finishes
        )
        assert len(requests) <= 1, f"{row.id} became {len(requests)} requests"
        if requests:
            passed.add(row.id)
            assert requests[0].target == b"/items", row.id
            assert requests[0].values(b"x-gateway-key-id") == [shared_gateway.keys.a.key_id], row.id

    assert passed == expected


@pytest.mark.parametrize("name", SERVERS)
def test_what_our_own_door_accepts_is_the_same_request_behind_every_server_or_none(
    name: str, ports: dict[str, int], shared_gateway: RunningGateway
) -> None:
    expected, refused = set(REFUSED_TOO[name].split()), set()
    for row in ROWS:
        if not isinstance(row.forwarded, Forwarded):
            continue
        requests = whole_requests(shared_gateway, ports[name], row.sent, passes=row.id not in expected)
        if not requests:
            refused.add(row.id)
            continue
        (one,) = requests
        assert (one.method, one.target, one.body) == (row.forwarded.method, row.forwarded.target, row.forwarded.body)
        assert one.headers == head_meant(shared_gateway, row.forwarded, one), row.id

    assert refused == expected


def head_meant(gateway: RunningGateway, meant: Forwarded, sent: Recorded) -> list[tuple[bytes, bytes]]:
    (ref,) = sent.values(b"x-gateway-request-id")
    return gateway.head_fields(
        gateway.keys.a, client=list(meant.client), framing=list(meant.framing), host=meant.host, ref=ref
    )


HIDDEN = get(b"/items/hidden")
SMUGGLED = {
    "behind a chunked body with a length": post(
        b"Content-Length: %d" % (len(HIDDEN) + 5), b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN
    ),
    "behind a length with a coding": post(
        b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN
    ),
    "behind the shorter of two lengths": post(
        b"Content-Length: 3", b"Content-Length: %d" % (len(HIDDEN) + 3), body=b"abc" + HIDDEN
    ),
    "in a body that is refused": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN, authorization=b""),
    "in a body with GET": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN).replace(b"POST", b"GET", 1),
    "in a chunked body with GET": post(
        b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ).replace(b"POST", b"GET", 1),
    "behind an unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
    "behind a body with Upgrade": post(
        b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc" + HIDDEN
    ),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("where", SMUGGLED)
def test_no_server_makes_a_request_of_what_belongs_to_another(
    name: str, where: str, ports: dict[str, int], shared_gateway: RunningGateway
) -> None:
    gateway = shared_gateway
    gateway.upstream.clear()
    with RawClient(ports[name]) as client:
        client.socket.settimeout(0.3)
        client.send(with_keys(gateway, SMUGGLED[where]))
        with suppress(AssertionError):  # it goes on to listen, and has said what it had to say
            client.read_to_end()

    assert b"/items/hidden" not in [one.target for one in gateway.upstream.settled().requests]


@pytest.mark.parametrize("name", SERVERS)
def test_a_token_in_a_trailer_is_read_by_one_server_alone(
    name: str, ports: dict[str, int], shared_gateway: RunningGateway
) -> None:
    # D17, A22: this server gives the trailer fields of the same packet to the application as header fields.
    sent = post(CHUNKED, body=b"3\r\nabc\r\n0\r\n" + AUTHORIZATION + b"X-Trailer: 1\r\n\r\n", authorization=b"")

    requests = whole_requests(shared_gateway, ports[name], sent)

    assert [one.values(b"x-trailer") for one in requests] == ([[b"1"]] if name == "uvicorn, httptools" else [])
    assert all(one.values(b"authorization") == [] for one in requests)


def test_the_table_of_the_documentation_is_what_was_measured() -> None:
    lines = [line for line in DOCUMENT.read_text("utf-8").splitlines() if re.match(r"\| A[0-9]+ \|", line)]
    shown = {}
    for line in lines:
        number, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        shown[number] = cells

    measured = {name: {row.partition("-")[0] for row in rows.split()} for name, rows in LETS_THROUGH.items()}
    expected = {
        number: ["passes" if number in measured[name] else "" for name in SERVERS]
        for number in sorted(set().union(*measured.values()), key=lambda number: int(number[1:]))
    }
    assert shown == expected
    header = next(line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| id |"))
    assert [cell.strip() for cell in header.strip("|").split("|")][2:] == list(SERVERS)


def test_those_through_which_hidden_framing_comes_are_those_that_are_refused() -> None:
    lax = {
        name
        for name, rows in LETS_THROUGH.items()
        if any(row.partition("-")[0] in HIDDEN_FRAMING for row in rows.split())
    }

    assert lax == {server.replace(" with", ",") for server in _LAX_SERVERS.values()}


LAX = [name for name in SERVERS if name.replace(",", " with") in _LAX_SERVERS.values()]


@pytest.mark.parametrize("name", LAX)
def test_under_a_lax_server_the_application_does_not_start(name: str, shared_gateway: RunningGateway) -> None:
    said = f"{name.replace(',', ' with')} lets requests through that two hops may read differently"
    with started(name, shared_gateway, APPLICATION) as server:
        end = time.monotonic() + SAFETY_SECONDS
        while said not in server.said:
            assert time.monotonic() < end, server.said
            time.sleep(0.05)


@pytest.mark.parametrize("name", [name for name in SERVERS if name not in LAX])
def test_under_any_other_it_does(name: str, shared_gateway: RunningGateway) -> None:
    with serving(name, shared_gateway, APPLICATION) as port:
        assert len(whole_requests(shared_gateway, port, get(b"/items"))) == 1
