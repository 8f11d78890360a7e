"""The request target: one canonical form, which is both matched and sent, or a refusal. Nothing is rewritten.

RFC 3986 section 3.3, narrowed to the strings that every hop reads alike (B1-B34).
"""

from __future__ import annotations

import re
from typing import Final

from gateway.core.reasons import Reason, Refusal

TARGET_LIMIT_BYTES: Final = 8192

_PATH_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/"
_QUERY_PLAIN: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"#<>%')
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TRIPLET: Final = re.compile(rb"%(?:([0-9A-F]{2})|.{0,2})", re.DOTALL)
_ANY_TRIPLET: Final = re.compile(rb"%(?:([0-9A-Fa-f]{2})|.{0,2})", re.DOTALL)
# Encoded, each of these has two readings at some pair of hops: / \ % ; ? # and controls (B3-B5, B9-B11, B15, B24).
_NEVER_ENCODED: Final = frozenset(b"/\\%;?#\x7f") | frozenset(range(0x20))


def _refused(detail: str) -> Refusal:
    return Refusal(Reason.TARGET_REFUSED, detail)


def canonical_target(target: bytes) -> tuple[bytes, bytes] | Refusal:
    """(path, query) of an origin-form target that is already canonical, else a refusal. Nothing is rewritten."""
    if len(target) > TARGET_LIMIT_BYTES:
        return Refusal(Reason.TARGET_TOO_LONG, f"a target of more than {TARGET_LIMIT_BYTES} bytes")

    path, _, query = target.partition(b"?")
    if path[:1] != b"/":
        return _refused("the target does not start with `/`")

    if path.translate(None, _PATH_PLAIN):
        fault = _encoded_path_fault(path)
        if fault:
            return _refused(fault)

    if b"//" in path:
        return _refused("an empty path segment")

    if b"/." in path and not _DOTTED.isdisjoint(path.split(b"/")):
        return _refused("a dot segment")

    if query and query.translate(None, _QUERY_PLAIN):
        fault = _query_fault(query)
        if fault:
            return _refused(fault)
    return path, query


_DOTTED: Final = frozenset((b".", b".."))


def _encoded_path_fault(path: bytes) -> str:
    """What is wrong with a path that has more than plain characters in it; empty when it is canonical."""
    if path.translate(None, _PATH_PLAIN + b"%"):
        return "a byte that does not belong in a path"
    decoded = bytearray()
    place = 0
    for match in _TRIPLET.finditer(path):
        hexadecimal = match.group(1)
        if hexadecimal is None:
            return "a percent sign without two upper-case hexadecimal digits"
        byte = int(hexadecimal, 16)
        if byte in _NEVER_ENCODED:
            return "a percent-encoded delimiter or control"
        if byte in _UNRESERVED:
            return "a percent-encoded character that needs no encoding"
        decoded += path[place : match.start()]
        decoded.append(byte)
        place = match.end()
    decoded += path[place:]
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return "percent-encoded bytes that are not UTF-8"
    return ""


def _query_fault(query: bytes) -> str:
    if query.translate(None, _QUERY_PLAIN + b"%"):
        return "a byte that does not belong in a query"
    for match in _ANY_TRIPLET.finditer(query):
        if match.group(1) is None:
            return "a percent sign without two hexadecimal digits"
        if match.group(1) == b"00":
            return "a percent-encoded NUL"
    return ""


def parameter_names(query: bytes) -> frozenset[bytes]:
    """Names of a query's parameters, decoded and in lower case; however a server splits it, they are among these."""
    names: set[bytes] = set()
    for parameter in query.replace(b";", b"&").split(b"&"):
        name = parameter.partition(b"=")[0]
        if b"%" in name:
            name = _ANY_TRIPLET.sub(lambda match: bytes((int(match.group(1) or b"00", 16),)), name)
        names.add(name.lower())
    return frozenset(names)
