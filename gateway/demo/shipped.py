"""Where the files are that ship with the gateway: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parents[1]


def shipped_policies() -> Path:
    """The folder with the shipped policies, their cases and the example data. Raises: FileNotFoundError"""
    # The wheel carries `policies/` as `gateway/shipped/policies`.
    places = (_PACKAGE / "shipped" / "policies", _PACKAGE.parent / "policies")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the shipped policies are in neither of: {', '.join(map(str, places))}")
