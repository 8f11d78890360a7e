"""Configuration of issuers: what does not fit together is told, with what to do, and no secret is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, SettingsInvalid, read_settings

GOOD: dict[str, Any] = {"issuer": "https://id", "audience": "api", "jwks_url": "https://id/keys", "app": "app-1"}
ASKED: dict[str, Any] = {
    "issuer": "https://id",
    "introspection_url": "https://id/introspect",
    "client_id": "gateway",
    "client_secret": "hush-hush",
    "app_claim": "client_id",
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BEARERGATE_"):
            monkeypatch.delenv(name)


def read(**issuers: dict[str, Any]) -> Settings:
    return read_settings(policy=Path("p"), upstreams={"rest": "http://127.0.0.1:9000"}, issuers=issuers)


def fault(**issuers: dict[str, Any]) -> str:
    with pytest.raises(SettingsInvalid) as refused:
        read(**issuers)
    return str(refused.value)


def test_issuers_of_both_kinds_are_read() -> None:
    found = read(accounts=GOOD, sessions=ASKED).issuers

    assert ["accounts", "sessions"] == list(found)
    assert (30.0, 604_800.0, ["ES256", "RS256"]) == (
        found["accounts"].leeway,
        found["accounts"].max_lifetime,
        found["accounts"].algorithms,
    )


def test_the_file_and_the_environment_describe_one_issuer_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bearergate.toml"
    file.write_text(
        'policy = "p"\nupstreams = {rest = "http://a:1"}\n[issuers.sessions]\nissuer = "https://id"\n'
        'introspection_url = "https://id/i"\nclient_id = "gateway"\napp = "app-1"\n'
    )
    monkeypatch.setenv("BEARERGATE_ISSUERS__SESSIONS__CLIENT_SECRET", "hush-hush")

    secret = read_settings(file).issuers["sessions"].client_secret

    assert secret is not None
    assert "hush-hush" == secret.get_secret_value()


def test_no_secret_is_shown() -> None:
    settings = read(sessions=ASKED)

    assert "hush-hush" not in repr(settings) + str(settings.model_dump())
    assert "hush-hush" not in fault(sessions={**ASKED, "leeway": 61, "client_id": 1, "nonsense": "hush-hush"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"jwks_url": None}, "give exactly one of `jwks_url`, `jwks_file` and `introspection_url`"),
        ({"jwks_file": "keys.json"}, "give exactly one of `jwks_url`, `jwks_file` and `introspection_url`"),
        ({"jwks_url": "http://id/keys"}, "jwks_url: `http://id/keys` is not `https:`"),
        ({"jwks_url": "ftp://id/keys"}, "jwks_url: `ftp://id/keys` is not `https:`"),
        ({"jwks_url": "keys"}, "jwks_url: `keys` is no URL"),
        ({"jwks_url": "https://id:99999/"}, "jwks_url: `https://id:99999/` is no URL"),
        ({"jwks_url": "https://id/#keys"}, "is no URL such as"),
        ({"jwks_url": "https://id/ keys"}, "is no URL such as"),
        ({"jwks_url": "https://name:hush-hush@id/"}, "a name or a password in the URL is not used"),
        ({"jwks_url": "https://name:hush-hush@id:99999/"}, "jwks_url: this is no URL"),
        ({"keep": 299, "refresh": 300}, "keep: 299 s is less than `refresh`, 300 s"),
        ({"app": None}, "give exactly one of `app`, the App of all its users, and `app_claim`"),
        ({"app_claim": "azp"}, "give exactly one of `app`, the App of all its users, and `app_claim`"),
        ({"app": "a/b"}, "issuers.main.app: string should match"),
        ({"audience": ""}, "audience: is missing; without it, tokens for other services would count here"),
        ({"client_id": "x"}, "they are for `introspection_url` alone"),
        ({"client_secret": "hush-hush"}, "they are for `introspection_url` alone"),
        ({"algorithms": ["HS256"]}, "issuers.main.algorithms.0: input should be"),
        ({"algorithms": ["none"]}, "issuers.main.algorithms.0: input should be"),
        ({"algorithms": []}, "issuers.main.algorithms"),
        ({"algorithms": ["ES256", "ES256"]}, "algorithms: one of them stands twice"),
        ({"token_types": []}, "issuers.main.token_types"),
        ({"leeway": 60.1}, "issuers.main.leeway"),
        ({"leeway": -1}, "issuers.main.leeway"),
        ({"max_lifetime": float("inf")}, "issuers.main.max_lifetime"),
        ({"issuer": ""}, "issuers.main.issuer"),
        ({"jwk_url": "x"}, "issuers.main.jwk_url: there is no such setting"),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], told: str) -> None:
    given = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}

    said = fault(main=given)

    assert told in said
    assert "hush-hush" not in said


@pytest.mark.parametrize(
    "changes",
    [{"client_id": None}, {"client_secret": None}, {"client_secret_file": "secret"}],
)
def test_introspection_needs_who_we_are(changes: dict[str, Any]) -> None:
    given = {name: value for name, value in {**ASKED, **changes}.items() if value is not None}

    assert "introspection_url: give `client_id`, and `client_secret` or `client_secret_file`, with it" in fault(
        main=given
    )


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/", "https://id:8443/a?b=c"]
)
def test_loopback_needs_no_tls(url: str) -> None:
    assert url == read(main={**GOOD, "jwks_url": url}).issuers["main"].jwks_url


def test_opaque_tokens_have_one_issuer() -> None:
    assert "issuers: at most one of them can have an `introspection_url`" in fault(a=ASKED, b={**ASKED, "issuer": "x"})


@pytest.mark.parametrize("name", ["Main", "a b", "", "a/b", "ä", "a" * 65])
def test_the_name_of_an_issuer_is_a_label(name: str) -> None:
    assert "issuers" in fault(**{name: GOOD})
