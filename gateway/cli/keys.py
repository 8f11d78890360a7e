"""`bearergate keys`: create (the token is shown once), list (it is not), revoke, history."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.key_service import DEFAULT_STORE, JsonOption, StoreOption, actor, fail, key_service, table
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.scopes import ScopeRegistry
from gateway.keys.book import KeyEntry
from gateway.keys.expiry import read_expiry, utc_text

app = typer.Typer(help="Create, list and revoke API keys, and read their history.", no_args_is_help=True)

AppOption = Annotated[str | None, typer.Option("--app", metavar="ID", help="Only of this App.")]


@app.command()
def create(
    *,
    app_id: Annotated[str, typer.Option("--app", metavar="ID", help="The App that will own the key.")],
    name: Annotated[str, typer.Option(help="For people; it may repeat.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What the key may be used for: one at least. Repeatable.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="`90d` or `2027-01-01` (UTC); one year if not said.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="BEARERGATE_POLICY", help="Check scopes against this policy file or folder."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print its token, once and never again."""
    if not scope:
        raise typer.BadParameter("a key needs at least one, such as `--scope USER_READ`", param_hint="--scope")

    registry = None if policy is None else _scopes_of(policy)
    with key_service(store) as service:
        new = service.create_key(
            app_id,
            name=name,
            scopes=scope,
            expires_at=None if expires is None else read_expiry(expires, time.time()),
            registry=registry,
            actor=actor(),
        )

    token = new.token.reveal()
    typer.echo(json.dumps({**_as_json(new.key), "token": token}, indent=2) if as_json else token)
    typer.echo(f"key {new.key.id} expires at {utc_text(new.key.expires_at)}", err=True)
    if registry is None:
        typer.echo("scopes were not checked; give `--policy`, or set `BEARERGATE_POLICY`", err=True)
    typer.echo("store it now, where only its user can read it: it is not shown again", err=True)
    if len(new.key.scopes) > 1:
        typer.echo("a key for each scope is safer: a leaked one then opens one thing, and is replaced alone", err=True)


@app.command("list")
def list_all(app_id: AppOption = None, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List keys, oldest first, without their tokens."""
    with key_service(store) as service:
        listed = service.list_keys(app_id)

    if as_json:
        typer.echo(json.dumps([_as_json(key) for key in listed], indent=2))
        return

    now = time.time()
    rows = [
        (
            key.id,
            f"...{key.hint}",
            key.standing(now).value,
            utc_text(key.expires_at),
            key.app_id,
            " ".join(key.scopes),
            key.name,
        )
        for key in listed
    ]
    typer.echo(table(("ID", "ENDS IN", "STATE", "EXPIRES", "APP", "SCOPES", "NAME"), rows))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands before the dot.")],
    reason: Annotated[str, typer.Option(help="For the history.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """End a key for good. Gateways refuse it within two seconds."""
    with key_service(store) as service:
        ended = service.revoke_key(key_id, reason=reason, actor=actor())

    at = utc_text(ended.revoked_at)
    typer.echo(
        f"key {key_id} was already revoked at {at}"
        if ended.was_already_revoked
        else f"key {key_id} is revoked as of {at}"
    )


@app.command()
def history(
    app_id: AppOption = None,
    key_id: Annotated[str | None, typer.Option("--key", metavar="ID", help="Only of this key.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Print what happened to Apps and keys, oldest first: when, what, by whom."""
    with key_service(store) as service:
        lines = service.history(app_id=app_id, key_id=key_id)

    if as_json:
        listed = [
            {
                "position": line.position,
                "happened_at": utc_text(line.happened_at),
                "event": line.event,
                "app": line.app_id,
                "key": line.key_id,
                "actor": line.actor,
                "detail": dict(line.detail),
            }
            for line in lines
        ]
        typer.echo(json.dumps(listed, indent=2))
        return

    rows = [
        (
            utc_text(line.happened_at),
            line.event,
            line.app_id,
            line.key_id or "-",
            line.actor,
            " ".join(f"{name}={value!r}" for name, value in line.detail.items()) or "-",
        )
        for line in lines
    ]
    typer.echo(table(("WHEN", "EVENT", "APP", "KEY", "ACTOR", "DETAIL"), rows))


def _scopes_of(policy: Path) -> ScopeRegistry:
    from gateway.policy_files import load  # noqa: PLC0415 - most commands read no policy

    try:
        return load(policy).policy.scopes
    except PolicyInvalid as error:
        raise fail(*(str(fault) for fault in error.faults)) from None


def _as_json(key: KeyEntry) -> dict[str, object]:
    return {
        "id": key.id,
        "app": key.app_id,
        "kind": key.kind.value,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": key.standing(time.time()).value,
        "created_at": utc_text(key.created_at),
        "expires_at": utc_text(key.expires_at),
        "hint": key.hint,
    }
