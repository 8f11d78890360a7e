"""Process configuration: where, how much, with which secret; never who may do what. Typed, read once.

Sources, the strongest first: arguments, environment (`BEARERGATE_LISTEN`, `BEARERGATE_TIMEOUTS__CONNECT`), a TOML file.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.token_settings import REVEALED, IssuerName, IssuerSettings, TokenCacheSettings
from gateway.wire.limits import WEBSOCKET_FRAMES_PER_SECOND, WEBSOCKET_MESSAGE_BYTES, Timeouts

PREFIX: Final = "BEARERGATE_"
_NO_SETTINGS: Final = ("config", "vectors")
"""Variables with our prefix that others read: the command its file, the tests their vectors."""


_HOST_NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*$"


def _seconds(default: float, *, at_most: float = 86_400.0) -> Any:
    return Field(default=default, gt=0, le=at_most, allow_inf_nan=False)


class SettingsInvalid(Exception):
    """The configuration cannot be used: one line per fault."""


class TimeoutSettings(BaseModel):
    """All in seconds; see `gateway.wire.limits.Timeouts` for what each one ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: float = _seconds(10.0)
    body_idle: float = _seconds(15.0)
    body_rate: float = Field(default=240.0, ge=0, le=1e9, allow_inf_nan=False)
    """Bytes a second, not seconds."""
    keep_alive: float = _seconds(75.0)
    crowded_keep_alive: float = _seconds(1.0)
    write_idle: float = _seconds(60.0)
    linger: float = _seconds(2.0)
    connect: float = _seconds(2.0)
    response_head: float = _seconds(30.0)
    response_idle: float = _seconds(60.0)
    upstream_keep_alive: float = _seconds(45.0)
    request: float = Field(default=0.0, ge=0, le=86_400.0, allow_inf_nan=False)
    """The whole of it with an upstream; 0 for as long as bytes come."""
    websocket_idle: float = _seconds(300.0)
    sweep: float = _seconds(0.25, at_most=5.0)

    def wire(self) -> Timeouts:
        """The same as the wire takes it."""
        return Timeouts(**self.model_dump())


class KeyCacheSettings(BaseModel):
    """How long and how many key records are held in memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: float = _seconds(30.0, at_most=300.0)
    """Seconds: the hard bound of a revocation whose news never arrives."""
    unknown_ttl: float = _seconds(5.0, at_most=30.0)
    max_entries: PositiveInt = 100_000
    max_unknown: PositiveInt = 100_000
    lookup_timeout: float = _seconds(0.5, at_most=30.0)
    poll: float = _seconds(0.5, at_most=5.0)
    """Seconds between two looks at the change feed."""


class AssertionSettings(BaseModel):
    """What signs the assertions that upstreams are sent; see `docs/identity.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Path | None = None
    """A PEM file, or a folder of them of which the first signs; without it, no route can have an `assertion`."""
    issuer: str = Field(default="bearergate", min_length=1, max_length=255)
    """What they say as `iss`."""
    lifetime: int = Field(default=60, ge=10, le=600)
    """Seconds."""


class UpstreamSettings(BaseModel):
    """How one upstream is spoken to, beside where it is; see `docs/upstreams.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._:\[\]-]{1,255}$")
    """The `Host` that it is sent, where that is not the one of its first URL."""
    queue: int = Field(default=64, ge=0, le=100_000)
    """Requests that may wait for a connection."""
    queue_timeout: float = _seconds(1.0, at_most=60.0)
    retry_percent: float = Field(default=20.0, ge=0, le=100, allow_inf_nan=False)
    eject_after: int = Field(default=5, ge=0, le=1_000)
    """Requests in a row without an answer; 0 never leaves an endpoint out."""
    eject_time: float = _seconds(1.0, at_most=3_600.0)
    eject_time_max: float = _seconds(30.0, at_most=3_600.0)
    check_path: str | None = Field(default=None, pattern=r"^/[!-~]{0,2000}$")
    """What is asked for by health checks; none are made without it."""
    check_interval: float = _seconds(5.0, at_most=3_600.0)
    check_timeout: float = _seconds(2.0, at_most=60.0)
    dns_refresh: float = _seconds(30.0, at_most=3_600.0)
    dns_keep: float = _seconds(300.0)
    ca_file: Path | None = None
    """The certificates that are trusted, instead of the machine's."""
    certificate: Path | None = None
    """Our own, for upstreams that ask for one."""
    certificate_key: Path | None = None
    server_name: str | None = Field(default=None, pattern=_HOST_NAME, max_length=253)
    """The name that its certificate has to bear, where that is not the host of the URL."""


