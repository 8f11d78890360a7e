"""The hosts that a policy is for, and the `Host` of a request compared with them (C10, C11).

A name is compared in lower case, without a dot at its end and without port 80 or 443: clients differ in these, and a
certificate does not. `*.example.com` is every name with one label more, as in a certificate.
"""

from __future__ import annotations

from typing import Final, final

_DEFAULT_PORTS: Final = (b"80", b"443")


@final
class Hosts:
    """The hosts of one policy. Spellings that were found to be served are remembered, bounded."""

    __slots__ = ("_below", "_known", "_names", "written")
    LIMIT: Final = 1024

    written: Final[tuple[str, ...]]
    """As the policy has them."""

    def __init__(self, written: tuple[str, ...]) -> None:
        hosts = [plain_host(host.encode("ascii")) for host in written]
        self.written = written
        self._names = frozenset(host for host in hosts if not host.startswith(b"*"))
        self._below = frozenset(host[1:] for host in hosts if host.startswith(b"*"))
        self._known: set[bytes] = set()

    def serves(self, host: bytes) -> bool:
        """Whether a valid `Host` is one of these."""
        if host in self._known:
            return True
        plain = plain_host(host)
        if plain not in self._names:
            label, dot, rest = plain.partition(b".")
            if not label or dot + rest not in self._below:
                return False
        if len(self._known) < self.LIMIT:
            self._known.add(host)
        return True


def plain_host(host: bytes) -> bytes:
    """The one spelling of a valid host and port."""
    lower = host.lower()
    name, colon, port = lower.rpartition(b":")
    if not colon or not port.isdigit():
        return lower.removesuffix(b".")
    name = name.removesuffix(b".")
    return name if port in _DEFAULT_PORTS else name + b":" + port
