"""The way of a trained perceptual network from its run into a pack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import DiscriminatorConfig, DiscriminatorFeatures
from inversion_core.packs import PackManifest, PerceptualSpec, put_perceptual, read_manifest
from inversion_core.training.features import LOSS_WEIGHT
from inversion_core.training.options import architecture
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below

NOTE = (
    "Trained for this generator so that its gradient leads where LPIPS and the distance of a face recognition network "
    "would: no ImageNet network can be shipped. `inversion pack use-imagenet-vgg` puts one in its place."
)


def put_features(
    run: Path, folder: Path, *, weight: float | None = None, out: Path | None = None, overwrite: bool = False
) -> PackManifest:
    """Give a pack folder the averaged perceptual network of a run of `inversion train features`.

    Args:
        weight: lambda of equation 1; None: the run's, at which the term is a third of the pixels' at the start.
        out, overwrite: as `put_perceptual`.
    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or the folder holds no such run.
        OptionInvalid: the pack has learned optimizers, which are trained for a loss.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    weights = tensors_below(tensors, "f_ema/")
    if facts is None or not weights:
        raise PackInvalid(f"{run} holds no run of features; make one with: inversion train features DATA --out {run}")
    manifest = read_manifest(folder)
    if learned := ", ".join(sorted({variant.optimizer for variant in manifest.learned})):
        raise OptionInvalid(
            f"pack {manifest.name} has learned optimizers ({learned}), which are trained for the loss as it is. Make "
            f"the pack anew with `inversion train export`, give it the features first, and train them then"
        )
    config = architecture(DiscriminatorConfig, facts["config"]["features"])
    until_px = int(facts["config"]["until_px"])
    network = DiscriminatorFeatures(config, until_px)
    network.load_state_dict(weights)
    spec = PerceptualSpec(
        kind="discriminator", layer=f"trunk at {until_px} px",
        args={**dataclasses.asdict(config), "until": until_px},
        weight=float(facts[LOSS_WEIGHT]) if weight is None else weight, note=NOTE,
    )  # fmt: skip
    return put_perceptual(folder, network, spec, out=out, overwrite=overwrite)
