"""One measurement with wrk: one thread, 32 connections, and how many answers were not the expected ones."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import CannotRun, program
from bench.workloads import Workload

CONNECTIONS: Final = 32
_MARK: Final = "bench-summary "

_IN_TURN: Final = """
local tokens, at = {}, 0
for line in io.lines(%s) do tokens[#tokens + 1] = "Bearer " .. line end
function request()
  at = at %% #tokens + 1
  wrk.headers["Authorization"] = tokens[at]
  return wrk.format()
end
"""

_SCRIPT: Final = """
wrk.method = {method}
wrk.body = {body}
{headers}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{mark}{{"requests": %d, "micros": %d, "broken": %d, "refused": %d, "p50": %d, "p99": %d}}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What wrk saw. `fault` is empty when every answer was the expected one."""

    requests: int
    seconds: float
    p50_micros: int
    p99_micros: int
    fault: str

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


def write_script(workload: Workload, token: str, path: Path, user_tokens: Sequence[str] = ()) -> Path:
    """The Lua script that makes wrk send `workload` with `token`, or with `user_tokens`, the first or all in turn."""
    lines = workload.all_headers(token, user_tokens[0] if user_tokens else "")
    headers = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in lines.items())
    if workload.users == "new":
        listed = path.with_suffix(".tokens")
        listed.write_text("\n".join(user_tokens) + "\n")
        headers += _IN_TURN % json.dumps(str(listed))
    # A JSON string of ASCII without \u escapes is a Lua string too.
    body = json.dumps(workload.body.decode("ascii")) if workload.body else "nil"
    path.write_text(_SCRIPT.format(method=json.dumps(workload.method), body=body, headers=headers, mark=_MARK))
    return path


def run_wrk(workload: Workload, port: int, script: Path, *, core: int, seconds: int) -> Measured:
    """Send `workload` to `port` for `seconds`. Raises: CannotRun"""
    wrk, taskset = program("wrk"), program("taskset")
    if wrk is None:
        raise CannotRun("wrk is not installed")

    pin = [taskset, "--cpu-list", str(core)] if taskset is not None else []
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s", "-s", str(script)]
    done = subprocess.run(
        [*pin, *command, f"http://127.0.0.1:{port}{workload.path}"],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return measured_of(json.loads(line.removeprefix(_MARK)), workload)
    raise CannotRun(f"wrk said: {(done.stderr or done.stdout).strip()[:300]}")


def measured_of(summary: dict[str, int], workload: Workload) -> Measured:
    """What wrk's summary says, with every answer that was not the expected one as a fault."""
    requests, refused, broken = summary["requests"], summary["refused"], summary["broken"]
    # wrk counts an answer of 400 or above as an error of status.
    unexpected = requests - refused if workload.is_refusal else refused
    faults = (
        f"{unexpected} of {requests} answers were not {workload.status}" if unexpected else "",
        f"{broken} broken connections or time-outs" if broken else "",
        "no answer at all" if not requests else "",
    )
    return Measured(
        requests, summary["micros"] / 1_000_000, summary["p50"], summary["p99"], "; ".join(filter(None, faults))
    )


def probe(workload: Workload, port: int, token: str, user_token: str = "") -> str:
    """Send `workload` once and look at the answer closely; what is wrong with it, or an empty string."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request(
            workload.method, workload.path, workload.body or None, workload.all_headers(token, user_token)
        )
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        return f"no answer: {error}"
    except http.client.HTTPException as error:
        return f"broken answer: {error!r}"
    finally:
        connection.close()

    if answer.status != workload.status:
        return f"answered {answer.status} instead of {workload.status}: {body[:200].decode(errors='replace')}"
    if not workload.is_refusal and body != workload.answer:
        return f"the upstream's answer of {len(workload.answer)} bytes arrived as {len(body)} other bytes"
    return ""
