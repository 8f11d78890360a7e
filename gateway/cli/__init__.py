"""The command line: one file per command or group, put together here."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway import DATA_PATH, __version__
from gateway.cli import apps, demo, keys, policy, serve, tokens

app = typer.Typer(
    name="bearergate",
    help="An authorization gateway: Bearer tokens in, a declarative policy, nothing let through that it did not allow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bearergate {__version__} (data path {DATA_PATH})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Nothing but what the command line says before a command."""


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.add_typer(apps.app, name="apps")
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="tokens")
app.add_typer(policy.app, name="policy")
