"""Damaged requests, answers, targets and frames: read alike however they are cut, and sent on as they were judged."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from hypothesis import strategies as st

from gateway.core.facts import RequestFacts, facts_of
from gateway.core.outgoing import IDENTITY_FIELDS, IdentityLines, peer_lines, request_head
from gateway.core.policy.routes import is_parameter_value
from gateway.core.reasons import Refusal
from gateway.core.scopes import ScopeRegistry
from gateway.core.target import canonical_target
from tests.fuzz import running
from tests.fuzz.mutation import damaged, messages, seeds
from tests.fuzz.running import tried
from tests.oracles.parsers import by_h11 as all_by_h11
from tests.oracles.parsers import by_http_server, by_httptools
from tests.support.frames import CLOSE, CONTINUATION, PING, TEXT, frame
from tests.wire import test_request_reader as requests
from tests.wire import test_response_reader as answers
from tests.wire import test_websocket_frames as frames
from tests.wire.splits import every_way

REQUESTS = messages("requests")
ANSWERS = messages("answers")
TARGETS = damaged(seeds("targets.txt"))
FRAMES = damaged(
    [
        b"".join(
            (
                frame(b"x" * size, TEXT, masked=masked, ends=False, reserved=reserved),
                frame(b"", PING, masked=masked),
                frame(b"y" * 126, CONTINUATION, masked=masked),
                frame(b"", masked=masked),
                frame(b"\x03\xe8", CLOSE, masked=masked),
            )
        )
        for masked in (True, False)
        for reserved in (0, 0x40)
        for size in (0, 125, 126, 900)
    ]
)


def test_a_request_is_heard_alike_however_its_bytes_come() -> None:
    def check(data: bytes, cut: int) -> None:
        ways = [requests.fed(pieces) for pieces in every_way(data, cut)]

        assert ways[0].heard == ways[1].heard == ways[2].heard
        assert len({door.refusal is None for door in ways}) == 1
        if ways[0].refusal is None:
            assert len({door.held_bytes for door in ways}) == 1

    tried(check, data=REQUESTS, cut=st.integers(0, 1 << 32))


def test_what_is_accepted_of_a_request_h11_accepts_and_reads_alike() -> None:
    def check(data: bytes) -> None:
        door = requests.fed([data], goes_on=False)
        if door.refusal is not None or ("ended",) not in door.heard:
            return

        _, method, target, headers, _ = door.heard[0]
        assert isinstance(headers, tuple)
        body = b"".join(bytes(event[1]) for event in door.heard if event[0] == "body")  # type: ignore[call-overload]
        fields = [(name.lower(), value.rstrip(b" \t")) for name, value in headers]
        # The one empty line that may stand before a request is more than h11 takes.
        other = requests.by_h11(data.removeprefix(b"\r\n"))
        assert (method, target, fields, body, door.take_held()) == other

    tried(check, data=REQUESTS)


def test_what_is_sent_of_an_accepted_head_is_read_as_it_was_judged() -> None:
    identity = IdentityLines(ScopeRegistry(())).of(None)
    peer = peer_lines(b"192.0.2.1", b"http")

    def check(data: bytes) -> None:
        door = requests.fed([data], goes_on=False)
        if door.facts is None:
            return

        facts = door.facts
        sent = request_head(facts, b"upstream.test", peer, identity, b"the-reference")
        body = b"0\r\n\r\n" if facts.content_length < 0 else b"x" * min(facts.content_length, 100_000)
        if facts.content_length > len(body):
            return
        for read in (all_by_h11, by_httptools, by_http_server):
            (one,) = read(sent + body)
            names = [name for name, _ in one.headers]
            assert (one.method, one.target) == (facts.method, facts.target)
            assert len(one.body) == max(facts.content_length, 0)
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
            assert tuple(names[-len(IDENTITY_FIELDS) :]) == IDENTITY_FIELDS
            assert not set(names[: -len(IDENTITY_FIELDS)]) & {*IDENTITY_FIELDS, b"authorization", b"connection"}
            assert names.count(b"host") == 1
            assert not any(b"_" in name for name in names)

    tried(check, data=REQUESTS)


def test_an_answer_is_heard_alike_however_its_bytes_come() -> None:
    def check(data: bytes, cut: int, answers_head: bool, ends: bool) -> None:
        ways = [answers.fed(way, answers_head=answers_head, ends=ends).heard() for way in every_way(data, cut)]

        assert ways[0] == ways[1] == ways[2]

    tried(check, data=ANSWERS, cut=st.integers(0, 1 << 32), answers_head=st.booleans(), ends=st.booleans())


def test_where_h11_takes_an_answer_too_it_is_the_same_one() -> None:
    def check(data: bytes, answers_head: bool) -> None:
        listener = answers.fed([data], answers_head=answers_head)
        other = answers.by_h11(data, answers_head=answers_head)
        if other is None or not listener.is_complete:
            return

        assert listener.facts is not None
        assert other[:2] == (listener.facts.status, listener.body)
        assert other[2] == b"" or not listener.is_reusable

    tried(check, data=ANSWERS, answers_head=st.booleans())


_RESERVED = frozenset(b"!$&'()*+,=:@")
"""What RFC 3986 3.3 allows raw in a segment and holds to be another segment when it is encoded."""
_RAW = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/") | _RESERVED


def spelled(decoded: bytes) -> bytes:
    """The one spelling of a path: raw where a byte may be raw, else encoded in capitals."""
    return b"".join(bytes((byte,)) if byte in _RAW else b"%%%02X" % byte for byte in decoded)


def test_an_accepted_target_stays_as_it_is_and_is_the_only_one_of_its_meaning() -> None:
    def check(target: bytes) -> None:
        found = canonical_target(target)
        if isinstance(found, Refusal):
            return

        path, query = found
        assert target in (path, path + b"?" + query)
        assert canonical_target(path) == (path, b"")
        decoded = unquote_to_bytes(path)
        assert unquote_to_bytes(decoded) == decoded
        # Of two paths that decode alike one at most is spelled so; `%40` for `@` is the exception, and then no
        # `{parameter}` takes that segment in either spelling: only a literal of the policy can.
        if spelled(decoded) != path:
            for ours, other in zip(path.split(b"/"), spelled(decoded).split(b"/"), strict=True):
                if ours != other:
                    assert not is_parameter_value(ours)
                    assert not is_parameter_value(other)
                    assert re.search(rb"%(21|24|2[6-9A-C]|3A|3D|40)", ours)

    tried(check, target=TARGETS)


def test_a_target_is_read_alike_by_the_facts_and_by_itself() -> None:
    def check(target: bytes) -> None:
        found = canonical_target(target)
        facts = facts_of(b"GET", target, [(b"Host", b"a")], True)

        assert isinstance(found, Refusal) is isinstance(facts, Refusal)
        if isinstance(facts, RequestFacts):
            assert (facts.path, facts.query) == found
            assert facts.target == target

    tried(check, target=TARGETS)


def test_frames_are_read_alike_however_their_bytes_come_and_as_a_plain_reader_reads_them() -> None:
    def check(data: bytes, cut: int, from_client: bool, compresses: bool) -> None:
        ways = [frames.read(way, from_client=from_client, compresses=compresses) for way in every_way(data, cut)]
        plain = frames.plainly(data, from_client=from_client, compresses=compresses)

        assert ways[0] == ways[1] == ways[2]
        assert (ways[0].passed, ways[0].frames, ways[0].code) == (plain.passed, plain.frames, plain.code)
        assert (ways[0].is_closed, ways[0].is_between) == (plain.is_closed, plain.is_between)

    tried(check, data=FRAMES, cut=st.integers(0, 1 << 32), from_client=st.booleans(), compresses=st.booleans())


def test_the_minutes_are_shared_by_all_that_are_here() -> None:
    tree = ast.parse(Path(__file__).read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tried"]

    assert len(calls) == running.PROPERTIES
