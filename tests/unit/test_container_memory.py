"""A container's memory limit counts as the machine's memory, whichever version of cgroups tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion_core.engine.capacity import free_in_container

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "4096\n", "memory.current": "1024\n"}, [3072]),
        ({"memory.max": "max\n", "memory.current": "1024\n"}, []),
        ({"memory/memory.limit_in_bytes": "4096\n", "memory/memory.usage_in_bytes": "96\n"}, [4000]),
        ({}, []),
    ],
)
def test_what_a_containers_limit_leaves(tmp_path: Path, files: dict[str, str], free: list[int]) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert free_in_container(tmp_path) == free
