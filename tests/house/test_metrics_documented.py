"""The list of metrics, its document, the dashboard and the alerts speak of the same things."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from gateway.core.credential import CredentialKind
from gateway.core.reasons import Reason, Verdict
from gateway.observe import metrics
from gateway.observe.access_line import AccessLine
from gateway.observe.metrics import METRICS, Metric, MetricKind
from gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LISTED = {metric.name: metric for metric in METRICS}
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
}
USED_NAME = re.compile(r"\b(?:bearergate|process)_[a-z_]+")
MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"')
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "grafana/bearergate.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]

VALUES = {
    "outcome": {verdict.value for verdict in Verdict},
    "reason": {reason.label for reason in Reason},
    "kind": {kind.value for kind in CredentialKind},
    "result": {
        *metrics.CACHE_RESULTS,
        *metrics.LOOKUP_RESULTS,
        *metrics.RELOAD_RESULTS,
        *metrics.CONNECT_RESULTS,
    },
}


def settings(model: type[BaseModel], prefix: str = "BEARERGATE_") -> dict[str, str]:
    """Every setting as an environment variable, with its default as the document writes it."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        default = field.default
        if isinstance(default, BaseModel):
            found |= settings(type(default), variable + "__")
        else:
            found[variable] = "none, needed" if field.is_required() else f"`{default}`"
    return found


def section(document: str, heading: str) -> str:
    """The text of one section of a document, up to the next heading of its rank."""
    text = (ROOT / "docs" / document).read_text()
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row whose first cell is code."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def metric_of(name: str) -> Metric | None:
    """The listed metric that a series name belongs to."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        metric = LISTED.get(name.removesuffix(suffix) if suffix else name)
        if metric is not None and (not suffix or metric.kind is MetricKind.HISTOGRAM):
            return metric
    return None


def test_each_metric_is_documented_with_its_kind_and_labels() -> None:
    documented = {
        cells[0].strip("`"): (cells[1], tuple(re.findall(r"`([a-z_]+)`", cells[2])))
        for cells in rows(section("metrics.md", "Every metric"))
    }

    assert {metric.name: (metric.kind.value, metric.labels) for metric in METRICS} == documented


def test_each_label_is_documented() -> None:
    used = {label for metric in METRICS for label in metric.labels}
    explained = {cells[0].strip("`") for cells in rows(section("metrics.md", "Labels"))}

    # The rest have their values in the row of the one metric that uses them.
    assert explained <= used
    assert used - explained == {"result", "content", "state", "revision", "version", "data_path"}


def test_each_metric_has_a_panel_or_a_reason_why_not() -> None:
    shown = {metric.name for name in USED_NAME.findall(" ".join(EXPRESSIONS)) if (metric := metric_of(name))}
    excused = {cells[0].strip("`"): cells[1] for cells in rows(section("metrics.md", "Not on the dashboard"))}

    assert set(LISTED) - shown == set(excused)
    assert all(excused.values())


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)])
def test_what_is_asked_for_exists(expression: str) -> None:
    for name in USED_NAME.findall(expression):
        assert name in PROCESS or metric_of(name), name

    for selector in re.finditer(r"((?:bearergate|process)_[a-z_]+)\{([^}]*)\}", expression):
        metric = metric_of(selector[1])
        for label, value in MATCHER.findall(selector[2]):
            assert label in {"instance", "job"} or (metric and label in metric.labels), (selector[1], label)
            assert label not in VALUES or value in VALUES[label], (selector[1], label, value)

    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        of_all = {label for name in USED_NAME.findall(expression) if (one := metric_of(name)) for label in one.labels}
        assert {label.strip() for label in grouping.split(",")} <= {"instance", "job", "le", *of_all}, expression


def test_the_dashboard_is_what_its_generator_writes() -> None:
    generator = runpy.run_path(str(ROOT / "grafana/generate.py"))

    assert generator["dashboard"]() == DASHBOARD


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_parses_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [re.sub(r"\$__[a-z_]+", "5m", expression).replace("$", "") for expression in EXPRESSIONS]
    recorded = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))

    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_dashboard_can_be_imported_anywhere() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}

    used = set(re.findall(r"\$([a-z]+)\b", " ".join(EXPRESSIONS)))
    assert used <= set(variables)


def test_panels_are_told_apart_explained_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"] for panel in PANELS)

    cells = [cell for panel in DASHBOARD["panels"] for cell in cells_of(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def cells_of(place: dict[str, int]) -> list[tuple[int, int]]:
    return [
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    ]


def test_each_alert_says_what_to_do() -> None:
    explained = dict(re.findall(r"### (\w+)\n\n((?:(?!### ).)+)", section("operations.md", "Alerts"), re.DOTALL))

    assert {rule["alert"] for rule in ALERTS} == set(explained)
    assert all(len(text) > 80 for text in explained.values())


def test_panels_that_the_alerts_send_you_to_exist() -> None:
    titles = {panel["title"] for panel in PANELS}
    mentioned = set(re.findall(r'"([A-Z][^":{}]+)"', section("operations.md", "Alerts")))

    assert mentioned
    assert mentioned <= titles


def test_each_alert_is_tested_firing_and_silent() -> None:
    tests = yaml.safe_load((ROOT / "deploy/prometheus/alerts.test.yml").read_text())["tests"]
    checks: list[dict[str, Any]] = [check for test in tests for check in test["alert_rule_test"]]

    names = {rule["alert"] for rule in ALERTS}
    assert names == {check["alertname"] for check in checks if check.get("exp_alerts")}
    assert names == {check["alertname"] for check in checks if not check.get("exp_alerts")}


def test_each_field_of_the_access_log_is_documented_in_its_order() -> None:
    documented = [cells[0].strip("`") for cells in rows(section("operations.md", "The access log"))]

    assert list(AccessLine.__struct_fields__) == documented


def test_each_setting_is_documented_with_its_default() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in rows(section("operations.md", "Settings"))}

    assert settings(Settings) == documented
