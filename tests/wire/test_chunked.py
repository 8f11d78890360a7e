"""The chunked coding, against a plain reader of it, however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.chunked import LAST_CHUNK, ChunkedInvalid, ChunkedReader, chunk_head
from gateway.wire.limits import CHUNK_LINE_LIMIT_BYTES, TAIL_LIMIT_BYTES
from tests.wire.splits import every_way

HEX = b"0123456789abcdefABCDEF"
INVALID = "invalid"
UNFINISHED = "unfinished"


def read(pieces: list[bytes], *, drops_tail: bool = False) -> tuple[bytes, bytes] | str:
    """(body, rest) as the reader gives them, piece after piece."""
    reader = ChunkedReader(drops_tail=drops_tail)
    body = b""
    for place, piece in enumerate(pieces):
        try:
            parts, rest = reader.feed(piece)
        except ChunkedInvalid:
            return INVALID
        body += b"".join(parts)
        if reader.ended:
            return body, rest + b"".join(pieces[place + 1 :])
        assert b"" == rest
    return UNFINISHED


def plainly(data: bytes, *, drops_tail: bool = False) -> tuple[bytes, bytes] | str:
    """The same by RFC 9112 7.1 in one pass over all the bytes: slow, and easy to see through."""
    body = b""
    budget = TAIL_LIMIT_BYTES
    while True:
        line, ended, data = data.partition(b"\n")
        if not ended:
            return UNFINISHED
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            return INVALID
        digits, separator, extension = line[:-1].partition(b";")
        if separator:
            if not drops_tail:
                return INVALID
            budget -= len(extension) + 1
            digits = digits.rstrip(b" \t")
        if not digits or len(digits) > 16 or any(digit not in HEX for digit in digits) or budget < 0:
            return INVALID
        size = int(digits, 16)
        if size == 0:
            break
        if len(data) < size:
            return UNFINISHED
        body += data[:size]
        data = data[size:]
        after, ended, data = data.partition(b"\n")
        if not ended:
            return UNFINISHED
        if after != b"\r":
            return INVALID
    while True:
        line, ended, data = data.partition(b"\n")
        if not ended:
            return UNFINISHED
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            return INVALID
        if line == b"\r":
            return body, data
        budget -= len(line) + 1
        if not drops_tail or budget < 0:
            return INVALID


@pytest.mark.parametrize(
    ("data", "body", "rest"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", b"hello world", b""),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", b""),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"hello", b"GET / HTTP/1.1\r\n"),
    ],
)
def test_a_body_comes_out_and_what_follows_is_given_back(data: bytes, body: bytes, rest: bytes) -> None:
    for drops_tail in (True, False):
        for pieces in every_way(data):
            assert (body, rest) == read(pieces, drops_tail=drops_tail)


REFUSED = [
    # A17
    b"0x3\r\nabc\r\n",
    b"+3\r\nabc\r\n",
    b"-3\r\nabc\r\n",
    b"3_0\r\n",
    b" 3\r\nabc\r\n",
    b"3 \r\nabc\r\n",
    b"3\t\r\nabc\r\n",
    b"\r\n",
    b"g\r\n",
    b"00000000000000003\r\nabc\r\n",
    b"f" * 17 + b"\r\n",
    "٣".encode() + b"\r\nabc\r\n",
    b"3\x00\r\nabc\r\n",
    # A18, A19, A12, A13
    b"3\nabc\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabcd\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"3\r\nabc\r\r\n",
    b"3\r\r\nabc\r\n",
    b"3\rx\nabc",
    b"0\r\n\n",
    b"0\n\r\n",
    b"0\r\n\r\r\n",
    b"3;x\ny\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", REFUSED)
@pytest.mark.parametrize("drops_tail", [True, False])
def test_a_line_that_two_hops_may_read_differently_is_refused(data: bytes, drops_tail: bool) -> None:
    for pieces in every_way(data):
        assert INVALID == read(pieces, drops_tail=drops_tail)


@pytest.mark.parametrize(
    "data",
    # A18, A22
    [
        b"5;x\r\nhello\r\n0\r\n\r\n",
        b"5;x=y\r\nhello\r\n0\r\n\r\n",
        b"5 ;x\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0;x\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX-Gateway-Key-Id: admin\r\n\r\n",
        b"5\r\nhello\r\n0\r\nAuthorization: Bearer a\r\nHost: b\r\n\r\n",
    ],
)
def test_extensions_and_trailers_are_refused_of_clients_and_dropped_of_upstreams(data: bytes) -> None:
    for pieces in every_way(data):
        assert INVALID == read(pieces)
        assert (b"hello", b"") == read(pieces, drops_tail=True)


def test_a_request_line_that_never_ends_is_refused_early() -> None:
    assert UNFINISHED == read([b"f" * CHUNK_LINE_LIMIT_BYTES])
    assert INVALID == read([b"f" * (CHUNK_LINE_LIMIT_BYTES + 1)])
    assert INVALID == read([b"5;"])
    assert INVALID == read([b"z"])


BUDGET_CASES = [
    (b"5;" + b"x" * (TAIL_LIMIT_BYTES - 1) + b"\r\nhello\r\n0\r\n\r\n", True),
    (b"5;" + b"x" * TAIL_LIMIT_BYTES + b"\r\nhello\r\n0\r\n\r\n", False),
    (b"0\r\n" + b"x" * (TAIL_LIMIT_BYTES - 2) + b"\r\n\r\n", True),
    (b"0\r\n" + b"x" * (TAIL_LIMIT_BYTES - 1) + b"\r\n\r\n", False),
    (b"1;" + b"x" * 8191 + b"\r\na\r\n0\r\n" + b"y" * 8190 + b"\r\n\r\n", True),
    (b"1;" + b"x" * 8191 + b"\r\na\r\n0\r\n" + b"y" * 8191 + b"\r\n\r\n", False),
    ((b"1;" + b"x" * 4095 + b"\r\na\r\n") * 5 + b"0\r\n\r\n", False),
    (b"5" + b" " * (TAIL_LIMIT_BYTES + 100) + b";x\r\nhello\r\n0\r\n\r\n", False),
]


@pytest.mark.parametrize(("data", "is_taken"), BUDGET_CASES, ids=range(len(BUDGET_CASES)))
def test_what_is_dropped_of_an_upstream_has_one_budget_however_it_comes(data: bytes, is_taken: bool) -> None:
    # A18: one-byte chunks with a 4 kB extension each
    for pieces in every_way(data):
        assert is_taken == (INVALID != read(pieces, drops_tail=True))


def test_a_line_of_an_upstream_that_never_ends_is_refused() -> None:
    # A46
    assert INVALID == read([b"x" * 4096] * 8, drops_tail=True)
    assert INVALID == read([b"5;" + b"x" * 40_000], drops_tail=True)


LINES = st.sampled_from(
    [
        b"0\r\n",
        b"1\r\n",
        b"3\r\n",
        b"a\r\n",
        b"\r\n",
        b"abc",
        b"x",
        b"\n",
        b"\r",
        b";",
        b"3;x\r\n",
        b"T: v\r\n",
        b"00\r\n",
        b"5 ;y=z\r\n",
        b"g",
        b"0\r\n\r\n",
        b"1\r\nx\r\n",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n",
        b"2\r\n\r\n\r\n",
    ]
)
CODED = st.one_of(
    st.lists(LINES, max_size=12).map(b"".join),
    st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(
        lambda chunks: b"".join(chunk_head(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + LAST_CHUNK + b"tail"
    ),
    st.binary(max_size=20),
)


@given(CODED, st.booleans(), st.integers(0))
def test_the_reader_does_what_a_plain_one_does_however_the_bytes_come(data: bytes, drops_tail: bool, seed: int) -> None:
    expected = plainly(data, drops_tail=drops_tail)

    ways = [read(pieces, drops_tail=drops_tail) for pieces in every_way(data, seed)]

    assert ways[0] == ways[1] == ways[2]
    if expected == UNFINISHED:
        # What no further byte can mend may be refused before its line has ended.
        assert ways[0] in (UNFINISHED, INVALID)
    else:
        assert expected == ways[0]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.binary(max_size=10), st.integers(0))
def test_what_we_write_is_read_back(chunks: list[bytes], tail: bytes, seed: int) -> None:
    coded = b"".join(chunk_head(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + LAST_CHUNK

    for pieces in every_way(coded + tail, seed):
        assert (b"".join(chunks), tail) == read(pieces)


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=3), st.data())
def test_a_body_that_breaks_off_never_looks_complete(chunks: list[bytes], data: st.DataObject) -> None:
    # A20, A47
    coded = b"".join(chunk_head(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + LAST_CHUNK
    end = data.draw(st.integers(0, len(coded) - 1))

    for pieces in every_way(coded[:end]):
        assert UNFINISHED == read(pieces)
