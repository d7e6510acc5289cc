"""A run of `inversion train optimizer`: its trainer, and the way of its best weights into a pack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import Encoder
from inversion_core.optimizers.basis import Basis
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.optimizers.looking import ResidualNetwork, trunk_widths
from inversion_core.packs import Pack, PackManifest, Variant, put_learned, read_manifest
from inversion_core.packs.learned import pick_variant
from inversion_core.training.curvature import layer_curvature
from inversion_core.training.data import PictureSet
from inversion_core.training.optimizer import OptimizerTrainer, OptimizerTraining
from inversion_core.training.pairs import Mixture, mixed_codes, mixture_of
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint, read_facts, tensors_below

FIXED = ("start", "batch_size", "seed", "pairs")
"""Fields of the configuration that a resumed run keeps: what a number of pictures means depends on them."""
GENERATOR = "generator_sha256"
"""The fact that ties a run to its generator."""
CURVATURE_BATCH = 16
CURVATURE_SAMPLES = 8
"""Samples of a basis's matrices, for each dimension of w."""


def make_trainer(
    config: OptimizerTraining,
    pack: Pack,
    design: str,
    settings: Mapping[str, Any],
    real_BCHW: Tensor,
    out: Path,
    pictures: PictureSet | None = None,
    *,
    start_from: Pack | None = None,
) -> OptimizerTrainer:
    """The trainer of a new run, or of the one that `out` holds, to go on.

    Args:
        settings: the design's; those left out have their standard.
        real_BCHW: held-out pictures, which say when to stop.
        pictures: those that the pack was trained on; mixed targets are made of their codes.
        start_from: a pack whose weights of this design a new run begins with, bases among them. Its settings hold
            where `settings` says nothing.
    Raises:
        OptionInvalid: the design does not take the settings, mixed targets have no pictures, `start_from` has no such
            weights, or the run in `out` is another one.
    """
    size = {"num_layers": pack.num_layers, "w_dim": pack.w_dim}
    given = None if start_from is None else _given(start_from, design, config.start)
    if given is not None:
        settings = {**given.settings, **settings}
    if "feature_channels" in DESIGNS[design].setting_types:
        sizes = {"feature_channels": pack.features(real_BCHW[:1].to(pack.device)).shape[1]}
        if isinstance(pack.encoder, Encoder):
            sizes |= trunk_widths(pack.encoder)
        settings = {**sizes, **settings}
    kept = DESIGNS[design].complete(settings)
    try:
        DESIGNS[design].config(**kept, **size)
    except (TypeError, ValueError) as error:
        raise OptionInvalid(f"design {design!r} does not take these settings: {error}") from error
    facts = {
        "design": design, "settings": kept, "pack": {"name": pack.name, **size},
        GENERATOR: _generator(pack.manifest),
    }  # fmt: skip
    _check_same_run(out, config, facts)
    with torch.random.fork_rng(devices=[]):  # the weights depend on the seed alone
        torch.manual_seed(config.seed)
        network = DESIGNS[design].build(kept, **size)
    if given is not None:
        _take_weights(network, given)
    encoder = pack.encoder if isinstance(pack.encoder, Encoder) else None
    seeing = network if isinstance(network, ResidualNetwork) and network.can_begin_as(encoder) else None
    mixture = None
    if config.targets != "mapped":
        if pictures is None:
            raise OptionInvalid(
                f"targets is {config.targets!r}, and there are no pictures to make them of; choose 'mapped'"
            )
        mixture = mixture_of(pack, pictures, with_pictures=config.targets == "pictures")
        if given is None and read_facts(out / CHECKPOINT) is None:
            _fit_bases(network, pack, mixture, config.seed)
            if seeing is not None and encoder is not None:
                seeing.begin_as(encoder, mixture.codes_NLD)
    return OptimizerTrainer(
        config, pack, network, DESIGNS[design].optimizer, real_BCHW, RunFolder(out), mixture=mixture,
        begun=() if seeing is None else seeing.begun, facts=facts,
    )  # fmt: skip


class _Given(NamedTuple):
    """A pack's learned optimizer, to start from."""

    name: str
    """For people."""
    settings: Mapping[str, Any]
    network: nn.Module


