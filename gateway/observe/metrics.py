"""Every metric that the gateway exposes, in one tuple; docs, dashboard and alerts are checked against it.

Labels come from enumerations and from the names in the policy, so the number of series can be computed before any
traffic arrives (`series_bound`). No path, key, App, user or address is ever a label.

Where the numbers come from:

* requests: `counting.RequestCounts`, fed by `recorder.RequestRecorder` with one `Outcome` per request;
* store look-ups: `key_lookups.CountedKeyStore`, a wrapper that assembly puts around the store;
* the event loop: `loop_lag.LoopLag`, a task that assembly owns;
* everything else (cache, feed, policy, pools, doors): `readings.Readings`, small callables that assembly wires.

`exposition.metrics_registry` turns all of them into what `/metrics` answers.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Final

import msgspec

from gateway.core.credential import CredentialKind
from gateway.core.reasons import Reason, Verdict


class MetricKind(Enum):
    """The types of the Prometheus text format that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True):
    """One line of the list. A counter's name ends in `_total`, a unit stands in the name."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str


_COUNTER: Final = MetricKind.COUNTER
_GAUGE: Final = MetricKind.GAUGE
_HISTOGRAM: Final = MetricKind.HISTOGRAM

METRICS: Final[tuple[Metric, ...]] = (
    # -- requests
    Metric(
        "bearergate_requests_total",
        _COUNTER,
        ("route", "kind", "outcome", "reason", "status"),
        "Requests that ended, each counted once.",
    ),
    Metric(
        "bearergate_refusals_total",
        _COUNTER,
        ("reason",),
        "Requests that ended with a reason, over all routes; every reason is there from the start.",
    ),
    Metric(
        "bearergate_request_duration_seconds",
        _HISTOGRAM,
        ("route",),
        "From the request's whole head to the last byte of the answer.",
    ),
    Metric(
        "bearergate_overhead_seconds",
        _HISTOGRAM,
        (),
        "The part of a request's duration that was not spent waiting for the upstream.",
    ),
    Metric("bearergate_request_bytes_total", _COUNTER, ("route",), "Body bytes received from clients."),
    Metric("bearergate_response_bytes_total", _COUNTER, ("route",), "Body bytes sent to clients."),
    Metric("bearergate_requests_in_flight", _GAUGE, (), "Requests being served now."),
    Metric("bearergate_client_connections", _GAUGE, (), "Open connections from clients."),
    # -- keys
    Metric(
        "bearergate_key_cache_lookups_total",
        _COUNTER,
        ("result",),
        "Look-ups in the key cache: a key, a token known to be unknown, or a miss.",
    ),
    Metric("bearergate_key_cache_entries", _GAUGE, ("content",), "Entries in the key cache."),
    Metric("bearergate_key_cache_evictions_total", _COUNTER, (), "Entries that left the key cache to make room."),
    Metric(
        "bearergate_key_store_lookups_total",
        _COUNTER,
        ("result",),
        "Look-ups in the key store: found, unknown, or failed (too long, or turned away, included).",
    ),
    Metric("bearergate_key_store_lookup_seconds", _HISTOGRAM, (), "How long a look-up in the key store took."),
    Metric(
        "bearergate_key_feed_lag_seconds",
        _GAUGE,
        (),
        "How long the newest change took from the store's commit to this gateway.",
    ),
    Metric(
        "bearergate_key_feed_last_contact_seconds",
        _GAUGE,
        (),
        "Time since the change feed last heard from the store.",
    ),
    # -- user tokens
    Metric(
        "bearergate_token_cache_lookups_total",
        _COUNTER,
        ("result",),
        "Look-ups in the cache of user tokens: a token that was verified, one that was refused, or a miss.",
    ),
    Metric("bearergate_token_cache_entries", _GAUGE, ("content",), "Entries in the cache of user tokens."),
    Metric(
        "bearergate_token_verifications_total",
        _COUNTER,
        ("result",),
        "User tokens looked at: verified, refused, or not decided (turned away included).",
    ),
    Metric("bearergate_token_revocations", _GAUGE, (), "Live revocations of user tokens that are known here."),
    Metric(
        "bearergate_issuer_requests_total",
        _COUNTER,
        ("issuer", "result"),
        "Questions to issuers, for their keys or about a token: answered or failed.",
    ),
    Metric("bearergate_issuer_keys", _GAUGE, ("issuer",), "Keys of the issuer that are known here."),
    Metric(
        "bearergate_issuer_keys_age_seconds",
        _GAUGE,
        ("issuer",),
        "Time since the issuer's keys were last read.",
    ),
    # -- policy
    Metric("bearergate_policy_info", _GAUGE, ("revision",), "Always 1; the label is the revision being enforced."),
    Metric("bearergate_policy_routes", _GAUGE, (), "Routes in the policy being enforced."),
    Metric("bearergate_policy_reloads_total", _COUNTER, ("result",), "Reloads of the policy: loaded or refused."),
    Metric("bearergate_policy_stale", _GAUGE, (), "1 while the newest policy files were refused, else 0."),
    # -- upstreams
    Metric(
        "bearergate_upstream_duration_seconds",
        _HISTOGRAM,
        ("upstream",),
        "From the forwarded head to the last byte of the upstream's answer, or to its failure.",
    ),
    Metric("bearergate_upstream_connections", _GAUGE, ("upstream", "state"), "Connections held to the upstream."),
    Metric("bearergate_upstream_connects_total", _COUNTER, ("upstream", "result"), "Connections tried."),
    Metric(
        "bearergate_upstream_failures_total",
        _COUNTER,
        ("upstream", "reason"),
        "Forwarded requests that the upstream did not answer whole.",
    ),
    Metric(
        "bearergate_upstream_endpoints",
        _GAUGE,
        ("upstream", "state"),
        "Endpoints that are sent requests, and those that are left out.",
    ),
    Metric("bearergate_upstream_ejections_total", _COUNTER, ("upstream",), "Times that an endpoint was left out."),
    Metric(
        "bearergate_upstream_retries_total",
        _COUNTER,
        ("upstream", "result"),
        "Second attempts at a request: made, or not made because the budget was used up.",
    ),
    Metric("bearergate_upstream_queue", _GAUGE, ("upstream",), "Requests that wait for a connection now."),
    Metric(
        "bearergate_upstream_queue_refusals_total",
        _COUNTER,
        ("upstream",),
        "Requests that found the queue full, or waited in it too long.",
    ),
    # -- the process
    Metric("bearergate_workers", _GAUGE, ("state",), "Processes that serve, or are about to."),
    Metric("bearergate_worker_restarts_total", _COUNTER, (), "Workers that ended and were replaced."),
    Metric(
        "bearergate_access_log_dropped_total",
        _COUNTER,
        (),
        "Access log lines that could not be written, because the reader was slow or the disk full.",
    ),
    Metric(
        "bearergate_event_loop_lag_seconds",
        _GAUGE,
        (),
        "Longest delay of a timer on the event loop in the last 30 seconds.",
    ),
    Metric(
        "bearergate_memory_limit_bytes",
        _GAUGE,
        (),
        "What the process may hold, by its settings or its control group; absent where neither says.",
    ),
    Metric(
        "bearergate_memory_short",
        _GAUGE,
        (),
        "1 while new connections and held bodies are refused because the limit is nearly reached, else 0.",
    ),
    Metric(
        "bearergate_held_body_bytes",
        _GAUGE,
        (),
        "Bodies that are held whole while they are judged and sent.",
    ),
    Metric(
        "bearergate_assertions_signed_total",
        _COUNTER,
        (),
        "Assertions signed for upstreams; others were sent again. Absent without a key to sign with.",
    ),
    Metric(
        "bearergate_build_info",
        _GAUGE,
        ("version", "data_path"),
        "Always 1; the labels are the version that runs, and whether its data path is compiled or interpreted.",
    ),
)
"""The one list. `process_*` comes from the Prometheus client library on top of it."""

OTHER: Final = "other"
"""The one label for everything past a bound: routes beyond `MAX_ROUTES`, upstreams that the policy does not name."""

NO_KIND: Final = "none"
NO_REASON: Final = "none"
NO_STATUS: Final = "none"

MAX_ROUTES: Final = 1_000
"""Routes counted apart, in the policy's order. A route costs some 25 series: 1,000 make a scrape of 2 MB."""

