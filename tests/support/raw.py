"""A client of raw bytes: sends exactly what it is told, in pieces of any size, and reads answers strictly.

Time-outs are for safety alone: a test that meets one has failed.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SAFETY_SECONDS = 5.0

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t\x20-\x7e]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-f]{1,16}")


class Sending(Enum):
    """In how many pieces the same bytes go out."""

    WHOLE = "whole"
    IN_TWO = "in two parts"
    BYTE_BY_BYTE = "byte by byte"


class BrokenAnswer(AssertionError):
    """What came is no whole answer. `partial` is what did come; `was_reset` whether a reset ended it."""

    def __init__(self, why: str, partial: bytes, *, was_reset: bool = False) -> None:
        super().__init__(f"{why}; got {partial[:400]!r}")
        self.partial = partial
        self.was_reset = was_reset


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, as it came."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """(name, value) in the order of the wire, names in the spelling of the wire."""
    body: bytes
    head: bytes = field(repr=False)
    ended_with_close: bool = False
    """Nothing but the end of the connection said that the body was whole."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.headers if other.lower() == name.lower()]

    def header(self, name: bytes) -> bytes | None:
        values = self.values(name)
        assert len(values) <= 1, f"more than one {name!r}: {values}"
        return values[0] if values else None

    @property
    def ref(self) -> bytes:
        """The reference id that every answer has exactly once."""
        value = self.header(b"x-gateway-request-id")
        assert value is not None, self.head
        return value

    @property
    def says_close(self) -> bool:
        return (self.header(b"connection") or b"").lower() == b"close"

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The label of the reason in an answer that the gateway made; empty for an upstream's answer."""
        if self.header(b"content-type") == b"application/problem+json":
            return str(self.json()["reason"])
        if self.header(b"content-type") in (b"application/json", b"application/graphql-response+json"):
            body = self.json()
            if isinstance(body, dict) and "errorCode" in body:
                return str(body["errorCode"]).lower()
            if isinstance(body, dict) and "errors" in body:
                return str(body["errors"][0]["extensions"]["code"]).lower()
        return ""


