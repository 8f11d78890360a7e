"""`bearergate policy`: what it prints and with which code it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.case_judge import judge_case
from gateway.cli.cases import read_cases
from gateway.cli.policy import app
from gateway.core.credential import CredentialKind
from gateway.core.policy.faults import PolicyInvalid
from gateway.policy_files import load

GOOD = """\
version: 1
scopes:
  READ: {means: read}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: READ}
"""
ADVISED = GOOD.replace("allow: {api_key: READ}", "allow: anyone")
WRONG = GOOD.replace("upstream: rest", "upsteam: rest").replace("GET", "get")

CASES = """\
- it: lets a key with the scope read
  token: {api_key: [READ]}
  send: GET /users/u1
  expect: allowed
- it: refuses without a token
  send: GET /users/u1
  expect: {status: 401, reason: credential_missing}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"BEARERGATE_POLICY": None}).invoke(app, [str(argument) for argument in arguments])


def write(folder: Path, policy: str = GOOD, cases: str = CASES) -> Path:
    (folder / "p.yaml").write_text(policy)
    if cases:
        (folder / "p.cases.yaml").write_text(cases)
    return folder / "p.yaml"


def shown(result: Result, folder: Path) -> str:
    return result.output.replace(folder.as_posix(), "DIR")


# -- check


def test_a_good_policy_is_summed_up(tmp_path: Path) -> None:
    file = write(tmp_path)

    result = run("check", file)

    assert result.exit_code == 0
    assert shown(result, tmp_path) == f"DIR/p.yaml: 1 routes, 1 scopes, revision {load(file).policy.revision}\n"


def test_every_fault_is_a_line_with_its_place(tmp_path: Path) -> None:
    result = run("check", write(tmp_path, WRONG))

    assert result.exit_code == 1
    assert shown(result, tmp_path) == (
        "DIR/p.yaml:6:12: the method `get` is not in capital letters; write `GET`\n"
        "DIR/p.yaml:7:5: route `users.read` has no key `upsteam`; did you mean `upstream`?\n"
    )


def test_advice_stops_only_a_strict_check(tmp_path: Path) -> None:
    file = write(tmp_path, ADVISED)
    advice = "DIR/p.yaml:3:3: advice: no route asks for scope `READ`; take it out, or add the route that needs it\n"

    assert run("check", file).exit_code == 0
    assert run("check", file, "--strict").exit_code == 1
    assert shown(run("check", file), tmp_path).startswith(advice)


def test_several_policies_are_checked_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    good, wrong = write(tmp_path), write(tmp_path / "a", WRONG)

    result = run("check", wrong, good, tmp_path / "none.yaml")

    assert result.exit_code == 1
    lines = shown(result, tmp_path).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "DIR/a/p.yaml:6:12",
        "DIR/a/p.yaml:7:5",
        "DIR/none.yaml:1:1",
        "DIR/p.yaml",
    ]


def test_programs_read_json(tmp_path: Path) -> None:
    good = json.loads(shown(run("check", write(tmp_path, ADVISED), "--format", "json"), tmp_path))
    wrong = json.loads(shown(run("check", write(tmp_path, WRONG), "--format", "json"), tmp_path))

    assert good["ok"] is True
    assert good["policies"][0] | {"revision": ""} == {"path": "DIR/p.yaml", "revision": "", "routes": 1, "scopes": 1}
    assert good["faults"][0]["level"] == "advice"
    assert wrong["ok"] is False
    assert wrong["policies"] == []
    assert wrong["faults"][1] == {
        "file": "DIR/p.yaml",
        "line": 7,
        "column": 5,
        "level": "fault",
        "what": "route `users.read` has no key `upsteam`",
        "todo": "did you mean `upstream`?",
    }


