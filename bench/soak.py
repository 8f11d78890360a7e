"""Hours in minutes: a gateway under half its load while keys, policies and upstreams come and go.

    python -m bench.soak --minutes 30

wrk makes the load, at a rate set by its own pauses; checkers beside it look at every answer. What a checker may see is
fixed by what was done to the gateway meanwhile: anything else is an error, and is printed. Memory and open files are
read every ten seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.candidates import bearergate, nginx
from bench.candidates.kind import Site
from bench.processes import Process, cores, free_port, program
from bench.workloads import ANSWER
from gateway.assembly.keys import open_key_service

PATH: Final = "/v2/users/5f0c3a9b7d2e41c8a6b0d913/events"
LOOK_SECONDS: Final = 10.0
EVENT_SECONDS: Final = 5.0
REVOCATION_SECONDS: Final = 2.0
"""How long a revoked key may still be let through."""
KEYS: Final = 12
RESTART_SECONDS: Final = 1.0
"""How long before and after a restart of the upstream its failures are explained by it."""

_LUA: Final = """
request = function() return wrk.format("GET", "%s", {["Authorization"] = "Bearer %s"}) end
delay = function() return %d end
"""


@dataclass(slots=True)
class Key:
    """A token, and between which instants its revocation was committed; infinity for a good one."""

    token: str
    revoking: float = float("inf")
    revoked: float = float("inf")


@dataclass(slots=True)
class World:
    """What was done to the gateway, and what was seen."""

    ends: threading.Event = field(default_factory=threading.Event)
    restarts: list[tuple[float, float]] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def explained(self, began: float, ended: float) -> bool:
        """Whether the upstream was restarted around a request."""
        return any(low - RESTART_SECONDS < ended and began < high + RESTART_SECONDS for low, high in self.restarts)


def check(world: World, port: int, number: int) -> None:
    """Asks with good, revoked and unknown keys in turn, and looks at each answer."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    turn = number
    while not world.ends.is_set():
        turn += 1
        keys = list(world.keys)
        key = keys[turn % len(keys)]
        if turn % 7 == 0:
            key = Key(f"e5c3b842231543f.{turn:048d}", -1.0, -1.0)
        began = time.monotonic()
        try:
            client.request("GET", PATH, headers={"Authorization": f"Bearer {key.token}"})
            answer = client.getresponse()
            body = answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as fault:
            client.close()
            status, body = 0, repr(fault).encode()
        ended = time.monotonic()
        # Looked at only now: what was done to the key while it was asked with explains the answer too.
        if status == 200 and body == ANSWER and began < key.revoked + REVOCATION_SECONDS:
            world.answers["200"] += 1
        elif status == 401 and ended > key.revoking:
            world.answers["401"] += 1
        elif status in (0, 502, 504) and world.explained(began, ended):
            world.answers["upstream restarting"] += 1
        else:
            world.errors.append(f"{status} {body[:120]!r}, revoked {began - key.revoked:.2f} s before")
        time.sleep(0.004)
    client.close()


def look(world: World, process: Process) -> None:
    """Reads memory and open files."""
    while not world.ends.wait(LOOK_SECONDS):
        world.resident.append(process.resident_bytes() / 2**20)
        world.files.append(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in _python_pids(process)))


def _python_pids(process: Process) -> list[int]:
    # taskset runs the program in its own place, so the process is the gateway.
    return [process.popen.pid]


