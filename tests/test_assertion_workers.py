"""Several workers sign with the keys that their supervisor publishes, before a rotation and after it."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import test_workers
from tests.support.assertions import kids_of, signed_by, write_key
from tests.support.recording_upstream import RecordingUpstream
from tests.test_workers import Crew, crew, until, upstream

__all__ = ["upstream"]
ASSERTED = test_workers.POLICY.replace("allow:", "assertion: things, allow:")


def signers(running: Crew, things: RecordingUpstream) -> set[str]:
    """The ids of the keys that all workers sign with."""
    things.clear()
    with ExitStack() as held:
        running.on_every_worker(held)
    return {signed_by(token) for sent in things.settled().requests for token in sent.values(b"x-gateway-assertion")}


def test_what_workers_sign_with_is_published_by_their_supervisor(
    tmp_path: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_workers, "POLICY", ASSERTED)
    keys = tmp_path / "keys"
    keys.mkdir()
    write_key(keys / "2.pem")
    with crew(tmp_path, upstream, BEARERGATE_ASSERTIONS__KEYS=str(keys)) as running:
        (old,) = kids_of(running.admin)
        assert signers(running, upstream) == {old}

        write_key(keys / "1.pem")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: len(kids_of(running.admin)) == 2, "the publishing")
        new = kids_of(running.admin)[0]
        assert new != old
        until(lambda: signers(running, upstream) == {new}, "the change of keys")

        (keys / "1.pem").chmod(0o644)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "keys of assertions not read again" in running.said.read_text(), "the refusal")
        assert [new, old] == kids_of(running.admin)
        assert signers(running, upstream) == {new}


def test_without_a_key_the_supervisor_does_not_start_with_it(
    tmp_path: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_workers, "POLICY", ASSERTED)

    with (
        pytest.raises(AssertionError, match="route `things` has an `assertion`, and the settings have no key"),
        crew(tmp_path, upstream),
    ):
        pass
