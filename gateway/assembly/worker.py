"""One of several processes that serve: `python -m gateway.assembly.worker`, started by a supervisor and by nobody else.

It takes its orders over a socket and ignores signals, so that one that is sent to all processes of the service is
heard once, by the supervisor. When the supervisor is gone it stops accepting at once, and ends within two seconds.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Final

ORPHAN_END_SECONDS: Final = 2.0


def main(arguments: list[str]) -> int:
    """Arguments: the worker's number, and the descriptors of its orders, the listening socket and the loads."""
    # Before anything else: what is imported next takes a second.
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    number, control, listener, loads = map(int, arguments)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="supervisor", daemon=True).start()
    logging.basicConfig(level=logging.INFO, format=f"%(levelname)s worker {number}: %(message)s", stream=sys.stderr)
    for chatty in ("uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    import uvloop  # noqa: PLC0415 - after the watch on the supervisor, like all that takes time

    from gateway.assembly.acceptor import Loads  # noqa: PLC0415 - likewise
    from gateway.assembly.working import work  # noqa: PLC0415 - likewise

    orders, shared = socket.socket(fileno=control), socket.socket(fileno=listener)
    return uvloop.run(work(number, orders, shared, Loads(os.fdopen(loads, "r+b"))))


def _end_with_supervisor(control: int) -> None:
    """Ends the process soon after the supervisor, even if the event loop no longer turns (R15)."""
    gone = select.poll()
    # No event is asked for: that the other side has hung up is always told.
    gone.register(control, 0)
    gone.poll()
    time.sleep(ORPHAN_END_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
