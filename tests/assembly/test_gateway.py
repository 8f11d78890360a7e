"""The parts put together, before they serve."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.assembly.gateway import Gateway
from gateway.settings import Settings

POLICY = """\
version: 1
routes:
  - name: ping
    match: GET /ping
    upstream: rest
    allow: anyone
"""


async def test_a_store_that_had_to_be_made_is_warned_of_once_with_its_absolute_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        policy=tmp_path / "policy.yaml",
        upstreams={"rest": "http://127.0.0.1:9000"},
        store="sqlite:///keys.sqlite3",
        access_log="none",
    )

    for _ in range(2):
        await Gateway(settings).aclose()

    warned = [record for record in caplog.records if record.name == "bearergate" and record.levelno == logging.WARNING]
    message = f"there was no key store at `{tmp_path / 'keys.sqlite3'}`: an empty one was made"
    assert [message] == [record.getMessage() for record in warned]
