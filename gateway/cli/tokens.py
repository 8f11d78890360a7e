"""`bearergate tokens`: revoke user tokens, and list what is revoked."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from gateway.cli.key_service import DEFAULT_STORE, JsonOption, StoreOption, actor, key_service, table
from gateway.keys.expiry import read_expiry, utc_text
from gateway.ports import TokenRevocation

app = typer.Typer(help="Revoke user tokens before they expire.", no_args_is_help=True)


@app.command()
def revoke(
    *,
    issuer: Annotated[str, typer.Option(help="The `iss` of the tokens; without it, every issuer's.")] = "",
    token_id: Annotated[str, typer.Option(help="One token, by its `jti`; needs the issuer.")] = "",
    user: Annotated[str, typer.Option(help="The tokens of this user.")] = "",
    app_id: Annotated[str, typer.Option("--app", metavar="ID", help="The tokens of this App.")] = "",
    before: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Those issued before `2027-01-01T12:00:00Z`; now if not said.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="When the last of them has expired: `30d`, or a date; a year if not said."),
    ] = None,
    reason: Annotated[str, typer.Option(help="For the history.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """End one user token, or those of a user, an App, or a user of an App that were issued until now."""
    now = time.time()
    with key_service(store) as service:
        revocation = service.revoke_tokens(
            issuer=issuer,
            token_id=token_id,
            user_id=user,
            app_id=app_id,
            before=None if before is None else read_expiry(before, now),
            expires_at=None if expires is None else read_expiry(expires, now),
            reason=reason,
            actor=actor(),
        )
    typer.echo(f"revoked: {_what(revocation)}", err=True)


@app.command()
def revocations(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the revocations that still count, oldest first."""
    with key_service(store) as service:
        listed = service.list_token_revocations()

    if as_json:
        typer.echo(json.dumps([_as_json(each) for each in listed], indent=2))
        return

    rows = [
        (
            each.issuer or "every",
            each.token_id or "-",
            each.user_id or "-",
            each.app_id or "-",
            "-" if each.token_id else utc_text(each.not_before),
            utc_text(each.expires_at),
        )
        for each in listed
    ]
    typer.echo(table(("ISSUER", "TOKEN", "USER", "APP", "ISSUED BEFORE", "KEPT UNTIL"), rows))


def _what(revocation: TokenRevocation) -> str:
    of = f"of issuer {revocation.issuer}" if revocation.issuer else "of every issuer"
    if revocation.token_id:
        return f"token {revocation.token_id} {of}"

    user = f" of user {revocation.user_id}" if revocation.user_id else ""
    app_of = f" of App {revocation.app_id}" if revocation.app_id else ""
    return f"tokens{user}{app_of} {of} that were issued before {utc_text(revocation.not_before)}"


def _as_json(revocation: TokenRevocation) -> dict[str, object]:
    return {
        "issuer": revocation.issuer,
        "token_id": revocation.token_id,
        "user": revocation.user_id,
        "app": revocation.app_id,
        "issued_before": None if revocation.token_id else utc_text(revocation.not_before),
        "kept_until": utc_text(revocation.expires_at),
    }
