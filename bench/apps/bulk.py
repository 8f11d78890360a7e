"""An upstream for large bodies: `python -m bench.apps.bulk PORT`.

`GET /bulk/large` answers 256 MiB, any other GET 459 bytes. POST takes what comes, `/bulk/slow` at 64 MiB/s.
Blocking sockets and one thread for each connection: nothing here is slower than the gateways before it.
"""

from __future__ import annotations

import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from typing import Final

BULK_BYTES: Final = 256 * 2**20
SLOW_BYTES_PER_SECOND: Final = 64 * 2**20
BLOCK_BYTES: Final = 2**18
SMALL: Final = b"x" * 459


class Pace:
    """Holds a stream to a number of bytes per second, or lets it run when that is 0."""

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._begin = time.monotonic()
        self._count = 0

    def passed(self, count: int) -> None:
        """Say that `count` more bytes have passed; waits when that was too soon."""
        self._count += count
        if self._bytes_per_second:
            due = self._begin + self._count / self._bytes_per_second
            time.sleep(max(0.0, due - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_large = self.path == "/bulk/large"
        self._send_head(BULK_BYTES if is_large else len(SMALL))
        if not is_large:
            self.wfile.write(SMALL)
            return

        block = bytes(BLOCK_BYTES)
        for _ in range(BULK_BYTES // BLOCK_BYTES):
            self.wfile.write(block)

    def do_POST(self) -> None:
        pace = Pace(SLOW_BYTES_PER_SECOND if self.path == "/bulk/slow" else 0)
        count = 0
        while (length := self._next_length(count)) > 0:
            left = length
            while left:
                block = self.rfile.read1(min(left, BLOCK_BYTES))
                if not block:
                    self.close_connection = True
                    return
                left -= len(block)
                pace.passed(len(block))
            count += length
        said = b'{"bytes": %d}' % count
        self._send_head(len(said))
        self.wfile.write(said)

    def _next_length(self, count: int) -> int:
        """Bytes of the next piece of the body: all of it, or one chunk; 0 at the end."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return 0 if count else int(self.headers.get("Content-Length", "0"))

        if count:
            self.rfile.readline()
        size = int(self.rfile.readline().split(b";")[0], 16)
        if size == 0:
            self.rfile.readline()
        return size

    def _send_head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    with _Server(("127.0.0.1", int(sys.argv[1])), _Handler) as server:
        server.serve_forever()
