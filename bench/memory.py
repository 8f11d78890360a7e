"""256 MiB down and up through a candidate, also past a slow reader: how fast, and how much memory it takes."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.apps.bulk import BLOCK_BYTES, BULK_BYTES, SLOW_BYTES_PER_SECOND, Pace
from bench.candidates.kind import Candidate, Service, Site
from bench.processes import CannotRun, free_port, started, wait_until_listening

_ROOT: Final = Path(__file__).parents[1]
_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Passage:
    """One way through: down or up, with a fast or a slow reader at the far end."""

    name: str
    title: str
    is_upload: bool
    is_slow: bool


PASSAGES: Final = (
    Passage("down", "256 MiB down", is_upload=False, is_slow=False),
    Passage("down-slow", "256 MiB down, client reads 64 MiB/s", is_upload=False, is_slow=True),
    Passage("up", "256 MiB up", is_upload=True, is_slow=False),
    Passage("up-slow", "256 MiB up, upstream reads 64 MiB/s", is_upload=True, is_slow=True),
)


@dataclass(frozen=True, slots=True)
class Passed:
    """What one candidate did with one passage."""

    candidate: str
    passage: str
    mib_per_second: float = 0.0
    resident_mib: float = 0.0
    grown_mib: float = 0.0
    fault: str = ""


def start_bulk_upstream(folder: Path, core: int, stack: ExitStack) -> int:
    """The upstream of `bench.apps.bulk`; its port. Raises: CannotRun"""
    port = free_port()
    command = [sys.executable, "-m", "bench.apps.bulk", str(port)]
    process = stack.enter_context(started("bulk", command, core=core, folder=folder, env={"PYTHONPATH": str(_ROOT)}))
    wait_until_listening(process, port)
    return port


def measure_passages(candidate: Candidate, site: Site, repeats: int) -> list[Passed]:
    """Every passage through `candidate`, each on a fresh process. Raises: CannotRun"""
    results = []
    for passage in PASSAGES:
        folder = site.folder / passage.name
        folder.mkdir()
        with ExitStack() as stack:
            service = candidate.start(Site(folder, site.core, site.upstream_port, is_bulk=True), stack)
            results.append(_measure(candidate.name, passage, service, 1 if passage.is_slow else repeats))
    return results


def _measure(candidate: str, passage: Passage, service: Service, repeats: int) -> Passed:
    rates, grown = [], []
    try:
        _download(service, "/bulk/small", 0)
        resident = service.resident_bytes()
        for _ in range(repeats):
            before = service.resident_bytes()
            service.forget_peak()
            begin = time.monotonic()
            if passage.is_upload:
                count = _upload(service, "/bulk/slow" if passage.is_slow else "/bulk/fast")
            else:
                count = _download(service, "/bulk/large", SLOW_BYTES_PER_SECOND if passage.is_slow else 0)
            rates.append(count / 2**20 / (time.monotonic() - begin))
            grown.append((service.peak_bytes() - before) / 2**20)
            if count != BULK_BYTES:
                return Passed(candidate, passage.name, fault=f"{count} of {BULK_BYTES} bytes arrived")
    except (OSError, http.client.HTTPException, CannotRun) as error:
        return Passed(candidate, passage.name, fault=f"{type(error).__name__}: {error}")
    return Passed(candidate, passage.name, statistics.median(rates), resident / 2**20, max(grown))


def _connect(service: Service, *, is_slow: bool) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=_TIMEOUT_SECONDS)
    connection.connect()
    if is_slow:
        # A small window, so that what the reader does not take stays with the candidate.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    return connection


def _download(service: Service, path: str, bytes_per_second: int) -> int:
    connection = _connect(service, is_slow=bool(bytes_per_second))
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {service.token}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise CannotRun(f"answered {answer.status}: {answer.read(200).decode(errors='replace')}")

        pace, buffer, count = Pace(bytes_per_second), bytearray(BLOCK_BYTES), 0
        while size := answer.readinto(buffer):
            count += size
            pace.passed(size)
        return count
    finally:
        connection.close()


def _upload(service: Service, path: str) -> int:
    connection = _connect(service, is_slow=False)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Authorization", f"Bearer {service.token}")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(BULK_BYTES))
        connection.endheaders()
        block = bytes(BLOCK_BYTES)
        for _ in range(BULK_BYTES // BLOCK_BYTES):
            connection.send(block)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise CannotRun(f"answered {answer.status}: {said[:200].decode(errors='replace')}")

        return int(json.loads(said)["bytes"])
    finally:
        connection.close()
