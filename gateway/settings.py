"""Process configuration: where, how much, with which secret; never who may do what. Typed, read once.

Sources, the strongest first: arguments, environment (`BEARERGATE_LISTEN`, `BEARERGATE_TIMEOUTS__CONNECT`), a TOML file.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gateway.wire.limits import Timeouts


class SettingsInvalid(Exception):
    """The configuration cannot be used: one line per fault."""


class TimeoutSettings(BaseModel):
    """All in seconds; see `gateway.wire.limits.Timeouts` for what each one ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: PositiveFloat = 10.0
    body_idle: PositiveFloat = 15.0
    keep_alive: PositiveFloat = 75.0
    write_idle: PositiveFloat = 60.0
    linger: PositiveFloat = 2.0
    connect: PositiveFloat = 2.0
    response_head: PositiveFloat = 30.0
    response_idle: PositiveFloat = 60.0
    upstream_keep_alive: PositiveFloat = 45.0
    sweep: PositiveFloat = 0.25

    def wire(self) -> Timeouts:
        """The same as the wire takes it."""
        return Timeouts(**self.model_dump())


class KeyCacheSettings(BaseModel):
    """How long and how many key records are held in memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: PositiveFloat = Field(default=30.0, le=300.0)
    """Seconds: the hard bound of a revocation whose news never arrives."""
    unknown_ttl: PositiveFloat = Field(default=5.0, le=30.0)
    max_entries: PositiveInt = 100_000
    max_unknown: PositiveInt = 100_000
    lookup_timeout: PositiveFloat = 0.5
    poll: PositiveFloat = Field(default=0.5, le=5.0)
    """Seconds between two looks at the change feed."""


class Settings(BaseSettings):
    """The whole configuration of one gateway process."""

    model_config = SettingsConfigDict(
        env_prefix="BEARERGATE_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    policy: Path
    """A policy file, or a folder of them."""
    upstreams: dict[str, str]
    """Where each upstream that the policy names is: `{"rest": "http://127.0.0.1:9000"}`."""
    listen: str = "127.0.0.1:8080"
    admin_listen: str = "127.0.0.1:9090"
    store: str = "sqlite:///bearergate.sqlite3"
    access_log: str = "-"
    """`-` is standard output, `none` is none, anything else is a file."""
    upstream_max_connections: PositiveInt = 1024
    public_scheme: Literal["http", "https"] = "http"
    """How clients reach us: `https` where something before us ends TLS. Upstreams hear it as `x-forwarded-proto`."""
    drain_delay: float = Field(default=0.0, ge=0, le=600, allow_inf_nan=False)
    """Seconds after SIGTERM in which `/readyz` is 503 already and new connections are still served."""
    drain: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """Seconds that requests under way may take after that."""
    timeouts: TimeoutSettings = TimeoutSettings()
    key_cache: KeyCacheSettings = KeyCacheSettings()

    @field_validator("listen", "admin_listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        address(value)
        return value


def address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[::1]:port` or `:port` (every interface). Raises: ValueError"""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"`{text}` is not `host:port`")
    return host.strip("[]") or "0.0.0.0", int(port)


def read_settings(config: Path | None = None, **arguments: Any) -> Settings:
    """The settings from arguments that are not None, the environment and, last, the TOML file `config`.

    Raises: SettingsInvalid
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        file = {} if config is None else tomllib.loads(config.read_text("utf-8"))
        settings = _layered(file)(**given)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsInvalid(f"{config}: {fault}") from fault
    except SettingsError as fault:
        raise SettingsInvalid(f"{fault}; a mapping in the environment is written as JSON") from fault
    except ValidationError as fault:
        raise SettingsInvalid("\n".join(_sentence(error) for error in fault.errors(include_url=False))) from fault

    strays = _stray_variables()
    if strays:
        raise SettingsInvalid("\n".join(f"{name}: there is no such setting" for name in strays))
    return settings


def _layered(file: dict[str, Any]) -> type[Settings]:
    """The settings with `file` below arguments and environment; tables are merged member by member."""

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file)

    return Layered


def _stray_variables() -> list[str]:
    """Variables with our prefix that no setting has: pydantic passes over them, and a misspelt one would do nothing."""
    known = {*Settings.model_fields, "config", "vectors"}
    prefix = "BEARERGATE_"
    return sorted(
        name
        for name in os.environ
        if name.startswith(prefix) and name.removeprefix(prefix).split("__")[0].lower() not in known
    )


def _sentence(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "missing":
        return f"{name}: is missing; set it as an argument, in the file or as `BEARERGATE_{name.upper()}`"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
