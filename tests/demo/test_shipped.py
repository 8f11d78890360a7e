"""Where the shipped policies are found: in the installed package first, then in the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo import shipped


def test_a_checkout_has_them_beside_the_package() -> None:
    folder = shipped.shipped_policies()

    assert (folder / "reference.demo.yaml").is_file()


def test_an_installed_package_carries_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway" / "shipped" / "policies").mkdir(parents=True)
    (tmp_path / "policies").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "gateway")

    assert tmp_path / "gateway" / "shipped" / "policies" == shipped.shipped_policies()


def test_where_neither_is_there_both_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "gateway")

    with pytest.raises(FileNotFoundError) as raised:
        shipped.shipped_policies()

    assert "shipped/policies" in str(raised.value)
    assert str(tmp_path / "policies") in str(raised.value)
