"""Files and folders that nobody else on the machine can read, whatever the umask."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(path: Path) -> None:
    """Make the folder and what is missing above it; harmless where it is there. Raises: OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):  # another process was quicker
            os.mkdir(each, FOLDER_MODE)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet. Raises: OSError; FileNotFoundError where its folder is missing."""
    with open(path, "xb", opener=opener) as file:
        file.write(data)


def opener(path: str, flags: int) -> int:
    """For `open`: a file that it makes is for this user alone."""
    return os.open(path, flags, FILE_MODE)
