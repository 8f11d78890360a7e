"""What the compiler is told of a class. Where nothing is compiled, it says nothing and needs no package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # mypyc knows the decorator by this name, wherever it is imported from.
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_options):
        return lambda decorated: decorated