def disturb(world: World, process: Process, store: str, policy: Path, upstream: Upstream) -> None:
    """Keys come and go, the policy is reloaded, the upstream is restarted: one of them every few seconds."""
    turn = 0
    with open_key_service(store) as service:
        app = service.create_app("soak", key_limit=100_000)
        while not world.ends.wait(EVENT_SECONDS):
            turn += 1
            if turn % 4 == 0:
                upstream.restart(world)
            elif turn % 4 == 2:
                policy.write_text(policy.read_text("utf-8") + f"# {turn}\n", "utf-8")
                process.popen.send_signal(signal.SIGHUP)
            else:
                made = service.create_key(app.id, name=f"key {turn}", scopes=("USER_READ",))
                world.keys.append(Key(made.token.reveal()))
                if len(world.keys) > KEYS:
                    # The first is the load's own. A key lives for some turns, then is seen revoked for as many.
                    key = world.keys[KEYS // 2]
                    key.revoking = time.monotonic()
                    service.revoke_key(key.token.partition(".")[0])
                    key.revoked = time.monotonic()
                    del world.keys[1]


class Upstream:
    """nginx that can be ended and started again on its port."""

    def __init__(self, folder: Path, core: int, stack: ExitStack) -> None:
        self.port = free_port()
        self._folder = folder
        self._core = core
        self._inner = stack.enter_context(ExitStack())
        nginx.start_upstream(folder, core, self._inner, self.port)

    def restart(self, world: World) -> None:
        began = time.monotonic()
        world.restarts.append((began, float("inf")))
        self._inner.close()
        nginx.start_upstream(self._folder, self._core, self._inner, self.port)
        world.restarts[-1] = (began, time.monotonic())


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--pause-ms", type=int, default=2, help="wrk's pause between two requests of a connection")
    given = options.parse_args()
    core, other = cores()
    world = World()
    with TemporaryDirectory(prefix="soak-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        site_folder = folder / "gateway"
        upstream_folder = folder / "upstream"
        site_folder.mkdir()
        upstream_folder.mkdir()
        policy = bearergate.copy_shipped(site_folder)
        upstream = Upstream(upstream_folder, other, stack)
        service = bearergate.start_proxy(Site(site_folder, core, upstream.port), stack, policy)
        world.keys.append(Key(service.token))
        lua = folder / "load.lua"
        lua.write_text(_LUA % (PATH, service.token, given.pause_ms))
        wrk = program("wrk")
        if wrk is None:
            print("wrk is missing: scripts/system-packages installs it", file=sys.stderr)
            return 1
        seconds = int(given.minutes * 60)
        command = [wrk, "-t1", "-c32", f"-d{seconds}", "-s", str(lua), f"http://127.0.0.1:{service.port}{PATH}"]
        load = subprocess.Popen(["taskset", "--cpu-list", str(other), *command], stdout=subprocess.PIPE, text=True)
        process = service.processes[0]
        store = f"sqlite:///{site_folder / 'keys.sqlite3'}"
        threads = [threading.Thread(target=check, args=(world, service.port, number)) for number in range(3)]
        threads.append(threading.Thread(target=look, args=(world, process)))
        threads.append(threading.Thread(target=disturb, args=(world, process, store, policy, upstream)))
        for thread in threads:
            thread.start()
        said, _ = load.communicate()
        world.ends.set()
        for thread in threads:
            thread.join(30)
        running = process.is_running
        with suppress(OSError):
            (site_folder / "access.log").unlink()
    return report(world, said, running)


def report(world: World, wrk_said: str, running: bool) -> int:
    """Prints what was seen; 1 when something was wrong."""
    third = max(1, len(world.resident) // 3)
    early, late = world.resident[third : 2 * third], world.resident[2 * third :]
    print(wrk_said.strip())
    print(json.dumps(dict(world.answers)), f"{len(world.restarts)} restarts of the upstream, {len(world.keys)} keys")
    if early and late:
        grown = statistics.median(late) - statistics.median(early)
        print(f"memory: {statistics.median(early):.1f} MiB in the second third, {grown:+.1f} MiB in the last")
        print(f"open files: {min(world.files)} to {max(world.files)}, {world.files[-1]} at the end")
    for error in world.errors[:20]:
        print("error:", error)
    print(f"{len(world.errors)} unexplained answers; the gateway {'still runs' if running else 'has ended'}")
    return 0 if running and not world.errors else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
