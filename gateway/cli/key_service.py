"""What every command about keys shares: where the store is, who is asking, and how it is told what went wrong."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.keys.book import KeyEntry
from gateway.keys.expiry import utc_text
from gateway.keys.refused import KeyRefused
from gateway.keys.service import KeyService
from gateway.ports import StoreUnavailable

DEFAULT_STORE: Final = "sqlite:///bearergate.sqlite3"

StoreOption = Annotated[
    str, typer.Option("--store", envvar="BEARERGATE_STORE", metavar="URL", help="Where keys are kept.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def key_service(store_url: str, *, create: bool = False) -> Iterator[KeyService]:
    """The control plane over the store, which `create` allows to be made; what goes wrong is told, with exit code 1."""
    # `--help` need not load a database library
    from gateway.assembly.keys import configured, open_key_service  # noqa: PLC0415

    try:
        # The same file as the gateway's: a command without its peppers would make keys that are protected less.
        config = os.environ.get("BEARERGATE_CONFIG")
        peppers, rules = configured(Path(config) if config else None)
        with open_key_service(store_url, create=create, peppers=peppers, rules=rules) as service:
            yield service
    except KeyRefused as error:
        raise fail(str(error), *(_candidate(key) for key in error.candidates)) from None
    except StoreUnavailable as error:
        raise fail(*str(error).splitlines()) from None


def fail(*lines: str) -> typer.Exit:
    """Says what is wrong on standard error, each line by itself; raise what it returns."""
    for line in lines:
        typer.echo(f"bearergate: {one_line(line)}", err=True)
    return typer.Exit(1)


def _candidate(key: KeyEntry) -> str:
    return f"  {key.id}  until {utc_text(key.expires_at)}  {key.name}"


def one_line(text: str) -> str:
    """`text` without line breaks or characters that a terminal would act upon."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def actor() -> str:
    """Who the history will say did it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        # A container may run under a user id that has no name.
        return "cli"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns padded to their widest cell, two spaces apart."""
    lines = [header, *(tuple(one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
