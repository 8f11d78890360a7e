"""An upstream that stores every byte it is sent, reads requests strictly, and answers by script.

It runs in a thread of its own. `settled` returns when everything that has arrived has been stored; nothing sleeps.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

SAFETY_SECONDS = 5.0

_REQUEST_LINE = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)")
_HEX = re.compile(rb"[0-9a-f]{1,16}")


class Step(Enum):
    """What an answer can do besides sending bytes."""

    CLOSE = "closes its side in order"
    RESET = "resets the connection"
    WAIT = "does nothing until `go_on`"
    STOP_READING = "reads nothing more"


@dataclass(frozen=True, slots=True)
class Flood:
    """Sends `total_bytes`, as fast as they are taken."""

    total_bytes: int


Answer = bytes | tuple["bytes | Step | Flood", ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One whole request, as it came."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    """(name, value) in the order of the wire, names in the spelling of the wire."""
    body: bytes
    raw: bytes
    framing: str
    """`none`, `length` or `chunked`."""
    connection: int
    """Which connection of the upstream it came on, from 0."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.headers if other == name]


@dataclass(slots=True)
class Connection:
    """One connection and every byte that came on it."""

    number: int
    received: bytearray = field(default_factory=bytearray)
    requests: list[Recorded] = field(default_factory=list)
    is_open: bool = True
    fault: str = ""
    """What of the bytes was no request that every server reads alike."""
    flooded_bytes: int = 0
    """How much of a flood has left for the kernel."""


def answer(
    body: bytes = b"{}",
    *,
    status: bytes = b"200 OK",
    fields: tuple[tuple[bytes, bytes], ...] = ((b"Content-Type", b"application/json"),),
    framing: str = "length",
) -> bytes:
    """A well-formed answer. `framing` is `length`, `chunked`, `close` or `none`."""
    head = b"HTTP/1.1 " + status + b"\r\n" + b"".join(b"%s: %s\r\n" % line for line in fields)
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if framing == "chunked":
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"\r\n" + body


