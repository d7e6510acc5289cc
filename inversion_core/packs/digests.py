"""SHA-256 of a pack's files: what pack.json says and what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from inversion_core.errors import PackInvalid
from inversion_core.packs.manifest import MANIFEST_FILE
from inversion_core.packs.reader import REMEDY


def check_digests(folder: Path, files: Mapping[str, str]) -> None:
    """Compare every file of a folder with the SHA-256 in its pack.json.

    Raises:
        PackInvalid: one is missing, truncated or changed.
    """
    for name, expected in files.items():
        file = folder / name
        try:
            found = digest(file)
        except OSError as error:
            raise PackInvalid(
                f"{file} cannot be read: {error.strerror or error}; {MANIFEST_FILE} lists it. {REMEDY}"
            ) from error
        if found != expected:
            raise PackInvalid(
                f"{file} ({file.stat().st_size} bytes) is truncated or changed: its SHA-256 is {found}, "
                f"and key 'files.{name}' of {MANIFEST_FILE} says {expected}. {REMEDY}"
            )


def digest(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
