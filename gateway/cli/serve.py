"""`bearergate serve`: runs the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.assembly import CannotStart
from gateway.settings import SettingsInvalid, read_settings


def serve(
    policy: Annotated[Path | None, typer.Option(help="A policy file, or a folder of them.")] = None,
    upstream: Annotated[
        list[str] | None, typer.Option(help="Where an upstream of the policy is: NAME=http://host:port. Repeatable.")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="host:port for clients; port 0 takes a free one.")] = None,
    admin_listen: Annotated[str | None, typer.Option(help="host:port for /metrics, /livez and /readyz.")] = None,
    store: Annotated[str | None, typer.Option(help="Where keys are kept: sqlite:///FILE.")] = None,
    access_log: Annotated[str | None, typer.Option(help="`-` standard output, `none`, or a file.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.", envvar="BEARERGATE_CONFIG")] = None,
) -> None:
    """Runs the gateway. Every option can also be set as BEARERGATE_… in the environment, or in the file."""
    from gateway.assembly.serving import serve as serve_until_told  # noqa: PLC0415 - half a second that no other command needs

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = read_settings(
            config,
            policy=policy,
            upstreams=located(upstream),
            listen=listen,
            admin_listen=admin_listen,
            store=store,
            access_log=access_log,
        )
        uvloop.run(serve_until_told(settings))
    except (SettingsInvalid, CannotStart) as fault:
        for line in str(fault).splitlines():
            typer.echo(f"bearergate: {line}", err=True)
        raise typer.Exit(1) from fault
    except asyncio.CancelledError:
        raise typer.Exit(1) from None


def located(options: list[str] | None) -> dict[str, str] | None:
    """`NAME=URL` options as a mapping. Raises: SettingsInvalid"""
    if not options:
        return None
    upstreams: dict[str, str] = {}
    for option in options:
        name, equals, url = option.partition("=")
        if not name or not equals or name in upstreams:
            raise SettingsInvalid(f"--upstream: `{option}` is not `NAME=http://host:port`, or its name comes twice")
        upstreams[name] = url
    return upstreams