SECONDS_BOUNDS: Final = (
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    30.0,
)
"""Bounds of every histogram: the gateway's own share is tenths of a millisecond, the upstream time-out 30 seconds."""

SERIES_PER_HISTOGRAM: Final = len(SECONDS_BOUNDS) + 3
"""The buckets and `+Inf`, `_sum`, `_count`."""

CACHE_RESULTS: Final = ("hit", "unknown_hit", "miss")
CACHE_CONTENTS: Final = ("keys", "unknown")
LOOKUP_RESULTS: Final = ("found", "unknown", "failed")
TOKEN_CACHE_RESULTS: Final = ("hit", "refused_hit", "miss")
TOKEN_CACHE_CONTENTS: Final = ("verified", "refused")
VERIFICATION_RESULTS: Final = ("verified", "refused", "cannot_decide")
ISSUER_RESULTS: Final = ("answered", "failed")
RELOAD_RESULTS: Final = ("loaded", "refused")
CONNECTION_STATES: Final = ("idle", "busy")
CONNECT_RESULTS: Final = ("connected", "failed")
ENDPOINT_STATES: Final = ("in", "out")
WORKER_STATES: Final = ("ready", "starting", "silent")
RETRY_RESULTS: Final = ("made", "over_budget")
UPSTREAM_FAILURES: Final = (
    Reason.UPSTREAM_UNREACHABLE.label,
    Reason.UPSTREAM_INVALID.label,
    Reason.UPSTREAM_CLOSED.label,
    Reason.UPSTREAM_TIMEOUT.label,
    Reason.UPSTREAM_TRUNCATED.label,
    OTHER,
)

