"""Configuration of user tokens: their issuers, and what is remembered of tokens."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    SerializationInfo,
    StringConstraints,
    field_serializer,
    model_validator,
)

from gateway.tokens.issuers import LEEWAY_SECONDS, MAX_LEEWAY_SECONDS, MAX_LIFETIME_SECONDS, TOKEN_TYPES

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
IssuerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]

REVEALED: Final = object()
"""The context in which settings are written with their secrets; in any other they are stars."""

_YEAR: Final = 366 * 86_400.0


def _seconds(default: float, *, at_least: float = 0.1, at_most: float) -> Any:
    return Field(default=default, ge=at_least, le=at_most, allow_inf_nan=False)


class IssuerSettings(BaseModel):
    """One issuer of user tokens; see `docs/tokens.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: str = Field(min_length=1, max_length=2000)
    """What its tokens say as `iss`, byte for byte."""
    audience: str = Field(default="", max_length=2000)
    """One of what its tokens say as `aud`; may be left out with `introspection_url` alone."""
    jwks_url: str | None = None
    jwks_file: Path | None = None
    introspection_url: str | None = None
    """Exactly one of the three: where its keys are, or who is asked about its tokens."""
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    """The secret of `client_id`, or the file with it; for introspection."""
    ca_file: Path | None = None
    """The certificates that are trusted, instead of the machine's."""
    algorithms: list[Algorithm] = Field(default=["ES256", "RS256"], min_length=1)
    token_types: list[str] = Field(default=list(TOKEN_TYPES), min_length=1)
    """What `typ` may be; an empty text lets it be missing."""
    user_claim: str = Field(default="sub", min_length=1, max_length=200)
    app_claim: str | None = Field(default=None, min_length=1, max_length=200)
    app: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")
    """Exactly one of the two: the claim with the App's id, or the App of all its users."""
    leeway: float = Field(default=LEEWAY_SECONDS, ge=0, le=MAX_LEEWAY_SECONDS, allow_inf_nan=False)
    max_lifetime: float = _seconds(MAX_LIFETIME_SECONDS, at_least=1.0, at_most=_YEAR)
    refresh: float = _seconds(300.0, at_least=1.0, at_most=3_600.0)
    """Seconds between two readings of `jwks_url`."""
    keep: float = _seconds(3_600.0, at_least=1.0, at_most=86_400.0)
    """Seconds that the last good keys count while the issuer is silent."""
    min_interval: float = _seconds(10.0, at_least=1.0, at_most=300.0)
    """Seconds between two readings, however many tokens name unknown keys."""
    introspection_ttl: float = _seconds(60.0, at_most=300.0)
    """Seconds that what an issuer said of a token is remembered."""
    timeout: float = _seconds(5.0, at_most=30.0)

    @field_serializer("client_secret", when_used="json-unless-none")
    def _written_secret(self, secret: SecretStr, info: SerializationInfo) -> str:
        return secret.get_secret_value() if info.context is REVEALED else str(secret)

    @model_validator(mode="after")
    def _fits_together(self) -> IssuerSettings:
        sources = (self.jwks_url, self.jwks_file, self.introspection_url)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of `jwks_url`, `jwks_file` and `introspection_url`")
        for name, url in (("jwks_url", self.jwks_url), ("introspection_url", self.introspection_url)):
            if url is not None:
                _check_url(name, url)
        if (self.app is None) is (self.app_claim is None):
            raise ValueError("give exactly one of `app`, the App of all its users, and `app_claim`, which names it")
        if self.introspection_url is None:
            if not self.audience:
                raise ValueError("audience: is missing; without it, tokens for other services would count here")
            if (self.client_id, self.client_secret, self.client_secret_file) != (None, None, None):
                raise ValueError("client_id, client_secret: they are for `introspection_url` alone; leave them out")
        elif not self.client_id or (self.client_secret is None) is (self.client_secret_file is None):
            raise ValueError(
                "introspection_url: give `client_id`, and `client_secret` or `client_secret_file`, with it"
            )
        if self.jwks_url is not None and self.keep < self.refresh:
            raise ValueError(
                f"keep: {self.keep:g} s is less than `refresh`, {self.refresh:g} s; no key would count in between"
            )
        if len(set(self.algorithms)) != len(self.algorithms):
            raise ValueError("algorithms: one of them stands twice")
        return self


class TokenCacheSettings(BaseModel):
    """What is remembered of user tokens that were verified, and of those that were refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: float = _seconds(300.0, at_most=3_600.0)
    refused_ttl: float = _seconds(5.0, at_most=30.0)
    max_entries: PositiveInt = 100_000
    max_refused: PositiveInt = 20_000


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as fault:
        shown = "this" if "@" in url else f"`{url}`"
        raise ValueError(f"{name}: {shown} is no URL") from fault
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{name}: a name or a password in the URL is not used; leave them out")
    if not host or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{name}: `{url}` is no URL such as `https://id.example.org/jwks`")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError(f"{name}: `{url}` is not `https:`; anybody on the way could put other keys there")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
