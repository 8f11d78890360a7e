"""How many connections the process can hold: each request needs two open files, one to either side."""

from __future__ import annotations

import logging
import resource
from typing import Final

_LOG: Final = logging.getLogger("bearergate")
OWN_FILES: Final = 96
"""Listeners, the store, logs, libraries, the admin's connections, and some to spare."""


def places_for(wanted: int) -> int:
    """`wanted` connections from clients, or as many as the limit on open files leaves room for.

    The soft limit is raised as far as the hard one lets it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    places = max(1, (soft - OWN_FILES) // 2)
    _LOG.warning(
        "max_connections: %d open files allow for %d connections, not %d; raise `ulimit -n` or `LimitNOFILE=`",
        soft,
        places,
        wanted,
    )
    return places
