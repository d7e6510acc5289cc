"""`inversion train optimizer`: learned optimizers for a pack, the paper's (algorithm 1) and others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Pack, find_pack, load_pack
from inversion_core.packs.by_start import ANY_START, TRAINED_STARTS
from inversion_core.packs.places import is_shipped
from inversion_core.training.data import PictureSet, load_pictures
from inversion_core.training.optimizer import OptimizerTrainer, OptimizerTraining
from inversion_core.training.optimizer_run import make_trainer
from inversion_core.training.options import PRECISIONS
from inversion_core.training.precision import prepare

SETTINGS: dict[str, tuple[type, str]] = {
    "hidden": (int, "width of the network's layers"),
    "learning_rate": (float, "step size of the Adam inside, or of the first step"),
    "beta1": (float, "decay of the mean of the gradient in the Adam inside"),
    "depth": (int, "number of LSTM layers"),
    "log_range": (float, "p of the LSTM's input: gradients down to exp(-p) are seen by their logarithm"),
    "gradient_scale": (float, "factor of the gradient before that"),
    "output_scale": (float, "factor of the LSTM's output"),
    "warmup_steps": (int, "updates until the Adam inside has its full step size"),
    "looks": (int, "updates in which the network leads; --iterations beyond it are those of L-BFGS"),
    "side_px": (int, "side at which the network sees pictures; by itself that of the pack's encoder"),
    "radius": (float, "longest first step of L-BFGS, root mean square"),
    "history_size": (int, "pairs of step and change that L-BFGS keeps"),
}
"""Options that are settings of designs; where one is not given, the design's standard holds."""
COUNTS = {
    "iterations": "updates of each picture's code",
    "unroll": "updates through which the loss reaches the weights",
    "pairs": "synthetic pictures",
    "max_pictures": "training pictures after which it stops in any case",
    "evaluate_every": "training pictures between two evaluations on real pictures",
    "patience": "training pictures without a lower loss on real pictures after which it stops",
    "seed": "of pairs and first weights",
    "warmup_batches": "batches until the rate is whole",
}
"""Options that are whole numbers and fields of OptimizerTraining."""
WEIGHTS = {
    "rate": "Adam's, for the weights",
    "final_rate": "factor of the rate at the end of --max-pictures; it falls from the middle on",
    "begun_rate": "factor of the rate for weights that begin as the pack's encoder's",
    "focus": "largest focus of a training picture (half have none)",
    "latent_weight": "of the distance from the true code",
    "averaging": "decay of a moving average of the weights, which is then what is kept",
    "last_weight": "of the losses after the last update; the first has 1, those between lie on a line",
}
"""Options that are numbers and fields of OptimizerTraining."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train optimizer`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("--design", choices=sorted(DESIGNS), default="learned", help="(default: learned)")
    parser.add_argument(
        "--start",
        choices=(*TRAINED_STARTS, ANY_START),
        help="(default: the design's; else encoder where the pack has one)",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA",
        help="archive made by `inversion train data`; its held-out pictures say when to stop",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint and log")
    parser.add_argument(
        "--start-from", metavar="PACK",
        help="begin a new run with the weights and settings of this design in a pack of the same sizes",
    )  # fmt: skip
    for name, (kind, text) in SETTINGS.items():
        parser.add_argument(_option(name), type=kind, metavar="N", help=f"{text} ({_whose(name)})")
    parser.add_argument("--batch", type=int, default=OptimizerTraining.batch_size, metavar="N", help="pictures a step")
    for names, kind in ((COUNTS, int), (WEIGHTS, float)):
        for name, text in names.items():
            parser.add_argument(_option(name), type=kind, metavar="N", help=f"{text} ({_default(name)})")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=OptimizerTraining.precision,
        help="of generator and perceptual network in training steps (default: float32)",
    )  # fmt: skip
    parser.add_argument("--real", type=int, default=16, metavar="N", help="held-out pictures used (default: 16)")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.add_argument("--until", type=int, metavar="N", help="stop after so many training pictures, to go on later")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.set_defaults(run=_run)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _whose(setting: str) -> str:
    """The designs that have a setting, for the help."""
    return "of " + ", ".join(name for name, design in DESIGNS.items() if setting in design.setting_types)


def _default(field: str) -> str:
    """The default of a field of OptimizerTraining, for the help."""
    own = [f"{design.training[field]} for {name}" for name, design in DESIGNS.items() if field in design.training]
    return ", ".join([f"default: {getattr(OptimizerTraining, field)}", *own])


def _given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options among `names` that were typed."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _run(args: argparse.Namespace) -> int:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    prepare(args.device)
    pack = load_pack(args.pack, device=args.device)
    pictures, real_BCHW = _pictures(args, pack)
    trainer = make_trainer(
        _config(args, pack), pack, args.design, _given(args, SETTINGS), real_BCHW, args.out, pictures,
        start_from=load_pack(args.start_from, device=args.device) if args.start_from else None,
    )  # fmt: skip
    trainer.run(until=args.until)
    _report(trainer, args)
    return 0


def _config(args: argparse.Namespace, pack: Pack) -> OptimizerTraining:
    own = DESIGNS[args.design].training.get("start", "encoder" if pack.has_encoder else "random")
    start = args.start or own
    if start == "encoder" and not pack.has_encoder:
        raise OptionInvalid(f"pack {pack.name} has no encoder; train for --start random")
    fields = {**DESIGNS[args.design].training, **_given(args, [*COUNTS, *WEIGHTS]), "start": start}
    try:
        return OptimizerTraining(batch_size=args.batch, precision=args.precision, **fields)
    except ValueError as error:
        raise OptionInvalid(str(error)) from error


def _pictures(args: argparse.Namespace, pack: Pack) -> tuple[PictureSet, Tensor]:
    """The archive's training pictures; and of those held out some, evenly spaced: always the same ones."""
    training, held_out = load_pictures(args.data, held_out=args.held_out)
    if (side_px := held_out.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"{args.data} has pictures of {side_px} px; pack {pack.name} needs {pack.resolution}")
    if not 1 <= args.real <= len(held_out):
        raise OptionInvalid(f"--real is {args.real}; it must be from 1 to {len(held_out)}, the pictures held out")
    return training, held_out.take(torch.linspace(0, len(held_out) - 1, args.real).long())


def _report(trainer: OptimizerTrainer, args: argparse.Namespace) -> None:
    before, best = trainer.untrained_loss, trainer.best_loss
    print(
        f"{args.out}: {trainer.pictures} training pictures; best loss within {trainer.config.iterations} steps on "
        f"{args.real} real pictures {best:.5f} after {trainer.best_pictures}; untrained, which is "
        f"{DESIGNS[args.design].untrained}, {before:.5f}"
    )
    if not trainer.is_done:
        print("not done: the same command goes on", file=sys.stderr)
    command = f"inversion pack add-optimizer {args.pack} {args.out}"
    if is_shipped(find_pack(args.pack)):
        print(f"put it into a copy of the pack with: {command} --out DIR", file=sys.stderr)
    else:
        print(f"put it into the pack with: {command}", file=sys.stderr)