class _Protocol(asyncio.Protocol):
    def __init__(self, upstream: RecordingUpstream) -> None:
        self.upstream = upstream
        self.record = Connection(len(upstream.connections))
        self.unread = bytearray()
        self.head: tuple[bytes, bytes, list[tuple[bytes, bytes]], int] | None = None
        self.started = 0
        self.was_answered = False
        self.waiting: deque[bytes | Step | Flood] = deque()
        self.flood = 0
        self.is_paused = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transport.set_write_buffer_limits(high=0)
        self.upstream.accepted(self)

    def data_received(self, data: bytes) -> None:
        self.record.received += data
        self.unread += data
        try:
            self._read()
        except ValueError as fault:
            self.record.fault = str(fault)
        self.upstream.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.record.is_open = False
        self.upstream.lost(self)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._go_on_flooding()
        self.upstream.changed()

    # -- reading, strictly: CRLF, lower-case chunk sizes, one framing

    def _read(self) -> None:
        while self.unread and not self.record.fault:
            if self.head is None:
                end = self.unread.find(b"\r\n\r\n")
                if end < 0:
                    return
                self.head = (*_read_head(bytes(self.unread[: end + 4])), end + 4)
                self.was_answered = False
                if self.upstream.answers_early():
                    self._answer(None)
            method, target, headers, start = self.head
            framing, body, end = self._read_body(headers, start)
            if body is None:
                return
            raw = bytes(self.unread[:end])
            del self.unread[:end]
            self.head = None
            request = Recorded(method, target, headers, body, raw, framing, self.record.number)
            self.record.requests.append(request)
            self.upstream.requests.append(request)
            if not self.was_answered:
                self._answer(request)

    def _read_body(self, headers: list[tuple[bytes, bytes]], start: int) -> tuple[str, bytes | None, int]:
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1:
            raise ValueError(f"more than one framing: {headers!r}")
        if lengths:
            if not lengths[0].isdigit():
                raise ValueError(f"no length: {lengths[0]!r}")
            end = start + int(lengths[0])
            return "length", bytes(self.unread[start:end]) if len(self.unread) >= end else None, end
        if not codings:
            return "none", b"", start
        if codings[0] != b"chunked":
            raise ValueError(f"no coding that we know: {codings[0]!r}")
        pieces: list[bytes] = []
        place = start
        while True:
            end = self.unread.find(b"\r\n", place)
            if end < 0:
                return "chunked", None, 0
            line = bytes(self.unread[place:end])
            if not _HEX.fullmatch(line):
                raise ValueError(f"no chunk size: {line!r}")
            size, place = int(line, 16), end + 2
            if len(self.unread) < place + size + 2:
                return "chunked", None, 0
            pieces.append(bytes(self.unread[place : place + size]))
            place += size + 2
            if self.unread[place - 2 : place] != b"\r\n":
                raise ValueError("a chunk that does not end with CRLF")
            if size == 0:
                return "chunked", b"".join(pieces), place

    # -- answering

    def _answer(self, request: Recorded | None) -> None:
        self.was_answered = True
        steps = self.upstream.next_answer(request)
        self.waiting.extend((steps,) if isinstance(steps, bytes) else steps)
        self.go_on(is_told=False)

    def go_on(self, *, is_told: bool) -> None:
        if is_told and self.waiting and self.waiting[0] is Step.WAIT:
            self.waiting.popleft()
        while self.waiting and self.waiting[0] is not Step.WAIT:
            step = self.waiting.popleft()
            if isinstance(step, bytes):
                self.transport.write(step)
            elif isinstance(step, Flood):
                self.flood = step.total_bytes
                self._go_on_flooding()
            elif step is Step.CLOSE:
                self.transport.close()
            elif step is Step.RESET:
                self.reset()
            elif step is Step.STOP_READING:
                self.transport.pause_reading()

    def _go_on_flooding(self) -> None:
        while self.flood and not self.is_paused and not self.transport.is_closing():
            piece = min(self.flood, 1 << 16)
            self.flood -= piece
            self.transport.write(b"x" * piece)
            self.record.flooded_bytes += piece

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _read_head(head: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if request_line is None:
        raise ValueError(f"no request line: {first!r}")
    headers = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError(f"no header line: {line!r}")
        headers.append((match.group(1), match.group(2)))
    return request_line.group(1), request_line.group(2), headers


class RecordingUpstream:
    """Listens from `start` to `stop` on a free port of the loopback, and again on the same one after `restart`."""

    def __init__(self, *, receive_buffer_bytes: int = 0) -> None:
        self.port = 0
        self.requests: list[Recorded] = []
        self.connections: list[Connection] = []
        self.is_early = False
        self._receive_buffer_bytes = receive_buffer_bytes
        self._answers: deque[Answer] = deque()
        self._protocols: set[_Protocol] = set()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server
        self._thread: threading.Thread | None = None

    # -- the test's side

    def start(self) -> RecordingUpstream:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="recording-upstream", daemon=True)
        self._thread.start()
        assert started.wait(SAFETY_SECONDS), "the recording upstream did not start"
        return self

    def stop(self) -> None:
        """Closes the listener and resets every connection."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SAFETY_SECONDS)
        assert not self._thread.is_alive(), "the recording upstream did not stop"
        self._thread = None

    def restart(self) -> None:
        """A new listener on the same port."""
        self.start()

    def script(self, *answers: Answer, early: bool = False) -> None:
        """Answers for the next requests, in order; after them the default. `early`: when the head has come."""
        self._answers = deque(answers)
        self.is_early = early

    def clear(self) -> None:
        """Forgets what was recorded and scripted; open connections stay, and count again from no bytes."""
        self.settled()
        self.script()
        self.requests = []
        self.connections = [protocol.record for protocol in self._protocols]
        for number, record in enumerate(self.connections):
            record.number = number
            record.received.clear()
            record.requests.clear()

    def settled(self) -> RecordingUpstream:
        """Returns when everything that had arrived has been stored."""
        if self._thread is not None:
            # Each turn of the loop asks the kernel what is there; the third has stored what was there at the first.
            for _ in range(3):
                self.call(lambda: None)
        return self

    def call(self, act: Callable[[], None]) -> None:
        """Runs `act` in the upstream's thread, and waits for it."""
        done = threading.Event()

        def run() -> None:
            act()
            self._loop.call_soon(done.set)

        self._loop.call_soon_threadsafe(run)
        assert done.wait(SAFETY_SECONDS), "the recording upstream does not answer"

    def wait_until(self, holds: Callable[[], bool], what: str = "what was waited for") -> None:
        """Waits by event until `holds`."""
        with self._changed:
            assert self._changed.wait_for(holds, SAFETY_SECONDS), f"{what} did not happen: {self.connections!r}"

    def go_on(self) -> None:
        """Answers that wait go on."""
        self._each(lambda protocol: protocol.go_on(is_told=True))

    def send_unasked(self, data: bytes) -> None:
        """Sends bytes on every open connection, though nobody asked."""
        self._each(lambda protocol: protocol.transport.write(data))

    def close_connections(self) -> None:
        """Closes every connection in order; the listener stays."""
        self._each(lambda protocol: protocol.transport.close())
        self.wait_until(lambda: not self._protocols, "the end of every connection")

    def reset_connections(self) -> None:
        """Resets every connection; the listener stays."""
        self._each(lambda protocol: protocol.reset())
        self.wait_until(lambda: not self._protocols, "the end of every connection")

    def _each(self, act: Callable[[_Protocol], None]) -> None:
        def run() -> None:
            for protocol in list(self._protocols):
                act(protocol)

        self.call(run)

    @property
    def open_count(self) -> int:
        return len(self._protocols)

    @property
    def received_bytes(self) -> int:
        """Bytes on all connections together."""
        return sum(len(connection.received) for connection in self.connections)

    @property
    def faults(self) -> list[str]:
        return [connection.fault for connection in self.connections if connection.fault]

    # -- the thread's side

    def _run(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = loop.run_until_complete(loop.create_server(lambda: _Protocol(self), sock=listener, backlog=512))
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            self._server.close()
            for protocol in list(self._protocols):
                protocol.reset()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def accepted(self, protocol: _Protocol) -> None:
        self._protocols.add(protocol)
        self.connections.append(protocol.record)
        self.changed()

    def lost(self, protocol: _Protocol) -> None:
        self._protocols.discard(protocol)
        self.changed()

    def changed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def answers_early(self) -> bool:
        return self.is_early and bool(self._answers)

    def next_answer(self, request: Recorded | None) -> Answer:
        if self._answers:
            return self._answers.popleft()
        return default_answer(request)


def default_answer(request: Recorded | None) -> bytes:
    """A small answer that says whose request it answers, so that nobody can take it for another's."""
    seen = {} if request is None else dict(request.headers)
    body = {
        "upstream": True,
        "target": "" if request is None else request.target.decode("ascii"),
        "key_id": seen.get(b"x-gateway-key-id", b"").decode("ascii"),
    }
    return answer(json.dumps(body).encode())
