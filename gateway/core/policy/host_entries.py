"""`hosts:`, the names by which clients may call the gateway, each read into the one spelling of it."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.policy.document import HostsEntry, Text
from gateway.core.policy.hosts import plain_host
from gateway.core.policy.rules import texts
from gateway.core.policy.tree import Listing, Node
from gateway.core.policy.values import Values

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME: Final = rf"(?:{_LABEL}(?:\.{_LABEL}){{0,30}}|\[[0-9a-f:.]{{2,45}}\])"
PORT: Final = r"(?::[1-9][0-9]{0,4})?"

_HOST: Final = re.compile(rf"(?:\*\.)?{NAME}{PORT}")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*).*", re.DOTALL)


def hosts_entry(values: Values, key: Text, node: Node) -> HostsEntry | None:
    """The hosts in `node`, or None when none of them can be used."""
    if not isinstance(node, Listing) or not node.items:
        values.fault(
            node.place,
            "`hosts` must be a list of host names",
            "write it as `hosts: [api.example.com]`, or leave it out to serve every host",
        )
        return None

    names: dict[bytes, str] = {}
    for text in texts(values, node, "hosts", "api.example.com"):
        if not is_host(text.value):
            values.fault(text.place, f"`{text.value}` is not how a host is written", _todo(text.value))
            continue
        if text.value not in names.setdefault(plain_host(text.value.encode("ascii")), text.value):
            values.fault(
                text.place, f"`{text.value}` is in this list already, written otherwise", "keep one of the two"
            )
    return HostsEntry(tuple(names.values()), key.place) if names else None


def is_host(text: str) -> bool:
    """Whether `text` is a host as a policy writes it: small letters, and a port where it is not the usual one."""
    return _HOST.fullmatch(text) is not None and int(text.rpartition(":")[2] if _has_port(text) else 0) <= 65535


def _has_port(text: str) -> bool:
    return text.rpartition(":")[2].isdigit() and not text.endswith("]")


def _todo(written: str) -> str:
    address = _ADDRESS.fullmatch(written)
    near = (address.group(1) if address is not None else written.partition("/")[0]).lower().removesuffix(".")
    if is_host(near):
        return f"write `{near}`"
    if near == "*":
        return "leave `hosts` out to serve every host"
    return "write a name in small letters, and a port if it is not 80 or 443, such as `api.example.com`"
