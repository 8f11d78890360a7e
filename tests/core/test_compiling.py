"""What the compiler is told of a class: nothing where there is none, and heard where there is one."""

from __future__ import annotations

import gc

from gateway.core import compiling, principal
from tests.core.samples import record


def test_interpreted_it_changes_nothing() -> None:
    class Some:
        pass

    assert Some is compiling.mypyc_attr(acyclic=True)(Some)


def test_compiled_the_garbage_collector_walks_no_record_and_no_principal() -> None:
    is_compiled = not (principal.__file__ or "").endswith(".py")
    one = record()

    assert [not is_compiled] * 2 == [gc.is_tracked(one), gc.is_tracked(one.principal)]
