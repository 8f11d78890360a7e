"""What `/readyz` says: one line per check, and whether this instance should be sent requests."""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. Only a check that is not `is_good` makes the instance not ready.

    A state that operators should see but that takes no instance out of service (an old policy enforced because the
    newest files were refused) is good, and says so in `detail`.
    """

    name: str
    is_good: bool
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """Ready when every check is good."""

    checks: tuple[Check, ...]

    @property
    def is_ready(self) -> bool:
        return all(check.is_good for check in self.checks)
