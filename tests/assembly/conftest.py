"""What is compiled calls its own functions without looking them up, so they cannot be replaced."""

from __future__ import annotations

from tests.conftest import COMPILED

collect_ignore = ["test_self_test_guards.py"] if COMPILED else []
