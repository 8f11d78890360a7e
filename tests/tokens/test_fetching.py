"""One bounded exchange with an issuer, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest

from gateway.tokens.fetching import IssuerClient, IssuerUnreachable
from tests.tokens.serving import LoopbackIssuer, answer, loopback_issuer

LIMIT = 1_000


async def fault(issuer: LoopbackIssuer, timeout_seconds: float = 5.0) -> str:
    client = IssuerClient(issuer.url, timeout_seconds=timeout_seconds, max_answer_bytes=LIMIT)
    try:
        with pytest.raises(IssuerUnreachable) as failed:
            await client.get()
    finally:
        await client.aclose()
    return str(failed.value).replace(f"`{issuer.url}` ", "")


async def test_an_answer_comes_whole() -> None:
    async with loopback_issuer(lambda _: answer(b"x" * LIMIT)) as issuer:
        client = IssuerClient(issuer.url, max_answer_bytes=LIMIT)

        assert b"x" * LIMIT == await client.get()
        await client.aclose()

        lines = issuer.asked[0].split(b"\r\n")
        assert b"GET /keys HTTP/1.1" == lines[0]
        assert b"accept-encoding: identity" in [line.lower() for line in lines]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        # F11: what is no answer
        (answer(b"x" * (LIMIT + 1)), "answered more than 1000 bytes"),
        (answer(b"", "500 Internal Server Error"), "answered 500"),
        (answer(b"", "429 Too Many Requests"), "answered 429"),
        (answer(b"{}", "201 Created"), "answered 201"),
        (answer(b"", "304 Not Modified"), "answered 304"),
        (answer(b"\x1f\x8b", "200 OK", b"content-encoding: gzip"), "answered in a coding that nobody asked for"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "cannot be asked (RemoteProtocolError)"),
    ],
)
async def test_f11_what_is_no_whole_small_answer_is_a_fault(said: bytes, told: str) -> None:
    async with loopback_issuer(lambda _: said) as issuer:
        assert told == await fault(issuer)


async def test_nobody_is_told_of_a_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with loopback_issuer(lambda _: answer(b"", "500 Internal Server Error")) as issuer:
        client = IssuerClient(issuer.url + "?code=hush-hush")
        with pytest.raises(IssuerUnreachable) as failed:
            await client.get()
        await client.aclose()

    assert f"`{issuer.url}` answered 500" == str(failed.value)
    # Nor of each answer: how many there are is up to whoever sends tokens.
    assert caplog.records == []


async def test_f5_a_redirect_is_not_followed() -> None:
    async with loopback_issuer(lambda _: answer(b'{"keys":[]}')) as elsewhere:
        moved = answer(b"", "302 Found", b"location: " + elsewhere.url.encode())
        async with loopback_issuer(lambda _: moved) as issuer:
            assert "answered 302" == await fault(issuer)
            assert [] == elsewhere.asked


async def test_f11_an_issuer_that_never_answers_is_waited_for_once() -> None:
    async with loopback_issuer(lambda _: None) as issuer:
        assert "did not answer within 0.2 s" == await fault(issuer, 0.2)


async def test_f11_an_answer_without_end_is_waited_for_as_long_as_a_whole_one() -> None:
    async with loopback_issuer(lambda _: answer(b"x" * 10)[:-5]) as issuer:
        assert "did not answer within 0.2 s" == await fault(issuer, 0.2)


async def test_f11_an_answer_that_comes_byte_by_byte_has_no_more_time_than_any_other() -> None:
    ended = asyncio.Event()

    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"x" * LIMIT)[:-LIMIT])
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    async with await asyncio.start_server(dribble, "127.0.0.1", 0) as server:
        issuer = LoopbackIssuer(lambda _: None)
        issuer.port = server.sockets[0].getsockname()[1]

        assert "did not answer within 0.3 s" == await fault(issuer, 0.3)
        await asyncio.wait_for(ended.wait(), 5)


async def test_an_issuer_that_is_not_there_is_a_fault() -> None:
    # Bound, so that nobody else gets the port, and not listening.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        issuer = LoopbackIssuer(lambda _: None)
        issuer.port = taken.getsockname()[1]

        assert "cannot be asked (ConnectError)" == await fault(issuer)


async def test_cookies_are_not_kept() -> None:
    async with loopback_issuer(lambda _: answer(b"{}", "200 OK", b"set-cookie: session=1; Path=/")) as issuer:
        client = IssuerClient(issuer.url)
        await client.get()
        await client.get()
        await client.aclose()

        assert not any(b"cookie" in request.lower() for request in issuer.asked)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback_issuer(lambda _: answer(b"{}")) as proxy, loopback_issuer(lambda _: answer(b"{}")) as issuer:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        client = IssuerClient(issuer.url)
        await client.get()
        await client.aclose()

        assert ([], 1) == (proxy.asked, len(issuer.asked))
