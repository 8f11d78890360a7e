"""Who the client is when proxies stand before the gateway: `X-Forwarded-For` and the PROXY protocol.

Both are claims. They are read only on connections from addresses that the operator has listed, and from the right: the
last address that is not a listed proxy is the client, and whatever stands left of it is the client's own invention.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

PROXY_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY_V1_LIMIT_BYTES: Final = 107
PROXY_V2_LIMIT_BYTES: Final = 16 + 2048
"""The specification allows 64 KiB of extensions; load balancers send some 100 bytes."""
_REMEMBERED: Final = 4096
_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"


class ProxyHeaderInvalid(ValueError):
    """The connection does not begin with a header of the PROXY protocol, version 1 or 2."""


class TrustedProxies:
    """The networks of proxies whose word is taken. Answers are remembered, bounded."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: list[str]) -> None:
        """Raises: ValueError"""
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple([ip_network(text) for text in networks])
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        """Whether `address`, an IP address as text, belongs to a listed proxy."""
        known = self._known.get(address)
        if known is not None:
            return known
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if parsed.version == 6 and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        trusted = False
        for network in self._networks:
            if parsed.version == network.version and parsed in network:
                trusted = True
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[address] = trusted
        return trusted


def address_of(text: str) -> str:
    """The IP address in `text`, with or without brackets and port, or empty when it is none."""
    host = text.strip(" \t")
    if host.startswith("["):
        host, closed, _ = host[1:].partition("]")
        if not closed:
            return ""
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if "%" in host:
        return ""  # Python takes any text at all for the scope of an address
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def client_and_hops(headers: list[tuple[bytes, bytes]], peer: str, trusted: TrustedProxies) -> tuple[str, str]:
    """(the client's address, the chain from it to `peer`) by the `X-Forwarded-For` of a trusted `peer`."""
    claims: list[str] = []
    for name, value in headers:
        if len(name) == len(_FOR) and name.lower() == _FOR:
            claims += value.decode("latin-1").split(",")
    client = peer
    chain = peer
    for claim in reversed(claims):
        if not trusted.trusts(client):
            break
        address = address_of(claim)
        if not address:
            # Nothing left of a hop that does not say who called it can be believed.
            break
        client = address
        chain = f"{address}, {chain}"
    return client, chain


def scheme_by(headers: list[tuple[bytes, bytes]], scheme: bytes) -> bytes:
    """How the client reached the trusted proxy: its one `X-Forwarded-Proto`, else `scheme`."""
    found = b""
    for name, value in headers:
        if len(name) == len(_PROTO) and name.lower() == _PROTO:
            if found:
                return scheme
            found = value.lower()
    return found if found in (b"http", b"https") else scheme


def read_proxy_header(data: bytes) -> tuple[str, int] | None:
    """(the client's address or empty where the header names none, length of the header); None: more bytes are needed.

    Raises: ProxyHeaderInvalid
    """
    if data.startswith(PROXY_SIGNATURE):
        return _version_2(data)
    if PROXY_SIGNATURE.startswith(data):
        return None
    if not (data.startswith(b"PROXY ") or b"PROXY ".startswith(data)):
        raise ProxyHeaderInvalid("no header of the PROXY protocol")
    end = data.find(b"\r\n", 0, PROXY_V1_LIMIT_BYTES)
    if end < 0:
        if len(data) >= PROXY_V1_LIMIT_BYTES:
            raise ProxyHeaderInvalid("a line of more than 107 bytes")
        return None
    return _version_1(data[:end].decode("latin-1")), end + 2


def _version_1(line: str) -> str:
    words = line.split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return ""
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or "%" in line:
        raise ProxyHeaderInvalid("not `PROXY TCP4|TCP6 source destination port port`")
    try:
        source, destination = ip_address(words[2]), ip_address(words[3])
    except ValueError as fault:
        raise ProxyHeaderInvalid("an address that is none") from fault
    version = 4 if words[1] == "TCP4" else 6
    ports_are_right = all(port.isascii() and port.isdigit() and int(port) <= 65535 for port in words[4:])
    if source.version != version or destination.version != version or not ports_are_right:
        raise ProxyHeaderInvalid("an address of the other family, or a port that is none")
    return str(source)


def _version_2(data: bytes) -> tuple[str, int] | None:
    if len(data) < 16:
        return None
    length = 16 + int.from_bytes(data[14:16], "big")
    if length > PROXY_V2_LIMIT_BYTES:
        raise ProxyHeaderInvalid("a header of more than 2,064 bytes")
    if len(data) < length:
        return None
    version_and_command, family = data[12], data[13]
    if version_and_command >> 4 != 2 or version_and_command & 15 > 1:
        raise ProxyHeaderInvalid("another version or command than PROXY and LOCAL of version 2")
    if version_and_command & 15 == 0 or family == 0:
        return "", length  # LOCAL: the proxy's own health check
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is None or length < 16 + 2 * size + 4:
        raise ProxyHeaderInvalid("neither TCP over IPv4 nor over IPv6, or too short for its addresses")
    return str(ip_address(data[16 : 16 + size])), length
