"""TLS to upstreams: the certificate and its name are checked, ours is shown, and nothing goes out in clear (R31)."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.core.reasons import Reason
from gateway.ports import UpstreamFailed
from tests.upstreams.scripted import Scripted, World, ask, heard, refusing_port


class Authority:
    """A CA of the test's own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.file, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        self._name = name
        _openssl("req", "-x509", *EC, "-nodes", "-keyout", self._key, "-out", self.file, "-subj", f"/CN={name}", *CA)

    def certificate(self, name: str, alternative: str, *, days: int = 2) -> tuple[Path, Path]:
        """(certificate, key)"""
        made, key, asked = (self.folder / f"{self._name}-{name}.{ending}" for ending in ("pem", "key", "csr"))
        _openssl("req", *EC, "-nodes", "-keyout", key, "-out", asked, "-subj", f"/CN={name}")
        extension = self.folder / "extension"
        extension.write_text(f"subjectAltName={alternative}\n")
        # An end before the beginning is an end in the past.
        _openssl(
            *("x509", "-req", "-in", asked, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-out", made),
            *("-extfile", extension, "-days", str(days)),
        )
        return made, key


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
CA = ("-addext", "keyUsage=critical,keyCertSign", "-days", "2")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def server_with(world: World, files: tuple[Path, Path], trusted: Path | None = None) -> Scripted:
    """An upstream that shows the certificate; with `trusted`, only to who has one from there."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
    server = await Scripted(context).start()
    world.servers.append(server)
    return server


async def failure(world: World, url: str, **options: Any) -> str:
    """What operators are told of a connection that is not made."""
    with pytest.raises(UpstreamFailed) as failed:
        await world.upstream(url, **options).connect()
    assert Reason.UPSTREAM_UNREACHABLE is failed.value.reason
    assert 502 == failed.value.reason.status
    return failed.value.detail


async def test_a_good_certificate_is_good_for_many_requests(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("good", "IP:127.0.0.1"))
    upstream = world.upstream(server, ca_file=ca.file)

    bodies = [(await ask(upstream)).body for _ in range(3)]

    assert [b"ok"] * 3 == bodies
    connection = await upstream.connect()
    assert "http/1.1" == connection._transport.get_extra_info("ssl_object").selected_alpn_protocol()
    connection.abandon()


async def test_a_wrong_name_is_refused(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("other", "DNS:other.test"))

    told = await failure(world, server.url, ca_file=ca.file)

    assert "TLS: the certificate is refused: IP address mismatch" in told
    assert [] == server.heads


async def test_the_name_may_be_another_than_the_host(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("other", "DNS:other.test"))
    upstream = world.upstream(server, ca_file=ca.file, server_name="other.test")

    assert b"ok" == (await ask(upstream)).body
    assert "Hostname mismatch" in await failure(world, server.url, ca_file=ca.file, server_name="another.test")


async def test_an_expired_certificate_is_refused(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("expired", "IP:127.0.0.1", days=-1))

    told = await failure(world, server.url, ca_file=ca.file)

    assert "TLS: the certificate is refused: certificate has expired" in told
    assert [] == server.heads


async def test_a_certificate_from_elsewhere_is_refused(world: World, ca: Authority, tmp_path: Path) -> None:
    server = await server_with(world, ca.certificate("good", "IP:127.0.0.1"))

    # Neither the machine nor another CA knows it; and a CA of one's own is trusted instead of the machine's.
    assert "TLS: the certificate is refused: unable to get local issuer" in await failure(world, server.url)
    other = Authority(tmp_path, "other")
    assert "TLS: the certificate is refused" in await failure(world, server.url, ca_file=other.file)


async def test_a_peer_without_tls_is_refused_and_sent_nothing_in_clear(world: World, ca: Authority) -> None:
    received = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        told = await failure(world, f"https://127.0.0.1:{port}", ca_file=ca.file)

    assert "does the endpoint speak TLS on this port?" in told
    assert b"\x16\x03" == received[:2]
    assert b"HTTP" not in received


async def test_nobody_there_is_told_as_ever(world: World, ca: Authority) -> None:
    assert "ConnectionRefusedError" in await failure(world, f"https://127.0.0.1:{refusing_port()}", ca_file=ca.file)


async def test_an_upstream_that_wants_a_certificate_gets_ours(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("good", "IP:127.0.0.1"), trusted=ca.file)
    certificate, key = ca.certificate("gateway", "DNS:gateway.test")
    upstream = world.upstream(server, ca_file=ca.file, certificate=certificate, certificate_key=key)

    assert b"ok" == (await ask(upstream)).body


async def test_an_upstream_that_wants_a_certificate_and_gets_none_answers_nothing(world: World, ca: Authority) -> None:
    """In TLS 1.3 its refusal comes after our handshake, in place of an answer."""
    server = await server_with(world, ca.certificate("good", "IP:127.0.0.1"), trusted=ca.file)

    sink = await heard(await world.upstream(server, ca_file=ca.file).connect())

    assert (Reason.UPSTREAM_CLOSED, False) == sink.failure
    assert [] == server.heads


async def test_a_health_check_speaks_tls_too(world: World, ca: Authority) -> None:
    server = await server_with(world, ca.certificate("good", "IP:127.0.0.1"))
    upstream = world.upstream(server, ca_file=ca.file, check_path="/health")

    upstream.sweep()
    await asyncio.gather(*(checks._task for checks in upstream._checks))  # type: ignore[attr-defined]

    assert 1 == len(server.heads)
    assert server.heads[0].startswith(b"GET /health ")


def test_files_that_cannot_be_used_are_told_at_the_start(ca: Authority, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    certificate, _ = ca.certificate("one", "DNS:one.test")
    _, other_key = ca.certificate("two", "DNS:two.test")
    locked = tmp_path / "locked.key"
    _openssl("ec", "-in", other_key, "-aes256", "-passout", "pass:secret", "-out", locked)

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ca_file": tmp_path / "none"}, "holds no certificates that can be read: No such file"),
        ({"ca_file": text}, "holds no certificates that can be read: "),
        ({"certificate": tmp_path / "none"}, "are no certificate and its key: No such file"),
        ({"certificate": certificate, "certificate_key": other_key}, "are no certificate and its key: KEY_VALUES_MIS"),
        ({"certificate": certificate, "certificate_key": locked}, "are no certificate and its key: "),
        ({"certificate_key": other_key}, "there is a key and no certificate"),
    ]
    for options, said in wrong:
        with pytest.raises(ValueError, match=said) as refused:
            World().upstream("https://a", **options)
        assert str(refused.value).startswith("upstream `rest`: ")
