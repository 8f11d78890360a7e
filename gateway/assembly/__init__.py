"""Where the parts are put together: only this package chooses concrete classes.

`keys` opens the control plane's service, `gateway` the parts behind every door, `serving` runs them on two listeners
until a signal, `asgi` runs them inside another server. Each is imported by itself, because the key commands need none
of what serving loads.
"""

from __future__ import annotations


class CannotStart(Exception):
    """The gateway cannot start; the message says why and what to do, a line for each fault."""
