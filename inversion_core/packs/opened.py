"""A pack's folder and, where it is an extension, that of the pack that it adds to: which file lies where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inversion_core.errors import PackInvalid, PackNotFound
from inversion_core.packs.digests import check_digests
from inversion_core.packs.extension import AnyManifest, ExtensionManifest, read_own
from inversion_core.packs.manifest import MANIFEST_FILE, PackManifest


@dataclass(frozen=True, kw_only=True)
class OpenedPack:
    """A pack that was found; nothing of its weights is read yet."""

    folder: Path
    own: AnyManifest
    """What the folder's pack.json says."""
    manifest: PackManifest
    """That, and what it extends."""
    base: OpenedPack | None = None
    """The pack that it extends."""

    def path(self, file: str) -> Path:
        """Where a file of the manifest lies."""
        if self.base is None or file in self.own.files or file == MANIFEST_FILE:
            return self.folder / file
        return self.base.path(file)

    def check(self) -> None:
        """Raise PackInvalid where a file is not what pack.json says."""
        check_digests(self.folder, self.own.files)
        if self.base is not None:
            self.base.check()


def open_pack(folder: Path, find: Callable[[str], Path], own: AnyManifest | None = None) -> OpenedPack:
    """Read a pack's manifest; `find` gives the folder of a pack by its name.

    Args:
        own: what the folder's pack.json will say; None reads it.
    Raises:
        PackInvalid: the manifest is broken; or it extends a pack that is not there, or that is another one.
    """
    own = read_own(folder) if own is None else own
    if isinstance(own, PackManifest):
        return OpenedPack(folder=folder, own=own, manifest=own)
    base = _base(folder, own, find)
    try:
        return OpenedPack(folder=folder, own=own, manifest=own.over(base.manifest), base=base)
    except ValueError as error:
        raise PackInvalid(f"{folder / MANIFEST_FILE} does not go with {base.folder}: {error}") from error


def _base(folder: Path, own: ExtensionManifest, find: Callable[[str], Path]) -> OpenedPack:
    try:
        found = find(own.extends)
    except PackNotFound as error:
        raise PackInvalid(f"{folder} adds optimizers to the pack {own.extends}, which is not there. {error}") from error
    base = read_own(found)
    if isinstance(base, ExtensionManifest):
        raise PackInvalid(f"{folder} extends {own.extends}, which is an extension itself; name a whole pack")
    generator = base.files[base.weight_files["generator"]]
    if generator != own.generator_sha256:
        raise PackInvalid(
            f"{folder} adds optimizers to a {own.extends} whose generator has the SHA-256 {own.generator_sha256}; the "
            f"generator of {found} has {generator}. Install the {own.extends} that it was made for"
        )
    return OpenedPack(folder=found, own=base, manifest=base)
