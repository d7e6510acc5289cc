"""The way of a trained encoder from its run into a pack."""

from __future__ import annotations

from pathlib import Path

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import Encoder, EncoderConfig
from inversion_core.packs import put_encoder, read_manifest
from inversion_core.training.encoder import GENERATOR
from inversion_core.training.options import architecture
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below


def put_trained(run: Path, folder: Path, *, out: Path | None = None, overwrite: bool = False) -> int:
    """Give a pack folder the averaged encoder of a run of `inversion train encoder`; returns the steps behind it.

    Args:
        out, overwrite: as `put_encoder`.
    Raises:
        PackInvalid: the pack is broken, or the folder holds no such run.
        OptionInvalid: the run was made for another generator.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    weights = tensors_below(tensors, "e_ema/")
    if facts is None or not weights or "generator" in facts["config"]:
        raise PackInvalid(f"{run} holds no encoder run; make one with: inversion train encoder DATA --out {run}")
    manifest = read_manifest(folder)
    if facts.get(GENERATOR) not in (None, manifest.files.get(manifest.weight_files["generator"])):
        raise OptionInvalid(
            f"{run} was made for another generator than that of {folder}; train an encoder for this one"
        )
    encoder = Encoder(architecture(EncoderConfig, facts["config"]["encoder"]))
    encoder.load_state_dict(weights)
    put_encoder(folder, encoder, out=out, overwrite=overwrite)
    return int(facts["step"])
