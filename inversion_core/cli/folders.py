"""A folder for each photo, named for it, and always below the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


def folders(photos: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Each photo and its folder below `out`; photos of one name get a number.

    `..jpg` and `...jpg` have the stems `.` and `..`, which are no names but ways out of `out`.
    """
    taken: set[str] = set()
    for photo in photos:
        stem = photo.stem if photo.stem.strip(". ") else "photo"
        name, number = stem, 2
        while name.casefold() in taken:  # some file systems do not tell A from a
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        yield photo, out / name
