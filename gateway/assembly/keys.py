"""The key service over the configured store."""

from __future__ import annotations

from gateway.stores import open_key_service

__all__ = ["open_key_service"]
