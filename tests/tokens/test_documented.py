"""`docs/tokens.md` lists every setting of an issuer with its default."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.token_settings import IssuerSettings

TEXT = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text("utf-8")
SAID_IN_WORDS = {
    "issuer": "needed",
    "audience": "needed, but for introspection",
    "jwks_url": "one of these three",
    "jwks_file": "one of these three",
    "introspection_url": "one of these three",
    "app_claim": "one of these two",
    "app": "one of these two",
}


def test_each_setting_of_an_issuer_is_documented_with_its_default() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))

    wanted = {}
    for name, field in IssuerSettings.model_fields.items():
        shown = str(field.default).replace("'", '"')
        wanted[name] = SAID_IN_WORDS.get(name, "none" if field.default is None else f"`{shown}`")
    assert wanted == documented
