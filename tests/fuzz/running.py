"""How long a property is tried: a few hundred examples, always the same; or new ones for as long as one likes.

`FUZZ_MINUTES=10 pytest tests/fuzz` tries new examples for ten minutes in all. What fails is made as small as it gets
and printed; put it into `corpus/` and into a test of the reader that it broke.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

EXAMPLES = 500
EXAMPLES_OF_A_ROUND = 3000
PROPERTIES = 8
"""How many tests share the minutes; a test counts them."""


def tried(check: Callable[..., None], **inputs: Any) -> None:
    """Runs `check` on examples drawn from `inputs`, short or long."""
    minutes = float(os.environ.get("FUZZ_MINUTES") or 0)
    common: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    if not minutes:
        settings(max_examples=EXAMPLES, derandomize=True, **common)(given(**inputs)(check))()
        return

    end = time.monotonic() + minutes * 60 / PROPERTIES
    examples = 0
    while time.monotonic() < end:
        once = settings(max_examples=EXAMPLES_OF_A_ROUND, derandomize=False, **common)(given(**inputs)(check))
        seed(secrets.randbits(32))(once)()
        examples += EXAMPLES_OF_A_ROUND
    print(f"{examples} examples")