def test_github_shows_faults_beside_their_lines(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    wrong = GOOD.replace("/users/", "/%zz/")

    result = run("check", write(folder, wrong), "--format", "github")
    advised = run("check", write(tmp_path, ADVISED), "--format", "github")

    assert shown(result, tmp_path) == (
        "::error file=DIR/a%2Cb/p.yaml,line=6,col=12::"
        "a `%25` stands without two hexadecimal digits; take it out, or complete it\n"
    )
    assert shown(advised, tmp_path).startswith("::warning file=DIR/p.yaml,line=3,col=3::no route asks")


def test_no_path_is_wrong_usage() -> None:
    assert run("check").exit_code == 2
    assert run("test").exit_code == 2


def test_the_environment_names_the_policy(tmp_path: Path) -> None:
    environment = {"BEARERGATE_POLICY": str(write(tmp_path))}

    assert CliRunner(env=environment).invoke(app, ["check"]).exit_code == 0
    assert CliRunner(env=environment).invoke(app, ["test"]).exit_code == 0


# -- test


def test_passing_cases_are_a_line_each(tmp_path: Path) -> None:
    result = run("test", write(tmp_path))

    assert result.exit_code == 0
    assert shown(result, tmp_path) == (
        "ok    DIR/p.cases.yaml:1: lets a key with the scope read\n"
        "ok    DIR/p.cases.yaml:5: refuses without a token\n"
        "2 cases passed\n"
    )


def test_a_failing_case_shows_what_was_expected_and_what_was_seen(tmp_path: Path) -> None:
    cases = """\
- it: is wrong
  token: {api_key: []}
  send: GET /users/u1
  expect: {outcome: allowed, status: 404, reason: route_unknown, missing: [], fields: [], route: unmatched}
- it: is wrong too
  token: {api_key: READ}
  send: GET /users/u1
  expect: {status: 403, missing: [READ]}
"""

    result = run("test", write(tmp_path, cases=cases))

    assert result.exit_code == 1
    assert shown(result, tmp_path) == (
        "FAIL  DIR/p.cases.yaml:1: is wrong\n"
        "        GET /users/u1\n"
        "        outcome\n          - expected allowed\n          + seen     refused\n"
        "        status\n          - expected 404\n          + seen     403\n"
        "        reason\n          - expected route_unknown\n          + seen     scope_missing\n"
        "        missing\n          - expected []\n          + seen     [READ]\n"
        "        route\n          - expected unmatched\n          + seen     users.read\n"
        "        seen: refused 403 scope_missing, missing [READ], route users.read\n"
        "FAIL  DIR/p.cases.yaml:5: is wrong too\n"
        "        GET /users/u1\n"
        "        status\n          - expected 403\n          + seen     none, because the request is allowed\n"
        "        missing\n          - expected [READ]\n          + seen     []\n"
        "        seen: allowed, route users.read\n"
        "2 cases, 2 failed\n"
    )


def test_a_folder_and_a_cases_file_are_run_too(tmp_path: Path) -> None:
    write(tmp_path)

    assert run("test", tmp_path).output.endswith("2 cases passed\n")
    assert run("test", tmp_path / "p.cases.yaml").output.endswith("2 cases passed\n")


def test_a_policy_without_cases_fails(tmp_path: Path) -> None:
    file = write(tmp_path, cases="")

    assert run("test", file).exit_code == 1
    assert shown(run("test", file), tmp_path) == (
        "DIR/p.yaml:1:1: there are no cases beside `p.yaml`; write them into `p.cases.yaml`\n"
    )
    assert shown(run("test", tmp_path), tmp_path) == (
        "DIR:1:1: this folder has no cases; add a file whose name ends in `.cases.yaml`\n"
    )


def test_a_wrong_policy_fails_its_cases(tmp_path: Path) -> None:
    result = run("test", write(tmp_path, WRONG))

    assert result.exit_code == 1
    assert "did you mean `upstream`?" in result.output


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ("# nothing yet", "1:1: the file is empty; begin it with `- it: …`"),
        (
            "- {it: x, send: GET /users/e5c3b842284045d98ed042814f31543f, expect: allowed}",
            "1:17: this looks like a token, a key or a password; "
            "take it out: a policy holds no secrets, and revoke it if it is real",
        ),
        ("{}", "1:1: a file of cases must be a list; begin each case with `- it: …`"),
        ("[]", "1:1: a file of cases must be a list; begin each case with `- it: …`"),
        ("- x", "1:3: a case must be made of keys and values; write each as `key: value`"),
        ("a: &b c", "1:4: the anchor `&b` is not accepted; write the value out wherever it is needed"),
        ("- {it: x, send: GET /, expects: allowed}", "1:24: a case has no key `expects`; did you mean `expect`?"),
        (
            "- {it: x, send: GET /}",
            "1:3: the case has no `expect`; add `expect: {status: 403, reason: scope_missing, missing: [USER_READ]}`",
        ),
        (
            "- {it: x, send: get, expect: allowed}",
            "1:17: `send` is not a method and a path; write it as `GET /v2/users/u1`",
        ),
        (
            "- {it: [x], send: GET /, expect: allowed}",
            "1:8: `it` is a list, but one text is needed; write it as `it: refuses a key without the scope`",
        ),
        (
            "- {it: x, send: GET /, expect: alowed}",
            "1:32: `alowed` is not a value of `expect`; did you mean `allowed`?",
        ),
        (
            "- {it: x, send: GET /, expect: [x]}",
            "1:32: `expect` must be made of keys and values; write each as `key: value`",
        ),
        (
            "- {it: x, send: GET /, expect: {route: a}}",
            "1:32: `expect` says neither `outcome`, `status` nor `reason`; add one, such as `outcome: allowed`",
        ),
        (
            "- {it: x, send: GET /, expect: {status: 4030}}",
            "1:41: `status` must be an HTTP status; write three digits, such as `status: 403`",
        ),
        (
            "- {it: x, send: GET /, expect: {reason: scope_mising}}",
            "1:41: `scope_mising` is not a value of `reason`; did you mean `scope_missing`?",
        ),
        (
            "- {it: x, send: GET /, expect: {status: 403, missing: {a: b}}}",
            "1:55: `missing` is a mapping, but one text is needed; write it as `missing: [USER_READ]`",
        ),
        (
            "- {it: x, send: GET /, expect: allowed, token: revokd}",
            "1:48: `revokd` is not a value of `token`; did you mean `revoked`?",
        ),
        (
            "- {it: x, send: GET /, expect: allowed, token: [a]}",
            "1:48: `token` must be made of keys and values; write each as `key: value`",
        ),
        (
            "- {it: x, send: GET /, expect: allowed, token: {features: a}}",
            "1:48: `token` is not of one kind; write one, such as `{api_key: [USER_READ]}`",
        ),
        (
            "- {it: x, send: POST /, expect: allowed, variables: '[]'}",
            """1:53: `variables` is not a JSON object; write it in quotes, such as `'{"id": "u1"}'`""",
        ),
        (
            "- {it: x, send: POST /, expect: allowed, variables: '{'}",
            """1:53: `variables` is not a JSON object; write it in quotes, such as `'{"id": "u1"}'`""",
        ),
        (
            "- {it: x, send: POST /, expect: allowed, variables: [a]}",
            """1:53: `variables` is a list, but one text is needed; write it as `variables: '{"id": "u1"}'`""",
        ),
    ],
)
def test_wrong_cases_are_told_of_like_wrong_policies(tmp_path: Path, cases: str, told: str) -> None:
    file = write(tmp_path, cases=cases).with_name("p.cases.yaml")

    with pytest.raises(PolicyInvalid) as invalid:
        read_cases(file)

    assert f"{file.as_posix()}:{told}" == str(invalid.value)


