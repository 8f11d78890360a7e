"""Where an endpoint is: scheme, host and port out of a URL that has nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Location:
    """One endpoint as the configuration writes it."""

    url: str
    is_tls: bool
    host: str
    port: int
    authority: str
    """`host` or `host:port`, as in the URL."""

    @property
    def is_name(self) -> bool:
        """Whether the host has to be looked up."""
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False


def location_of(name: str, url: str) -> Location:
    """The location in `url`, `http://host[:port]` or `https://host[:port]` (J13). Raises: ValueError"""
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or parts.username is not None
    ):
        raise ValueError(f"upstream `{name}`: `{url}` is not `http://host:port` or `https://host:port`")
    is_tls = parts.scheme == "https"
    parts.netloc.encode("ascii")
    return Location(url, is_tls, parts.hostname, parts.port or (443 if is_tls else 80), parts.netloc)
