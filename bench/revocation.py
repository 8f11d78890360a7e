"""How long a revoked key is still let in: `python -m bench.revocation`.

Two gateways with two workers each follow one PostgreSQL, while wrk asks both with another key at half of what they can
do together. Keys that all four workers hold in memory are revoked one after the other; a prober for each worker asks on
a connection that is kept, and the lag is from the end of the commit to the end of the first answer that is no grant.

Three situations: everything works; nothing tells the gateways that something was written, so that their poll finds it;
and the store is away from the gateways, so that nothing but the age of what they remember ends it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.candidates.bearergate import COMPILED, ROOT
from bench.candidates.nginx import start_upstream
from bench.processes import CannotRun, cores, program
from gateway.core.credential import KeyId, digest_of
from gateway.keys.imports import ImportedDigest
from gateway.keys.mint import mint
from gateway.keys.service import KeyService
from gateway.stores.postgres import PostgresKeyBook
from gateway.stores.postgres_database import postgres_place, prepare_postgres
from gateway.stores.sql_book import SqlWriting
from tests.support.fleet import Node, fleet
from tests.support.gate import gate
from tests.support.postgres import running_postgres
from tests.support.raw import RawClient

REVOCATIONS: Final = 1_000
REVOCATIONS_WITHOUT_STORE: Final = 200
"""More would take so long that the first are forgotten before they are revoked."""
KEYS_OF_AN_APP: Final = 50
CONNECTIONS: Final = 16
TTL_SECONDS: Final = 30.0
"""The gateways' own default; nothing is set here."""
SAFETY_SECONDS: Final = 3 * TTL_SECONDS

_LUA: Final = """
request = function() return wrk.format("GET", "/things/1", {["Authorization"] = "Bearer %s"}) end
delay = function() return %d end
"""


class TimedBook(PostgresKeyBook):
    """Knows when the last commit came back."""

    committed = 0.0

    @contextmanager
    def writing(self) -> Iterator[SqlWriting]:
        with super().writing() as writing:
            yield writing
        self.committed = time.monotonic()


@dataclass(slots=True)
class Key:
    token: str
    key_id: str
    refused: dict[int, float] = field(default_factory=dict)
    """By each worker."""
    committed: float = 0.0


