"""Third-party test data, read in place: `BEARERGATE_VECTORS`, or `shared/vectors` beside the project's folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"


def vectors_folder(name: str) -> Path | None:
    """The folder of one collection, or None where there is none."""
    folder = Path(os.environ.get("BEARERGATE_VECTORS") or _DEFAULT) / name
    return folder if folder.is_dir() else None


def skipped(name: str) -> pytest.MarkDecorator:
    """Skips where the collection is not there, and says so."""
    return pytest.mark.skipif(
        vectors_folder(name) is None, reason=f"no folder `{name}` of test data; set BEARERGATE_VECTORS to find it"
    )


@dataclass(frozen=True, slots=True)
class Desync:
    """One request of http-desync-guardian. Its head has no `Host` unless that is what it is about."""

    name: str
    tier: str
    method: bytes
    target: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def __str__(self) -> str:
        return self.name


def desync_vectors() -> list[Desync]:
    """Every request of every tier, each name made unique by its file."""
    folder = vectors_folder("http-desync-guardian")
    if folder is None:
        return []
    found = []
    for file in sorted(folder.glob("*.yaml")):
        # BaseLoader: every scalar is text, as it stands.
        for place, entry in enumerate(yaml.load(file.read_text("utf-8"), yaml.BaseLoader)):
            found.append(
                Desync(
                    f"{file.stem}-{place}: {_shown(entry['name'])}",
                    entry["expected"]["tier"],
                    _bytes(entry["method"]),
                    _bytes(entry["uri"]),
                    _bytes(entry["version"]),
                    tuple((_bytes(line["name"]), _bytes(line["value"])) for line in entry["headers"] or ()),
                )
            )
    return found


def _shown(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


@dataclass(slots=True)
class Message:
    """One message as llhttp read it."""

    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Llhttp:
    """One request case of llhttp in its strict mode: the bytes, what was read of them, and whether that was refused."""

    name: str
    sent: bytes
    messages: tuple[Message, ...]
    is_refused: bool
    error: str

    def __str__(self) -> str:
        return self.name


_CASE = re.compile(
    r"<!-- meta=(\{[^\n]*\}) -->\n+```http\n((?:(?!```).)*)```(?:(?!```).)*```log\n((?:(?!```).)*)```", re.DOTALL
)
_TITLE = re.compile(r"^#+ (.*)$", re.MULTILINE)
_SPAN = re.compile(r"off=\d+ len=\d+ span\[(\w+)\]=\"(.*)\"")
# A pause is what the caller asked for, and no refusal.
_ERROR = re.compile(r"error code=(\d+) reason=\"(.*)\"")
_PAUSES = ("on_", "Pause on", "Paused")


def llhttp_vectors() -> list[Llhttp]:
    """The strict request cases; those of lenient modes say nothing of a strict one."""
    folder = vectors_folder("llhttp-request")
    if folder is None:
        return []
    found = []
    for file in sorted(folder.glob("*.md")):
        text = file.read_text("utf-8")
        for place, case in enumerate(_CASE.finditer(text)):
            kind = re.search(r'"type": ?"([^"]*)"', case.group(1))
            if kind is None or kind.group(1) not in ("request", "request-finish") or "skipBody" in case.group(1):
                continue
            titles = _TITLE.findall(text[: case.start()])
            error = _ERROR.search(case.group(3))
            reason = "" if error is None else error.group(2)
            found.append(
                Llhttp(
                    f"{file.stem}-{place}: {titles[-1].replace('`', '')}",
                    _sent(case.group(2)),
                    tuple(_messages(case.group(3))),
                    error is not None and not any(pause in reason for pause in _PAUSES),
                    reason,
                )
            )
    return found


def _sent(text: str) -> bytes:
    text = re.sub(r"\\\n", "", text.removesuffix("\n"))
    return _unescaped(_bytes(text.replace("\n", "\r\n")))


_ESCAPE = re.compile(rb"\\(?:([rntf])|x([0-9a-fA-F]{2})|([0-7]{1,3}))")
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"f": b"\f"}


def _unescaped(text: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        letter, hexadecimal, octal = match.groups()
        if letter:
            return _LETTERS[letter]
        return bytes((int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF,))

    return _ESCAPE.sub(one, text)


def _messages(log: str) -> list[Message]:
    messages: list[Message] = []
    name = value = b""
    for line in log.splitlines():
        if line.endswith("message begin"):
            messages.append(Message())
            name = value = b""
        if not messages:
            continue
        message = messages[-1]
        span = _SPAN.match(line)
        if span is not None:
            data = _unescaped(_bytes(span.group(2)))
            match span.group(1):
                case "method":
                    message.method += data
                case "url":
                    message.target += data
                case "version":
                    message.version += data
                case "header_field":
                    name += data
                case "header_value":
                    value += data
                case "body":
                    message.body += data
        elif line.endswith("header_value complete"):
            message.fields.append((name, value))
            name = value = b""
        elif line.endswith("message complete"):
            message.is_complete = True
    return messages
