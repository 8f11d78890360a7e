"""One hypothesis profile for the whole suite: the same examples on every run, and no deadline on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("default")
