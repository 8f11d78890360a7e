"""TLS to upstreams: the certificate and its name are always checked, and only HTTP/1.1 is offered (R31)."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(
    ca_file: Path | None = None, certificate: Path | None = None, certificate_key: Path | None = None
) -> ssl.SSLContext:
    """A context that trusts `ca_file` alone, or what the machine trusts; with a certificate of our own where given.

    Raises: ValueError
    """
    try:
        # Facts: it asks for a certificate, checks the host's name and takes TLS 1.2 or newer.
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as fault:  # ssl.SSLError is one
        raise ValueError(f"`{ca_file}` holds no certificates that can be read: {_told(fault)}") from fault
    if certificate is not None:
        try:
            # With a password that is no password, a locked key is a fault; without one, OpenSSL would ask the terminal.
            context.load_cert_chain(certificate, certificate_key, password="")
        except OSError as fault:
            files = f"`{certificate}`" + ("" if certificate_key is None else f" and `{certificate_key}`")
            raise ValueError(f"{files} are no certificate and its key: {_told(fault)}") from fault
    elif certificate_key is not None:
        raise ValueError("there is a key and no certificate; give both")
    context.set_alpn_protocols(["http/1.1"])
    return context


def told_of(fault: OSError | ValueError) -> str:
    """Why there is no connection, for operators. It names no address."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"TLS: the certificate is refused: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        return f"TLS: {fault.reason or type(fault).__name__}: does the endpoint speak TLS on this port?"
    return type(fault).__name__


def _told(fault: OSError) -> str:
    if isinstance(fault, ssl.SSLError):
        return str(fault.reason or type(fault).__name__)
    return str(fault.strerror or type(fault).__name__)