class RawClient:
    """One connection. Use as a context manager."""

    def __init__(self, port: int, *, receive_buffer_bytes: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(SAFETY_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""
        self.was_reset = False
        self._ended = False

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- sending

    def send(self, data: bytes, sending: Sending = Sending.WHOLE) -> None:
        """Sends `data`. A server that has already answered and gone is no fault of the sender."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if sending is Sending.WHOLE:
                self.socket.sendall(data)
            elif sending is Sending.IN_TWO:
                half = len(data) // 2
                self.socket.sendall(data[:half])
                self.socket.sendall(data[half:])
            else:
                for place in range(len(data)):
                    self.socket.sendall(data[place : place + 1])

    def send_as_much_as_goes(self, data: bytes, *, quiet_seconds: float = 0.2) -> int:
        """Bytes of `data` (again and again) that were taken before nobody took more for a while."""
        taken = 0
        self.socket.settimeout(quiet_seconds)
        try:
            while True:
                taken += self.socket.send(data)
        except TimeoutError:
            return taken
        finally:
            self.socket.settimeout(SAFETY_SECONDS)

    def finish(self) -> None:
        """Says that nothing follows, and goes on reading."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Goes away without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # -- reading

    def read(self, method: bytes = b"GET") -> Response:
        """The next answer, whole. `method` is the request's: HEAD has no body.

        Raises: BrokenAnswer
        """
        taken = self.buffer
        try:
            return self._read(method)
        except _Ended as ended:
            partial = taken + self.buffer if not self.buffer.startswith(taken) else self.buffer
            raise BrokenAnswer(str(ended), partial, was_reset=self.was_reset) from None

    def read_until(self, mark: bytes) -> bytes:
        """What comes up to and with `mark`."""
        try:
            while mark not in self.buffer:
                self._receive()
        except _Ended as ended:
            raise BrokenAnswer(str(ended), self.buffer, was_reset=self.was_reset) from None
        place = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:place], self.buffer[place:]
        return taken

    def read_to_end(self) -> bytes:
        """Everything until the server closes; `was_reset` then says how."""
        with contextlib.suppress(_Ended):
            while True:
                self._receive()
        taken, self.buffer = self.buffer, b""
        return taken

    def read_to_end_of_head(self) -> bytes:
        """The bytes of one head, or what came of it before the server closed."""
        with contextlib.suppress(_Ended):
            while b"\r\n\r\n" not in self.buffer:
                self._receive()
        return self.buffer

    def read_some(self, count: int) -> bytes:
        """Up to `count` bytes."""
        if not self.buffer:
            with contextlib.suppress(_Ended):
                self._receive(count)
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def is_ended(self) -> bool:
        """Whether the server has closed, and sent nothing more before. Waits for its end."""
        return self.read_to_end() == b""

    def _receive(self, count: int = 1 << 18) -> None:
        if self._ended:
            raise _Ended("the server closed the connection")
        try:
            data = self.socket.recv(count)
        except ConnectionResetError:
            self.was_reset = True
            data = b""
        except TimeoutError:
            message = f"nothing came for {SAFETY_SECONDS} s; so far {self.buffer[:400]!r}"
            raise AssertionError(message) from None
        if not data:
            self._ended = True
            raise _Ended("the server reset the connection" if self.was_reset else "the server closed the connection")
        self.buffer += data

    def _read(self, method: bytes) -> Response:
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        end = self.buffer.index(b"\r\n\r\n") + 4
        head = self.buffer[:end]
        status, headers = read_head(head)
        response = Response(status, headers, b"", head)
        length = response.header(b"content-length")
        coding = response.header(b"transfer-encoding")
        assert length is None or coding is None, head
        if method == b"HEAD" or status in (204, 304) or status < 200:
            self.buffer = self.buffer[end:]
            return response
        if coding is not None:
            assert coding == b"chunked", head
            body, end = self._read_chunks(end)
        elif length is not None:
            assert length.isdigit(), head
            while len(self.buffer) < end + int(length):
                self._receive()
            body, end = self.buffer[end : end + int(length)], end + int(length)
        else:
            return self._read_until_close(response, end)
        self.buffer = self.buffer[end:]
        return Response(status, headers, body, head)

    def _read_until_close(self, response: Response, start: int) -> Response:
        with contextlib.suppress(_Ended):
            while True:
                self._receive()
        if self.was_reset:
            raise _Ended("the server reset the connection")
        body, self.buffer = self.buffer[start:], b""
        return Response(response.status, response.headers, body, response.head, ended_with_close=True)

    def _read_chunks(self, place: int) -> tuple[bytes, int]:
        pieces = []
        while True:
            while b"\r\n" not in self.buffer[place:]:
                self._receive()
            end = self.buffer.index(b"\r\n", place)
            line = self.buffer[place:end]
            assert _CHUNK_SIZE.fullmatch(line), line
            size, place = int(line, 16), end + 2
            while len(self.buffer) < place + size + 2:
                self._receive()
            pieces.append(self.buffer[place : place + size])
            assert self.buffer[place + size : place + size + 2] == b"\r\n"
            place += size + 2
            if size == 0:
                return b"".join(pieces), place


class _Ended(Exception):
    """The server has closed."""


def read_head(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """(status, headers) of a head that is strictly well-formed, else an assertion fails."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    assert status_line, f"no status line: {first!r}"
    headers = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match, f"no header line: {line!r}"
        headers.append((match.group(1), match.group(2)))
    return int(status_line.group(1)), headers


@contextlib.contextmanager
def connected(port: int) -> Iterator[RawClient]:
    """A connection for the length of a block."""
    with RawClient(port) as client:
        yield client


def exchange(port: int, data: bytes, *, method: bytes = b"GET", sending: Sending = Sending.WHOLE) -> Response:
    """One request on a connection of its own, and its answer."""
    with RawClient(port) as client:
        client.send(data, sending)
        return client.read(method)
