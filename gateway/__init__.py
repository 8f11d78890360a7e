"""Bearergate: an authorization gateway that lets through what the policy allowed, and nothing else."""

__version__ = "0.1.0"
