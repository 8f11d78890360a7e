"""What five independent parsers of HTTP/1.1 see in a stream of bytes: h11, httptools, Node, nginx, `http.server`.

Each is asked in the same way: the stream, then one request of ours that must be seen as itself and as the last. A
parser that reads one byte more or less than another sees another last request, or none.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from unittest import mock

import h11
import httptools

from tests.support.recording_upstream import RecordingUpstream

SAFETY_SECONDS = 10.0

LAST = b"GET /the-last HTTP/1.1\r\nHost: oracle.test\r\nConnection: close\r\n\r\n"


class Seen(NamedTuple):
    """One whole request as a parser saw it: names in lower case, values without the white space around them."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def without_framing(self) -> Seen:
        """For a parser that frames anew what it passes on."""
        kept = tuple(field for field in self.headers if field[0] not in (b"content-length", b"transfer-encoding"))
        return self._replace(headers=kept)


class NotRead(Exception):
    """The parser refused the stream; the text says how."""


Parser = Callable[[bytes], list[Seen]]
"""The whole requests of a stream that ends where it ends. Raises: NotRead"""


def seen(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Seen:
    fields = tuple((name.lower(), value.strip(b" \t")) for name, value in headers)
    return Seen(method, target, fields, body)


# -- h11


def by_h11(stream: bytes) -> list[Seen]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    connection.receive_data(b"")
    requests: list[Seen] = []
    request: h11.Request | None = None
    body = b""
    try:
        while connection.our_state is not h11.MUST_CLOSE:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                requests.append(seen(request.method, request.target, request.headers.raw_items(), body))
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.DONE:
                    connection.start_next_cycle()
            else:
                break
    except h11.RemoteProtocolError as fault:
        if "without sending complete message body" in str(fault):
            return requests
        raise NotRead(str(fault)) from fault
    return requests


# -- httptools


class _Llhttp:
    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.requests.append(seen(self.parser.get_method(), self.target, self.headers, self.body))

    parser: Any


def by_httptools(stream: bytes) -> list[Seen]:
    heard = _Llhttp()
    heard.parser = httptools.HttpRequestParser(heard)
    try:
        heard.parser.feed_data(stream)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
        raise NotRead(repr(fault)) from fault
    return heard.requests


# -- http.server


class _Socket:
    """As much of a socket as `http.server` asks for."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._stream)

    def sendall(self, data: bytes) -> None: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    raw_requestline: bytes
    requests: list[Seen]

    def handle_any(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        headers = [
            (name.encode("latin-1"), value.encode("latin-1", "surrogateescape"))
            for name, value in self.headers.raw_items()
        ]
        method, target, version = self.raw_requestline.rstrip(b"\r\n").split(b" ")
        assert version == b"HTTP/1.1"
        assert (method.decode(), target.decode("latin-1")) == (self.command, self.path)
        self.requests.append(seen(method, target, headers, body))

    def _body(self) -> bytes | None:
        """The body, as its framing has it; `http.server` leaves that to the handler."""
        if "chunked" in (self.headers["transfer-encoding"] or ""):
            pieces = b""
            while size := int(self.rfile.readline() or b"0", 16):
                pieces += self.rfile.read(size)
                if self.rfile.readline() != b"\r\n":
                    return None
            return pieces if self.rfile.readline() == b"\r\n" else None
        length = int(self.headers["content-length"] or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> NoReturn:
        raise NotRead(f"{code} {message}")


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_any)


def by_http_server(stream: bytes) -> list[Seen]:
    requests: list[Seen] = []
    handler = type("Handler", (_Handler,), {"requests": requests})
    # 100 by default; a limit is no reading.
    with mock.patch.object(http.client, "_MAXHEADERS", 1000):
        handler(_Socket(stream), ("127.0.0.1", 0), None)
    return requests


# -- Node


@contextmanager
def node() -> Iterator[Parser]:
    """Node's `http`, in a process that ends with the block."""
    script = Path(__file__).with_name("requests_seen.js")
    process = subprocess.Popen(
        [_program("node"), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    out = process.stdout
    try:
        port = int(out.readline())

        def by_node(stream: bytes) -> list[Seen]:
            place = _send(port, stream)
            report = json.loads(out.readline())
            assert report["port"] == place, report
            if report["fault"]:
                raise NotRead(report["fault"])
            return [
                seen(
                    one["method"].encode("latin-1"),
                    one["target"].encode("latin-1"),
                    [(name.encode("latin-1"), value.encode("latin-1")) for name, value in one["headers"]],
                    b64decode(one["body"]),
                )
                for one in report["requests"]
            ]

        yield by_node
    finally:
        process.stdin.close()
        process.wait(SAFETY_SECONDS)
        out.close()


# -- nginx

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_header_buffer_size 64k; large_client_header_buffers 8 64k;
  # What it would drop without a word is to be seen.
  ignore_invalid_headers off; underscores_in_headers on;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[Parser]:
    """nginx before a recorder: what it has read is what it writes anew, with a framing of its own."""
    with ExitStack() as undo:
        recorder = RecordingUpstream().start()
        undo.callback(recorder.stop)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        configuration = folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, upstream=recorder.port), "utf-8")
        process = subprocess.Popen(
            [_program("nginx"), "-p", str(folder), "-c", str(configuration)], stderr=subprocess.DEVNULL
        )
        undo.callback(process.wait, SAFETY_SECONDS)
        undo.callback(process.send_signal, signal.SIGTERM)
        _wait_until_listening(port, process)

        def by_nginx(stream: bytes) -> list[Seen]:
            recorder.clear()
            _send(port, stream)
            recorder.settled()
            assert recorder.faults == []
            return [seen(one.method, one.target, one.headers, one.body) for one in recorder.requests]

        yield by_nginx


def _program(name: str) -> str:
    # Where an ordinary user's PATH does not look.
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert path is not None, f"`{name}` is not installed; run scripts/system-packages"
    return path


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SAFETY_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.01)
    raise AssertionError(f"nginx does not listen on port {port}")


def _send(port: int, stream: bytes) -> int:
    """Sends the stream, reads to the end of the connection; the port that it came from."""
    with socket.create_connection(("127.0.0.1", port), SAFETY_SECONDS) as client:
        place: int = client.getsockname()[1]
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(stream)
            if not stream.endswith(LAST):
                client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        return place
