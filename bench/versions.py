"""What was measured, and on what: versions of programs and packages, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bench.processes import program


def of_packages(*names: str) -> dict[str, str]:
    """Versions of Python distributions; `not installed` where there is none."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def of_program(path: str | None, *arguments: str) -> str:
    """The first line that a program prints about itself."""
    if path is None:
        return "not installed"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def of_tools() -> dict[str, str]:
    """What every row depends on."""
    return {
        "Python": platform.python_version(),
        "wrk": of_program(program("wrk"), "-v").partition(" [")[0],
        "nginx (upstream)": of_program(program("nginx"), "-v").removeprefix("nginx version: "),
    }


def of_machine(used_cores: int) -> dict[str, str]:
    """Processor, cores, memory, kernel, and how busy it is already."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": f"{os.cpu_count()}, of which {used_cores} used",
        "memory": f"{memory:.0f} GiB",
        "load before the run": f"{os.getloadavg()[0]:.2f} (one minute's average)",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
