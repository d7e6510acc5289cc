"""Where packs lie: what INVERSION_PACKS names, the user's own, and those that ship with the program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from inversion_core.errors import OptionInvalid

PATH_VARIABLE = "INVERSION_PACKS"
"""Environment variable: folders with packs in them, or packs, separated as in PATH; looked through first."""
PROGRAM = "stylegan-inversion"


def named_roots() -> list[Path]:
    """What INVERSION_PACKS names."""
    return [Path(entry) for entry in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if entry]


def user_root() -> Path:
    """Where `inversion pack install` puts packs: below XDG_DATA_HOME, by itself ~/.local/share."""
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # the specification says that a relative one does not count
        data = Path(os.path.expanduser("~")) / ".local" / "share"
    return data / PROGRAM / "packs"


def shipped_roots() -> list[Path]:
    """Folders of the packs that come with the program.

    A clone has the default pack and the comparison optimizers in `packs/`, an image has the default pack
    below its Python's prefix; what pip installs holds the small pack alone.
    """
    clone = Path(__file__).parents[2]
    in_clone = [clone / "packs", clone / "packs" / "comparison"] if (clone / "pyproject.toml").is_file() else []
    shared = [f"{sys.prefix}/share", *(os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")]
    of_system = [Path(folder) / PROGRAM / "packs" for folder in dict.fromkeys(shared) if os.path.isabs(folder)]
    return [*in_clone, *of_system, Path(__file__).parent / "data"]


def pack_roots() -> list[Path]:
    """Folders of packs, or packs, in the order in which names are looked for."""
    return [*named_roots(), user_root(), *shipped_roots()]


def is_shipped(folder: Path) -> bool:
    """Whether a pack's folder came with the program."""
    return any(folder.resolve().is_relative_to(root.resolve()) for root in shipped_roots())


def refuse_shipped(folder: Path) -> None:
    """Raise OptionInvalid where a pack came with the program: results name it by its version, so it stays as it is."""
    if folder.exists() and is_shipped(folder):
        raise OptionInvalid(
            f"{folder} ships with the program and is not changed, since results name it by its version. Change a copy: "
            f"give --out DIR where the command has it, or make one first with: inversion pack copy {folder.name} DIR"
        )
