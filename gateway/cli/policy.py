"""`bearergate policy`: what is wrong with a policy, and whether it judges as its cases say."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from gateway.cli.case_judge import Seen, differences, judge_case
from gateway.cli.case_review import advice_on, faults_in
from gateway.cli.cases import Case, read_cases
from gateway.cli.policy_import import policy_from
from gateway.core.policy.faults import Fault, Place, PolicyInvalid
from gateway.core.policy.routes import Policy
from gateway.policy_files import CASES_SUFFIX, COMPANIONS, LoadedPolicy, load

app = typer.Typer(name="policy", help="Check policy files and run their cases.", no_args_is_help=True)

GOOD: Final = 0
FAULTY: Final = 1


class Format(Enum):
    """How `policy check` writes what it found."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


_ENVIRONMENT: Final = "BEARERGATE_POLICY"


@app.command("check")
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            envvar=_ENVIRONMENT,
            help="Policy files, or folders whose *.yaml together are one policy.",
            show_default=False,
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Let advice fail the check too.")] = False,
    output: Annotated[
        Format, typer.Option("--format", help="For people, for programs, or for GitHub's log.")
    ] = Format.TEXT,
) -> None:
    """Say every fault of the policies, each with its place and what to do.

    Exit codes: 0 the policies can be used; 1 one of them cannot, or there is advice and --strict; 2 wrong usage.
    """
    loaded: list[tuple[Path, LoadedPolicy]] = []
    faults: list[Fault] = []
    # A shell's `policies/*.yaml` names them as well; alone, one is a mistake that `load` explains.
    companions = [path for path in paths if path.name.endswith(COMPANIONS) and not path.is_dir()]
    skipped = companions if len(companions) < len(paths) else []
    for path in paths:
        if path in skipped:
            continue
        try:
            policy = load(path)
        except PolicyInvalid as invalid:
            faults += invalid.faults
        else:
            loaded.append((path, policy))
            faults += policy.advice
    faults = list(dict.fromkeys(faults))  # a file and its folder may both be named

    is_good = all(fault.is_advice and not strict for fault in faults)
    if output is Format.JSON:
        typer.echo(_json(loaded, faults, is_good))
    else:
        for fault in faults:
            typer.echo(_github(fault) if output is Format.GITHUB else _line(fault))
        for path, policy in loaded:
            typer.echo(_summary(path, policy.policy))
        for path in skipped:
            typer.echo(f"{path.as_posix()}: skipped, because it lies beside a policy and is none")
    raise typer.Exit(GOOD if is_good else FAULTY)


@app.command("test")
def judge(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            envvar=_ENVIRONMENT,
            help="A policy file, a folder that is one policy, or a *.cases.yaml beside its policy.",
            show_default=False,
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Let advice fail the run too.")] = False,
) -> None:
    """Judge the cases beside a policy (NAME.cases.yaml beside NAME.yaml) and show where it judges otherwise.

    Advice names every route, field rule and scope that no case exercises.

    Exit codes: 0 every case is judged as expected; 1 one is not, or the policy or its cases cannot be used, or there is
    advice and --strict; 2 wrong usage.
    """
    try:
        loaded, cases = cases_of(path)
    except PolicyInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(_line(fault))
        raise typer.Exit(FAULTY) from invalid

    judged = [(case, judge_case(loaded.policy, case)) for case in cases]
    failed = sum(not _is_as_expected(case, seen) for case, seen in judged)
    advice = advice_on(loaded.document, judged)
    for fault in advice:
        typer.echo(_line(fault))
    typer.echo(f"{len(cases)} cases, {failed} failed" if failed else f"{len(cases)} cases passed")
    raise typer.Exit(FAULTY if failed or (advice and strict) else GOOD)


