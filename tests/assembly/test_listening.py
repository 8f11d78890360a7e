"""Where clients are answered: ports, paths, sockets that were handed over, with TLS and behind listed proxies."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import struct
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.assembly import CannotStart
from gateway.assembly.listeners import listening
from gateway.assembly.tls import ServerTls
from gateway.settings import SettingsInvalid, read_settings
from gateway.wire.forwarded import PROXY_SIGNATURE
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient

GET = b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n"


def ask(gateway: RunningGateway, fields: bytes = b"") -> bytes:
    return GET % (gateway.keys.a.line, fields)


EC = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def certificate(folder: Path, name: str = "localhost", kind: tuple[str, ...] = EC) -> tuple[Path, Path]:
    """(certificate, key) for `name` and 127.0.0.1, signed by itself."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", *kind, "-nodes"),
            *("-keyout", str(key), "-out", str(made), "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


@contextlib.contextmanager
def tls_client(port: int, trusted: Path, **options: object) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(trusted))
    for name, value in options.items():
        setattr(context, name, value)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        yield client


def answer_of(client: socket.socket) -> bytes:
    """The head of one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        assert piece, data
        data += piece
    return data


# -- TLS


def test_clients_are_answered_by_tls_and_upstreams_are_told(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    with running_gateway(tmp_path, tls_certificate=made, tls_key=key) as gateway:
        with tls_client(gateway.port, made) as client:
            for _ in range(2):
                client.sendall(ask(gateway))
                assert answer_of(client).startswith(b"HTTP/1.1 200 OK\r\n")
            assert client.version() in ("TLSv1.2", "TLSv1.3")

        assert gateway.upstream.settled().requests[0].values(b"x-forwarded-proto") == [b"https"]


def test_neither_clear_text_nor_old_tls_gets_anywhere(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    with running_gateway(tmp_path, tls_certificate=made, tls_key=key) as gateway:
        with RawClient(gateway.port) as client:
            client.send(ask(gateway))
            assert b"HTTP" not in client.read_to_end()
        old = {"minimum_version": ssl.TLSVersion.TLSv1_1, "maximum_version": ssl.TLSVersion.TLSv1_1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ssl.SSLError), tls_client(gateway.port, made, **old):
                pass
        assert gateway.upstream.settled().requests == []


def test_a_new_certificate_is_shown_after_a_reload_and_a_bad_one_is_not(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    other, other_key = certificate(tmp_path, "other")
    with (
        running_gateway(tmp_path, tls_certificate=made, tls_key=key) as gateway,
        tls_client(gateway.port, made) as before,
    ):
        made.write_text("no certificate")
        gateway.await_(gateway.running.reload_policy())
        with pytest.raises(ssl.SSLError), tls_client(gateway.port, other):
            pass

        made.write_bytes(other.read_bytes())
        key.write_bytes(other_key.read_bytes())
        gateway.await_(gateway.running.reload_policy())
        with tls_client(gateway.port, other) as after:
            after.sendall(ask(gateway))
            assert answer_of(after).startswith(b"HTTP/1.1 200 OK\r\n")

        before.sendall(ask(gateway))
        assert answer_of(before).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_certificate_with_a_key_of_another_type_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    made, key = certificate(tmp_path, kind=("rsa:2048",))
    other, other_key = certificate(tmp_path, "other")
    with running_gateway(tmp_path, tls_certificate=made, tls_key=key) as gateway:
        old = made.read_bytes()
        made.write_bytes(other.read_bytes())
        key.write_bytes(other_key.read_bytes())
        gateway.await_(gateway.running.reload_policy())

        with tls_client(gateway.port, other) as client:
            assert client.version() == "TLSv1.3"
        # Who asks for the old type of key is not shown the old certificate.
        made.write_bytes(old)
        context = ssl.create_default_context(cafile=str(made))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        with (
            pytest.raises(ssl.SSLError),
            socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            pass


def test_a_certificate_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    _, other_key = certificate(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("hello")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)],
        check=True,
        capture_output=True,
    )

    for certificate_file, key_file, said in (
        (tmp_path / "none", None, "tls_certificate: there is no file"),
        (made, tmp_path / "none", "tls_key: there is no file"),
        (text, key, "no usable PEM"),
        (made, other_key, "do not belong together"),
        (made, locked, "the key has a password"),
    ):
        with pytest.raises(CannotStart, match=said):
            ServerTls(certificate_file, key_file)


# -- paths and sockets


def test_a_path_is_a_place_to_be_answered(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with running_gateway(tmp_path, listen=f"unix:{path}", max_connections_per_peer=1) as gateway:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert gateway.running.places[0] == f"unix:{path}"
        with contextlib.ExitStack() as clients:
            for _ in range(2):
                client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.settimeout(5)
                client.connect(str(path))
                client.sendall(ask(gateway))
                assert answer_of(client).startswith(b"HTTP/1.1 200 OK\r\n")
        assert gateway.outcomes[0].peer == "unix"

    assert not path.exists()


def test_what_a_dead_process_left_is_replaced_and_what_lives_is_not(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    listener = listening(f"unix:{path}", "listen")

    with pytest.raises(CannotStart, match="somebody listens on"):
        listening(f"unix:{path}", "listen")
    listening(f"unix:{path}", "listen", reuse_port=True).close()
    listener.close()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CannotStart, match="is no socket"):
        listening(f"unix:{tmp_path / 'file'}", "listen")


def test_a_socket_that_was_handed_over_is_listened_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as parent:
        with running_gateway(tmp_path, listen=f"fd:{os.dup(parent.fileno())}") as gateway:
            assert gateway.port == parent.getsockname()[1]
            with RawClient(gateway.port) as client:
                client.send(ask(gateway))
                assert client.read().status == 200

        # It is the parent's still: who comes between two gateways waits, and is not refused.
        with RawClient(parent.getsockname()[1]) as waiting:
            assert waiting.socket.getpeername()


def test_a_descriptor_that_is_no_listener_says_so(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(CannotStart, match="is no socket"):
        listening(f"fd:{file.fileno()}", "listen")
    with socket.socket() as idle, pytest.raises(CannotStart, match="is no listening socket"):
        listening(f"fd:{os.dup(idle.fileno())}", "listen")


def test_two_may_have_one_port_where_both_say_so() -> None:
    first = listening("127.0.0.1:0", "listen", reuse_port=True)
    port = first.getsockname()[1]

    listening(f"127.0.0.1:{port}", "listen", reuse_port=True).close()
    with pytest.raises(CannotStart, match="cannot listen"):
        listening(f"127.0.0.1:{port}", "listen")
    first.close()


# -- listed proxies


def test_a_listed_proxy_says_who_the_client_is(tmp_path: Path) -> None:
    # C8
    with running_gateway(tmp_path, trusted_proxies=["127.0.0.0/8"]) as gateway:
        with RawClient(gateway.port) as proxy:
            for client in (b"192.0.2.7", b"192.0.2.8"):
                proxy.send(ask(gateway, b"X-Forwarded-For: 203.0.113.1, %b\r\nX-Forwarded-Proto: https\r\n" % client))
                assert proxy.read().status == 200
            proxy.send(ask(gateway))
            assert proxy.read().status == 200

        sent = [
            (request.values(b"x-forwarded-for"), request.values(b"x-forwarded-proto"))
            for request in gateway.upstream.settled().requests
        ]
        assert sent == [
            ([b"192.0.2.7, 127.0.0.1"], [b"https"]),
            ([b"192.0.2.8, 127.0.0.1"], [b"https"]),
            ([b"127.0.0.1"], [b"http"]),
        ]
        assert [outcome.peer for outcome in gateway.outcomes] == ["192.0.2.7", "192.0.2.8", "127.0.0.1"]


def test_nobody_else_does(tmp_path: Path) -> None:
    # C7
    with running_gateway(tmp_path, trusted_proxies=["10.0.0.0/8"]) as gateway:
        with RawClient(gateway.port) as client:
            client.send(ask(gateway, b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"))
            assert client.read().status == 200

        request = gateway.upstream.settled().requests[0]
        assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert request.values(b"x-forwarded-proto") == [b"http"]


V2 = (
    PROXY_SIGNATURE
    + b"\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("10.0.0.1")
    + struct.pack("!HH", 40000, 443)
)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", V2])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_the_proxy_protocol_names_the_client(tmp_path: Path, header: bytes, pieces: int) -> None:
    with running_gateway(tmp_path, trusted_proxies=["127.0.0.1/32"], proxy_protocol=True) as gateway:
        data = header + ask(gateway, b"X-Forwarded-For: 203.0.113.1\r\n") + ask(gateway)
        size = max(1, len(data) // pieces)
        with RawClient(gateway.port) as proxy:
            for place in range(0, len(data), size):
                proxy.send(data[place : place + size])
            assert [proxy.read().status, proxy.read().status] == [200, 200]

        requests = gateway.upstream.settled().requests
        assert [request.values(b"x-forwarded-for") for request in requests] == [[b"192.0.2.7"]] * 2
        assert {outcome.peer for outcome in gateway.outcomes} == {"192.0.2.7"}


def test_without_the_header_nothing_is_answered(tmp_path: Path) -> None:
    with running_gateway(tmp_path, trusted_proxies=["127.0.0.1/32"], proxy_protocol=True) as gateway:
        with RawClient(gateway.port) as client:
            client.send(ask(gateway))
            assert client.read_to_end() == b""
        with RawClient(gateway.port) as client:
            client.send(b"PROXY TCP4 192.0.2.7")
            gateway.settle()
            gateway.pass_time(gateway.settings.timeouts.head + 1)
            assert client.read_to_end() == b""
        assert gateway.upstream.settled().requests == []
        gateway.until(lambda: gateway.client_connections == 0, "the end of both")


def test_whoever_is_no_listed_proxy_may_not_speak_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path, trusted_proxies=["10.0.0.0/8"], proxy_protocol=True) as gateway:
        with RawClient(gateway.port) as client:
            client.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n" + ask(gateway))
            assert client.read_to_end() == b""
        assert gateway.upstream.settled().requests == []


# -- settings that do not fit together


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"listen": "unix:relative"}, "has no absolute path"),
        ({"listen": "fd:x"}, "has no number"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "`10.0.0.1/8` is no network"),
        ({"proxy_protocol": True}, "list the proxies in `trusted_proxies`"),
        ({"tls_key": "key.pem"}, "set `tls_certificate`"),
    ],
)
def test_settings_that_do_not_fit_are_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        read_settings(None, policy="policy.yaml", upstreams={"rest": "http://127.0.0.1:1"}, **given)
