"""Keys of another system: both spellings of a file, and each way in which a line can be wrong."""

from __future__ import annotations

import pytest

from gateway.keys.imports import ImportedDigest, read_imports
from gateway.keys.refused import KeyFault, KeyRefused

NOW = 1_800_000_000.0
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
HEADER = "digest,app,name,scopes,expires,id\n"


def test_csv_and_lines_of_json_say_the_same() -> None:
    csv = HEADER + f'{DIGEST},app1,"nightly, at two",READ WRITE,30d,\n\n{DIGEST.upper()},app1,n,READ,,importedid\n'
    json = (
        f'{{"digest": "{DIGEST}", "app": "app1", "name": "nightly, at two", "scopes": ["READ", "WRITE"],'
        f' "expires": "30d"}}\n\n{{"digest": "{DIGEST}", "app": "app1", "name": "n", "scopes": "READ",'
        ' "id": "importedid"}\n'
    )
    digest = bytes.fromhex(DIGEST)

    first, second = read_imports(csv, NOW)

    assert (2, digest, "app1", "nightly, at two") == (first.line, first.digest, first.app_id, first.name)
    assert (("READ", "WRITE"), NOW + 30 * 86_400, None) == (first.scopes, first.expires_at, first.key_id)
    assert (4, digest, ("READ",), None) == (second.line, second.digest, second.scopes, second.expires_at)
    assert second.key_id == "importedid"
    assert [without_line(first), without_line(second)] == [without_line(row) for row in read_imports(json, NOW)]


def without_line(row: ImportedDigest) -> tuple[object, ...]:
    return row.digest, row.app_id, row.name, row.scopes, row.expires_at, row.key_id


def test_an_empty_file_has_no_keys() -> None:
    assert read_imports("", NOW) == []
    assert read_imports(HEADER, NOW) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + f"{DIGEST},app1,n\n", "line 2: there are 3 cells under 6 columns"),
        (HEADER + f"{DIGEST},app1,,READ,,\n", "line 2: `name` is missing"),
        (HEADER + f"{DIGEST},app1,n,,,\n", "line 2: `scopes` is missing"),
        (HEADER + f"{DIGEST[1:]},app1,n,READ,,\n", "line 2: `digest` is not SHA-256"),
        (HEADER + f"{DIGEST}\u0665,app1,n,READ,,\n", "line 2: `digest` is not SHA-256"),
        (HEADER + f"{DIGEST},app1,n,READ,never,\n", "line 2: expiry 'never' is not understood"),
        (HEADER + f"{DIGEST},app1,n,READ,,a.b\n", "line 2: `id` is not 8 to 40"),
        (HEADER + f'{DIGEST},"app1,n,READ,,', "line 2: this is not CSV"),
        ("digest,digest\n", "line 1: the header names a column twice"),
        (f"digest,app,name,scope\n{DIGEST},a,n,READ\n", "line 2: there is no column 'scope'"),
        ('{"digest": 1, "app": "a", "name": "n", "scopes": "S"}', "line 1: `digest` is not a text"),
        (f'{{"digest": "{DIGEST}", "app": "a", "name": "n", "scopes": [1]}}', "line 1: `scopes` is neither"),
        ('{"digest": ', "line 1: this is not an object of JSON"),
        ("{}\n[]", "line 1: `digest` is missing"),
    ],
)
def test_a_faulty_line_is_told_by_its_number(text: str, told: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        read_imports(text, NOW)

    assert str(refused.value).startswith(told)
    assert str(refused.value).endswith("; nothing was imported")
    assert KeyFault.IMPORT_INVALID is refused.value.fault


def test_what_stands_in_the_place_of_a_digest_is_not_repeated() -> None:
    with pytest.raises(KeyRefused) as refused:
        read_imports(HEADER + "xk5Tq0aVb81LmZc.secretsecretsecret,app1,n,READ,,\n", NOW)

    assert "secret" not in str(refused.value)
