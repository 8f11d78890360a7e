"""A pattern that is accepted can match, and a path that is suggested is accepted."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.patterns import Complaint, Pattern, read_pattern
from gateway.core.reasons import Refusal
from gateway.core.target import canonical_target

CHARACTERS = st.sampled_from("abzAZ09._~-!$&'()*+,=:@;#\\%{}<>\"|^` é/") | st.sampled_from(
    ["%41", "%2f", "%2F", "%C3%A9", "%c3%a9", "%FF", "%7e", "..", ".", "//", "{id}", "{x}", ":id", "*", "?a=1", "%zz"]
)
PATHS = st.lists(CHARACTERS, max_size=12).map(lambda parts: "/" + "".join(parts))


@given(PATHS)
def test_an_accepted_pattern_is_a_path_that_requests_can_have(path: str) -> None:
    pattern = read_pattern(f"GET {path}")

    if isinstance(pattern, Pattern):
        example = re.sub(r"\{[a-z0-9_]+\}", "x", path).encode()
        assert not isinstance(canonical_target(example), Refusal)
        assert b"?" not in example


@given(PATHS)
def test_a_suggested_path_is_canonical(path: str) -> None:
    complaint = read_pattern(f"GET {path}")

    if isinstance(complaint, Complaint) and "canonical" in complaint.what:
        suggested = complaint.todo.removeprefix("write `").removesuffix("`")
        again = read_pattern(f"GET {suggested}")
        assert isinstance(again, Pattern) or "canonical" not in again.what


def test_bytes_that_are_not_utf_8_have_no_canonical_form_to_offer() -> None:
    assert read_pattern("GET /%FF") == Complaint(
        "the path has percent-encoded bytes that are not UTF-8", "encode its characters as UTF-8"
    )
