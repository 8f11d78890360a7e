"""Whether the time of a refusal tells an id that no key has from a wrong secret (E1, E2).

    python -m bench.timing
    python -m bench.timing --store postgresql://user@127.0.0.1/an_empty_database

Three sorts of token, each new, so that nothing that is remembered answers: a known id with a wrong secret, an unknown
id, and an unknown id once more. Of what the last two differ by, none is the gateway's doing: it says how much of the
difference between the first two is noise. One of each sort after the other, in an order that chance gives; first the
store by itself, in this process, then a gateway, over one connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import string
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.processes import CannotRun, cores, free_port, started, wait_until_listening
from gateway.assembly.keys import open_key_service
from gateway.core.credential import Credential, CredentialKind, KeyId, digest_of
from gateway.stores import open_key_store

ROOT: Final = Path(__file__).parents[1]
SORTS: Final = ("a known id with a wrong secret", "an unknown id", "an unknown id again")
KEYS: Final = 1_000
"""In the store, so that what is walked through has some depth."""
WARM_UP: Final = 300
MOST: Final = 100_000
LARGEST_SHARE: Final = 0.05
"""Of the median: a difference above it makes the exit code 1."""

_LETTERS: Final = string.ascii_letters + string.digits
_POLICY: Final = """\
version: 1
scopes:
  USER_READ: {means: nothing that is ever reached}
routes:
  - name: users
    match: GET /users
    upstream: rest
    allow: {api_key: USER_READ}
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far apart two series of times are."""

    first_micros: float
    second_micros: float
    cohens_d: float

    @property
    def share(self) -> float:
        """The difference of the medians, as a part of the second."""
        return (self.first_micros - self.second_micros) / self.second_micros

    def __str__(self) -> str:
        apart = f"{self.first_micros - self.second_micros:+.1f} us or {self.share:+.2%}"
        return f"{self.first_micros:.1f} and {self.second_micros:.1f} us, {apart}, Cohen's d {self.cohens_d:+.3f}"


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Of two series of seconds: their medians, and Cohen's d over all of them, outliers included."""
    spread = ((statistics.variance(first) + statistics.variance(second)) / 2) ** 0.5
    apart = statistics.fmean(first) - statistics.fmean(second)
    median, other = (statistics.median(series) * 1_000_000 for series in (first, second))
    return Difference(median, other, apart / spread if spread else 0.0)


def tokens(known: Sequence[str], count: int, dice: random.Random) -> Iterator[tuple[str, str]]:
    """(sort, token): `count` of each sort, one of each before the next of any."""
    for _ in range(count):
        for sort in dice.sample(SORTS, len(SORTS)):
            key_id = dice.choice(known) if sort == SORTS[0] else f"xk{_letters(dice, 13)}"
            yield sort, f"{key_id}.{_letters(dice, 48)}"


async def time_store(store_url: str, asked: Iterator[tuple[str, str]]) -> dict[str, list[float]]:
    """What the store takes for each look-up."""
    took: dict[str, list[float]] = {sort: [] for sort in SORTS}
    store = open_key_store(store_url)
    try:
        for sort, token in asked:
            credential = Credential(
                CredentialKind.API_KEY, KeyId(token.partition(".")[0]), digest_of(token.encode("ascii"))
            )
            began = time.perf_counter()
            found = await store.find(credential)
            took[sort].append(time.perf_counter() - began)
            if found is not None:
                raise CannotRun("the store knows a token that was made up")
    finally:
        await store.aclose()
    return took


def time_gateway(port: int, asked: Iterator[tuple[str, str]]) -> dict[str, list[float]]:
    """What a client waits for each answer."""
    took: dict[str, list[float]] = {sort: [] for sort in SORTS}
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sort, token in asked:
            request = f"GET /users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode("ascii")
            began = time.perf_counter()
            client.sendall(request)
            answer = _answer(client)
            took[sort].append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 401 "):
                raise CannotRun(f"the gateway answered {answer[:40]!r}")
    return took


def _answer(client: socket.socket) -> bytes:
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            if len(body) >= int(length.partition(b":")[2]):
                return received
        part = client.recv(65_536)
        if not part:
            raise CannotRun("the gateway closed the connection")
        received += part


def _letters(dice: random.Random, length: int) -> str:
    return "".join(dice.choices(_LETTERS, k=length))


def _fill(store_url: str) -> list[str]:
    """The ids of new keys."""
    with open_key_service(store_url, create=True) as service:
        app = service.create_app("timing", key_limit=KEYS)
        return [service.create_key(app.id, name="k", scopes=("USER_READ",)).key.id for _ in range(KEYS)]


def _start(store_url: str, folder: Path, core: int, stack: ExitStack) -> int:
    """A gateway's port."""
    policy = folder / "policy.yaml"
    policy.write_text(_POLICY)
    port = free_port()
    variables = {
        "PYTHONPATH": str(ROOT),
        "BEARERGATE_POLICY": str(policy),
        "BEARERGATE_UPSTREAMS": json.dumps({"rest": f"http://127.0.0.1:{free_port()}"}),
        "BEARERGATE_LISTEN": f"127.0.0.1:{port}",
        "BEARERGATE_ADMIN_LISTEN": "127.0.0.1:0",
        "BEARERGATE_STORE": store_url,
        "BEARERGATE_ACCESS_LOG": str(folder / "access.log"),
    }
    command = [sys.executable, "-m", "gateway", "serve"]
    process = stack.enter_context(started("gateway", command, core=core, folder=folder, env=variables))
    wait_until_listening(process, port, limit_seconds=60.0)
    return port


def _report(what: str, took: dict[str, list[float]]) -> bool:
    """Prints it; whether the difference is small."""
    wrong, unknown, again = (took[sort][WARM_UP:] for sort in SORTS)
    asked, noise = difference(wrong, unknown), difference(again, unknown)
    print(f"{what}, {len(wrong):,} of each\n  {SORTS[0]}, {SORTS[1]}: {asked}\n  {SORTS[2]}, {SORTS[1]}: {noise}")
    return abs(asked.share) < LARGEST_SHARE


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a difference is too large, or nothing could be measured."""
    options = argparse.ArgumentParser(prog="python -m bench.timing", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--count", type=int, default=10_000, help="look-ups of each sort, 100,000 at most")
    options.add_argument("--store", default="", help="an empty store, written to; by default a SQLite file")
    given = options.parse_args(arguments)
    count = WARM_UP + max(2, min(given.count, MOST))
    core, other = cores()
    dice = random.Random()
    with TemporaryDirectory(prefix="timing-") as scratch, ExitStack() as stack:
        store = given.store or f"sqlite:///{scratch}/keys.sqlite3"
        try:
            known = _fill(store)
            is_small = _report("the store", asyncio.run(time_store(store, tokens(known, count, dice))))
            port = _start(store, Path(scratch), core, stack)
            os.sched_setaffinity(0, {other})
            is_small &= _report("a gateway", time_gateway(port, tokens(known, count, dice)))
        except CannotRun as fault:
            print(f"nothing to tell: {fault}", file=sys.stderr)
            return 1
    return 0 if is_small else 1


if __name__ == "__main__":
    sys.exit(main())
