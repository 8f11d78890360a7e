"""Programs under test and those around them: started pinned to a core, watched, measured, ended by process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS: Final = 10.0
_SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""nginx lives where an ordinary user's PATH does not look."""


class CannotRun(Exception):
    """A program is missing, did not start, or does not answer as it should. The text goes into the results."""


def program(name: str) -> str | None:
    """The path of an installed program, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}")


def cores() -> tuple[int, int]:
    """The core of the program under test, and the core of the load and the upstream (the same on one core)."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1] if len(allowed) > 1 else allowed[0]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Process:
    """A running program, with everything it has started."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def cpu_seconds(self) -> float:
        """User and system time that the whole tree has used so far."""
        return sum(_cpu_seconds(pid) for pid in _tree(self.popen.pid))

    def resident_bytes(self) -> int:
        """What the whole tree holds in memory now."""
        return sum(_status_bytes(pid, "VmRSS") for pid in _tree(self.popen.pid))

    def peak_bytes(self) -> int:
        """The most that each process of the tree has held since `forget_peak`, added up."""
        return sum(_status_bytes(pid, "VmHWM") for pid in _tree(self.popen.pid))

    def forget_peak(self) -> None:
        """Start a new peak at what is held now."""
        for pid in _tree(self.popen.pid):
            # proc(5): writing 5 resets the peak resident set size.
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def last_words(self) -> str:
        """The end of what it printed, on one line, without the names of scratch folders."""
        lines = self.log.read_text(errors="replace").replace(f"{self.log.parent}/", "").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-3:])[:400]


@contextmanager
def started(
    name: str, command: Sequence[str], *, core: int, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run `command` on `core`; ended with the block, killed when it does not end by itself."""
    taskset = program("taskset")
    pinned = [taskset, "--cpu-list", str(core), *command] if taskset is not None else list(command)
    log = folder / f"{name}-{len(list(folder.glob(f'{name}-*.log')))}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            pinned,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(env or {})},
        )
    process = Process(name, popen, log)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: Process) -> None:
    below = [(pid, _born(pid)) for pid in _tree(process.popen.pid)[1:]]
    if process.is_running:
        process.popen.send_signal(signal.SIGTERM)
    try:
        process.popen.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.popen.kill()
        process.popen.wait()
    for pid, born in below:
        # A number may have gone to somebody else's process meanwhile.
        if born and _born(pid) == born:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_until_listening(process: Process, port: int, *, limit_seconds: float = 20.0, answers: bool = False) -> float:
    """Wait for a listener on `port`; the seconds that took. Raises: CannotRun

    `answers`: until it answers, for those that listen before they are ready.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < limit_seconds:
        if not process.is_running:
            raise CannotRun(f"{process.name} ended at once: {process.last_words()}")

        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as client:
            if not answers:
                return time.monotonic() - begin

            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            if client.recv(1):
                return time.monotonic() - begin

        time.sleep(0.01)
    raise CannotRun(f"{process.name} did not listen within {limit_seconds:.0f} s: {process.last_words()}")


def _tree(root: int) -> list[int]:
    """`root` first, then everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def _cpu_seconds(pid: int) -> float:
    with suppress(OSError):
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    return 0.0


def _born(pid: int) -> int:
    """When a process was started, in ticks since the machine was; 0 when it is not there."""
    with suppress(OSError):
        return int(_stat(pid)[19])
    return 0


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) stat from the third, the state, on. Raises: OSError"""
    # The second field is the name in parentheses, which may itself hold spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status_bytes(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
    return 0