GRAPHQL = """\
version: 1
scopes:
  READ: {means: read}
routes:
  - name: gql
    match: POST /gql
    upstream: gql
    errors: graphql/legacy-200
    graphql:
      fields:
        Query.user: {api_key: READ}
"""


@pytest.mark.parametrize(
    ("case", "outcome", "status", "reason"),
    [
        ("send: 'POST /gql { user { id } }'", "allowed", None, ""),
        ("send: 'POST /gql query A($v: ID) { user(id: $v) { id } } query B { x }'\n  operation_name: A\n"
         "  variables: '{\"v\": \"u1\"}'", "allowed", None, ""),
        ("send: POST /gql\n  body: '{\"query\": \"{ user { id } }\"}'", "allowed", None, ""),
        ("send: POST /gql\n  body: '{\"query\": 1}'", "refused", 200, "graphql_request_invalid"),
        ("send: 'POST /gql { other }'", "refused", 403, "field_not_allowed"),
        ("send: GET /nothing", "refused", 404, "route_unknown"),
        ("send: GET /a/../b", "refused", 400, "target_refused"),
        ("send: POST /gql", "refused", 415, "media_type_unsupported"),
    ],
)  # fmt: skip
def test_a_case_is_judged_as_a_request_would_be(
    tmp_path: Path, case: str, outcome: str, status: int | None, reason: str
) -> None:
    file = write(tmp_path, GRAPHQL, f"- it: x\n  token: {{api_key: READ}}\n  expect: allowed\n  {case}\n")

    (read,) = read_cases(file.with_name("p.cases.yaml"))
    seen = judge_case(load(file).policy, read)

    assert (seen.outcome, seen.status, seen.reason) == (outcome, status, reason)


