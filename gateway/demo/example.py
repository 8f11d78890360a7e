"""The example data of a demo, read whole or refused whole: Apps and their keys, what the upstreams answer, what to try.

Nothing of any platform stands in this package: it is all in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

VERSION: Final = 1


class ExampleInvalid(Exception):
    """The file of example data could not be read. The text is one line, made to be shown."""


class ExampleApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An App to create, the users that belong to it, and the scopes of each of its keys."""

    name: str
    users: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    revoked: tuple[tuple[str, ...], ...] = ()
    """Keys that are revoked as soon as they are made."""
    features: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A canned answer. `{name}` inside its strings stands for a path parameter or a GraphQL argument."""

    answer: Any
    status: int = 200
    user: str = ""
    """The parameter or argument that names a user, who must belong to the calling App."""


class GraphQLExample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schema, where it is served, and the answer of each root field, as `Query.user`."""

    paths: tuple[str, ...]
    sdl: str
    fields: dict[str, Answer]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request worth trying, and the status it gets. `{user}` and `{other}` in it are users of the first App.

    Each word of `tokens` makes one Authorization header: `unknown`, `revoked`, `user` (the token of `{user}`), or the
    one scope of a key.
    """

    says: str
    send: str
    status: int
    tokens: tuple[str, ...] = ()
    body: dict[str, Any] | None = None


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a demo is made of. `rest` is keyed by method and path: `GET /v1/things/{id}`."""

    version: int
    apps: tuple[ExampleApp, ...]
    rest: dict[str, Answer]
    graphql: GraphQLExample
    trials: tuple[Trial, ...]
    unknown_token: str


def read_example(path: Path) -> Example:
    """The example in the YAML file at `path`. Raises: ExampleInvalid"""
    try:
        loaded = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        # Facts: YAML reads `2026-03-23` as a date; JSON has none, so it becomes the text again.
        example = msgspec.convert(msgspec.to_builtins(loaded), Example)
    except OSError as error:
        raise ExampleInvalid(f"the example data cannot be read: {error}") from error
    except (UnicodeDecodeError, YAMLError, msgspec.ValidationError) as error:
        raise ExampleInvalid(f"{path.name}: {' '.join(str(error).split())}") from error

    if example.version != VERSION:
        raise ExampleInvalid(f"{path.name}: version {example.version} is not known; write `version: {VERSION}`")
    if not example.apps or not example.apps[0].users:
        raise ExampleInvalid(f"{path.name}: at least one App with one user is needed")
    return example


def filled(value: Any, given: dict[str, str]) -> Any:
    """`value` with every `{name}` inside its strings replaced by what was given for it."""
    if isinstance(value, str):
        for name, text in given.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, list):
        return [filled(item, given) for item in value]
    if isinstance(value, dict):
        return {key: filled(item, given) for key, item in value.items()}
    return value
