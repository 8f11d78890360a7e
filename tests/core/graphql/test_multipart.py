"""Uploads: one reading or none, and what is written anew has the same parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.graphql.multipart import MAX_FILES, Upload, boundary_in, read_upload
from gateway.core.reasons import Reason, Refusal

INVALID = Reason.GRAPHQL_REQUEST_INVALID
BROKEN = Reason.BODY_MALFORMED
OPERATIONS = b'{"query":"{a}","variables":{"f":null,"l":[null,null],"d":{"x":null},"s":"x"}}'


def part(head: bytes, content: bytes) -> bytes:
    return b"--B\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="%s"' % name, content)


def file(name: bytes, content: bytes = b"x", more: bytes = b"", file_name: bytes = b"a.bin") -> bytes:
    return part(b'content-disposition:form-data;name="%s";filename="%s"%s' % (name, file_name, more), content)


def whole(mapping: bytes, *files: bytes, operations: bytes = OPERATIONS, end: bytes = b"--B--\r\n") -> bytes:
    return field(b"operations", operations) + field(b"map", mapping) + b"".join(files) + end


ONE = b'{"0":["variables.f"]}'
GOOD = whole(ONE, file(b"0"))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data;boundary="a=b:c"', b"a=b:c"),
        (b"multipart/form-data; boundary=----WebKitFormBoundaryx", b"----WebKitFormBoundaryx"),
    ],
)
def test_a_boundary_is_read(content_type: bytes, expected: bytes) -> None:
    assert expected == boundary_in(content_type)


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/form-data", b"multipart/form-data; boundary=a b", b"multipart/form-data; boundary=a; boundary=b"],
)
def test_a_boundary_with_two_readings_is_refused(content_type: bytes) -> None:
    refusal = boundary_in(content_type)

    assert isinstance(refusal, Refusal)
    assert Reason.MEDIA_TYPE_UNSUPPORTED is refusal.reason


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        whole(ONE, file(b"0"), end=b"--B--"),
        whole(ONE, file(b"0", more=b"\r\nContent-Type: text/plain; charset=utf-8")),
        whole(ONE, file(b"0", b"abc", b"\r\nContent-Length: 3\r\nContent-Transfer-Encoding: Binary")),
        whole(b'{"0":["variables.l.1"]}', file(b"0")),
        whole(b'{"0":["variables.d.x"]}', file(b"0")),
        whole(b' {"b":["variables.l.0"], "a":["variables.l.1"]}', file(b"a"), file(b"b")),
        whole(ONE, file(b"0", b"\n--B\n--B--\r\n"), end=b"--B--\r\n"),
        whole(ONE, file(b"0", file_name="é.png".encode())),
    ],
)
def test_an_upload_is_read(body: bytes) -> None:
    upload = read_upload(body, b"B")

    assert isinstance(upload, Upload)
    assert "{a}" == upload.operations["query"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", BROKEN),
        (b"--B--", INVALID),
        (b"x--B--", BROKEN),
        (GOOD + b"x", BROKEN),
        (GOOD.removesuffix(b"--B--\r\n"), BROKEN),
        (GOOD.replace(b"--B\r\n", b"--B\n"), BROKEN),
        (field(b"operations", OPERATIONS) + b"--B--\r\n", INVALID),
        (file(b"operations", OPERATIONS) + field(b"map", ONE) + b"--B--\r\n", INVALID),
        (field(b"map", ONE) + field(b"operations", OPERATIONS) + b"--B--\r\n", INVALID),
        (field(b"operations", OPERATIONS) + file(b"map", ONE) + b"--B--\r\n", INVALID),
        (field(b"operations", OPERATIONS) + field(b"0", ONE) + b"--B--\r\n", INVALID),
        (whole(ONE, file(b"0"), operations=b"[]"), INVALID),
        (whole(ONE, file(b"0"), operations=b"1"), INVALID),
        (whole(ONE, file(b"0"), operations=b"{"), Reason.JSON_INVALID),
        (whole(b"{", file(b"0")), Reason.JSON_INVALID),
        (whole(b"[]", file(b"0")), INVALID),
        (whole(b"{}"), INVALID),
        (whole(b'{"0":"variables.f"}', file(b"0")), INVALID),
        (whole(b'{"0":[]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.f","variables.l.0"]}', file(b"0")), INVALID),
        (whole(b'{"0":[null]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables"]}', file(b"0")), INVALID),
        (whole(b'{"0":["query.f"]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.s"]}', file(b"0")), INVALID),
        (GOOD.replace(b"--B", b"xxB", 1), BROKEN),
        (file(b"operations", OPERATIONS) + field(b"map", ONE) + file(b"0") + b"--B--", INVALID),
        (field(b"operations", OPERATIONS) + file(b"map", ONE) + file(b"0") + b"--B--", INVALID),
        (whole(b'{"0":["operationName"]}', file(b"0"), operations=b'{"query":"{a}","operationName":null}'), INVALID),
        (whole(b'{"0":["extensions.a"]}', file(b"0"), operations=b'{"query":"{a}","extensions":{"a":null}}'), INVALID),
        (whole(b'{"0":["variables"]}', file(b"0"), operations=b'{"query":"{a}","variables":null}'), INVALID),
        (whole(ONE, file(b"0").replace(b"--B\r\n", b"--Bxx")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nContent-Type: a/b\r\ncontent-type: a/c")), BROKEN),
        (whole(b'{"0":["variables.s.x"]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.l.2"]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.l.01"]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.l.-1"]}', file(b"0")), INVALID),
        (whole(b'{"0":["variables.f"],"1":["variables.f"]}', file(b"0"), file(b"1")), INVALID),
        (whole(b'{"map":["variables.f"]}', file(b"map")), INVALID),
        (whole(b'{"Operations":["variables.f"]}', file(b"Operations")), INVALID),
        (whole(b'{"__proto__":["variables.f"]}', file(b"__proto__")), INVALID),
        (whole(ONE), INVALID),
        (whole(ONE, field(b"0", b"x")), INVALID),
        (whole(ONE, file(b"1")), INVALID),
        (whole(ONE, file(b"0"), file(b"0")), INVALID),
        (whole(ONE, *(file(b"0") for _ in range(MAX_FILES + 1))), BROKEN),
        (whole(ONE, part(b"", b"x")), BROKEN),
        (whole(ONE, part(b"X", b"x")), BROKEN),
        (whole(ONE, part(b"\xff: x", b"x")), BROKEN),
        (whole(ONE, b"--B\r\nnothing ends it"), BROKEN),
        (whole(ONE, file(b"0", more=b"; filename*=x")), BROKEN),
        (whole(ONE, file(b"0", file_name=b"a\\b")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nContent-Type: x")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nContent-Length: 2")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nContent-Transfer-Encoding: base64")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nX-Mine: 1")), BROKEN),
        (whole(ONE, file(b"0", more=b"\r\nContent-Disposition: form-data")), BROKEN),
    ],
)
def test_an_upload_with_two_readings_is_refused(body: bytes, reason: Reason) -> None:
    refusal = read_upload(body, b"B")

    assert isinstance(refusal, Refusal)
    assert reason is refusal.reason


CONTENTS = st.binary(max_size=60).filter(lambda content: b"\r\n--B" not in b"\r\n" + content + b"\r\n")


@given(CONTENTS, CONTENTS)
def test_what_is_written_reads_as_what_came(first: bytes, second: bytes) -> None:
    came = read_upload(
        whole(b'{"a":["variables.f"],"b":["variables.d.x"]}', file(b"b", second), file(b"a", first)), b"B"
    )
    assert isinstance(came, Upload)
    again = read_upload(came.written(OPERATIONS), came.boundary)
    assert isinstance(again, Upload)

    assert came.operations == again.operations
    assert came.boundary not in first + second
    assert again.written(b"").replace(again.boundary, b"") == came.written(b"").replace(came.boundary, b"")


@given(st.binary(max_size=200).map(lambda tail: b"--B\r\n" + tail))
def test_no_body_makes_it_raise(body: bytes) -> None:
    read_upload(body, b"B")
