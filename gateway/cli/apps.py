"""`bearergate apps`: the owners of keys."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.cli.key_service import DEFAULT_STORE, JsonOption, StoreOption, actor, key_service, table
from gateway.keys.book import App
from gateway.keys.expiry import utc_text

app = typer.Typer(help="Create, list, disable and enable Apps, the owners of keys.", no_args_is_help=True)

AppArgument = Annotated[str, typer.Argument(metavar="ID", help="The App's id.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people; it may repeat.")],
    feature: Annotated[list[str] | None, typer.Option(help="A feature that some scopes need. Repeatable.")] = None,
    key_limit: Annotated[
        int | None, typer.Option(help="How many active keys it may have, 1 or more (10 if not said).")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Create an App and print its id. The store is made if there is none yet."""
    with key_service(store, create=True) as service:
        made = service.create_app(name, feature or (), key_limit=key_limit, actor=actor())
    typer.echo(made.id)


@app.command("list")
def list_all(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the Apps, oldest first."""
    with key_service(store) as service:
        listed = service.list_apps()

    if as_json:
        typer.echo(json.dumps([_as_json(each) for each in listed], indent=2))
        return

    rows = [(each.id, each.state.value, " ".join(sorted(each.features)) or "-", each.name) for each in listed]
    typer.echo(table(("ID", "STATE", "FEATURES", "NAME"), rows))


@app.command()
def disable(app_id: AppArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Refuse every key of an App until it is enabled again."""
    with key_service(store) as service:
        is_news = service.disable_app(app_id, actor=actor())
    typer.echo(f"App {app_id} {'is' if is_news else 'was already'} disabled: gateways refuse its keys", err=True)


@app.command()
def enable(app_id: AppArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Accept the keys of a disabled App again."""
    with key_service(store) as service:
        is_news = service.enable_app(app_id, actor=actor())
    typer.echo(f"App {app_id} {'is' if is_news else 'was already'} enabled", err=True)


def _as_json(listed: App) -> dict[str, object]:
    return {
        "id": listed.id,
        "name": listed.name,
        "state": listed.state.value,
        "features": sorted(listed.features),
        "key_limit": listed.key_limit,
        "created_at": utc_text(listed.created_at),
    }
