"""The way of a network that begins detail from its run into a pack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import DetailPredictorConfig
from inversion_core.packs import DetailSpec, PackManifest, put_detail, read_manifest
from inversion_core.packs.networks import build_predictor
from inversion_core.training.detail import GENERATOR
from inversion_core.training.options import architecture
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below


def put_predictor(run: Path, folder: Path, *, out: Path | None = None, overwrite: bool = False) -> PackManifest:
    """Give a pack folder the averaged network of a run of `inversion train detail`.

    What the pack says of detail stays, but for its size, which is the run's.

    Args:
        out, overwrite: as `put_detail`.
    Returns:
        the manifest as written.
    Raises:
        PackInvalid: the pack is broken, or the folder holds no such run.
        OptionInvalid: the run was made for another generator.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    weights = tensors_below(tensors, "p_ema/")
    if facts is None or not weights:
        raise PackInvalid(f"{run} holds no run of detail; make one with: inversion train detail DATA --out {run}")
    manifest = read_manifest(folder)
    if facts.get(GENERATOR) not in (None, manifest.files.get(manifest.weight_files["generator"])):
        raise OptionInvalid(f"{run} was made for another generator than that of {folder}; train one for this pack")
    config = facts["config"]
    spec: DetailSpec = dataclasses.replace(
        manifest.detail_or_default,
        px=int(config["px"]),
        predictor=architecture(DetailPredictorConfig, config["predictor"]),
    )
    network = build_predictor(dataclasses.replace(manifest, detail=spec))
    network.load_state_dict(weights)
    return put_detail(folder, spec, network, out=out, overwrite=overwrite)
