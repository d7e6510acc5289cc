"""A pack as one file, to be given away: a .zip with a folder of the pack's name in it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from inversion_core.packs.digests import check_digests, digest
from inversion_core.packs.extension import read_own
from inversion_core.packs.load import find_pack
from inversion_core.packs.manifest import MANIFEST_FILE

SUFFIX = ".zip"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every file in it, so that the same pack gives the same archive."""


def write_archive(name_or_folder: str | Path, out: str | Path, *, overwrite: bool = False) -> tuple[Path, str]:
    """Write a pack's pack.json and the files that it lists to a .zip file, which appears whole or not at all.

    Args:
        out: the file; or a folder, in which it is called NAME-VERSION.zip.
    Returns:
        the file and its SHA-256.
    Raises:
        PackNotFound, PackInvalid: there is no such pack, or it is broken.
        FileExistsError: the file is there and `overwrite` is false.
    """
    folder = find_pack(name_or_folder)
    own = read_own(folder)
    check_digests(folder, own.files)
    file = Path(out).absolute()
    if file.is_dir():
        file /= f"{own.name}-{own.version}{SUFFIX}"
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} is there already; choose another file, or replace it: --overwrite")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
        staged = Path(scratch) / file.name
        with zipfile.ZipFile(staged, "w", compresslevel=9) as archive:
            for name in (MANIFEST_FILE, *sorted(own.files)):
                _add(archive, f"{own.name}/{name}", folder / name)
        staged.replace(file)
    return file, digest(file)


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
    with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target)
