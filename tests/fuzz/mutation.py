"""Damage done to good bytes where it counts: at delimiters, in whole lines, with words that parsers disagree on."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")

WORDS = (
    *(bytes((byte,)) for byte in (*range(0x21), 0x7F, 0x80, 0x85, 0xA0, 0xFF, *b'%:;,="\\/?#_-.+{}()[]<>@0123456789')),
    *(b"\r\n", b"\n\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\r\n ", b"\r\n\t", b": ", b" :", b"\r\n:", b"\x0b", b"\x0c"),
    *(b"Content-Length: 5", b"Content-Length: 0", b"content-length:1", b"Content-Length: +5", b"Content-Length: 5, 5"),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b"transfer-encoding:chunked",
        b"identity",
        b"gzip",
    ),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: h2c", b"Upgrade: websocket"),
    *(b"Host: a", b"Host: a/b", b"Expect: 100-continue", b"X-Gateway-Key-Id: admin", b"X_Gateway_Key_Id: admin"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 200 OK\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 204 No Content\r\n"),
    *(
        b"0\r\n\r\n",
        b"0\r\n",
        b"1\r\na\r\n",
        b"5;x\r\n",
        b"0x5\r\n",
        b"ffffffffffffffff\r\n",
        b"00000000000000001",
        b"-1",
    ),
    *(b"%2e%2e", b"%2F", b"%5C", b"%00", b"%25", b"%C3%A9", b"%c3%a9", b"%C0%AF", b"%40", b"%3A", b"%zz", b"..", b"//"),
)

ODD_NUMBERS = (b"0x", b"+", b"-", b"_", b" ", b"\t", b",", b"0", b"1", b";x=y", b"\x00")
_NUMBER = re.compile(rb"(?<=[\n ])[0-9a-f]{1,4}(?=\r\n)")
_DELIMITER = re.compile(rb"[\r\n :,;/%?=]")


def seeds(name: str) -> list[bytes]:
    """The files of one folder of the corpus, or the lines of one file."""
    place = CORPUS / name
    if place.is_dir():
        return [file.read_bytes() for file in sorted(place.iterdir())]
    return place.read_bytes().splitlines()


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """One of `good`, or the beginning of one and the end of another, changed in one place or a few."""
    data = bytearray(draw(st.sampled_from(good)))
    if draw(st.integers(0, 7)) == 7:
        other = draw(st.sampled_from(good))
        data = data[: draw(_place(data))] + other[draw(_place(other)) :]
    # Mostly one: what is broken in two places is refused for either.
    for _ in range(draw(st.sampled_from((1, 1, 1, 1, 2, 2, 4)))):
        place = draw(_place(data))
        how = draw(st.integers(0, 5))
        if how == 0:
            data[place:place] = draw(st.sampled_from(WORDS))
        elif how == 1:
            data[place : place + draw(st.integers(1, 4))] = draw(st.sampled_from(WORDS))
        elif how == 2:
            data[place : place + 1] = bytes((draw(st.integers(0, 255)),))
        elif how == 3:
            del data[place : place + draw(st.integers(1, 12))]
        elif how == 4:
            data[place:place] = data[place : place + draw(st.integers(1, 40))] * draw(st.integers(1, 3))
        else:
            lines = bytes(data).split(b"\r\n")
            line = lines.pop(draw(st.integers(0, len(lines) - 1)))
            for _ in range(draw(st.integers(1, 2))):
                lines.insert(draw(st.integers(0, len(lines))), line)
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def messages(name: str) -> st.SearchStrategy[bytes]:
    """Damaged messages of one folder; in every third only a number is odd, for numbers say where a body ends."""
    good = seeds(name)
    return st.one_of(damaged(good), damaged(good), misnumbered([one for one in good if _NUMBER.search(one)]))


@st.composite
def misnumbered(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """One of `good` with something odd before or behind a length or a chunk size."""
    data = draw(st.sampled_from(good))
    place = draw(st.sampled_from([place for match in _NUMBER.finditer(data) for place in match.span()]))
    return data[:place] + draw(st.sampled_from(ODD_NUMBERS)) + data[place:]


def _place(data: bytes | bytearray) -> st.SearchStrategy[int]:
    """A place in `data`: half of the time beside a delimiter, for there readers differ."""
    ends = [place for match in _DELIMITER.finditer(data) for place in match.span()]
    anywhere = st.integers(0, len(data))
    return st.one_of(st.sampled_from(ends), anywhere) if ends else anywhere
