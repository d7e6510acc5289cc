"""The pictures below folders: of every format that is read, by content where the name does not say it."""

from __future__ import annotations

import sys
from pathlib import Path

from inversion_core.errors import OptionInvalid
from inversion_pictures.formats import HEAD_BYTES, NAMED, SUFFIXES, sniff


def find_pictures(folder: Path) -> list[Path]:
    """Every picture below the folder, in the order of their names; hidden files are left out with a word on stderr.

    Raises:
        OptionInvalid: it is no folder, or has no picture.
    """
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.exists() else "does not exist"
        raise OptionInvalid(f"{folder} {why}; name a folder of pictures")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    hidden = {file for file in files if any(part.startswith(".") for part in file.relative_to(folder).parts)}
    if hidden:
        print(f"{folder}: {len(hidden)} hidden files (names that begin with a dot) are left out", file=sys.stderr)
    found = [file for file in files if file not in hidden and _is_picture(file)]
    if not found:
        raise OptionInvalid(f"there is no picture ({NAMED}) below {folder}")
    return found


def _is_picture(file: Path) -> bool:
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        with file.open("rb") as opened:
            return sniff(opened.read(HEAD_BYTES)) is not None
    except OSError:
        return False
