"""Find packs, check their files, load them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inversion_core.errors import OptionInvalid, PackInvalid, PackNotFound
from inversion_core.latents import as_latent
from inversion_core.optimizers import Evaluation, Look
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs.extension import read_own
from inversion_core.packs.manifest import MANIFEST_FILE, PackManifest
from inversion_core.packs.networks import load_directions, load_learned, load_network
from inversion_core.packs.opened import OpenedPack, open_pack
from inversion_core.packs.pack import Pack
from inversion_core.packs.places import PATH_VARIABLE, named_roots, pack_roots
from inversion_core.packs.reader import REMEDY

DEFAULT_PACK = "faces-128"
"""The pack that is used by default."""
SMALL_PACK = "faces-64"
"""The pack that is always available, because it is part of the package."""

log = logging.getLogger(__name__)


def load_pack(name_or_folder: str | Path | None = None, device: str | torch.device = "cpu") -> Pack:
    """Load a pack. SHA-256, keys, shapes and values of its files are checked first.

    Args:
        name_or_folder: a pack's folder, or the name of a pack that is in INVERSION_PACKS, installed, or part of this
            package. None: the default pack.
    Raises:
        PackNotFound: there is no pack of that name, or no such folder.
        PackInvalid: the pack is broken. The message says what is wrong and what to do.
        OptionInvalid: torch has no such device on this machine.
    """
    check_device(device)
    opened = _found(name_or_folder)
    manifest, path_of = opened.manifest, opened.path
    networks: dict[str, Any] = {network: load_network(manifest, network, path_of) for network in manifest.weight_files}
    return Pack(
        manifest, **networks, direction_steps=load_directions(manifest, path_of),
        learned=load_learned(manifest, path_of), device=device,
    )  # fmt: skip


def load_networks(name_or_folder: str | Path | None, networks: Iterable[str]) -> dict[str, nn.Module]:
    """Some networks of a pack by name, for further training: float32, on the CPU, not frozen or folded.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`.
        OptionInvalid: the pack has no such network.
    """
    opened = _found(name_or_folder)
    if missing := sorted(set(networks) - set(opened.manifest.weight_files)):
        raise OptionInvalid(f"pack {opened.manifest.name} has no {' and no '.join(missing)}")
    return {network: load_network(opened.manifest, network, opened.path) for network in networks}


def _found(name_or_folder: str | Path | None) -> OpenedPack:
    """A pack whose files are those that its manifest lists."""
    opened = open_pack(find_pack(name_or_folder), find_pack)
    opened.check()
    return opened


def read_manifest(folder: Path) -> PackManifest:
    """Read `folder`/pack.json; of an extension, together with that of the pack that it extends.

    Raises:
        PackInvalid: it is missing, no JSON, of another format, or a key is missing, unknown or wrong.
    """
    return open_pack(folder, find_pack).manifest


def verify_pack(name_or_folder: str | Path | None = None) -> PackManifest:
    """All checks of `load_pack`, and one picture made from the mean code.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`.
    """
    pack = load_pack(name_or_folder)
    with torch.no_grad():
        image_BCHW = pack.synthesize(pack.mean_codes())
        outputs = {"generator": image_BCHW}
        if pack.manifest.has_perceptual:
            outputs["perceptual network"] = pack.features(image_BCHW)
        if pack.has_encoder:
            outputs["encoder"] = pack.encode(image_BCHW)
        if pack.detail_predictor is not None:
            base_BCHW = pack.base_features(pack.mean_codes(), pack.detail.px)
            outputs["network that begins detail"] = pack.detail_predictor(image_BCHW, image_BCHW, base_BCHW)
        features_BCHW = outputs.get("perceptual network", image_BCHW)
        look = Look(
            target_BCHW=image_BCHW, image_BCHW=image_BCHW, image_grad_BCHW=torch.ones_like(image_BCHW),
            target_features_BCHW=features_BCHW, features_BCHW=features_BCHW,
        )  # fmt: skip
        for variant, update_network in pack.learned.items():
            optimizer, latent = DESIGNS[variant.optimizer].optimizer(update_network), as_latent(pack.mean_codes())
            found = Evaluation(
                loss_B=image_BCHW.new_ones(1), image_BCHW=image_BCHW, grad=torch.ones_like(latent.w_BLD), look=look
            )
            moved, _ = optimizer.step(latent, found, optimizer.init(latent))
            outputs[f"optimizer {variant}"] = moved.w_BLD
    for network, output in outputs.items():
        if not output.isfinite().all():
            raise PackInvalid(
                f"{find_pack(name_or_folder)}: the {network} makes infinite numbers or NaN of the mean code. {REMEDY}"
            )
    return pack.manifest


def list_packs(*, extensions: bool = False) -> list[PackManifest]:
    """Manifests of all packs that can be had by name; of two with one name, the first found. Broken ones are logged.

    Extensions are among them where `extensions` is true, or where INVERSION_PACKS names the folder itself.
    """
    found: dict[str, PackManifest] = {}
    for folder in pack_folders():
        try:
            manifest = read_manifest(folder)
        except PackInvalid as error:
            log.warning("%s", error)
            continue
        if extensions or not manifest.extends or folder in named_roots():
            found.setdefault(manifest.name, manifest)
    return list(found.values())


def find_pack(name_or_folder: str | Path | None = None) -> Path:
    """The folder of a pack; see `load_pack`.

    Raises:
        PackNotFound: there is none.
        PackInvalid: the only folder of that name has a broken pack.json.
    """
    if isinstance(name_or_folder, Path) or (name_or_folder is not None and _is_path(name_or_folder)):
        folder = Path(name_or_folder)
        if not folder.is_dir():
            raise PackNotFound(f"There is no folder {folder}. Give a pack's folder, or one of these names: {_names()}.")
        return folder
    name = name_or_folder or DEFAULT_PACK
    for folder in pack_folders():
        try:
            if read_own(folder).name == name:
                return folder
        except PackInvalid:
            if folder.name == name:
                raise
    if (Path(name) / MANIFEST_FILE).is_file():  # a bare word is a name first, then a folder beside you
        return Path(name)
    if name == DEFAULT_PACK:
        raise PackNotFound(_without_default())
    raise PackNotFound(
        f"There is no pack {name!r}. There are: {_names()}. Packs elsewhere: give the folder, or "
        f"put its parent into {PATH_VARIABLE}."
    )


def pack_folders() -> Iterator[Path]:
    """Folders with a pack.json, in the order in which names are looked for."""
    for root in pack_roots():
        if (root / MANIFEST_FILE).is_file():
            yield root
        elif root.is_dir():
            yield from (folder for folder in sorted(root.iterdir()) if (folder / MANIFEST_FILE).is_file())


def check_device(device: str | torch.device) -> None:
    """Raise OptionInvalid where torch cannot use `device` here."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OptionInvalid(
            f"device is {str(device)!r}, which cannot be used here: {reason}. Use 'cpu', or 'cuda' "
            f"with a GPU build of torch."
        ) from error


def _is_path(text: str) -> bool:
    return os.sep in text or (os.altsep is not None and os.altsep in text) or text in (".", "..")


def _without_default() -> str:
    """What to do where pip has installed the program, whose wheel holds no pack of that size."""
    return (
        f"The default pack {DEFAULT_PACK} is not installed: what pip installs comes without it. Install it with "
        f"`inversion pack install SOURCE`, where SOURCE is packs/{DEFAULT_PACK} of a clone, or its archive from a "
        f"release, as a file or an https URL. Or name a pack that is here ({_names()}): load_pack({SMALL_PACK!r}) in "
        f"Python, --pack {SMALL_PACK} on the command line, INVERSION_DEFAULT_PACK={SMALL_PACK} for a worker."
    )


def _names() -> str:
    names = set()
    for folder in pack_folders():
        with contextlib.suppress(PackInvalid):
            names.add(read_own(folder).name)
    return ", ".join(sorted(names)) or "none"