@pytest.mark.parametrize(
    ("token", "word", "kind", "scopes", "features"),
    [
        ("none", "none", None, [], []),
        ("unknown", "unknown", None, [], []),
        ("{api_key: []}", "", CredentialKind.API_KEY, [], []),
        ("{api_key: A}", "", CredentialKind.API_KEY, ["A"], []),
        ("{api_key: [A, B]}", "", CredentialKind.API_KEY, ["A", "B"], []),
        ("{legacy_key: [A], features: [f]}", "", CredentialKind.LEGACY_KEY, ["A"], ["f"]),
        ("{user_token: u1}", "", CredentialKind.USER_JWT, [], []),
    ],
)
def test_a_token_has_a_short_form(
    tmp_path: Path, token: str, word: str, kind: CredentialKind | None, scopes: list[str], features: list[str]
) -> None:
    file = write(tmp_path, cases=f"- it: x\n  token: {token}\n  send: GET /\n  expect: allowed\n")

    (case,) = read_cases(file.with_name("p.cases.yaml"))

    assert (case.token.word, case.token.kind) == (word, kind)
    assert [scope.value for scope in case.token.scopes] == scopes
    assert [feature.value for feature in case.token.features] == features


def test_a_user_token_is_the_users_that_the_case_names(tmp_path: Path) -> None:
    policy = (
        "version: 1\nroutes:\n"
        "  - {name: own, match: 'GET /users/{id}', upstream: rest, allow: {user_token: {subject: path.id}}}\n"
    )
    case = "- {{it: x, token: {{user_token: {user}}}, send: GET /users/{path}, expect: refused}}\n"
    cases = case.format(user="u1", path="u1") + case.format(user="u1", path="u2")
    file = write(tmp_path, policy, cases)

    seen = [judge_case(load(file).policy, read) for read in read_cases(file.with_name("p.cases.yaml"))]

    assert [(one.outcome, one.status, one.reason) for one in seen] == [
        ("allowed", None, ""),
        ("refused", 404, "subject_mismatch"),
    ]


# -- what the cases get wrong about the policy, and leave out


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("  token: {api_key: [RAED]}\n  send: GET /users/u1\n  expect: refused\n",
         "2:21: there is no scope `RAED`; did you mean `READ`?"),
        ("  token: {api_key: [r.read], features: [gold]}\n  send: GET /users/u1\n"
         "  expect: {status: 403, missing: [WRITE], route: users.raed}\n",
         "4:35: there is no scope `WRITE`; use `READ` or `PLUS`\n"
         "DIR/p.cases.yaml:4:50: there is no route `users.raed`; did you mean `users.read`?"),
        ("  token: {api_key: READ, features: [glod]}\n  send: GET /users/u1\n  expect: allowed\n",
         "2:37: no scope is only for `glod`; did you mean `gold`?"),
    ],
)  # fmt: skip
def test_a_name_that_the_policy_does_not_have_is_a_fault_of_the_case(tmp_path: Path, case: str, told: str) -> None:
    policy = GOOD.replace("means: read}", "means: read, aliases: [r.read]}\n  PLUS: {means: more, only_for: gold}")
    result = run("test", write(tmp_path, policy, f"- it: x\n{case}"))

    assert result.exit_code == 1
    assert shown(result, tmp_path) == f"DIR/p.cases.yaml:{told}\n"


def test_a_request_without_a_route_can_be_expected(tmp_path: Path) -> None:
    case = "- {it: x, token: unknown, send: GET /nothing, expect: {status: 401, route: unmatched}}\n"

    assert run("test", write(tmp_path, cases=CASES + case)).output.endswith("3 cases passed\n")


