"""`inversion pack install|archive`: packs from elsewhere, and for elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from inversion_core.packs.archive import write_archive
from inversion_core.packs.install import Installed, install_pack

Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_parsers(kinds: Commands[argparse.ArgumentParser]) -> None:
    """Register both."""
    install = kinds.add_parser(
        "install", help="install a pack, so that it is found by name, from a folder, an archive or an https URL"
    )
    install.add_argument("source", metavar="SOURCE", help="folder, .zip file, or https URL")
    install.add_argument("--sha256", metavar="HEX", help="SHA-256 of the archive; required for a URL")
    install.add_argument("--overwrite", action="store_true", help="replace an existing pack of that name")
    install.set_defaults(run=_run_install)
    archive = kinds.add_parser("archive", help="write a pack to a .zip file, to install it elsewhere")
    archive.add_argument("pack", metavar="PACK", help="name or folder")
    archive.add_argument(
        "--out", type=Path, default=Path(), metavar="FILE",
        help="or a folder for NAME-VERSION.zip (default: the current folder)",
    )  # fmt: skip
    archive.add_argument("--overwrite", action="store_true", help="replace an existing file")
    archive.set_defaults(run=_run_archive)


def _run_install(args: argparse.Namespace) -> int:
    done = install_pack(args.source, sha256=args.sha256, overwrite=args.overwrite)
    manifest = done.manifest
    print(f"{done.folder}: {manifest.name} {manifest.version}{'' if done.is_new else ' is there already'}")
    _tell_of_others(done)
    return 0


def _tell_of_others(done: Installed) -> None:
    name = done.manifest.name
    if done.hidden_by is not None:
        print(f"by the name {name} another one is found before it: {done.hidden_by}", file=sys.stderr)
    if done.hides is not None:
        same = ", which has other content under the same version" if done.hides_same_version else ""
        print(f"by the name {name} it is found before {done.hides}{same}", file=sys.stderr)


def _run_archive(args: argparse.Namespace) -> int:
    file, sha256 = write_archive(args.pack, args.out, overwrite=args.overwrite)
    print(f"{file}: {file.stat().st_size} bytes, SHA-256 {sha256}")
    print(f"elsewhere: inversion pack install {file.name} --sha256 {sha256}", file=sys.stderr)
    return 0
