"""`bearergate keys`: create and rotate (the token is shown once), list (it is not), rename, revoke, history, import,
peppers.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.key_service import DEFAULT_STORE, JsonOption, StoreOption, actor, fail, key_service, table
from gateway.core.lifecycle import KeyState
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.scopes import ScopeRegistry
from gateway.keys.book import KeyEntry
from gateway.keys.expiry import read_expiry, utc_text
from gateway.keys.imports import read_imports
from gateway.keys.rotation import read_overlap
from gateway.keys.service import NewKey

app = typer.Typer(help="Create, list, rotate and revoke API keys, and read their history.", no_args_is_help=True)

AppOption = Annotated[str | None, typer.Option("--app", metavar="ID", help="Only of this App.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands before the dot.")]
ExpiresOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="`90d` or `2027-01-01` (UTC); one year if not said.")
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="BEARERGATE_POLICY", help="Check scopes against this policy file or folder."),
]


@app.command()
def create(
    *,
    app_id: Annotated[str, typer.Option("--app", metavar="ID", help="The App that will own the key.")],
    name: Annotated[str, typer.Option(help="For people; it may repeat.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What the key may be used for: one at least. Repeatable.")
    ] = None,
    expires: ExpiresOption = None,
    policy: PolicyOption = None,
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

    if as_json:
        typer.echo(json.dumps({**_as_json(new.key, None), "token": new.token.reveal()}, indent=2))
    _show(new, is_checked=registry is not None, as_json=as_json)
    if len(new.key.scopes) > 1:
        typer.echo("a key for each scope is safer: a leaked one then opens one thing, and is replaced alone", err=True)


@app.command("list")
def list_all(app_id: AppOption = None, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List keys, oldest first, without their tokens."""
    with key_service(store) as service:
        listed = service.list_keys(app_id)

    # A successor is of the same App, so whoever precedes a listed key is listed too.
    predecessors = {key.successor_id: key.id for key in listed if key.successor_id is not None}
    if as_json:
        typer.echo(json.dumps([_as_json(key, predecessors.get(key.id)) for key in listed], indent=2))
        return

    now = time.time()
    rows = [
        (
            key.id,
            f"...{key.hint}" if key.hint else "-",
            key.standing(now).value,
            utc_text(key.expires_at),
            key.app_id,
            " ".join(key.scopes),
            predecessors.get(key.id, "-"),
            key.successor_id or "-",
            key.name,
        )
        for key in listed
    ]
    typer.echo(table(("ID", "ENDS IN", "STATE", "EXPIRES", "APP", "SCOPES", "REPLACES", "SUCCESSOR", "NAME"), rows))


@app.command()
def rotate(
    key_id: KeyArgument,
    *,
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How long both keys work: `7d`, `12h` or `0`, 30 days at most.")
    ] = "7d",
    scope: Annotated[
        list[str] | None, typer.Option(help="Of the old key's scopes, those to keep: all if not said. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the new key; the old one's if not said.")] = None,
    expires: ExpiresOption = None,
    policy: PolicyOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Replace a key: print the token of its successor, once, and let the old key end after the overlap."""
    registry = None if policy is None else _scopes_of(policy)
    with key_service(store) as service:
        rotation = service.rotate_key(
            key_id,
            overlap=read_overlap(overlap),
            scopes=scope or None,
            expires_at=None if expires is None else read_expiry(expires, time.time()),
            name=name,
            registry=registry,
            actor=actor(),
        )

    new, old = rotation.new, rotation.old
    if as_json:
        shown = {**_as_json(new.key, old.id), "token": new.token.reveal(), "old": _as_json(old, None)}
        typer.echo(json.dumps(shown, indent=2))
    _show(new, is_checked=registry is not None, as_json=as_json)
    is_revoked = old.state is KeyState.REVOKED
    ends = "is revoked" if is_revoked else f"ends at {utc_text(old.expires_at)}"
    typer.echo(f"key {old.id}, which it replaces, {ends}", err=True)


@app.command()
def rename(
    key_id: KeyArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people; it may repeat.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Give a key another name. Nothing else of it changes."""
    with key_service(store) as service:
        key = service.rename_key(key_id, name, actor=actor())
    typer.echo(f"key {key.id} is named {key.name!r}")


@app.command()
def revoke(
    key_id: KeyArgument,
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


@app.command("import-digests")
def import_digests(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or lines of JSON.", dir_okay=False)],
    policy: PolicyOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Take over keys of which another system has kept SHA-256: all of the file, or nothing."""
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise fail(f"`{file}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise fail(f"`{file}` is not UTF-8, at byte {error.start + 1}") from None

    registry = None if policy is None else _scopes_of(policy)
    with key_service(store) as service:
        added = service.import_digests(read_imports(text, time.time()), registry=registry, actor=actor())
    typer.echo(f"{len(added)} keys were imported", err=True)


@app.command()
def peppers(
    forget: Annotated[
        str | None, typer.Option(metavar="ID", help="Let this one go: no active key may stand under it.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Count the keys under each pepper; one without active keys can be forgotten, and its file be deleted."""
    with key_service(store) as service:
        if forget is not None:
            service.forget_pepper(forget, actor=actor())
            typer.echo(f"pepper {forget} is forgotten: its file can be deleted", err=True)
            return

        uses = service.list_peppers()

    if as_json:
        listed = [{"id": use.pepper_id, "active": use.active, "dead": use.dead} for use in uses]
        typer.echo(json.dumps(listed, indent=2))
        return

    rows = [(use.pepper_id or "-", str(use.active), str(use.dead)) for use in uses]
    typer.echo(table(("PEPPER", "ACTIVE", "DEAD"), rows))


def _scopes_of(policy: Path) -> ScopeRegistry:
    from gateway.policy_files import load  # noqa: PLC0415 - most commands read no policy

    try:
        return load(policy).policy.scopes
    except PolicyInvalid as error:
        raise fail(*(str(fault) for fault in error.faults)) from None


def _show(new: NewKey, *, is_checked: bool, as_json: bool) -> None:
    """The token, where it has not been shown as JSON, and what a person needs to know of it."""
    if not as_json:
        typer.echo(new.token.reveal())
    typer.echo(f"key {new.key.id} expires at {utc_text(new.key.expires_at)}", err=True)
    if not is_checked:
        typer.echo("scopes were not checked; give `--policy`, or set `BEARERGATE_POLICY`", err=True)
    typer.echo("store it now, where only its user can read it: it is not shown again", err=True)


def _as_json(key: KeyEntry, predecessor: str | None) -> dict[str, object]:
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
        "predecessor": predecessor,
        "successor": key.successor_id,
    }
