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
        self.context = self._new()

    def reload(self) -> str:
        """Reads the files again, for the connections that come from now on; returns what is wrong, or nothing.

        Files that cannot be used leave the old certificate in place.
        """
        try:
            self._new()
            # INVARIANT: the files were good in a context of their own, so this one is never left half changed.
            self.context.load_cert_chain(self._certificate, self._key)
        except CannotStart as fault:
            return str(fault)
        except OSError as fault:
            return f"tls_certificate: {fault}"
        return ""

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
