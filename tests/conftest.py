"""One hypothesis profile for the whole suite: the same examples on every run, and no deadline on a busy machine.

With `TEST_COMPILED` set to the directory of a compiled installation, that is what the tests run on, in this
process and in those that they start. The plain sources are what it must agree with.
"""

from __future__ import annotations

import os
import sys

from hypothesis import settings

COMPILED = os.environ.get("TEST_COMPILED")
if COMPILED:
    sys.path.insert(0, os.path.abspath(COMPILED))
    os.environ["PYTHONPATH"] = os.path.abspath(COMPILED)
    import gateway.judge

    assert gateway.judge.__file__.endswith(".so"), "the compiled installation has no compiled modules"

settings.register_profile("default", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("default")
