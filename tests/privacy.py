"""What other users of the machine could get at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Every file and folder from `folder` on that anybody but its owner may do something with."""
    return [f"{path} {mode:o}" for path in (folder, *folder.rglob("*")) if (mode := _mode(path)) & 0o077]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0


@contextmanager
def careless_umask() -> Iterator[None]:
    """As a process would have it that nobody told to be careful."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