@dataclass(slots=True)
class Prober:
    """Asks one worker with every key that is being revoked, until it refuses."""

    worker: int
    client: RawClient
    waiting: list[Key] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ends.is_set():
            if not self.waiting:
                time.sleep(0.0005)
            # Whoever was told of it in the meantime is asked in the next round.
            for key in list(self.waiting):
                if self.status(key) != 200:
                    key.refused[self.worker] = time.monotonic()
                    self.waiting.remove(key)

    def status(self, key: Key) -> int:
        self.client.send(b"GET /things/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % key.token.encode())
        return self.client.read().status


class Bench:
    """Two gateways, their keys and probers."""

    def __init__(self, service: KeyService, book: TimedBook, nodes: Sequence[Node], probers: Sequence[Prober]) -> None:
        self._service = service
        self._book = book
        self._nodes = nodes
        self._probers = probers

    def make_keys(self, count: int) -> list[Key]:
        made: list[Key] = []
        for first in range(0, count, KEYS_OF_AN_APP):
            app = self._service.create_app("bench", key_limit=KEYS_OF_AN_APP)
            rows = []
            for number in range(min(KEYS_OF_AN_APP, count - first)):
                key_id, secret = mint(os.urandom)
                token = secret.reveal()
                rows.append(_row(number, token, app.id, key_id))
                made.append(Key(token, key_id))
            self._service.import_digests(rows)
        return made

    def remember(self, keys: Sequence[Key]) -> None:
        """Asks each worker with each of them, so that it holds all in memory."""
        give_up_at = time.monotonic() + TTL_SECONDS / 2
        for prober in self._probers:
            # On a busy machine a look-up may be too late.
            for key in keys:
                while (status := prober.status(key)) != 200:
                    if time.monotonic() > give_up_at:
                        raise CannotRun(f"a key was not let in before it was revoked: {status}")

    def revoke(self, keys: Sequence[Key]) -> list[float]:
        """The lag of each at each worker, in seconds."""
        threads = [threading.Thread(target=prober.run) for prober in self._probers]
        for prober in self._probers:
            prober.ends.clear()
        for thread in threads:
            thread.start()
        try:
            for key in keys:
                for prober in self._probers:
                    prober.waiting.append(key)
                self._service.revoke_key(key.key_id)
                key.committed = self._book.committed
                time.sleep(random.uniform(0.0, 0.02))
            give_up_at = time.monotonic() + SAFETY_SECONDS
            while any(prober.waiting for prober in self._probers):
                if time.monotonic() > give_up_at or not all(map(threading.Thread.is_alive, threads)):
                    raise CannotRun("a revoked key is let in for ever")
                time.sleep(0.01)
        finally:
            for prober in self._probers:
                prober.ends.set()
            for thread in threads:
                thread.join()
        return [max(0.0, at - key.committed) for key in keys for at in key.refused.values()]


def _row(number: int, token: str, app_id: str, key_id: KeyId) -> ImportedDigest:
    return ImportedDigest(number, digest_of(token.encode()), app_id, "key", ("READ",), time.time() + 86_400, key_id)


def shown(lags: Sequence[float], asked: float) -> str:
    """Three figures, and whether the last of them is as promised."""
    ordered = sorted(lags)
    p50, p99 = (ordered[len(ordered) * share // 100] for share in (50, 99))
    kept = "as asked" if ordered[-1] <= asked else "MORE THAN ASKED"
    return (
        f"p50 {p50:.3f} s, p99 {p99:.3f} s, max {ordered[-1]:.3f} s ({kept}: {asked:g} s at most; n = {len(ordered)})"
    )


@contextmanager
def load(nodes: Sequence[Node], token: str, folder: Path, pause_ms: int) -> Iterator[list[subprocess.Popen[str]]]:
    """wrk at each of the gateways, until the block ends."""
    script = folder / "load.lua"
    script.write_text(_LUA % (token, pause_ms))
    running = [
        subprocess.Popen(
            [program("wrk") or "wrk", "-t1", f"-c{CONNECTIONS}", "-d1200s", "-s", str(script), _url(node)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in nodes
    ]
    try:
        yield running
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
            process.communicate()


def _url(node: Node) -> str:
    return f"http://127.0.0.1:{node.port}/things/1"


def rate(nodes: Sequence[Node], seconds: float) -> float:
    """Requests a second that the gateways answer now, together."""
    before = sum(node.metric("bearergate_requests_total") for node in nodes)
    began = time.monotonic()
    time.sleep(seconds)
    return (sum(node.metric("bearergate_requests_total") for node in nodes) - before) / (time.monotonic() - began)


def half_load(nodes: Sequence[Node], token: str, folder: Path) -> tuple[float, int]:
    """(what they can do together, the pause that makes it half of that)."""
    with load(nodes, token, folder, 0):
        time.sleep(1.0)
        full = rate(nodes, 3.0)
    each = full / 2 / len(nodes)
    return full, max(1, round(1000 * CONNECTIONS / each - 1000 * CONNECTIONS * len(nodes) / full))


def run(folder: Path, revocations: int, stack: ExitStack) -> None:
    """Measures, and prints. Raises: CannotRun"""
    if program("wrk") is None:
        raise CannotRun("wrk is not installed: scripts/system-packages installs it")

    core, other = cores()
    os.sched_setaffinity(0, {other})
    upstream_port = start_upstream(folder, other, stack)
    server = stack.enter_context(running_postgres())
    store, news = stack.enter_context(gate(server.port)), stack.enter_context(gate(server.port))
    url = server.new_database()
    place = postgres_place(url)
    book = TimedBook(prepare_postgres(place))
    service = stack.enter_context(KeyService(book, place=str(place)))
    database = url.rpartition("/")[2]
    environment = {
        "BEARERGATE_STORE": f"postgresql://tester@127.0.0.1:{store.port}/{database}?sslmode=disable",
        "BEARERGATE_STORE_LISTEN": f"postgresql://tester@127.0.0.1:{news.port}/{database}?sslmode=disable",
        "PYTHONPATH": os.pathsep.join([str(COMPILED), str(ROOT)] if COMPILED.is_dir() else [str(ROOT)]),
    }
    # What is started now inherits it.
    os.sched_setaffinity(0, {core})
    nodes = stack.enter_context(fleet(folder, url, upstream_port, [environment, environment]))
    os.sched_setaffinity(0, {other})
    busy = Bench(service, book, nodes, ()).make_keys(1)[0].token
    full, pause_ms = half_load(nodes, busy, folder)
    clients = itertools.chain.from_iterable(node.on_each_worker(stack) for node in nodes)
    bench = Bench(service, book, nodes, [Prober(number, client) for number, client in enumerate(clients)])
    compiled = "compiled" if COMPILED.is_dir() else "interpreted"
    with load(nodes, busy, folder, pause_ms):
        time.sleep(1.0)
        print(f"load: {rate(nodes, 3.0):,.0f} of {full:,.0f} requests/s by two gateways on one core, {compiled}")
        for situation, asked in (("healthy", 1.0), ("no wake-up", 5.0), ("no store", TTL_SECONDS)):
            count = min(revocations, REVOCATIONS_WITHOUT_STORE) if situation == "no store" else revocations
            keys = bench.make_keys(count)
            # Every worker has heard that they were made, or that news would make it look them up again.
            time.sleep(2.0)
            bench.remember(keys)
            if situation != "healthy":
                news.shut()
            if situation == "no store":
                store.shut()
            print(f"{situation}: {shown(bench.revoke(keys), asked)}", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.revocation", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--revocations", type=int, default=REVOCATIONS, help="in each situation (1,000)")
    given = options.parse_args()
    with TemporaryDirectory(prefix="revocation-") as folder, ExitStack() as stack:
        try:
            run(Path(folder), given.revocations, stack)
        except CannotRun as fault:
            print(f"the bench cannot run: {fault}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
