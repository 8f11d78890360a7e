"""What is compiled is closed: nothing can derive from its classes, as the listeners here do."""

from __future__ import annotations

from tests.conftest import COMPILED

collect_ignore_glob = ["test_*.py"] if COMPILED else []