def _given(pack: Pack, design: str, start: str) -> _Given:
    if design not in pack.manifest.optimizers:
        raise OptionInvalid(
            f"pack {pack.name} has no weights of {design!r} to start from; it has "
            f"{', '.join(map(str, pack.manifest.learned)) or 'none'}"
        )
    variant = pick_variant(pack.manifest.optimizers, design, start)
    return _Given(f"{variant} of pack {pack.name}", pack.manifest.learned[variant], pack.learned[variant])


def _take_weights(network: nn.Module, given: _Given) -> None:
    theirs = given.network.state_dict()
    for name, value in network.state_dict().items():
        if name not in theirs or theirs[name].shape != value.shape:
            raise OptionInvalid(
                f"{given.name} is another size (its {name} differs); start from weights of the same settings"
            )
    network.load_state_dict(theirs)


def _fit_bases(network: nn.Module, pack: Pack, mixture: Mixture, seed: int) -> None:
    for part in network.modules():
        if isinstance(part, Basis):
            codes = mixed_codes(pack, mixture, batch_size=CURVATURE_BATCH, seed=seed)
            curvature_LDE = layer_curvature(pack, codes, samples=CURVATURE_SAMPLES * pack.w_dim, seed=seed)
            part.fit(curvature_LDE, mixture.codes_NLD)


def put_best(run: Path, folder: Path, *, out: Path | None = None, overwrite: bool = False) -> Variant:
    """Give a pack folder the best weights of a run; `out` and `overwrite` as `put_learned`.

    Raises:
        PackInvalid: the pack is broken, or the folder holds no such run.
        OptionInvalid: the run was made with another pack, or with another generator of that name.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    if facts is None or facts.get("design") not in DESIGNS:
        raise PackInvalid(
            f"{run} holds no run of a learned optimizer; make one with: inversion train optimizer PACK --out {run}"
        )
    manifest = read_manifest(folder)
    target = {"name": manifest.extends or manifest.name, "num_layers": manifest.num_layers, "w_dim": manifest.w_dim}
    if facts["pack"] != target:
        raise OptionInvalid(f"{run} was made with {_spelt(facts['pack'])}; {folder} is {_spelt(target)}")
    if facts.get(GENERATOR) not in (None, _generator(manifest)):
        raise OptionInvalid(
            f"{run} was made with another generator than that of {folder}: their SHA-256 are {facts[GENERATOR]} and "
            f"{_generator(manifest)}. Name the pack that it was made with, or train anew with: inversion train "
            f"optimizer {folder}"
        )
    network = DESIGNS[facts["design"]].build(facts["settings"], num_layers=manifest.num_layers, w_dim=manifest.w_dim)
    best = tensors_below(tensors, "best/")
    network.load_state_dict({key.replace("/", "."): value for key, value in best.items()})
    variant = Variant(facts["design"], facts["config"]["start"])
    put_learned(folder, variant, facts["settings"], network, out=out, overwrite=overwrite)
    return variant


def _check_same_run(out: Path, config: OptimizerTraining, facts: Mapping[str, Any]) -> None:
    """OptionInvalid where `out` holds a run that these options do not go on with."""
    found = read_facts(out / CHECKPOINT)
    if found is None:
        return
    asked = {**facts, **{name: getattr(config, name) for name in FIXED}}
    there = {**{name: found.get(name) for name in facts}, **{name: found["config"][name] for name in FIXED}}
    if there["design"] == asked["design"]:
        there["settings"] = DESIGNS[asked["design"]].complete(there["settings"])
    if None in (there[GENERATOR], asked[GENERATOR]):  # a run of before it was kept, or a pack that is no folder
        del asked[GENERATOR]
    for name, value in asked.items():
        if there[name] != value:
            raise OptionInvalid(
                f"{out} holds a run with {name} {there[name]}, and {value} is asked for; choose another folder"
            )


def _generator(manifest: PackManifest) -> str | None:
    """SHA-256 of the generator's file; None for a pack that was never saved."""
    return manifest.files.get(manifest.weight_files["generator"])


def _spelt(pack: Mapping[str, Any]) -> str:
    return f"pack {pack['name']} with codes {pack['num_layers']}x{pack['w_dim']}"
