"""What the documentation shows is run as it stands, and what it links to is there.

`console` blocks of one file run in order in one shell, in a folder with the project's own; a line that does not begin
with `$ ` must appear in the output, `…` standing for anything. Ports and the demo's long life are the runner's to mend.
`yaml`, `json` and `toml` are parsed, and a whole policy is loaded. `sh` blocks need what no test has (Docker, systemd,
a log that rotates) and are listed with their reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from gateway.policy_files import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PORTS = ("8080", "9090", "8081", "9081", "9000", "9001")
LANGUAGES = frozenset(("console", "yaml", "json", "toml", "python", "js", "text", "sh"))


class Block(NamedTuple):
    """One fenced block: its language, the lines in it, and where it begins."""

    language: str
    text: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document."""
    language, lines, start = "", list[str](), 0
    inside = False
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            if inside:
                yield Block(language, "\n".join(lines) + "\n", start)
            language, lines, start, inside = line[3:].partition(" ")[0], [], number, not inside
        elif inside:
            lines.append(line)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_block_has_a_language_that_is_checked(document: Path) -> None:
    unknown = [(block.language, block.line) for block in blocks(document) if block.language not in LANGUAGES]

    assert unknown == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_data_blocks_are_well_formed_and_policies_load(document: Path, tmp_path: Path) -> None:
    for block in blocks(document):
        if block.language == "json":
            for line in block.text.splitlines() if block.text.count("\n{") else [block.text]:
                json.loads(line)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            value = yaml.safe_load(block.text)
            if isinstance(value, dict) and {"version", "routes"} <= value.keys():
                policy = tmp_path / f"{block.line}.yaml"
                policy.write_text(block.text, "utf-8")
                load(policy)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")

    missing = [
        target
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if any(block.language == "console" for block in blocks(document))],
    ids=name_of,
)
def test_what_the_reader_is_told_to_type_does_what_is_shown(document: Path, tmp_path: Path) -> None:
    for folder in ("policies", "deploy", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    ports = _free_ports()
    commands = [
        step for block in blocks(document) if block.language == "console" for step in _steps(_ported(block.text, ports))
    ]
    script = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, (command, _) in enumerate(commands):
        script += [f"printf '\\n@@ {number}\\n'", _runnable(command, ports)]
    script.append("printf '\\n@@ end\\n'")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    shell = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = shell.communicate(timeout=120)
    finally:
        _end_session(shell.pid)

    assert shell.returncode == 0, f"{errors}\n{output}"
    seen = re.split(r"^@@ (?:\d+|end)\n", output, flags=re.MULTILINE)[1:-1]
    for (command, shown), printed in zip(commands, seen, strict=True):
        assert _matches(shown, printed), f"$ {command}\nshown:\n{shown}\nprinted:\n{printed}\n{errors}"


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """(command, what is shown of its output) for each `$ ` line; a command goes on after a backslash."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1
        while lines[length - 1].endswith("\\"):
            length += 1
        yield "\n".join(lines[:length]), "\n".join(lines[length:])


def _ported(text: str, ports: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: ports[match.group(1)], text)


def _runnable(command: str, ports: dict[str, str]) -> str:
    """`make run` goes to the background until it is ready; everything else runs as it is."""
    if command != "make run":
        return command
    arguments = f"--port {ports['8080']} --admin-port {ports['9090']}"
    return (
        f'make -s -C "{ROOT}" run ARGS="{arguments}" >demo.out 2>&1 & DEMO=$!\n'
        "for _ in $(seq 600); do grep -q '^Stop with' demo.out && break; sleep 0.1; done; cat demo.out\n"
        "trap 'kill $DEMO $(jobs -p) 2>/dev/null || true' EXIT"
    )


def _matches(shown: str, printed: str) -> bool:
    if not shown.strip():
        return True
    pattern = re.escape(shown.strip()).replace("…", "(?s:.*?)")
    return re.search(pattern, printed.replace("\r", "").strip()) is not None


def _free_ports() -> dict[str, str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    numbers = {port: str(server.getsockname()[1]) for port, server in zip(PORTS, sockets, strict=True)}
    for server in sockets:
        server.close()
    return numbers


def _end_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGTERM)
    except ProcessLookupError:
        return
