"""Strings and URLs that have broken other software, in every place of a request where a client may write.

The oracle is the same for all: a refusal of 4xx and not one byte upstream, or one request upstream whose target and
value are, byte for byte, those that were sent; never a 5xx. If the answer does not close, the connection still works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from gateway.core.policy.patterns import Pattern, read_pattern
from gateway.core.target import canonical_target
from tests.oracles.corpus import policy_with
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw import RawClient
from tests.support.rows import get, with_keys
from tests.support.vectors import skipped, vectors_folder

Made = tuple[bytes, bytes | None]
"""(bytes to send, the value of `x-naughty` that must reach the upstream if anything does)."""


def naughty_strings() -> list[bytes]:
    """515 strings, as UTF-8."""
    folder = vectors_folder("naughty-strings")
    if folder is None:
        return []
    return [text.encode("utf-8", "surrogatepass") for text in json.loads((folder / "blns.json").read_text("utf-8"))]


def urls() -> list[bytes]:
    """The inputs and the expected parts of web-platform-tests, as UTF-8."""
    folder = vectors_folder("whatwg-url")
    if folder is None:
        return []
    entries: list[Any] = json.loads((folder / "urltestdata.json").read_text("utf-8"))
    found: dict[bytes, None] = {}
    for entry in entries:
        if isinstance(entry, dict):
            for part in ("input", "href", "pathname", "search"):
                found[(entry.get(part) or "").encode("utf-8", "surrogatepass")] = None
    return list(found)


STRINGS = naughty_strings()
URLS = urls()


def percent_encoded(text: bytes) -> bytes:
    """As a careful client writes it: everything but the unreserved is encoded."""
    return re.sub(rb"[^A-Za-z0-9._~-]", lambda match: b"%%%02X" % match[0][0], text)


def origin_form(url: bytes) -> bytes:
    """What is left of a URL without scheme and authority."""
    rest = re.sub(rb"^[A-Za-z][A-Za-z0-9+.-]*:", b"", url)
    return re.sub(rb"^[/\\]{2,}[^/\\?#]*", b"", rest) or b"/"


def in_a_header(text: bytes) -> Made:
    # White space after a value is left where it is.
    return get(b"/items", b"X-Naughty: " + text), text.lstrip(b" \t")


def in_a_name(text: bytes) -> Made:
    return get(b"/items", text + b": x"), None


def as_token(text: bytes) -> Made:
    return get(b"/items", authorization=b"Authorization: Bearer " + text + b"\r\n"), None


def as_host(text: bytes) -> Made:
    return get(b"/items", host=b"Host: " + text + b"\r\n"), None


def target(prefix: bytes, written: Callable[[bytes], bytes] = bytes) -> Callable[[bytes], Made]:
    return lambda text: (get(prefix + written(text)), None)


PLACES: dict[str, Callable[[bytes], Made]] = {
    "a segment": target(b"/items/"),
    "a segment, encoded": target(b"/items/", percent_encoded),
    "a whole path": target(b"/"),
    "a query": target(b"/items?q="),
    "a query, encoded": target(b"/items?q=", percent_encoded),
    "a target": target(b""),
    "a header": in_a_header,
    "a name": in_a_name,
    "a token": as_token,
    "a host": as_host,
}
NEVER_PASS = ("a token", "a target")
ALWAYS_PASS = ("a query, encoded",)
URL_PLACES = {
    "its path and query": target(b"", origin_form),
    "whole": target(b""),
    "behind a slash": target(b"/"),
    "in a query": target(b"/items?u="),
    "in a query, encoded": target(b"/items?u=", percent_encoded),
    "as a host": as_host,
}


def path_sent(sent: bytes) -> str | None:
    """The path of a request whose target is canonical, for the policy to have a route for it."""
    words = sent.partition(b"\r\n")[0].split(b" ")
    if len(words) != 3:
        return None
    canonical = canonical_target(words[1])
    if not isinstance(canonical, tuple):
        return None
    path = canonical[0].decode()
    # Some, such as `/:`, are no pattern: they look like another tool's parameter.
    return path if isinstance(read_pattern(f"GET {path}"), Pattern) else None


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose policy lets every canonical path here through, so that nothing hides behind a 404."""
    sent = [made(text)[0] for made in PLACES.values() for text in STRINGS]
    sent += [made(url)[0] for made in URL_PLACES.values() for url in URLS]
    paths = {path for path in map(path_sent, sent) if path is not None}
    known = {"/public", "/items", "/search", "/users/me", "/admin", "/old"}
    policy = policy_with(("GET", path) for path in paths - known)
    with running_gateway(tmp_path_factory.mktemp("naughty"), policy=policy) as gateway:
        yield gateway


