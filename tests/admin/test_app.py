"""The admin listener: health and metrics, and nothing that a stranger could use."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.testclient import TestClient

from gateway.admin.app import admin_app
from gateway.admin.health import Check, Readiness

READY = Readiness((Check("policy", True, "revision 0123456789abcdef"), Check("store", True, "last contact 0.2 s ago")))
DRAINING = Readiness((*READY.checks, Check("draining", False, "no new requests are wanted")))


def client_of(readiness: Readiness = READY) -> TestClient:
    registry = CollectorRegistry()
    Counter("example", "An example.", registry=registry).inc()
    return TestClient(admin_app(registry, lambda: readiness), base_url="http://127.0.0.1")


def test_metrics_are_in_the_text_format() -> None:
    answer = client_of().get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "example_total 1.0\n" in answer.text


def test_metrics_are_in_openmetrics_for_who_asks_for_it() -> None:
    answer = client_of().get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_it_is_live_while_it_answers() -> None:
    answer = client_of(DRAINING).get("/livez")

    assert (answer.status_code, answer.json()) == (200, {"live": True})


def test_it_is_ready_when_every_check_is_good() -> None:
    answer = client_of().get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "checks": {
            "policy": {"ok": True, "detail": "revision 0123456789abcdef"},
            "store": {"ok": True, "detail": "last contact 0.2 s ago"},
        },
    }


def test_one_bad_check_takes_it_out_of_service() -> None:
    answer = client_of(DRAINING).get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert answer.json()["checks"]["draining"] == {"ok": False, "detail": "no new requests are wanted"}


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/", "/docs", "/metrics/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_no_answer_may_be_stored_or_names_its_software(method: str, path: str) -> None:
    answer = client_of().request(method, path, follow_redirects=False)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(method: str, path: str) -> None:
    assert client_of().request(method, path).status_code == 405


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/debug", "/metrics/x"])
def test_there_is_nothing_else(path: str) -> None:
    assert client_of().get(path).status_code == 404
