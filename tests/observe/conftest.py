"""Where the repository is, for tests that read its documents."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def repository() -> Path:
    return Path(__file__).resolve().parents[2]
