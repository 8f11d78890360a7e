"""What `serve` is told on its command line, and what it says of what it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.serve import located


@pytest.mark.parametrize(
    ("options", "upstreams", "faults"),
    [
        ([], {}, []),
        (["a=http://b:1", "c=https://d?e=f"], {"a": "http://b:1", "c": "https://d?e=f"}, []),
        (["a"], {}, ["--upstream: `a` is not `NAME=http://host:port`"]),
        (["=http://b:1"], {}, ["--upstream: `=http://b:1` is not `NAME=http://host:port`"]),
        (
            ["a=http://b:1", "a=http://c:2"],
            {"a": "http://b:1"},
            ["--upstream: `a` is located twice, at `http://b:1` and at `http://c:2`; keep one"],
        ),
    ],
)
def test_upstreams_are_located_by_name(options: list[str], upstreams: dict[str, str], faults: list[str]) -> None:
    assert (upstreams, faults) == located(options)


def test_what_the_command_line_and_the_settings_have_wrong_is_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARERGATE_LISTN", "127.0.0.1:1")

    done = CliRunner().invoke(app, ["serve", "--upstream", "notes", "--config", str(tmp_path / "absent.toml")])

    assert done.exit_code == 1
    assert [
        "bearergate: --upstream: `notes` is not `NAME=http://host:port`",
        "bearergate: BEARERGATE_LISTN: there is no such setting; did you mean `BEARERGATE_LISTEN`?",
        f"bearergate: {tmp_path}/absent.toml: there is no such file",
        "bearergate: policy: is missing; set it as an argument, in the file or as `BEARERGATE_POLICY`",
    ] == done.stderr.splitlines()


def test_upstreams_that_are_wrong_alone_are_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(app, ["serve", "--policy", "p.yaml", "--upstream", "a=http://b:1", "--upstream", "c"])

    assert (1, ["bearergate: --upstream: `c` is not `NAME=http://host:port`"]) == (
        done.exit_code,
        done.stderr.splitlines(),
    )