def test_a_refusal_without_a_reason_is_advised_against(tmp_path: Path) -> None:
    cases = CASES + "- {it: x, token: {api_key: []}, send: GET /typo/u1, expect: refused}\n"
    file = write(tmp_path, cases=cases + "- {it: why, send: GET /users/u1, expect: {outcome: refused, status: 401}}\n")

    result = run("test", file)

    assert result.exit_code == 0
    assert [line for line in shown(result, tmp_path).splitlines() if "advice" in line] == [
        "DIR/p.cases.yaml:8:61: advice: `refused` is also met by a refusal for another reason; "
        "say which is meant, such as `{status: 404, reason: route_unknown}`"
    ]
    assert run("test", file, "--strict").exit_code == 1
    assert run("test", write(tmp_path), "--strict").exit_code == 0


def test_a_refusal_that_is_an_allowance_is_shown_and_advised_too(tmp_path: Path) -> None:
    cases = "- {it: x, token: {api_key: READ}, send: GET /users/u1, expect: refused}\n"

    result = run("test", write(tmp_path, cases=cases))

    assert result.exit_code == 1
    assert "such as `{status: 403, reason: scope_missing}`" in result.output


def test_the_detail_for_operators_is_shown_too(tmp_path: Path) -> None:
    cases = "- {it: x, token: {api_key: READ}, send: 'POST /gql', body: '{\"query\": 1}', expect: allowed}\n"
    cases += "- {it: why, token: {api_key: READ}, send: 'POST /gql { users }', expect: allowed}\n"

    lines = [line.strip() for line in run("test", write(tmp_path, GRAPHQL, cases)).output.splitlines()]

    seen = [line for line in lines if line.startswith("seen:")]
    assert seen[0].startswith("seen: refused 200 graphql_request_invalid, route gql (")
    assert seen[1] == "seen: refused 403 field_not_allowed, fields [Query.users], route gql"


EXERCISED = """\
version: 1
scopes:
  READ: {means: read}
  MAIL: {means: see addresses}
  LOOK: {means: see the schema}
routes:
  - {name: status, match: GET /status, upstream: gql, allow: anyone}
  - name: gql
    match: POST /gql
    upstream: gql
    graphql:
      introspection: {api_key: LOOK}
      fields:
        Query.user: {api_key: READ}
        Query.user.emial: {api_key: MAIL}
"""
READS = "- {it: x, token: {api_key: READ}, send: 'POST /gql { user { email } }', expect: allowed}\n"


def advised(folder: Path, cases: str) -> list[str]:
    output = shown(run("test", write(folder, EXERCISED, cases)), folder)
    return [line.partition(": advice: ")[2].partition(";")[0] for line in output.splitlines() if ": advice: " in line]


def test_a_rule_that_no_case_meets_may_be_misspelt_and_is_named(tmp_path: Path) -> None:
    result = run("test", write(tmp_path, EXERCISED, READS))

    assert result.exit_code == 0
    assert shown(result, tmp_path).splitlines()[1:] == [
        "DIR/p.yaml:4:3: advice: scope `MAIL` makes no difference to any case; "
        "add a case that is allowed and one that is refused",
        "DIR/p.yaml:5:3: advice: scope `LOOK` makes no difference to any case; "
        "add a case that is allowed and one that is refused",
        "DIR/p.yaml:7:12: advice: route `status` is reached by no case; "
        "add a case that is allowed and one that is refused",
        "DIR/p.yaml:12:22: advice: rule `introspection` of route `gql` is met by no case; add a case that it refuses",
        "DIR/p.yaml:15:9: advice: rule `Query.user.emial` of route `gql` is met by no case; "
        "check its spelling, and add a case that it refuses",
        "1 cases passed",
    ]


