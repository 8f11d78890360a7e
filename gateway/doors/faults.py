"""A bug of ours, as the process's log hears of it."""

from __future__ import annotations

import logging
from typing import Final

_LOG: Final = logging.getLogger("bearergate")


def log_fault(fault: BaseException, ref: str) -> None:
    """Says type and place, and the reference id of the request. Not the text: it may quote what a client sent (L7)."""
    frame = fault.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
    _LOG.error("internal fault: %s at %s, ref %s", type(fault).__name__, place, ref)
