"""Whether an endpoint is sent requests: left out after failures in a row or while its checks fail, then tried again."""

from __future__ import annotations

from typing import Final, final

CHECKS_TO_LEAVE: Final = 2
CHECKS_TO_RETURN: Final = 2


@final
class EndpointHealth:
    """What is known of one endpoint from its answers and its checks. `now` is monotonic seconds."""

    __slots__ = (
        "_checks_in_a_row",
        "_eject_after",
        "_fails_checks",
        "_first_seconds",
        "_is_tried",
        "_longest_seconds",
        "_until",
        "ejected_seconds",
        "ejections",
        "failures_in_a_row",
        "is_out",
    )

    def __init__(self, *, eject_after: int = 5, first_seconds: float = 1.0, longest_seconds: float = 30.0) -> None:
        self._eject_after = eject_after
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._fails_checks = False
        self._checks_in_a_row = 0
        self._is_tried = False
        self._until = 0.0
        self.ejected_seconds = 0.0
        self.ejections = 0
        self.failures_in_a_row = 0
        self.is_out = False

    def failed(self, now: float) -> bool:
        """A request got no answer. Returns whether the endpoint is left out from now on, because of that.

        While it is left out, only the request that tries it lengthens the time: those sent before say nothing new.
        """
        self.failures_in_a_row += 1
        if self.ejected_seconds:
            if self._is_tried:
                self._is_tried = False
                self.ejected_seconds = min(2 * self.ejected_seconds, self._longest_seconds)
                self._until = now + self.ejected_seconds
            return False
        if self._eject_after == 0 or self.failures_in_a_row < self._eject_after:
            return False
        self.ejected_seconds = self._first_seconds
        self._until = now + self.ejected_seconds
        self.ejections += 1
        self.is_out = True
        return True

    def answered(self) -> bool:
        """An answer began. Returns whether the endpoint is sent requests again, because of that."""
        self.failures_in_a_row = 0
        self._is_tried = False
        if not self.ejected_seconds:
            return False
        self.ejected_seconds = 0.0
        self.is_out = self._fails_checks
        return not self.is_out

    def is_due(self, now: float) -> bool:
        """Whether an endpoint that is left out is to get one request, to see whether it answers again."""
        return not self._fails_checks and now >= self._until

    def try_now(self, now: float) -> None:
        """It gets that request; the next one after the same time, because the client of this one may leave."""
        if self.is_due(now):
            self._until = now + self.ejected_seconds
            self._is_tried = True

    def checked(self, is_good: bool) -> bool:
        """A check has ended. Returns whether the endpoint was left out for it, or may come back."""
        if is_good is not self._fails_checks:
            self._checks_in_a_row = 0
            return False
        self._checks_in_a_row += 1
        if self._checks_in_a_row < (CHECKS_TO_RETURN if is_good else CHECKS_TO_LEAVE):
            return False
        self._checks_in_a_row = 0
        self._fails_checks = not is_good
        if not is_good:
            self.ejections += 1
        self.is_out = self._fails_checks or self.ejected_seconds > 0.0
        return True
