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
    "learning_rate": (float, "learning rate of the inner Adam, or of the first step"),
    "beta1": (float, "beta1 of the inner Adam"),
    "depth": (int, "number of LSTM layers"),
    "log_range": (float, "p of the LSTM's input: gradients above exp(-p) are passed as logarithms"),
    "gradient_scale": (float, "multiplier of the gradient before that"),
    "output_scale": (float, "multiplier of the LSTM's output"),
    "warmup_steps": (int, "warm-up steps of the inner Adam"),
    "looks": (int, "steps made by the network; the remaining --iterations are L-BFGS"),
    "side_px": (int, "image size that the network sees; default: that of the pack's encoder"),
    "radius": (float, "initial trust radius of L-BFGS, root mean square"),
    "history_size": (int, "pairs that L-BFGS keeps"),
}
"""Options that are settings of designs; where one is not given, the design's standard holds."""
COUNTS = {
    "iterations": "optimization steps per image",
    "unroll": "steps to backpropagate through",
    "pairs": "number of synthetic images",
    "max_pictures": "stop after this many training images",
    "evaluate_every": "training images between evaluations on real images",
    "patience": "stop after this many training images without improvement on real images",
    "seed": "seed of pairs and initial weights",
    "warmup_batches": "warm-up batches of the learning rate",
}
"""Options that are whole numbers and fields of OptimizerTraining."""
WEIGHTS = {
    "rate": "learning rate of the training",
    "final_rate": "final learning rate as a factor; decays over the second half of --max-pictures",
    "begun_rate": "learning rate factor of weights copied from the pack's encoder",
    "focus": "maximum focus of a training image (half have none)",
    "latent_weight": "weight of the distance from the true code",
    "averaging": "decay of the moving average of the weights that is saved",
    "last_weight": "weight of the last step's loss; the first has 1, with linear interpolation",
}
"""Options that are numbers and fields of OptimizerTraining."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train optimizer`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("--design", choices=sorted(DESIGNS), default="learned", help="(default: learned)")
    parser.add_argument(
        "--start",
        choices=(*TRAINED_STARTS, ANY_START),
        help="(default: the design's, or encoder if the pack has one)",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA",
        help="archive made by `inversion train data`; its held-out images are used for early stopping",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint and log")
    parser.add_argument(
        "--start-from", metavar="PACK",
        help="start from the weights and settings of this design in another pack of the same sizes",
    )  # fmt: skip
    for name, (kind, text) in SETTINGS.items():
        parser.add_argument(_option(name), type=kind, metavar="N", help=f"{text} ({_whose(name)})")
    parser.add_argument("--batch", type=int, default=OptimizerTraining.batch_size, metavar="N", help="images per step")
    for names, kind in ((COUNTS, int), (WEIGHTS, float)):
        for name, text in names.items():
            parser.add_argument(_option(name), type=kind, metavar="N", help=f"{text} ({_default(name)})")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=OptimizerTraining.precision,
        help="precision of generator and perceptual network in training (default: float32)",
    )  # fmt: skip
    parser.add_argument(
        "--real", type=int, default=16, metavar="N", help="held-out images to evaluate on (default: 16)"
    )
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.add_argument("--until", type=int, metavar="N", help="stop after this many training images; resume later")
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
        print("not finished: repeat the command to resume", file=sys.stderr)
    command = f"inversion pack add-optimizer {args.pack} {args.out}"
    if is_shipped(find_pack(args.pack)):
        print(f"put it into a copy of the pack with: {command} --out DIR", file=sys.stderr)
    else:
        print(f"put it into the pack with: {command}", file=sys.stderr)
