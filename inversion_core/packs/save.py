"""Write a pack folder: all of it, or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from inversion_core.errors import PackInvalid
from inversion_core.models import Encoder, StyleGANGenerator
from inversion_core.packs.manifest import MANIFEST_FILE, PackManifest, parse_manifest
from inversion_core.packs.networks import cpu_state


def save_pack(folder: str | Path, manifest: PackManifest, *, generator: StyleGANGenerator, perceptual: nn.Module,
              encoder: Encoder | None = None, half: bool = False, extra_files: Mapping[str, bytes | Path] | None = None,
              overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Write the networks and a pack.json with the SHA-256 of every file.

    The folder appears whole or not at all: it is written beside its place and then moved there.

    Args:
        half: store matrices and kernels as float16, half the size; they are float32 again when loaded.
        extra_files: path inside the pack -> bytes, or a file to be copied: a card (README.md), samples.
        overwrite: replace a pack that is there already.
    Returns:
        the manifest as written, `files` filled in.
    Raises:
        PackInvalid: a weight is infinite or NaN (or becomes so in float16), or the manifest is not valid.
        FileExistsError: `folder` is there and `overwrite` is false, or what is there is no pack.
    """
    target = Path(folder).absolute()
    _check_target(target, overwrite)
    networks = {"generator": generator, "perceptual": perceptual} | (
        {"encoder": encoder} if encoder is not None else {}
    )
    if set(networks) != set(manifest.weight_files):
        raise PackInvalid(
            f"pack {manifest.name}: the manifest wants {sorted(manifest.weight_files)}, given are {sorted(networks)}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        for network, file in manifest.weight_files.items():
            _write_weights(staged / file, networks[network], half)
        for name, content in (extra_files or {}).items():
            _write_extra(staged / name, content)
        written = _write_manifest(staged, manifest)
        _move(staged, target, Path(scratch) / "old")
    return written


def digest(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{target} is there already; choose another folder, or remove it first")
    if not (target / MANIFEST_FILE).is_file() and any(target.iterdir()):
        raise FileExistsError(
            f"{target} is there already and no pack (it has no {MANIFEST_FILE}); choose another folder"
        )


def _write_weights(file: Path, network: nn.Module, half: bool) -> None:
    state = cpu_state(network, half=half)
    for key, value in state.items():
        if not value.isfinite().all():
            raise PackInvalid(
                f"{file.name}: key {key!r} holds a number that is infinite or NaN; save without "
                f"half precision, or train it anew"
            )
    save_file(state, file)
    file.chmod(0o644)  # safetensors makes it private


def _write_extra(file: Path, content: bytes | Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        shutil.copyfile(content, file)


def _write_manifest(staged: Path, manifest: PackManifest) -> PackManifest:
    files = {path.relative_to(staged).as_posix(): digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    written = dataclasses.replace(manifest, files=files)
    text = written.to_json()
    parse_manifest(text.encode(), staged / MANIFEST_FILE)  # what is written must be readable
    (staged / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return written


def _move(staged: Path, target: Path, old: Path) -> None:
    staged.chmod(0o755)
    if target.exists():
        os.rename(target, old)  # goes with the scratch folder
    os.rename(staged, target)
