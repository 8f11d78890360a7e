"""Who the client is behind listed proxies: read from the right, and not one claim further than can be believed."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.forwarded import (
    PROXY_SIGNATURE,
    ProxyHeaderInvalid,
    TrustedProxies,
    address_of,
    client_and_hops,
    read_proxy_header,
    scheme_by,
)

TRUSTED = TrustedProxies(["10.0.0.0/8", "fd00::/8"])
V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 40000, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "fd00::1") + bytes(4)


def version_2(family: int, body: bytes, *, command: int = 0x21) -> bytes:
    return PROXY_SIGNATURE + bytes((command, family)) + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize(
    ("values", "client", "chain"),
    [
        ([], "10.0.0.9", "10.0.0.9"),
        ([b"192.0.2.7"], "192.0.2.7", "192.0.2.7, 10.0.0.9"),
        ([b"192.0.2.7:4711"], "192.0.2.7", "192.0.2.7, 10.0.0.9"),
        ([b"[2001:db8::7]:4711"], "2001:db8::7", "2001:db8::7, 10.0.0.9"),
        # What stands left of the last address that is no proxy is what the client says of itself.
        ([b"203.0.113.1, 192.0.2.7"], "192.0.2.7", "192.0.2.7, 10.0.0.9"),
        ([b"10.1.1.1, 192.0.2.7"], "192.0.2.7", "192.0.2.7, 10.0.0.9"),
        ([b"192.0.2.7, 10.2.2.2"], "192.0.2.7", "192.0.2.7, 10.2.2.2, 10.0.0.9"),
        ([b"192.0.2.7", b"10.2.2.2"], "192.0.2.7", "192.0.2.7, 10.2.2.2, 10.0.0.9"),
        ([b"192.0.2.7, nonsense"], "10.0.0.9", "10.0.0.9"),
        ([b"192.0.2.7, unknown, 10.2.2.2"], "10.2.2.2", "10.2.2.2, 10.0.0.9"),
        ([b"192.0.2.7,"], "10.0.0.9", "10.0.0.9"),
        ([b"fe80::1%eth0"], "10.0.0.9", "10.0.0.9"),
        ([b"fe80::1%\xe9"], "10.0.0.9", "10.0.0.9"),
    ],
)
def test_the_last_address_that_is_no_listed_proxy_is_the_client(values: list[bytes], client: str, chain: str) -> None:
    # C7, C8
    headers = [(b"Host", b"a"), *((b"X-Forwarded-For", value) for value in values)]

    assert (client, chain) == client_and_hops(headers, "10.0.0.9", TRUSTED)


def test_an_address_of_version_4_in_one_of_version_6_is_the_same_proxy() -> None:
    assert TRUSTED.trusts("::ffff:10.0.0.1")
    assert not TRUSTED.trusts("::ffff:192.0.2.1")


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_claim_makes_it_fail_or_forge_a_line(values: list[bytes]) -> None:
    client, chain = client_and_hops([(b"x-forwarded-for", value) for value in values], "10.0.0.9", TRUSTED)

    assert address_of(client)
    assert all(address_of(hop) for hop in chain.split(", "))
    assert chain.isascii()
    assert chain.isprintable()


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        ([], b"http"),
        ([b"https"], b"https"),
        ([b"HTTPS"], b"https"),
        ([b"ftp"], b"http"),
        ([b"https", b"http"], b"http"),
    ],
)
def test_the_scheme_is_the_proxys_one_word_for_it(values: list[bytes], scheme: bytes) -> None:
    assert scheme == scheme_by([(b"X-Forwarded-Proto", value) for value in values], b"http")


def test_how_many_addresses_are_remembered_is_bounded() -> None:
    trusted = TrustedProxies(["10.0.0.0/8"])
    for number in range(10_000):
        trusted.trusts(str(number >> 8) + "." + str(number & 255) + ".1.1")

    assert len(trusted._known) <= 4096


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 fd00::1 40000 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN whatever it says\r\n", ""),
        (version_2(0x11, V4), "192.0.2.7"),
        (version_2(0x11, V4 + b"\x03\x00\x04\x00\x00\x00\x00"), "192.0.2.7"),
        (version_2(0x21, V6), "2001:db8::7"),
        (version_2(0x00, b"", command=0x20), ""),
        (version_2(0x00, b""), ""),
    ],
)
def test_a_header_is_read_however_it_comes(header: bytes, client: str) -> None:
    for length in range(len(header)):
        assert read_proxy_header(header[:length]) is None

    assert (client, len(header)) == read_proxy_header(header)
    assert (client, len(header)) == read_proxy_header(header + b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 -2\r\n",
        b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.07x 10.0.0.1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fd00::1 1 2\r\n",
        b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY " + b"A" * 102,
        version_2(0x11, V4[:8]),
        version_2(0x12, V4),
        version_2(0x11, V4, command=0x11),
        version_2(0x11, V4, command=0x22),
        version_2(0x11, V4 + bytes(2049)),
        PROXY_SIGNATURE[:11] + b"X",
        b"\r\n\r\n\r\n",
    ],
)
def test_what_is_no_header_ends_the_connection(header: bytes) -> None:
    with pytest.raises(ProxyHeaderInvalid):
        read_proxy_header(header)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_not_one_or_not_yet_one(data: bytes) -> None:
    try:
        found = read_proxy_header(data)
    except ProxyHeaderInvalid:
        return
    assert found is None or found[1] <= len(data)
