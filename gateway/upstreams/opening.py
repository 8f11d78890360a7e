"""An upstream from its configuration: each URL is an endpoint with a pool, addresses, health and checks of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.upstreams.addresses import Addresses, Resolve, system_resolve
from gateway.upstreams.balancer import BalancedUpstream
from gateway.upstreams.checks import Checks, check_request
from gateway.upstreams.dialling import Dialler
from gateway.upstreams.health import EndpointHealth
from gateway.upstreams.location import location_of
from gateway.upstreams.options import UpstreamOptions
from gateway.upstreams.pool import MAX_CONNECTIONS, MAX_IDLE, EndpointPool, Line
from gateway.upstreams.retries import RetryBudget
from gateway.upstreams.tls import client_context
from gateway.wire.limits import Timeouts

_NO_OPTIONS = UpstreamOptions()


def open_upstream(
    name: str,
    urls: Sequence[str],
    *,
    now: Callable[[], float],
    timeouts: Timeouts | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_idle: int = MAX_IDLE,
    options: UpstreamOptions = _NO_OPTIONS,
    resolve: Resolve = system_resolve,
) -> BalancedUpstream:
    """The upstream `name` at `urls`. Nothing is connected yet. Raises: ValueError"""
    if not urls:
        raise ValueError(f"upstream `{name}` is nowhere: give it a URL")
    locations = [location_of(name, url) for url in urls]
    for place, location in enumerate(locations):
        if location in locations[:place]:
            raise ValueError(f"upstream `{name}` has the endpoint `{location.url}` twice; keep one")
    timeouts = timeouts or Timeouts()
    tls = None
    if any(location.is_tls for location in locations):
        try:
            tls = client_context(options.ca_file, options.certificate, options.certificate_key)
        except ValueError as fault:
            raise ValueError(f"upstream `{name}`: {fault}") from fault
    authority = (options.host or locations[0].authority).encode("ascii")

    line = Line(f"upstream `{name}`", now=now, limit=options.queue, seconds=options.queue_timeout)
    pools: list[EndpointPool] = []
    checks: list[Checks] = []
    for number, location in enumerate(locations, 1):
        addresses = Addresses(
            location, now=now, resolve=resolve, refresh_seconds=options.dns_refresh, keep_seconds=options.dns_keep
        )
        dialler = Dialler(
            location, addresses, connect_seconds=timeouts.connect, tls=tls, server_name=options.server_name
        )
        # One endpoint alone is never left out: there is nowhere else to go.
        health = EndpointHealth(
            eject_after=options.eject_after if len(locations) > 1 else 0,
            first_seconds=options.eject_time,
            longest_seconds=options.eject_time_max,
        )
        pool = EndpointPool(
            f"endpoint `{location.url}` of upstream `{name}`",
            f"upstream `{name}`" if len(locations) == 1 else f"upstream `{name}`, endpoint {number}",
            dialler,
            now=now,
            timeouts=timeouts,
            health=health,
            line=line,
            max_connections=max_connections,
            max_idle=max_idle,
        )
        pools.append(pool)
        if options.check_path is not None:
            checks.append(
                Checks(
                    dialler,
                    request=check_request(options.check_path, authority),
                    interval_seconds=options.check_interval,
                    timeout_seconds=options.check_timeout,
                    timeouts=timeouts,
                    now=now,
                    ended=pool.checked,
                )
            )
    budget = RetryBudget(options.retry_percent / 100.0)
    return BalancedUpstream(name, authority, pools, line, now=now, budget=budget, checks=checks)
