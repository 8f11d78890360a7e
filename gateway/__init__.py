"""Bearergate: an authorization gateway that lets through what the policy allowed, and nothing else."""

from importlib.util import find_spec

__version__ = "0.1.0"

_judge = find_spec("gateway.judge")
DATA_PATH = "interpreted" if _judge is None or str(_judge.origin).endswith(".py") else "compiled"
"""How the modules that a request runs through were built: hatch_build.py, docs/adr/0010."""
