"""What a demo says of itself: a page to paste from, and a file for programs."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.demo.cast import DemoApp
from gateway.demo.example import Example, Trial, filled
from gateway.demo.issuer import UserToken


class UpstreamAddresses(msgspec.Struct, frozen=True):
    """Where the example upstreams listen."""

    rest: str
    graphql: str


class Announcement(msgspec.Struct, frozen=True):
    """Everything one needs to know to use a running demo. Addresses are URLs."""

    gateway: str
    admin: str
    upstreams: UpstreamAddresses
    apps: tuple[DemoApp, ...]
    store: str = ""
    """Where the keys are: what `--store` of the key commands takes."""
    users: tuple[UserToken, ...] = ()
    """Users of the Apps who have a token."""


def write_announcement(announcement: Announcement, path: Path) -> None:
    """The announcement as JSON: there as a whole or not at all, and readable by its owner alone. Raises: OSError"""
    # mkstemp makes the file 0600: it holds tokens.
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(announcement)) + b"\n")
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def page(announcement: Announcement, example: Example) -> str:
    """The page that a demo prints: where things are, the keys, and requests ready to paste."""
    parts = [*_places(announcement), *_keys(announcement), "Try:", ""]
    for trial in example.trials:
        parts += [f"# {trial.status}: {trial.says}", curl(trial, announcement, example), ""]
    parts += ["# 200: the metrics", f"curl -si {announcement.admin}/metrics", ""]
    key_id = announcement.apps[0].keys[0].id
    parts += ["# Revoke a key, and the first of these is 401 within two seconds"]
    parts += [f"bearergate keys revoke {key_id} --store {announcement.store}", ""]
    parts.append("Stop with Ctrl-C.")
    return "\n".join(parts)


def curl(trial: Trial, announcement: Announcement, example: Example) -> str:
    """One command line that sends `trial` and shows status, header and body of the answer."""
    method, path = trial.send.split(" ")
    app = announcement.apps[0]
    given = {"user": app.users[0], "other": app.users[-1]}
    words = ["curl", "-si"]
    if method != ("GET" if trial.body is None else "POST"):
        words += ["-X", method]
    for token in trial.tokens:
        words += ["-H", f"Authorization: Bearer {_token(token, announcement, example)}"]
    if trial.body is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(filled(trial.body, given))]
    words.append(announcement.gateway + filled(path, given))
    return shlex.join(words)


def _token(word: str, announcement: Announcement, example: Example) -> str:
    app = announcement.apps[0]
    if word == "unknown":
        return example.unknown_token
    if word == "user":
        return next(given.token for given in announcement.users if (given.app, given.user) == (app.id, app.users[0]))
    if word == "revoked":
        return app.revoked[0].token
    return next(key.token for key in app.keys if key.scopes == (word,))


def _places(announcement: Announcement) -> Iterator[str]:
    yield "Bearergate demo: everything is ready."
    yield ""
    yield f"  gateway            {announcement.gateway}"
    yield f"  metrics, health    {announcement.admin}/metrics /livez /readyz"
    yield f"  REST upstream      {announcement.upstreams.rest}"
    yield f"  GraphQL upstream   {announcement.upstreams.graphql}"
    yield f"  key store          {announcement.store}"
    yield ""


def _keys(announcement: Announcement) -> Iterator[str]:
    for app in announcement.apps:
        yield f"App {app.name} ({app.id}), users {', '.join(app.users)}"
        for key in app.keys:
            yield f"  {key.token}  {' '.join(key.scopes)}"
        for revoked in app.revoked:
            yield f"  {revoked.token}  (revoked)"
        for user in announcement.users:
            if user.app == app.id:
                yield f"  {user.token}  (user {user.user})"
        yield ""
