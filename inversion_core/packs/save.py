"""Write a pack folder: all of it, or nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import DetailPredictor, Generator, NoFeatures
from inversion_core.models.encoders.base import PictureEncoder
from inversion_core.packs.detail import DetailSpec
from inversion_core.packs.digests import check_digests, digest
from inversion_core.packs.directions import DIRECTIONS_FILE, Direction, check_steps
from inversion_core.packs.extension import AnyManifest, ExtensionManifest, parse_own, read_own
from inversion_core.packs.learned import Variant, check_learned
from inversion_core.packs.load import find_pack, read_manifest
from inversion_core.packs.manifest import MANIFEST_FILE, WEIGHT_FILES, PackManifest, PerceptualSpec
from inversion_core.packs.networks import GENERATOR_KEY, cpu_state, is_half
from inversion_core.packs.opened import open_pack
from inversion_core.packs.places import refuse_shipped

CARD_FILE = "README.md"
"""A pack's model card."""
NOTHING_WRITTEN = "Nothing was written; give a value that the pack can have."
"""What the fault of a pack that is about to be written ends with."""


def save_pack(folder: str | Path, manifest: PackManifest, *, generator: Generator, perceptual: nn.Module | None = None,
              encoder: PictureEncoder | None = None, direction_steps: Mapping[str, Tensor] | None = None,
              learned: Mapping[Variant, nn.Module] | None = None,
              detail_predictor: DetailPredictor | None = None, half: bool = False,
              extra_files: Mapping[str, bytes | Path] | None = None,
              overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Write the networks and a pack.json with the SHA-256 of every file.

    The folder appears whole or not at all: it is written beside its place and then moved there.

    Args:
        direction_steps: (L, D) of each direction that the manifest lists.
        learned: network of each learned optimizer that the manifest lists.
        detail_predictor: the network that begins detail, where the manifest has one.
        half: store matrices and kernels as float16, half the size; they are float32 again when loaded.
        extra_files: path inside the pack -> bytes, or a file to be copied: a card (README.md), samples.
        overwrite: replace a pack that is there already.
    Returns:
        the manifest as written, `files` filled in.
    Raises:
        PackInvalid: a weight is infinite or NaN (or becomes so in float16), or the manifest is not valid.
        FileExistsError: `folder` is there and `overwrite` is false, or what is there is no pack.
        OptionInvalid: the pack that is there ships with the program.
    """
    target = Path(folder).absolute()
    check_target(target, overwrite)
    given = {
        "generator": generator, "encoder": encoder, "perceptual": perceptual, "detail_predictor": detail_predictor,
    }  # fmt: skip
    networks = {
        name: network for name, network in given.items() if network is not None and not isinstance(network, NoFeatures)
    }
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
            if str(variant) not in manifest.shared_weights:
                _write_weights(staged / variant.file, update_network, half, {GENERATOR_KEY: made_for})
        _write_directions(staged, direction_steps or {})
        for name, content in (extra_files or {}).items():
            write_extra(staged / name, content)

    return _replace(target, manifest, write)


def put_directions(folder: str | Path, directions: Sequence[Direction], *, out: str | Path | None = None,
                   overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Give a pack folder these directions in place of those it has; its other files stay as they are.

    The folder changes whole or not at all, as in `save_pack`. Files that pack.json does not list are not kept.

    Args:
        out: folder of the changed pack; None changes it where it is.
        overwrite: replace a pack that is in `out` already.
    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or a direction is of another shape or not finite.
        FileExistsError: as `save_pack`, of `out`.
        OptionInvalid: the pack that would be changed ships with the program.
    """
    source = Path(folder).absolute()
    manifest = _read_whole(source)
    steps = {direction.spec.name: direction.step_LD for direction in directions}
    changed = dataclasses.replace(manifest, directions=tuple(direction.spec for direction in directions))
    _check_directions(changed, steps)
    change = _Change(manifest, changed, DIRECTIONS_FILE, lambda staged: _write_directions(staged, steps))
    return _put(source, change, out, overwrite)


def put_encoder(folder: str | Path, encoder: PictureEncoder, *, out: str | Path | None = None,
                overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Give a pack folder an encoder, in place of its own, stored in float32 or float16 as its generator is.

    Rates and the loss weight, which were tuned for codes of the encoder before, stay. For the rest see
    `put_directions`.

    Raises:
        PackInvalid: the pack is broken, or the encoder makes other codes or takes other pictures.
    """
    return _put_network(folder, "encoder", encoder, {"encoder": encoder.config}, out, overwrite)


def put_perceptual(folder: str | Path, network: nn.Module, spec: PerceptualSpec, *, out: str | Path | None = None,
                   overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Give a pack folder a perceptual network, with its weight in the loss, in place of its own; as `put_encoder`.

    Raises:
        PackInvalid: the pack is broken, or would not be valid with it.
    """
    return _put_network(folder, "perceptual", network, {"perceptual": spec}, out, overwrite)


def put_detail(folder: str | Path, spec: DetailSpec, network: DetailPredictor | None = None, *,
               out: str | Path | None = None, overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Say how a pack folder finds detail, and give it the network that begins it; as `put_encoder`.

    Args:
        network: with a spec that has a predictor; a pack's own predictor stays where it is None and the spec has it.
    Raises:
        PackInvalid: the pack is broken, or would not be valid with it.
    """
    source = Path(folder).absolute()
    if network is not None:
        return _put_network(folder, "detail_predictor", network, {"detail": spec}, out, overwrite)
    manifest = _read_whole(source)
    own = manifest.detail
    if spec.predictor is not None and (own is None or (own.px, own.predictor) != (spec.px, spec.predictor)):
        raise PackInvalid(f"pack {manifest.name}: a new network that begins detail needs its weights")
    try:
        changed = dataclasses.replace(manifest, detail=spec)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error
    gone = "" if changed.has_detail_predictor else WEIGHT_FILES["detail_predictor"]
    return _put(source, _Change(manifest, changed, gone, lambda staged: None), out, overwrite)


def _put_network(folder: str | Path, name: str, network: nn.Module, fields: Mapping[str, Any],
                 out: str | Path | None, overwrite: bool) -> PackManifest:  # fmt: skip
    source = Path(folder).absolute()
    manifest = _read_whole(source)
    try:
        changed = dataclasses.replace(manifest, **fields)
    except ValueError as error:
        raise PackInvalid(f"pack {manifest.name}: {error}") from error
    file = changed.weight_files[name]

    def write(staged: Path) -> None:
        _write_weights(staged / file, network, is_half(staged / manifest.weight_files["generator"]))

    return _put(source, _Change(manifest, changed, file, write), out, overwrite)


def put_learned(folder: str | Path, variant: Variant, settings: Mapping[str, Any], network: nn.Module, *,
                out: str | Path | None = None, overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Give a pack folder a learned optimizer, in place of one of the same design for the same start.

    It is stored as the generator is, in float32 or float16, with the generator's SHA-256: in a pack with another
    generator it is refused. For the rest see `put_directions`.
    """
    source = Path(folder).absolute()
    opened = open_pack(source, find_pack)
    own, whole = opened.own, opened.manifest
    _check_not_shared(whole, variant)
    generator = whole.weight_files["generator"]
    changed = dataclasses.replace(
        own, optimizers=_with(own.optimizers, variant, settings),
        shared_weights={name: holder for name, holder in own.shared_weights.items() if name != str(variant)},
    )  # fmt: skip

    def write(staged: Path) -> None:
        made_for = {GENERATOR_KEY: whole.files[generator]}
        _write_weights(staged / variant.file, network, is_half(opened.path(generator)), made_for)

    return _put(source, _Change(own, changed, variant.file, write), out, overwrite)


def _with(optimizers: Mapping[str, Mapping[str, Any]], variant: Variant, settings: Mapping[str, Any],
          ) -> dict[str, Mapping[str, Any]]:  # fmt: skip
    of_start = {**optimizers.get(variant.optimizer, {}), variant.start: dict(settings)}
    return {**optimizers, variant.optimizer: of_start}


def _check_not_shared(manifest: PackManifest, variant: Variant) -> None:
    for name, holder in manifest.shared_weights.items():
        if holder == str(variant):
            raise OptionInvalid(
                f"pack {manifest.name}: {name} takes its weights from {holder}, which another one would change too. "
                f"Put a run of {name} into the pack first"
            )


def change_pack(folder: str | Path, *, card: bytes | None = None,
                optimizers: Mapping[str, Mapping[str, Any]] | None = None, out: str | Path | None = None,
                overwrite: bool = False, **fields: Any) -> PackManifest:  # fmt: skip
    """Give a pack folder another card, focus, settings of optimizers, version or other texts; the weights stay.

    The folder changes whole or not at all, as in `save_pack`.

    Args:
        card: becomes README.md.
        optimizers: name -> settings, as pack.json has them; those of other optimizers stay.
        out, overwrite: as `put_directions`.
        fields: name, version, description, licence, provenance, default_optimizer, focus or detail (a DetailSpec with
            the predictor that the pack has).
    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or the changed pack.json would not be valid.
        FileExistsError, OptionInvalid: as `put_directions`.
    """
    source = Path(folder).absolute()
    own = read_own(source)
    if isinstance(own, ExtensionManifest) and (
        others := sorted({"default_optimizer", "focus", "detail"} & set(fields))
    ):
        raise OptionInvalid(
            f"{source} is an extension, whose {others[0]} is that of {own.extends}; change {own.extends}"
        )
    try:
        changed = dataclasses.replace(own, optimizers={**own.optimizers, **(optimizers or {})}, **fields)
    except ValueError as error:
        raise PackInvalid(f"pack {own.name}: {error}") from error
    change = _Change(own, changed, "", lambda staged: None)
    if card is not None:
        change = _Change(own, changed, CARD_FILE, lambda staged: write_extra(staged / CARD_FILE, card))
    return _put(source, change, out, overwrite)


def make_extension(base: str | Path, folder: str | Path, *, name: str, version: str = "1",
                   description: str = "", licence: str | None = None, provenance: str = "",
                   overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Write an extension of a pack that adds nothing yet: `put_learned` puts optimizers into it.

    Args:
        base: name or folder of the pack; the extension finds it by its name.
        licence: None: the pack's.
    Returns:
        the manifest of both together.
    Raises:
        PackNotFound, PackInvalid: as `load_pack`; PackInvalid where a name or version is none.
        FileExistsError, OptionInvalid: as `save_pack`.
    """
    target = Path(folder).absolute()
    check_target(target, overwrite)
    whole = _read_whole(find_pack(base))
    try:
        manifest = ExtensionManifest(
            name=name, version=version, extends=whole.name, description=description, provenance=provenance,
            generator_sha256=whole.files[whole.weight_files["generator"]],
            licence=whole.licence if licence is None else licence,
        )  # fmt: skip
    except ValueError as error:
        raise PackInvalid(str(error)) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    return _replace(target, manifest, lambda staged: None)


def _read_whole(folder: Path) -> PackManifest:
    own = read_own(folder)
    if isinstance(own, ExtensionManifest):
        raise OptionInvalid(
            f"{folder} is an extension, which holds optimizers alone; its networks are those of {own.extends}: change "
            f"that one"
        )
    return own


class _Change(NamedTuple):
    """What becomes of a pack."""

    before: AnyManifest
    after: AnyManifest
    file: str
    """The file that is made anew; "" for none. All others stay as they are."""
    write: Callable[[Path], None]
    """Makes it in the folder that is handed in."""


def _put(source: Path, change: _Change, out: str | Path | None, overwrite: bool) -> PackManifest:
    """Write the changed pack to `out`, or to where it is."""
    target = source if out is None else Path(out).absolute()
    check_target(target, overwrite or out is None)
    check_digests(source, change.before.files)  # else a damaged file would get a new digest that vouches for it
    target.parent.mkdir(parents=True, exist_ok=True)

    def write_all(staged: Path) -> None:
        for name in change.before.files:
            if name != change.file:
                write_extra(staged / name, source / name)
        change.write(staged)

    return _replace(target, change.after, write_all)


def _replace(target: Path, manifest: AnyManifest, write: Callable[[Path], None]) -> PackManifest:
    """Let `write` fill a folder beside the target, add the manifest, and move it there."""

    def write_all(staged: Path) -> None:
        write(staged)
        _write_manifest(staged, manifest, target)

    replace_folder(target, write_all)
    return read_manifest(target)


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the target, and move it there; what was there goes."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        write(staged)
        move_folder(staged, target, Path(scratch) / "old")


def check_target(target: Path, overwrite: bool) -> None:
    """Raise FileExistsError or OptionInvalid where no pack may be written to the folder, see `save_pack`."""
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} is there already; choose another folder, or replace it: --overwrite, from Python overwrite=True"
        )
    refuse_shipped(target)
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
    by_name = {str(variant): network.state_dict() for variant, network in networks.items()}
    for name, holder in manifest.shared_weights.items():
        for key, value in by_name[name].items():
            if key not in by_name[holder] or not torch.equal(value, by_name[holder][key]):
                raise PackInvalid(f"pack {manifest.name}: {name} cannot share the weights of {holder}: {key} differs")


def _write_directions(staged: Path, steps: Mapping[str, Tensor]) -> None:
    if steps:
        tensors = {name: step_LD.detach().float().cpu().contiguous().clone() for name, step_LD in steps.items()}
        save_file(tensors, staged / DIRECTIONS_FILE)
        (staged / DIRECTIONS_FILE).chmod(0o644)  # as above


def write_extra(file: Path, content: bytes | Path) -> None:
    """Write bytes, or a copy of a file, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        shutil.copyfile(content, file)


def _write_manifest(staged: Path, manifest: AnyManifest, target: Path) -> None:
    files = {path.relative_to(staged).as_posix(): digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    text = dataclasses.replace(manifest, files=files).to_json()
    parse_own(text.encode(), target / MANIFEST_FILE, NOTHING_WRITTEN)  # what is written must be readable
    (staged / MANIFEST_FILE).write_text(text, encoding="utf-8")
    if isinstance(manifest, ExtensionManifest):
        open_pack(target, find_pack, manifest)  # and go with the pack that it extends


def move_folder(staged: Path, target: Path, old: Path) -> None:
    """Put a folder that is complete in the place of the target, which goes to `old`."""
    staged.chmod(0o755)
    if target.exists():
        os.rename(target, old)  # goes with the scratch folder
    os.rename(staged, target)
