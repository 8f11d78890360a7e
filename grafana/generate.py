"""Writes the dashboard: `python grafana/generate.py`. The JSON is committed, and a test finds the two apart.

Rows in the order in which an operator looks: is it up and deciding, who is refused and why, how slow is it and whose
fault is that, keys, policy, upstreams, the process. A panel is one line of `ROWS`; the rest is Grafana's bookkeeping.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DASHBOARD = Path(__file__).with_name("bearergate.json")

HERE = 'instance=~"$instance"'
ROUTE = f'{HERE}, route=~"$route"'
RATE = "$__rate_interval"

SHORT, PER_SECOND, SECONDS, RATIO, BYTES, BYTES_PER_SECOND = "short", "reqps", "s", "percentunit", "bytes", "Bps"

Target = tuple[str, str]
"""A PromQL expression and its legend."""


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    why: str
    unit: str
    targets: tuple[Target, ...]
    kind: str = "timeseries"
    width: int = 8
    is_stacked: bool = False
    red_from: float | None = None
    """The value from which it is shown in red."""


def rate(metric: str, by: str, where: str = HERE) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def quantiles(metric: str, name: str, where: str = HERE, by: str = "le") -> tuple[Target, ...]:
    return tuple(
        (f"histogram_quantile({q}, {rate(f'{metric}_bucket', by, where)})", f"{name} p{round(q * 100)}")
        for q in (0.5, 0.95, 0.99)
    )


def stat(title: str, why: str, unit: str, expression: str, legend: str = "", red_from: float | None = None) -> Panel:
    return Panel(title, why, unit, ((expression, legend),), kind="stat", width=4, red_from=red_from)


UNDECIDED = f'sum(rate(bearergate_requests_total{{{HERE}, outcome="cannot_decide"}}[{RATE}])) or vector(0)'

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            stat(
                "Requests",
                "All requests that ended.",
                PER_SECOND,
                f"sum(rate(bearergate_requests_total{{{HERE}}}[{RATE}]))",
            ),
            stat("In flight", "Requests being served now.", SHORT, f"sum(bearergate_requests_in_flight{{{HERE}}})"),
            stat("Undecided", "Answered 503: the gateway could not judge.", PER_SECOND, UNDECIDED, red_from=0.1),
            stat(
                "Policy is stale",
                "Gateways that refused the newest policy.",
                SHORT,
                f"sum(bearergate_policy_stale{{{HERE}}})",
                red_from=1,
            ),
            stat(
                "Last contact with the store",
                "How long the change feed has not heard from the key store: revocations wait for it.",
                SECONDS,
                f"max(bearergate_key_feed_last_contact_seconds{{{HERE}}})",
                red_from=10,
            ),
            stat(
                "Versions",
                "Gateways by version.",
                SHORT,
                f"sum by (version) (bearergate_build_info{{{HERE}}})",
                "{{version}}",
            ),
        ),
    ),
    (
        "Traffic",
        (
            Panel(
                "Requests by outcome",
                "Allowed, refused, undecided, failed by the upstream, or left by the client.",
                PER_SECOND,
                ((rate("bearergate_requests_total", "outcome", ROUTE), "{{outcome}}"),),
                is_stacked=True,
            ),
            Panel(
                "Refusals by reason",
                "The ten most frequent reasons, over all routes.",
                PER_SECOND,
                ((f"topk(10, {rate('bearergate_refusals_total', 'reason')} > 0)", "{{reason}}"),),
            ),
            Panel(
                "Requests by status",
                "What clients were sent.",
                PER_SECOND,
                ((rate("bearergate_requests_total", "status", ROUTE), "{{status}}"),),
                is_stacked=True,
            ),
            Panel(
                "Requests by route",
                "The ten busiest routes; `unmatched` is everything that no route matched.",
                PER_SECOND,
                ((f"topk(10, {rate('bearergate_requests_total', 'route', ROUTE)})", "{{route}}"),),
            ),
            Panel(
                "Requests by kind of token",
                "`none` is a request that ended before a token was read.",
                PER_SECOND,
                ((rate("bearergate_requests_total", "kind", ROUTE), "{{kind}}"),),
                is_stacked=True,
            ),
            Panel(
                "Bytes",
                "Bodies of requests and of answers.",
                BYTES_PER_SECOND,
                (
                    (f"sum(rate(bearergate_request_bytes_total{{{ROUTE}}}[{RATE}]))", "from clients"),
                    (f"sum(rate(bearergate_response_bytes_total{{{ROUTE}}}[{RATE}]))", "to clients"),
                ),
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "Whole request",
                "From the request's whole head to the last byte of the answer.",
                SECONDS,
                quantiles("bearergate_request_duration_seconds", "request", ROUTE),
            ),
            Panel(
                "Gateway and upstream",
                "The gateway's own share beside the upstream's: whose fault it is.",
                SECONDS,
                (
                    *quantiles("bearergate_overhead_seconds", "gateway"),
                    *quantiles("bearergate_upstream_duration_seconds", "upstream"),
                ),
            ),
            Panel(
                "Slowest routes, p99",
                "The ten routes with the slowest hundredth.",
                SECONDS,
                (
                    (
                        "topk(10, histogram_quantile(0.99, "
                        + rate("bearergate_request_duration_seconds_bucket", "route, le", ROUTE)
                        + "))",
                        "{{route}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Keys",
        (
            Panel(
                "Cache hit ratio",
                "Look-ups that memory answered, unknown tokens included.",
                RATIO,
                (
                    (
                        f'sum(rate(bearergate_key_cache_lookups_total{{{HERE}, result!="miss"}}[{RATE}]))'
                        f" / sum(rate(bearergate_key_cache_lookups_total{{{HERE}}}[{RATE}]))",
                        "hits",
                    ),
                ),
            ),
            Panel(
                "Cache entries and evictions",
                "Evictions of keys mean that the cache is too small for the keys in use.",
                SHORT,
                (
                    (f"sum by (content) (bearergate_key_cache_entries{{{HERE}}})", "{{content}}"),
                    (f"sum(rate(bearergate_key_cache_evictions_total{{{HERE}}}[{RATE}]))", "evictions per second"),
                ),
            ),
            Panel(
                "Store look-ups",
                "One per key and cache lifetime, however many requests wait for it.",
                PER_SECOND,
                ((rate("bearergate_key_store_lookups_total", "result"), "{{result}}"),),
                is_stacked=True,
            ),
            Panel(
                "Store latency",
                "How long the store took, failed look-ups included.",
                SECONDS,
                quantiles("bearergate_key_store_lookup_seconds", "look-up"),
                width=12,
            ),
            Panel(
                "Change feed",
                "How late a revocation arrives, and how long ago the store last answered.",
                SECONDS,
                (
                    (f"max by (instance) (bearergate_key_feed_lag_seconds{{{HERE}}})", "lag {{instance}}"),
                    (
                        f"max by (instance) (bearergate_key_feed_last_contact_seconds{{{HERE}}})",
                        "last contact {{instance}}",
                    ),
                ),
                width=12,
            ),
        ),
    ),
    (
        "User tokens",
        (
            Panel(
                "Verifications",
                "Tokens that memory did not know; undecided ones were answered 503.",
                PER_SECOND,
                ((rate("bearergate_token_verifications_total", "result"), "{{result}}"),),
                is_stacked=True,
            ),
            Panel(
                "Token cache hit ratio",
                "Look-ups that memory answered, refused tokens included.",
                RATIO,
                (
                    (
                        f'sum(rate(bearergate_token_cache_lookups_total{{{HERE}, result!="miss"}}[{RATE}]))'
                        f" / sum(rate(bearergate_token_cache_lookups_total{{{HERE}}}[{RATE}]))",
                        "hits",
                    ),
                ),
            ),
            Panel(
                "Tokens and revocations in memory",
                "What is held now.",
                SHORT,
                (
                    (f"sum by (content) (bearergate_token_cache_entries{{{HERE}}})", "{{content}}"),
                    (f"max(bearergate_token_revocations{{{HERE}}})", "revocations"),
                ),
            ),
            Panel(
                "Questions to issuers",
                "For their keys, or about a token.",
                PER_SECOND,
                ((rate("bearergate_issuer_requests_total", "issuer, result"), "{{issuer}} {{result}}"),),
                width=12,
            ),
            Panel(
                "Age of issuers' keys",
                "Since they were last read; at the issuer's `keep` its tokens cannot be verified any more.",
                SECONDS,
                ((f"max by (issuer) (bearergate_issuer_keys_age_seconds{{{HERE}}})", "{{issuer}}"),),
                width=12,
            ),
        ),
    ),
    (
        "Policy",
        (
            Panel(
                "Gateways by policy revision",
                "More than one line for long means that gateways disagree.",
                SHORT,
                ((f"count by (revision) (bearergate_policy_info{{{HERE}}})", "{{revision}}"),),
                width=12,
                is_stacked=True,
            ),
            Panel(
                "Reloads",
                "A refused reload leaves the old policy in force.",
                SHORT,
                (
                    (
                        f"sum by (result) (increase(bearergate_policy_reloads_total{{{HERE}}}[{RATE}]))",
                        "{{result}}",
                    ),
                ),
                width=12,
            ),
        ),
    ),
    (
        "Upstreams",
        (
            Panel(
                "Failures",
                "Forwarded requests that the upstream did not answer whole.",
                PER_SECOND,
                ((rate("bearergate_upstream_failures_total", "upstream, reason") + " > 0", "{{upstream}} {{reason}}"),),
            ),
            Panel(
                "Latency by upstream, p99",
                "From the forwarded head to the last byte of the answer.",
                SECONDS,
                (
                    (
                        "histogram_quantile(0.99, "
                        + rate("bearergate_upstream_duration_seconds_bucket", "upstream, le")
                        + ")",
                        "{{upstream}}",
                    ),
                ),
            ),
            Panel(
                "Connections",
                "Held to each upstream; new ones per second say how well they are reused.",
                SHORT,
                (
                    (
                        f"sum by (upstream, state) (bearergate_upstream_connections{{{HERE}}})",
                        "{{upstream}} {{state}}",
                    ),
                    (
                        rate("bearergate_upstream_connects_total", "upstream, result"),
                        "{{upstream}} {{result}} per second",
                    ),
                ),
            ),
            Panel(
                "Endpoints",
                "Endpoints that are sent requests, and those that are left out because they failed.",
                SHORT,
                (
                    (
                        f"sum by (upstream, state) (bearergate_upstream_endpoints{{{HERE}}})",
                        "{{upstream}} {{state}}",
                    ),
                    (rate("bearergate_upstream_ejections_total", "upstream"), "{{upstream}} left out per second"),
                ),
            ),
            Panel(
                "Queue and retries",
                "Requests that wait for a connection, those that waited in vain, and second attempts.",
                SHORT,
                (
                    (f"sum by (upstream) (bearergate_upstream_queue{{{HERE}}})", "{{upstream}} waiting"),
                    (
                        rate("bearergate_upstream_queue_refusals_total", "upstream") + " > 0",
                        "{{upstream}} in vain per second",
                    ),
                    (
                        rate("bearergate_upstream_retries_total", "upstream, result") + " > 0",
                        "{{upstream}} retries {{result}} per second",
                    ),
                ),
            ),
        ),
    ),
    (
        "Process",
        (
            Panel(
                "Processor and event loop",
                "Each worker is one event loop: a gateway with one is full at one whole core.",
                SHORT,
                (
                    (f'rate(process_cpu_seconds_total{{job="bearergate", {HERE}}}[{RATE}])', "cores {{instance}}"),
                    (f"bearergate_event_loop_lag_seconds{{{HERE}}}", "loop lag in seconds {{instance}}"),
                    (f'bearergate_workers{{state="ready", {HERE}}}', "workers {{instance}}"),
                    (f"increase(bearergate_worker_restarts_total{{{HERE}}}[{RATE}])", "restarts {{instance}}"),
                ),
            ),
            Panel(
                "Memory",
                "Resident memory, the limit where there is one, and the bodies that are held whole.",
                BYTES,
                (
                    (f'process_resident_memory_bytes{{job="bearergate", {HERE}}}', "{{instance}}"),
                    (f"bearergate_memory_limit_bytes{{{HERE}}}", "limit {{instance}}"),
                    (f"bearergate_held_body_bytes{{{HERE}}}", "bodies {{instance}}"),
                ),
            ),
            Panel(
                "Connections and descriptors",
                "Client connections, and the file descriptors in use.",
                SHORT,
                (
                    (f"bearergate_client_connections{{{HERE}}}", "clients {{instance}}"),
                    (f'process_open_fds{{job="bearergate", {HERE}}}', "descriptors {{instance}}"),
                    (f'process_max_fds{{job="bearergate", {HERE}}}', "limit {{instance}}"),
                ),
            ),
            Panel(
                "In flight by gateway",
                "One that holds many more than its neighbours has a slow upstream or a slow client.",
                SHORT,
                ((f"bearergate_requests_in_flight{{{HERE}}}", "{{instance}}"),),
                width=12,
            ),
            Panel(
                "Access log lines dropped",
                "Anything above zero is a slow log reader or a full disk.",
                SHORT,
                ((rate("bearergate_access_log_dropped_total", "instance"), "{{instance}}"),),
                width=12,
            ),
        ),
    ),
)

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ROW_WIDTH = 24


def dashboard() -> dict[str, object]:
    """The whole dashboard as Grafana imports it."""
    return {
        "uid": "bearergate",
        "title": "Bearergate",
        "description": "An authorization gateway: who is let through, who is not and why, and how fast.",
        "tags": ["bearergate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": _panels(),
    }


def _variables() -> list[dict[str, object]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        _label_variable("instance", "Gateway", "label_values(bearergate_build_info, instance)"),
        _label_variable("route", "Route", 'label_values(bearergate_requests_total{instance=~"$instance"}, route)'),
    ]


def _label_variable(name: str, label: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> list[dict[str, object]]:
    placed: list[dict[str, object]] = []
    y = 0
    for title, panels in ROWS:
        placed.append(
            _placed({"type": "row", "title": title, "collapsed": False, "panels": []}, placed, ROW_WIDTH, 1, 0, y)
        )
        y += 1
        x = 0
        for panel in panels:
            height = 4 if panel.kind == "stat" else 8
            if x + panel.width > ROW_WIDTH:
                x, y = 0, y + height
            placed.append(_placed(_panel(panel), placed, panel.width, height, x, y))
            x += panel.width
        y += height
    return placed


def _placed(
    panel: dict[str, object], before: list[dict[str, object]], width: int, height: int, x: int, y: int
) -> dict[str, object]:
    return {"id": len(before) + 1, "gridPos": {"h": height, "w": width, "x": x, "y": y}, **panel}


def _panel(panel: Panel) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    defaults: dict[str, object] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 25 if panel.is_stacked else 0,
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "showPoints": "never",
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.targets)
        ],
    }


def _options(panel: Panel) -> dict[str, object]:
    if panel.kind == "stat":
        calculation = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        text = "value_and_name" if panel.targets[0][1] else "value"
        colour = "value" if panel.red_from is not None else "none"
        return {"reduceOptions": calculation, "textMode": text, "colorMode": colour, "graphMode": "none"}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


if __name__ == "__main__":
    DASHBOARD.write_text(json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
