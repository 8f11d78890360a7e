"""TLS to clients: one context whose certificate can be changed while it serves."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.assembly import CannotStart


class ServerTls:
    """The certificate that clients are shown. TLS 1.2 or newer; HTTP/1.1 is the one protocol that is offered."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Raises: CannotStart"""
        self._certificate = certificate
        self._key = key
        self.context = self._current = self._new()
        self.context.sni_callback = self._show_current

    def reload(self) -> str:
        """Reads the files again, for the connections that come from now on; returns what is wrong, or nothing.

        Files that cannot be used leave the old certificate in place.
        """
        try:
            # INVARIANT: a new context, never the old one changed: that would keep the old certificate beside the new
            # one where their keys are of two types, and go on showing it to whoever asks for the old type.
            self._current = self._new()
        except CannotStart as fault:
            return str(fault)
        return ""

    def _show_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in each handshake, with or without a server name in it."""
        connection.context = self._current

    def _new(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for name, path in (("tls_certificate", self._certificate), ("tls_key", self._key)):
            if path is not None and not path.is_file():
                raise CannotStart(f"{name}: there is no file `{path}`")
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as fault:
            what = "key and certificate do not belong together" if "MISMATCH" in str(fault) else "no usable PEM"
            raise CannotStart(f"tls_certificate: `{self._certificate}`: {what} ({fault.reason})") from fault
        except OSError as fault:
            raise CannotStart(f"tls_certificate: `{self._certificate}` cannot be read: {fault.strerror}") from fault
        except ValueError as fault:
            raise CannotStart(f"tls_key: {fault}") from fault
        return context


def _no_password() -> str:
    raise ValueError("the key has a password; store it without one, readable by the gateway's user alone")
