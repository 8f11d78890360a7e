"""Where a gateway listens: ports, Unix sockets and sockets that were handed over, opened once."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.assembly import CannotStart
from gateway.settings import Settings, listen_address

BACKLOG: Final = 2048
_ADVICE: Final = {
    errno.EADDRINUSE: "choose another port, or port 0 for a free one",
    errno.EACCES: "choose a port above 1023, or give the process the right to use this one",
}


def listening(text: str, name: str, *, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on `text`; `name` is the setting that it came from. Raises: CannotStart"""
    host, port = listen_address(text)
    if not host:
        return _handed_over(port, name)
    is_unix = port < 0
    family = socket.AF_UNIX if is_unix else socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if is_unix:
            _bind_path(listener, host, name, reuse_port=reuse_port)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        # At once: two that bind the same port with SO_REUSEADDR are told apart only by who listens first.
        listener.listen(BACKLOG)
    except CannotStart:
        listener.close()
        raise
    except OSError as fault:
        listener.close()
        advice = _ADVICE.get(fault.errno or 0, "write an address of this machine, as in `127.0.0.1:8080`")
        raise CannotStart(f"{name}: cannot listen on `{text}`: {fault.strerror}; {advice}") from fault
    listener.setblocking(False)
    return listener


def _bind_path(listener: socket.socket, path: str, name: str, *, reuse_port: bool) -> None:
    """Binds a Unix socket that its owner and group may use. What a dead process left there is taken away.

    Bound beside its path and moved there, so that a next process takes over from one that still serves.
    """
    place = Path(path)
    if place.exists():
        if not place.is_socket():
            raise CannotStart(f"{name}: `{path}` is there and is no socket; choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
            if not reuse_port and visitor.connect_ex(path) == 0:
                raise CannotStart(f"{name}: somebody listens on `{path}`; end that first, or set `reuse_port`")
    beside = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    listener.bind(beside)
    os.chmod(beside, 0o660)
    os.replace(beside, path)


def _handed_over(descriptor: int, name: str) -> socket.socket:
    """A listening socket that the parent process opened, as systemd does. Raises: CannotStart"""
    try:
        listener = socket.socket(fileno=descriptor)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.close()
            raise CannotStart(f"{name}: descriptor {descriptor} is no listening socket")
    except OSError as fault:
        raise CannotStart(f"{name}: descriptor {descriptor} is no socket: {fault.strerror}") from fault
    listener.setblocking(False)
    return listener


def path_of(listener: socket.socket) -> str:
    """The path of a Unix socket; empty for others."""
    name = listener.getsockname()
    return name.rpartition(f".{os.getpid()}")[0] or name if isinstance(name, str) else ""


def port_of(listener: socket.socket) -> int:
    """The port; 0 for Unix sockets."""
    name = listener.getsockname()
    return 0 if isinstance(name, str) else int(name[1])


def place_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{path_of(listener)}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def check_no_loop(settings: Settings, listeners: tuple[socket.socket, ...]) -> None:
    """An upstream that is a listener of ours would put the admin pages on the public port (I29)."""
    names = [listener.getsockname() for listener in listeners]
    ours = {place[1]: ip_address(place[0]) for place in names if not isinstance(place, str)}
    located = [(name, url) for name in settings.upstreams for url in settings.endpoints(name)]
    for name, url in located:
        parts = urlsplit(url)
        listener = ours.get(parts.port or 0)
        if listener is None:
            continue
        # Resolved, because `127.1`, `0` and names of this machine are other spellings of the same place.
        for address_of in _addresses(parts.hostname or ""):
            everywhere = listener.is_unspecified or address_of.is_unspecified
            if address_of == listener or (everywhere and _is_local(address_of)):
                raise CannotStart(f"upstreams: `{name}` is at `{url}`, which is a listener of this gateway itself")


def _addresses(host: str) -> set[IPv4Address | IPv6Address]:
    try:
        found = {ip_address(str(place[4][0]).partition("%")[0]) for place in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
    return {address.ipv4_mapped or address if isinstance(address, IPv6Address) else address for address in found}


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is one of this machine's own: then, and only then, a socket can be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
    return True
