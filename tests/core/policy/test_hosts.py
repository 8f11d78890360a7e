"""The hosts of a policy: which `Host` is one of them, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.hosts import Hosts, plain_host

HOSTS = Hosts(("api.example.com", "api.example.com:8443", "*.eu.example.com", "[::1]:9000", "other.example:443"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"api.example.com", True),
        (b"API.Example.COM.:80", True),
        (b"api.example.com:443", True),
        (b"api.example.com:8443", True),
        (b"api.example.com:8080", False),
        (b"api.example.com:0443", False),
        (b"api.example.com..", False),
        (b"x.api.example.com", False),
        (b"a.eu.example.com", True),
        (b"A.eu.example.com.:443", True),
        (b"eu.example.com", False),
        (b".eu.example.com", False),
        (b"a.b.eu.example.com", False),
        (b"[::1]:9000", True),
        (b"[::1]", False),
        (b"other.example", True),
        (b"*.eu.example.com", True),  # no valid `Host`, so nobody asks
    ],
)
def test_a_host_is_served_by_its_one_spelling(host: bytes, expected: bool) -> None:
    assert expected == HOSTS.serves(host)
    assert expected == HOSTS.serves(host)


@given(st.from_regex(rb"(?:[a-zA-Z0-9._-]{1,20}|\[[0-9a-fA-F:]{2,10}\])(?::[0-9]{1,5})?", fullmatch=True))
def test_the_one_spelling_of_a_host_is_its_own(host: bytes) -> None:
    plain = plain_host(host)

    assert plain == plain.lower()
    assert plain_host(host.upper()) == plain


def test_spellings_are_remembered_up_to_a_limit_and_served_alike_beyond_it() -> None:
    hosts = Hosts(("*.example.com",))

    for number in range(Hosts.LIMIT + 50):
        assert hosts.serves(b"h%d.example.com" % number)
        assert not hosts.serves(b"h%d.example.org" % number)

    assert hosts.written == ("*.example.com",)
    assert len(hosts._known) == Hosts.LIMIT
