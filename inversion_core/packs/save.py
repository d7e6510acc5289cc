"""Write a pack folder: all of it, or nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from inversion_core.errors import PackInvalid
from inversion_core.models import Encoder, StyleGANGenerator
from inversion_core.packs.digests import check_digests, digest
from inversion_core.packs.directions import DIRECTIONS_FILE, Direction, check_steps
from inversion_core.packs.learned import Variant, check_learned
from inversion_core.packs.manifest import MANIFEST_FILE, PackManifest, PerceptualSpec, parse_manifest, read_manifest
from inversion_core.packs.networks import GENERATOR_KEY, cpu_state, is_half

CARD_FILE = "README.md"
"""A pack's model card."""


def save_pack(folder: str | Path, manifest: PackManifest, *, generator: StyleGANGenerator, perceptual: nn.Module,
              encoder: Encoder | None = None, direction_steps: Mapping[str, Tensor] | None = None,
              learned: Mapping[Variant, nn.Module] | None = None, half: bool = False,
              extra_files: Mapping[str, bytes | Path] | None = None,
              overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Write the networks and a pack.json with the SHA-256 of every file.

    The folder appears whole or not at all: it is written beside its place and then moved there.

    Args:
        direction_steps: (L, D) of each direction that the manifest lists.
        learned: network of each learned optimizer that the manifest lists.
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
    _check_directions(manifest, direction_steps or {})
    _check_learned(manifest, learned or {})
    target.parent.mkdir(parents=True, exist_ok=True)

    def write(staged: Path) -> None:
        for network, file in manifest.weight_files.items():
            _write_weights(staged / file, networks[network], half)
        made_for = digest(staged / manifest.weight_files["generator"])
        for variant, update_network in (learned or {}).items():
            _write_weights(staged / variant.file, update_network, half, {GENERATOR_KEY: made_for})
        _write_directions(staged, direction_steps or {})
        for name, content in (extra_files or {}).items():
            _write_extra(staged / name, content)

    return _replace(target, manifest, write)


def put_directions(folder: str | Path, directions: Sequence[Direction]) -> PackManifest:
    """Give a pack folder these directions in place of those it has; its other files stay as they are.

    The folder changes whole or not at all, as in `save_pack`. Files that pack.json does not list are not kept.

    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or a direction is of another shape or not finite.
    """
    target = Path(folder).absolute()
    manifest = read_manifest(target)
    steps = {direction.spec.name: direction.step_LD for direction in directions}
    changed = dataclasses.replace(manifest, directions=tuple(direction.spec for direction in directions))
    _check_directions(changed, steps)
    return _put(target, manifest, changed, DIRECTIONS_FILE, lambda staged: _write_directions(staged, steps))


def put_encoder(folder: str | Path, encoder: Encoder) -> PackManifest:
    """Give a pack folder an encoder, in place of its own, stored in float32 or float16 as its generator is.

    Rates and the loss weight, which were tuned for codes of the encoder before, stay. For the rest see
    `put_directions`.

    Raises:
        PackInvalid: the pack is broken, or the encoder makes other codes or takes other pictures.
    """
    return _put_network(folder, "encoder", encoder, encoder=encoder.config)


def put_perceptual(folder: str | Path, network: nn.Module, spec: PerceptualSpec) -> PackManifest:
    """Give a pack folder a perceptual network, with its weight in the loss, in place of its own; as `put_encoder`.

    Raises:
        PackInvalid: the pack is broken, or would not be valid with it.
    """
    return _put_network(folder, "perceptual", network, perceptual=spec)


def _put_network(folder: str | Path, name: str, network: nn.Module, **fields: Any) -> PackManifest:
    target = Path(folder).absolute()
    manifest = read_manifest(target)
    try:
        changed = dataclasses.replace(manifest, **fields)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error
    file = changed.weight_files[name]

    def write(staged: Path) -> None:
        _write_weights(staged / file, network, is_half(staged / manifest.weight_files["generator"]))

    return _put(target, manifest, changed, file, write)


def put_learned(folder: str | Path, variant: Variant, settings: Mapping[str, Any], network: nn.Module) -> PackManifest:
    """Give a pack folder a learned optimizer, in place of one of the same design for the same start.

    It is stored as the generator is, in float32 or float16, with the generator's SHA-256: in a pack with another
    generator it is refused. For the rest see `put_directions`.
    """
    target = Path(folder).absolute()
    manifest = read_manifest(target)
    of_start = {**manifest.optimizers.get(variant.optimizer, {}), variant.start: dict(settings)}
    changed = dataclasses.replace(manifest, optimizers={**manifest.optimizers, variant.optimizer: of_start})

    def write(staged: Path) -> None:
        generator = manifest.weight_files["generator"]
        made_for = {GENERATOR_KEY: manifest.files[generator]}
        _write_weights(staged / variant.file, network, is_half(staged / generator), made_for)

    return _put(target, manifest, changed, variant.file, write)


def change_pack(folder: str | Path, *, card: bytes | None = None,
                optimizers: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any) -> PackManifest:  # fmt: skip
    """Give a pack folder another card, focus, settings of optimizers, version or other texts; the weights stay.

    The folder changes whole or not at all, as in `save_pack`.

    Args:
        card: becomes README.md.
        optimizers: name -> settings, as pack.json has them; those of other optimizers stay.
        fields: version, description, licence, provenance, default_optimizer or focus.
    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or the changed pack.json would not be valid.
    """
    target = Path(folder).absolute()
    manifest = read_manifest(target)
    try:
        settings = {**manifest.optimizers, **(optimizers or {})}
        changed = dataclasses.replace(manifest, optimizers=settings, **fields)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error
    if card is None:
        return _put(target, manifest, changed, "", lambda staged: None)
    return _put(target, manifest, changed, CARD_FILE, lambda staged: _write_extra(staged / CARD_FILE, card))


def _put(target: Path, manifest: PackManifest, changed: PackManifest, file: str,
         write: Callable[[Path], None]) -> PackManifest:  # fmt: skip
    """Give the pack a changed manifest, and a file that `write` makes anew; all others stay as they are."""
    check_digests(target, manifest)  # else a damaged file would get a new digest that vouches for it

    def write_all(staged: Path) -> None:
        for name in manifest.files:
            if name != file:
                _write_extra(staged / name, target / name)
        write(staged)

    return _replace(target, changed, write_all)


def _replace(target: Path, manifest: PackManifest, write: Callable[[Path], None]) -> PackManifest:
    """Let `write` fill a folder beside the target, add the manifest, and move it there."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        write(staged)
        written = _write_manifest(staged, manifest)
        _move(staged, target, Path(scratch) / "old")
    return written


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{target} is there already; choose another folder, or remove it first")
    if not (target / MANIFEST_FILE).is_file() and any(target.iterdir()):
        raise FileExistsError(
            f"{target} is there already and no pack (it has no {MANIFEST_FILE}); choose another folder"
        )


def _write_weights(file: Path, network: nn.Module, half: bool, metadata: dict[str, str] | None = None) -> None:
    state = cpu_state(network, half=half)
    for key, value in state.items():
        if not value.isfinite().all():
            raise PackInvalid(
                f"{file.name}: key {key!r} holds a number that is infinite or NaN; save without "
                f"half precision, or train it anew"
            )
    save_file(state, file, metadata)
    file.chmod(0o644)  # safetensors makes it private


def _check_directions(manifest: PackManifest, steps: Mapping[str, Tensor]) -> None:
    try:
        check_steps(manifest, steps)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error
    for name, step_LD in steps.items():
        if not step_LD.isfinite().all():
            raise PackInvalid(f"pack {manifest.name}: direction {name!r} holds a number that is infinite or NaN")


def _check_learned(manifest: PackManifest, networks: Mapping[Variant, nn.Module]) -> None:
    try:
        check_learned(manifest, networks)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error


def _write_directions(staged: Path, steps: Mapping[str, Tensor]) -> None:
    if steps:
        tensors = {name: step_LD.detach().float().cpu().contiguous().clone() for name, step_LD in steps.items()}
        save_file(tensors, staged / DIRECTIONS_FILE)
        (staged / DIRECTIONS_FILE).chmod(0o644)  # as above


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
