"""Reference ids: a UUID by shape, never the same twice, and no count of requests."""

from __future__ import annotations

import itertools
import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from gateway.doors.refs import References

SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}")


@given(st.binary(min_size=16, max_size=16))
def test_every_id_is_a_uuid_of_version_4(start: bytes) -> None:
    references = References(lambda size: start[:size])

    for _ in range(5):
        ref = references.new()
        assert SHAPE.fullmatch(ref)
        read = uuid.UUID(ref)
        assert (4, uuid.RFC_4122, ref) == (read.version, read.variant, str(read))


def test_no_id_comes_twice() -> None:
    references = References(lambda size: b"\xff" * size)

    assert 10_000 == len({references.new() for _ in range(10_000)})


def test_ids_of_one_process_begin_alike_and_those_of_another_do_not() -> None:
    one, other = References(lambda size: b"\x01" * size), References(lambda size: b"\x02" * size)

    prefixes = {one.new()[:24], one.new()[:24]}
    assert 1 == len(prefixes)
    assert other.new()[:24] not in prefixes


def test_ids_do_not_tell_how_many_there_were() -> None:
    references = References(bytes)
    numbers = [int(references.new()[24:], 16) for _ in range(4)]

    assert all(abs(later - earlier) > 1_000_000 for earlier, later in itertools.pairwise(numbers))
