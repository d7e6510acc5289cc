"""Copy a pack: its pack.json and the files that it lists, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from inversion_core.packs.digests import check_digests
from inversion_core.packs.extension import read_own
from inversion_core.packs.manifest import MANIFEST_FILE
from inversion_core.packs.save import check_target, replace_folder, write_extra


def copy_pack(source: Path, target: str | Path, *, overwrite: bool = False) -> None:
    """Copy the pack in the folder `source` to the folder `target`. Files that pack.json does not list stay behind.

    Raises:
        PackInvalid: the pack is broken.
        FileExistsError, OptionInvalid: as `save_pack`.
    """
    target = Path(target).absolute()
    check_target(target, overwrite)
    files = read_own(source).files
    check_digests(source, files)
    target.parent.mkdir(parents=True, exist_ok=True)

    def write(staged: Path) -> None:
        for name in (*files, MANIFEST_FILE):
            write_extra(staged / name, source / name)

    replace_folder(target, write)
