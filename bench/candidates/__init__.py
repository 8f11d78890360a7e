"""The programs that are measured, one file each, in the order of the results."""

from __future__ import annotations

from typing import Final

from bench.candidates import bearergate, caddy, envoy, express_gateway, hive_gateway, naive, nginx

CANDIDATES: Final = (
    *nginx.CANDIDATES,
    *bearergate.CANDIDATES,
    *envoy.CANDIDATES,
    *caddy.CANDIDATES,
    *express_gateway.CANDIDATES,
    *hive_gateway.CANDIDATES,
    *naive.CANDIDATES,
)

BASE: Final = "nginx"
"""The candidate that all ratios are to: nginx `proxy_pass` in the same run."""
BASE_FOR_BULK: Final = "nginx-unbuffered"
"""For large bodies: the same without its buffers on disk."""