KINDS: Final = (*(kind.value for kind in CredentialKind), NO_KIND)
PASSED: Final = (Verdict.ALLOWED, Verdict.CLIENT_GONE, Verdict.PREFLIGHT)
"""Verdicts that carry no reason as a label: a client that went away was not refused."""

_KNOWN_STATUSES: Final = frozenset(status.value for status in HTTPStatus)
_STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
STATUSES: Final = (*(str(status) for status in sorted(_KNOWN_STATUSES)), *_STATUS_CLASSES, NO_STATUS)
"""An upstream may answer any number, so the registered ones are labels and the rest fall into their class."""

_PROFILE_STATUSES: Final = (200, 400)
"""What the GraphQL status profiles make of a reason's own status."""


def status_label(status: int) -> str:
    """The label of a status that an upstream chose; total over all integers."""
    if status in _KNOWN_STATUSES:
        return str(status)
    if 100 <= status <= 599:
        return _STATUS_CLASSES[status // 100 - 1]
    return NO_STATUS


def reason_status_label(reason: Reason, status: int) -> str:
    """The label of a status that the gateway chose because of `reason`."""
    if status == reason.status or status in _PROFILE_STATUSES:
        return str(status)
    return OTHER if status else NO_STATUS


def ending_labels(
    kind: CredentialKind | None, verdict: Verdict, reason: Reason | None, status: int
) -> tuple[str, str, str, str]:
    """The labels kind, outcome, reason and status of one ending; whatever a door says, they stay in their lists."""
    kind_label = NO_KIND if kind is None else kind.value
    if reason is None or verdict in PASSED:
        return (kind_label, verdict.value, NO_REASON, status_label(status))
    return (kind_label, verdict.value, reason.label, reason_status_label(reason, status))


def series_bound(routes: int, upstreams: int, issuers: int = 0) -> int:
    """The most series that one process can ever expose for a policy of this size, without `process_*`.

    Far above what traffic makes of it (some 20 for a route), and still finite and known.
    """
    routes = min(routes, MAX_ROUTES) + 2  # `unmatched`, `other`
    plain = len(Verdict) * len(STATUSES)
    # `other` and `none` beside its own status and those of the profiles
    statuses_of_reasons = sum(len({reason.status, *_PROFILE_STATUSES}) + 2 for reason in Reason)
    refused = (len(Verdict) - len(PASSED)) * statuses_of_reasons
    per_route = len(KINDS) * (plain + refused) + SERIES_PER_HISTOGRAM + 2
    from_outcomes = SERIES_PER_HISTOGRAM + len(UPSTREAM_FAILURES)  # `other` has these and no pool
    per_upstream = from_outcomes + len(CONNECTION_STATES) + len(CONNECT_RESULTS) + len(ENDPOINT_STATES)
    per_upstream += len(RETRY_RESULTS) + 3  # ejections, queue, its refusals
    per_issuer = len(ISSUER_RESULTS) + 2  # keys, their age
    lists = (
        *(*CACHE_RESULTS, *CACHE_CONTENTS, *LOOKUP_RESULTS, *RELOAD_RESULTS),
        *WORKER_STATES,
        *(*TOKEN_CACHE_RESULTS, *TOKEN_CACHE_CONTENTS, *VERIFICATION_RESULTS),
    )
    unlabelled = sum(
        1 if metric.kind is not _HISTOGRAM else SERIES_PER_HISTOGRAM for metric in METRICS if not metric.labels
    )
    infos = 2
    named = routes * per_route + upstreams * per_upstream + issuers * per_issuer
    return named + from_outcomes + len(Reason) + len(lists) + unlabelled + infos