def has_one_reading(sent: bytes) -> bool:
    """Whether no hop can see another path in this target: however often it decodes, merges or cuts."""
    path, _, query = sent.partition(b"?")
    decoded = unquote_to_bytes(path)
    segments = decoded.split(b"/")
    return (
        path.isascii()
        and query.isascii()
        and b"#" not in query
        and unquote_to_bytes(decoded) == decoded
        and decoded.count(b"/") == path.count(b"/")
        and not re.search(rb"[\\;?#\x00-\x1f\x7f]", decoded)
        and b"" not in segments[1:-1]
        and not {b".", b".."} & set(segments)
        and decoded.decode("utf-8", "replace").encode() == decoded
    )


def fault_of(gateway: RunningGateway, client: RawClient, made: Made) -> tuple[str, int, bool]:
    """(what is wrong with how one request ended, its status, whether the connection goes on)."""
    sent, value = made
    upstream = gateway.upstream
    upstream.clear()
    client.send(with_keys(gateway, sent))
    response = client.read()
    goes_on = not response.says_close
    if not goes_on and not client.is_ended():
        return "more came after the last answer", response.status, False
    upstream.settled()

    forwarded = upstream.requests
    if response.status == 200:
        meant = sent.partition(b"\r\n")[0].split(b" ")[1]
        if [one.target for one in forwarded] != [meant] or upstream.faults:
            return f"forwarded as {[one.raw for one in forwarded]}", 200, goes_on
        if not has_one_reading(meant):
            return f"forwarded, and {meant!r} can be read in two ways", 200, goes_on
        if value is not None and forwarded[0].values(b"x-naughty") != [value]:
            return f"the value became {forwarded[0].values(b'x-naughty')}", 200, goes_on
        if upstream.received_bytes != len(forwarded[0].raw):
            return "bytes beyond the request", 200, goes_on
    elif not 400 <= response.status < 500:
        return f"answered {response.status}", response.status, goes_on
    elif upstream.received_bytes:
        return f"refused, and {upstream.received_bytes} bytes went upstream", response.status, goes_on

    if goes_on:
        client.send(with_keys(gateway, get(b"/items/next")))
        following = client.read()
        if (following.status, following.json().get("target")) != (200, "/items/next"):
            return f"the next request was answered {following.status}", response.status, goes_on
    return "", response.status, goes_on


def faults_of(gateway: RunningGateway, made: Callable[[bytes], Made], texts: list[bytes]) -> tuple[list[str], set[int]]:
    """(what went wrong, statuses seen), on as few connections as the answers allow."""
    told, statuses = [], set()
    client: RawClient | None = None
    for text in texts:
        client = client or RawClient(gateway.port)
        fault, status, goes_on = fault_of(gateway, client, made(text))
        statuses.add(status)
        if fault:
            told.append(f"{text!r}: {fault}")
        if fault or not goes_on:
            client.close()
            client = None
    if client is not None:
        client.close()
    return told, statuses


@skipped("naughty-strings")
@pytest.mark.parametrize("place", PLACES)
def test_a_naughty_string_is_refused_or_forwarded_as_it_was_sent(gateway: RunningGateway, place: str) -> None:
    told, statuses = faults_of(gateway, PLACES[place], STRINGS)

    assert told == [], f"{len(told)} strings:\n" + "\n".join(told[:10])
    assert (200 in statuses) is (place not in NEVER_PASS)
    assert (statuses != {200}) is (place not in ALWAYS_PASS)


@skipped("whatwg-url")
@pytest.mark.parametrize("place", URL_PLACES)
def test_an_odd_url_is_refused_or_forwarded_as_it_was_sent(gateway: RunningGateway, place: str) -> None:
    told, statuses = faults_of(gateway, URL_PLACES[place], URLS)

    assert told == [], f"{len(told)} URLs:\n" + "\n".join(told[:10])
    assert 200 in statuses
    assert statuses != {200}


@skipped("naughty-strings")
def test_no_naughty_string_changes_what_the_log_and_the_metrics_look_like(gateway: RunningGateway) -> None:
    for line in gateway.log_bytes().splitlines():
        assert line.isascii()
        assert not any(byte < 0x20 or byte == 0x7F for byte in line)
        assert json.loads(line)
    names = {line.partition("{")[0].partition(" ")[0] for line in gateway.scrape().splitlines() if line[:1] != "#"}
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


@skipped("naughty-strings")
@skipped("whatwg-url")
def test_the_collections_are_all_there() -> None:
    assert len(STRINGS) == 515
    assert len(URLS) > 1000
