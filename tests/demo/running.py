"""A demo as a process of its own, and requests to it that no client library tidies up."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gateway.demo.announce import Announcement

_LAST_LINE: Final = "Stop with Ctrl-C."
_DEADLINE_SECONDS: Final = 60.0
_ALL_ARE_DIFFERENT: Final = ("--port", "0")


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A demo that has said it is ready."""

    process: subprocess.Popen[str]
    announcement: Announcement
    page: str

    def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_DEADLINE_SECONDS)

    def token(self, *scopes: str, app: int = 0) -> str:
        """The token of the key with exactly these scopes."""
        return next(key.token for key in self.announcement.apps[app].keys if key.scopes == scopes)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def command_of(*options: str) -> list[str]:
    """The command line of a demo."""
    return [sys.executable, "-m", "gateway", "demo", *options]


@contextmanager
def running_demo(folder: Path, *options: str) -> Iterator[RunningDemo]:
    """A demo whose temporary files, if it leaves any, are in `folder`; killed if it is still there at the end."""
    file = folder / "demo.json"
    temporary = folder / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        command_of(*_ALL_ARE_DIFFERENT, "--json", str(file), *options),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.strip() == _LAST_LINE:
                    break
            announcement = msgspec.json.decode(file.read_bytes(), type=Announcement)
            yield RunningDemo(process, announcement, "".join(lines))
        finally:
            process.kill()


def send(address: str, method: str, path: str, *tokens: str, body: dict[str, Any] | None = None) -> Answered:
    """One request with an Authorization header for each token, as it stands here."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_DEADLINE_SECONDS)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for token in tokens:
            connection.putheader("Authorization", f"Bearer {token}")
        content = b"" if body is None else msgspec.json.encode(body)
        if body is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