class Settings(BaseSettings):
    """The whole configuration of one gateway process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    policy: Path
    """A policy file, or a folder of them."""
    upstreams: dict[str, str]
    """Where each upstream that the policy names is: `{"rest": "http://127.0.0.1:9000"}`. Several URLs of one upstream
    are a list, or a text with commas between them, which is what they are here; see `endpoints`."""
    listen: str = "127.0.0.1:8080"
    admin_listen: str = "127.0.0.1:9090"
    store: str = "sqlite:///bearergate.sqlite3"
    store_listen: str = ""
    """Where PostgreSQL itself is, when `store` is a pooler that lets nobody listen."""
    peppers: dict[str, Path] = {}
    """Files with the secrets under which the store keeps keys, by their ids: `{"2026": "/etc/bearergate/pepper"}`."""
    pepper: str = ""
    """The id of the one that new keys take; it may be left out where there is one alone."""
    region: str = Field(default="", pattern="^[a-z]?$")
    """The letter with which the ids of our keys begin; without it `x`, and keys of every region are looked up."""
    access_log: str = "-"
    """`-` is standard output, `none` is none, anything else is a file."""
    upstream_max_connections: PositiveInt = 1024
    """To each endpoint of an upstream."""
    upstream_defaults: UpstreamSettings = UpstreamSettings()
    """For every upstream."""
    upstream_options: dict[str, UpstreamSettings] = {}
    """The same for one upstream, by its name; what it leaves out is as in `upstream_defaults`."""
    max_connections: PositiveInt = 8192
    """From clients; fewer where the process may not open as many files."""
    max_connections_per_peer: int = Field(default=0, ge=0)
    """From one address; 0 is any number, as a balancer in front needs it."""
    max_streams_per_caller: int = Field(default=256, ge=0)
    """Answers that last, WebSockets among them, of one key or user; 0 is any number."""
    max_websockets: PositiveInt = 512
    """To one upstream; each takes one of its connections for as long as it is open."""
    max_websocket_message_bytes: PositiveInt = WEBSOCKET_MESSAGE_BYTES
    """Of a client's message, as it is on the wire."""
    max_websocket_frames_per_second: PositiveInt = WEBSOCKET_FRAMES_PER_SECOND
    """From one client, on average over ten seconds."""
    trusted_proxies: list[str] = []
    """Networks whose `X-Forwarded-For` and PROXY protocol are believed: `["10.0.0.0/8"]`."""
    proxy_protocol: bool = False
    """Every connection begins with a header of the PROXY protocol, and comes from a trusted proxy."""
    tls_certificate: Path | None = None
    """A PEM file with the certificate and its chain: clients are then answered by TLS."""
    tls_key: Path | None = None
    """Its key, where that is not in the same file."""
    reuse_port: bool = False
    """Lets the next process listen on the same port before this one has ended."""
    public_scheme: Literal["http", "https"] = "http"
    """How clients reach us: `https` where something before us ends TLS. Upstreams hear it as `x-forwarded-proto`."""
    memory_limit: int | None = Field(default=None, ge=0, le=1024 * 1024)
    """MiB that all workers together may hold; without it what the control group says, and 0 for any."""
    max_loop_lag: float = Field(default=0.5, ge=0, le=60, allow_inf_nan=False)
    """Seconds that the event loop may be late before `/readyz` says 503; 0 for any. As long as a look-up in the key
    store may take: a loop that is later lets look-ups fail that were answered in time."""
    drain_delay: float = Field(default=0.0, ge=0, le=600, allow_inf_nan=False)
    """Seconds after SIGTERM in which `/readyz` is 503 already and new connections are still served."""
    drain: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """Seconds that requests under way may take after that."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that serve; more than one have a supervisor over them."""
    worker_timeout: float = _seconds(30.0, at_most=3_600.0)
    """Seconds that one of several may not answer its supervisor before it is killed and replaced."""
    timeouts: TimeoutSettings = TimeoutSettings()
    key_cache: KeyCacheSettings = KeyCacheSettings()
    issuers: dict[IssuerName, IssuerSettings] = Field(default={}, max_length=32)
    """Who issues user tokens, by a name of your own; without one, none are accepted."""
    token_cache: TokenCacheSettings = TokenCacheSettings()
    assertions: AssertionSettings = AssertionSettings()

    @field_validator("upstreams", mode="before")
    @classmethod
    def _join_lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            name: ",".join(urls) if isinstance(urls, list) and all(isinstance(url, str) for url in urls) else urls
            for name, urls in value.items()
        }

    def endpoints(self, name: str) -> tuple[str, ...]:
        """The URLs of one upstream, one for each endpoint, in their order."""
        return tuple(url for part in self.upstreams[name].split(",") if (url := part.strip()))

    def options_of(self, name: str) -> UpstreamSettings:
        """How one upstream is spoken to: its own options over those for all."""
        own = self.upstream_options.get(name)
        if own is None:
            return self.upstream_defaults
        return self.upstream_defaults.model_copy(update=own.model_dump(exclude_unset=True))

    @field_validator("listen", "admin_listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        listen_address(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as fault:
                raise ValueError(f"`{text}` is no network such as `10.0.0.0/8`: {fault}") from fault
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol: anybody could claim any address; list the proxies in `trusted_proxies`")
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls_key: there is no certificate for it; set `tls_certificate`")
        if sum(issuer.introspection_url is not None for issuer in self.issuers.values()) > 1:
            # A token that says nothing of itself would have to be tried with each, and be shown to all but one in vain.
            raise ValueError("issuers: at most one of them can have an `introspection_url`")
        return self


def listen_address(text: str) -> tuple[str, int]:
    """Like `address`, with `unix:/path` as (path, -1) and `fd:3` as ("", 3). Raises: ValueError"""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest.startswith("/"):
            raise ValueError(f"`{text}` has no absolute path, as in `unix:/run/bearergate/http.sock`")
        return rest, -1
    if kind == "fd":
        if not (rest.isascii() and rest.isdigit()):
            raise ValueError(f"`{text}` has no number, as in `fd:3`")
        return "", int(rest)
    return address(text)


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
    faults = list(_stray_variables())
    file: dict[str, Any] = {}
    if config is not None:
        try:
            file = _table(config)
        except SettingsInvalid as fault:
            faults.append(str(fault))
    try:
        settings = _layered(file)(**given)
    except ValidationError as fault:
        sources = _Sources(given, config, file)
        faults += [_sentence(error, sources) for error in fault.errors(include_url=False)]

    if faults:
        raise SettingsInvalid("\n".join(faults))
    return settings


def settings_text(settings: Settings) -> str:
    """All that was set, secrets among it: for the eyes of our own workers alone."""
    # INVARIANT: without what was left out, because options of one upstream that were left out are those for all.
    return settings.model_dump_json(exclude_unset=True, context=REVEALED)


def settings_from(text: str) -> Settings:
    """The settings that `settings_text` wrote, in a process with the same environment."""
    return Settings(**json.loads(text))


class KeySettings(BaseSettings):
    """What commands about keys have to know of the gateway's settings; each is as in `Settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True, env_ignore_empty=True
    )

    peppers: dict[str, Path] = {}
    pepper: str = ""
    region: str = Field(default="", pattern="^[a-z]?$")


def read_key_settings(config: Path | None = None) -> KeySettings:
    """From the environment and, last, the TOML file `config`. Raises: SettingsInvalid"""
    file = {} if config is None else _table(config)

    class Layered(KeySettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return _Environment(settings_cls), InitSettingsSource(settings_cls, init_kwargs=file)

    try:
        return Layered()
    except ValidationError as fault:
        sources = _Sources({}, config, file)
        raise SettingsInvalid(
            "\n".join(_sentence(error, sources) for error in fault.errors(include_url=False))
        ) from fault


def _table(config: Path) -> dict[str, Any]:
    """What stands in the TOML file. Raises: SettingsInvalid"""
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise SettingsInvalid(f"{config}: there is no such file") from fault
    except IsADirectoryError as fault:
        raise SettingsInvalid(f"{config}: this is a folder; give the TOML file in it") from fault
    except OSError as fault:
        raise SettingsInvalid(f"{config}: this cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise SettingsInvalid(f"{config}: this is not UTF-8, at byte {fault.start + 1}") from fault
    except tomllib.TOMLDecodeError as fault:
        raise SettingsInvalid(f"{config}: this is not TOML: {_lower(str(fault))}") from fault


class _Environment(EnvSettingsSource):
    """The environment; what should be JSON and is not goes on as text, so that it is one fault among the others."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


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
            return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, init_kwargs=file)

    return Layered