def test_cases_exercise_what_judged_them(tmp_path: Path) -> None:
    status = "- {it: s, send: GET /status, expect: allowed}\n"
    lacks_mail = "- {it: m, token: {api_key: READ}, send: 'POST /gql { user { emial } }', expect: {status: 403}}\n"
    looks = "- {it: l, token: {api_key: LOOK}, send: 'POST /gql { __schema { types { name } } }', expect: allowed}\n"
    nobody = "- {it: nobody, send: 'POST /gql { user { emial } }', expect: {status: 401}}\n"

    assert advised(tmp_path, READS + status + lacks_mail + looks) == []
    assert "rule `Query.user.emial` of route `gql` is met by no case" in advised(tmp_path, READS + nobody)
    assert advised(tmp_path, nobody)[0] == "scope `READ` makes no difference to any case"


def test_a_rule_for_users_that_no_user_meets_is_told(tmp_path: Path) -> None:
    policy = (
        "version: 1\nscopes: {A: {means: a}}\nroutes:\n"
        "  - {name: own, match: 'GET /u/{id}', upstream: rest, allow: {api_key: A, user_token: {subject: path.id}}}\n"
        "  - {name: any, match: GET /any, upstream: rest, allow: {api_key: A, user_token: {}}}\n"
    )
    case = "- {{it: x, token: {{{kind}: {who}}}, send: GET {path}, expect: {{outcome: allowed}}}}\n"
    by_key = case.format(kind="api_key", who="A", path="/u/u1") + case.format(kind="api_key", who="A", path="/any")
    by_user = case.format(kind="user_token", who="u1", path="/u/u1")
    by_user += case.format(kind="user_token", who="u1", path="/any")

    unmet = run("test", write(tmp_path, policy, by_key)).output.splitlines()
    met = run("test", write(tmp_path, policy, by_key + by_user)).output

    assert [line.partition("advice: ")[2] for line in unmet if "advice: " in line] == [
        "rule `user_token` of route `own` is met by no case; add a case of a user's own data, and one of another's",
        "rule `user_token` of route `any` is met by no case; add a case of a user",
    ]
    assert "advice: " not in met
    assert "4 cases passed" in met


def test_what_lies_beside_policies_is_skipped_when_all_are_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    cases = tmp_path / "p.cases.yaml"

    both = run("check", cases, file)

    assert both.exit_code == 0
    assert shown(both, tmp_path).splitlines()[1] == (
        "DIR/p.cases.yaml: skipped, because it lies beside a policy and is none"
    )
    assert run("check", cases).exit_code == 1
    assert "this is a file of cases, not a policy" in run("check", cases).output


def test_a_fault_is_told_once_though_its_file_and_its_folder_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, WRONG)

    assert run("check", file, tmp_path).output == run("check", file).output


# -- hosts and pages of other origins

PAGES = """\
version: 1
hosts: ["*.example.com", api.test]
cors: {origins: [https://app.test]}
scopes:
  READ: {means: read}
routes:
  - {name: a, match: "PUT /a/{id}", upstream: rest, allow: {api_key: READ}}
  - {name: b, match: GET /b, upstream: rest, allow: anyone, cors: pass}
"""


def test_cases_say_from_which_host_and_page_they_come(tmp_path: Path) -> None:
    cases = """\
- {it: lets pages ask, send: PUT /a/1, preflight: "https://app.test", expect: {outcome: preflight, route: a}}
- {it: asks without its token, send: PUT /a/1, token: {api_key: []}, preflight: "https://app.test", expect: preflight}
- {it: sends no body, send: PUT /a/1, body: x, preflight: "https://app.test", expect: {status: 204}}
- {it: lets no other page ask, send: PUT /a/1, preflight: "https://b.test", expect: {status: 403, reason: cors_refused}}
- {it: passes it, send: GET /b, preflight: "https://b.test", expect: {outcome: allowed, route: b}}
- {it: serves its hosts, send: GET /b, host: API.test, expect: allowed}
- {it: serves no other, send: GET /b, host: b.test, expect: {status: 421, reason: host_unknown}}
"""
    result = run("test", write(tmp_path, PAGES, cases))

    assert "7 cases passed" in result.output
    # A preflight exercises no rule: it is judged before any is asked.
    assert "route `a` is reached by no case" in result.output
    assert "route `b`" not in result.output


def test_a_case_without_a_host_has_one_of_the_policy(tmp_path: Path) -> None:
    result = run("test", write(tmp_path, PAGES, "- {it: x, send: GET /b, expect: {status: 421}}\n"))

    assert "1 failed" in result.output
