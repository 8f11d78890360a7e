"""`bearergate serve`: runs the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.assembly import CannotStart
from gateway.settings import Settings, SettingsInvalid, read_settings


def serve(
    policy: Annotated[Path | None, typer.Option(help="A policy file, or a folder of them.")] = None,
    upstream: Annotated[
        list[str] | None, typer.Option(help="Where an upstream is: NAME=http://host:port[,…]. Repeatable.")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="host:port for clients; port 0 takes a free one.")] = None,
    admin_listen: Annotated[str | None, typer.Option(help="host:port for /metrics, /livez and /readyz.")] = None,
    store: Annotated[str | None, typer.Option(help="Where keys are kept: sqlite:///FILE, postgresql://…")] = None,
    access_log: Annotated[str | None, typer.Option(help="`-` standard output, `none`, or a file.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve; one by default.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.", envvar="BEARERGATE_CONFIG")] = None,
) -> None:
    """Runs the gateway. Every option can also be set as BEARERGATE_… in the environment, or in the file."""
    # Until there is a loop to handle it: a supervisor that reloads early must not end what it has just started.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    upstreams, faults = located(upstream or [])
    try:
        settings = read_settings(
            config,
            policy=policy,
            upstreams=upstreams if upstream else None,
            listen=listen,
            admin_listen=admin_listen,
            store=store,
            access_log=access_log,
            workers=workers,
        )
    except SettingsInvalid as fault:
        raise refused([*faults, *str(fault).splitlines()]) from fault
    if faults:
        raise refused(faults)

    try:
        _run(settings)
    except CannotStart as fault:
        raise refused(str(fault).splitlines()) from fault
    except asyncio.CancelledError:
        raise typer.Exit(1) from None


def _run(settings: Settings) -> None:
    """Serves until told to stop. Raises: CannotStart"""
    if settings.workers > 1:
        # It has no use for what a gateway loads, and is 20 MiB smaller without.
        from gateway.assembly.supervisor import supervise  # noqa: PLC0415

        asyncio.run(supervise(settings))
    else:
        from gateway.assembly.serving import serve as serve_until_told  # noqa: PLC0415 - half a second that no other command needs

        uvloop.run(serve_until_told(settings))


def refused(faults: list[str]) -> typer.Exit:
    """Says what is wrong on standard error; raise what it returns."""
    for line in faults:
        typer.echo(f"bearergate: {line}", err=True)
    return typer.Exit(1)


def located(options: list[str]) -> tuple[dict[str, str], list[str]]:
    """(upstreams, faults) of `NAME=URL` options."""
    upstreams: dict[str, str] = {}
    faults: list[str] = []
    for option in options:
        name, equals, url = option.partition("=")
        if not name or not equals:
            faults.append(f"--upstream: `{option}` is not `NAME=http://host:port`")
        elif name in upstreams:
            faults.append(f"--upstream: `{name}` is located twice, at `{upstreams[name]}` and at `{url}`; keep one")
        else:
            upstreams[name] = url
    return upstreams, faults