# -- what is told of a fault: the name as it was written, and what to write


def _keys(model: type[BaseModel] = Settings, above: str = "") -> Iterator[str]:
    """Every setting as a key of the file: `listen`, `timeouts`, `timeouts.head`."""
    for name, field in model.model_fields.items():
        yield above + name
        if isinstance(field.default, BaseModel):
            yield from _keys(type(field.default), f"{above}{name}.")


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _meant(key: str, written: Callable[[str], str] = str) -> str:
    """The guess at the end of a sentence, where one key is near enough; `written` is how it is written there."""
    near = get_close_matches(key, _keys(), n=1, cutoff=0.75)
    return f"; did you mean `{written(near[0])}`?" if near else ""


def _stray_variables() -> Iterator[str]:
    """Variables with our prefix that no setting has: pydantic passes over them, and a misspelt one would do nothing."""
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX):
            continue
        key = name[len(PREFIX) :].lower().replace("__", ".")
        field = key.split(".")[0]
        if field not in _NO_SETTINGS and field not in Settings.model_fields:
            yield f"{name}: there is no such setting{_meant(key, _variable)}"
        elif not name.startswith(_variable(field)):
            yield f"{name}: write it in capitals: `{name.upper()}`"


class _Sources:
    """Where a setting was given, in the order of their strength."""

    def __init__(self, given: Mapping[str, Any], config: Path | None, file: Mapping[str, Any]) -> None:
        self._given = given
        self._variables = {name.upper(): name for name, value in os.environ.items() if value}
        self._config = config
        self._file = file

    def written(self, place: list[str]) -> tuple[str, bool]:
        """(`place` as the user wrote it, whether that is a variable of the environment)."""
        key = ".".join(place)
        if _holds(self._given, place):
            return key, False
        for length in range(len(place), 0, -1):
            name = self._variables.get(_variable(".".join(place[:length])))
            if name is not None:
                return ": ".join([name, *place[length:]]), True
        if _holds(self._file, place):
            return f"{self._config}: {key}", False
        return key, False


def _holds(table: Any, place: list[str]) -> bool:
    for part in place:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True


_EXAMPLES: Final = {
    "issuers": '{"accounts": {"issuer": "https://id.example.org", …}}',
    "peppers": '{"2026": "/etc/bearergate/pepper"}',
    "upstreams": '{"notes": "http://127.0.0.1:9000"}',
}


def _sentence(error: Any, sources: _Sources) -> str:
    place = [str(part) for part in error["loc"]]
    key = ".".join(place)
    name, is_variable = sources.written(place)
    if error["type"] == "missing":
        return f"{key}: is missing; set it as an argument, in the file or as `{_variable(key)}`"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting{_meant(key, _variable if is_variable else str)}"
    if error["type"] in ("dict_type", "model_type"):
        example = _EXAMPLES.get(key, '{"name": 1.0}')
        return f"{name}: this is not JSON; write `{example}`" if is_variable else f"{name}: this is no table"
    return f"{name}: {_lower(str(error['msg']).removeprefix('Value error, '))}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
