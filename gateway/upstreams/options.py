"""What operators may choose for one upstream, beside where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """See the settings `upstream_defaults` and `upstream_options` for what each one does."""

    host: str | None = None
    queue: int = 64
    queue_timeout: float = 1.0
    retry_percent: float = 20.0
    eject_after: int = 5
    eject_time: float = 1.0
    eject_time_max: float = 30.0
    check_path: str | None = None
    check_interval: float = 5.0
    check_timeout: float = 2.0
    dns_refresh: float = 30.0
    dns_keep: float = 300.0
    ca_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    server_name: str | None = None
