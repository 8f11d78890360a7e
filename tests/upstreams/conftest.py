"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.upstreams.scripted import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Upstreams and what is opened to them, ended after the test."""
    made = World()
    yield made
    await made.close()