@app.command("import")
def first_policy(
    sdl: Annotated[Path, typer.Option("--sdl", metavar="FILE", help="The schema of a GraphQL upstream.")],
) -> None:
    """Write a first policy from a schema that says who may, by @requiresScopes, @policy and @authenticated.

    Exit codes: 0 it was written; 1 the schema cannot be used; 2 wrong usage.
    """
    try:
        typer.echo(policy_from(sdl, sdl.read_text(encoding="utf-8")), nl=False)
    except PolicyInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(_line(fault), err=True)
        raise typer.Exit(FAULTY) from invalid
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"{sdl.as_posix()}: this cannot be read as UTF-8; check the path and its permissions", err=True)
        raise typer.Exit(FAULTY) from error


def cases_of(path: Path) -> tuple[LoadedPolicy, tuple[Case, ...]]:
    """The policy at `path` (or beside the cases at `path`) and its cases.

    Raises: PolicyInvalid when either cannot be read, there are no cases, or they name what the policy does not have
    """
    if path.name.endswith(CASES_SUFFIX):
        policy_path, case_files = path.with_name(path.name.removesuffix(CASES_SUFFIX) + ".yaml"), [path]
    elif path.is_dir():
        policy_path, case_files = path, sorted(path.glob(f"*{CASES_SUFFIX}"))
    else:
        policy_path, case_files = path, [path.with_name(path.stem + CASES_SUFFIX)]

    loaded = load(policy_path)
    place = Place(path.as_posix(), 1, 1)
    if not case_files:
        raise PolicyInvalid(
            [Fault(place, "this folder has no cases", f"add a file whose name ends in `{CASES_SUFFIX}`")]
        )
    if not case_files[0].exists():
        raise PolicyInvalid(
            [Fault(place, f"there are no cases beside `{path.name}`", f"write them into `{case_files[0].name}`")]
        )
    cases = tuple(case for file in case_files for case in read_cases(file))
    faults = faults_in(loaded.policy, cases)
    if faults:
        raise PolicyInvalid(faults)
    return loaded, cases


def _is_as_expected(case: Case, seen: Seen) -> bool:
    """Writes the line of one case, and where it was judged otherwise. Whether it passed."""
    found = differences(case.expect, seen)
    if not found:
        typer.echo(f"ok    {case.place.file}:{case.place.line}: {case.it}")
        return True

    typer.echo(f"FAIL  {case.place.file}:{case.place.line}: {case.it}")
    typer.echo(f"        {case.method} {case.target}")
    for difference in found:
        typer.echo(f"        {difference.what}")
        typer.echo(f"          - expected {difference.expected}")
        typer.echo(f"          + seen     {difference.seen}")
    typer.echo(f"        seen: {seen}")
    return False


def _line(fault: Fault) -> str:
    return f"{fault.place}: advice: {fault.what}; {fault.todo}" if fault.is_advice else str(fault)


def _summary(path: Path, policy: Policy) -> str:
    routes, scopes = len(policy.routes), len(policy.scopes.scopes)
    return f"{path.as_posix()}: {routes} routes, {scopes} scopes, revision {policy.revision}"


def _github(fault: Fault) -> str:
    """A workflow command, so that the fault shows beside its line in a review."""
    level = "warning" if fault.is_advice else "error"
    file = _escaped(fault.place.file).replace(":", "%3A").replace(",", "%2C")
    message = _escaped(f"{fault.what}; {fault.todo}")
    return f"::{level} file={file},line={fault.place.line},col={fault.place.column}::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _json(loaded: list[tuple[Path, LoadedPolicy]], faults: list[Fault], is_good: bool) -> str:
    return msgspec.json.encode(
        {
            "ok": is_good,
            "policies": [
                {
                    "path": path.as_posix(),
                    "revision": policy.policy.revision,
                    "routes": len(policy.policy.routes),
                    "scopes": len(policy.policy.scopes.scopes),
                }
                for path, policy in loaded
            ],
            "faults": [
                {
                    "file": fault.place.file,
                    "line": fault.place.line,
                    "column": fault.place.column,
                    "level": "advice" if fault.is_advice else "fault",
                    "what": fault.what,
                    "todo": fault.todo,
                }
                for fault in faults
            ],
        }
    ).decode()
