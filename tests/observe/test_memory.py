"""What the system says of memory: files as control groups of both versions have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.observe.memory import give_back, limit_of_group_bytes, resident_bytes

MIB = 1024 * 1024
UNLIMITED_V1 = "9223372036854771712\n"


def limit(folder: Path, lines: str, files: dict[str, str]) -> int:
    """What is read of these groups."""
    own = folder / "own"
    own.write_text(lines)
    groups = folder / "groups"
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return limit_of_group_bytes(own, groups)


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{256 * MIB}\n"}, 256 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{256 * MIB}\n", "a/memory.max": f"{512 * MIB}\n"}, 256 * MIB),
        ("0::/seen/from/outside\n", {"memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        ("0::/a\n", {"a/memory.max": "max\n"}, 0),
        ("0::/a\n", {}, 0),
        (
            "4:memory:/a\n1:cpu:/\n0::/\n",
            {"memory/a/memory.limit_in_bytes": f"{128 * MIB}\n", "memory/memory.limit_in_bytes": UNLIMITED_V1},
            128 * MIB,
        ),
        ("4:cpu,memory:/out/side\n", {"memory/memory.limit_in_bytes": f"{32 * MIB}\n"}, 32 * MIB),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": UNLIMITED_V1}, 0),
        ("", {}, 0),
    ],
)
def test_the_narrowest_limit_around_the_process_counts(
    tmp_path: Path, lines: str, files: dict[str, str], expected: int
) -> None:
    assert expected == limit(tmp_path, lines, files)


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert 0 == limit_of_group_bytes(tmp_path / "nothing", tmp_path)


def test_what_is_in_memory_is_read_where_the_system_says_it(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("garbage")

    assert resident_bytes() > 10 * MIB
    assert 0 == resident_bytes(tmp_path / "statm")
    assert 0 == resident_bytes(tmp_path / "nothing")


def test_giving_back_leaves_what_is_in_use(tmp_path: Path) -> None:
    kept = [bytes([number]) * 100_000 for number in range(20)]

    give_back()

    assert [bytes([number]) * 100_000 for number in range(20)] == kept
