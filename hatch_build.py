"""Compiles the data path with mypyc while a wheel is built, when `BEARERGATE_COMPILE=1` asks for it.

The modules are those of `[tool.hatch.build.targets.wheel.hooks.custom]` in pyproject.toml. They stay plain Python with
plain annotations; without this step the wheel holds them as they are, slower and otherwise the same (docs/adr/0010).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASKED = os.environ.get("BEARERGATE_COMPILE") == "1"
SETUP = """
from mypyc.build import mypycify
from setuptools import setup
extensions = mypycify({modules!r}, opt_level="2", debug_level="0")
for extension in extensions:
    extension.extra_compile_args += {flags!r}
setup(name="bearergate", packages=[], ext_modules=extensions)
"""
# Nothing outside links to the compiled functions, so they call each other directly: 3 % of a request.
FLAGS = [] if sys.platform == "win32" else ["-fvisibility=hidden"]


class CompiledDataPath(BuildHookInterface[Any]):
    """Adds extension modules beside the sources that they were made of; Python imports them first."""

    def dependencies(self) -> list[str]:
        return ["mypy>=2.4", "setuptools>=65"] if ASKED else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not ASKED or version == "editable":
            return
        # A copy: extension modules left beside the sources would be run in place of every later edit.
        place = Path(self.root, "build", "mypyc")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(Path(self.root, "gateway"), place / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
        (place / "setup.py").write_text(SETUP.format(modules=self.config["modules"], flags=FLAGS))
        made = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"mypyc or the C compiler failed; build without BEARERGATE_COMPILE=1\n{made.stdout}")
        for module in [*place.glob("*.so"), *place.glob("gateway/**/*.so")]:
            build_data["force_include"][str(module)] = str(module.relative_to(place))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
