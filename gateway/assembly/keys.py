"""The key service over the configured store."""

from __future__ import annotations

from pathlib import Path

from gateway.keys.mint import NO_REGION
from gateway.keys.peppers import Peppers, PeppersInvalid, read_peppers
from gateway.keys.rules import KeyRules
from gateway.ports import StoreUnavailable
from gateway.settings import SettingsInvalid, read_key_settings
from gateway.stores import open_key_service

__all__ = ["configured", "open_key_service"]


def configured(config: Path | None = None) -> tuple[Peppers, KeyRules]:
    """As the environment and the settings' file say. Raises: StoreUnavailable"""
    try:
        settings = read_key_settings(config)
        return read_peppers(settings.peppers, settings.pepper), KeyRules(region=settings.region or NO_REGION)
    except (PeppersInvalid, SettingsInvalid) as fault:
        raise StoreUnavailable(str(fault)) from fault
