"""`inversion train features`: a perceptual network for a pack's generator."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.cli.settings import with_settings
from inversion_core.cli.train_networks import add_course, discriminator_config, pack_for, pictures_and_judges
from inversion_core.errors import OptionInvalid
from inversion_core.training.features import FeatureTrainer, FeatureTraining
from inversion_core.training.options import PRECISIONS
from inversion_core.training.precision import prepare
from inversion_core.training.run import RunFolder

UNTIL_PX = 8


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train features`."""
    defaults = FeatureTraining
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument("--pack", help="pack with the generator and encoder, name or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint, log, samples")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS squeeze weights, as a teacher")
    parser.add_argument(
        "--identity", type=Path, metavar="FILE",
        help="face recognition network (ONNX), as a teacher; evaluate with a different one",
    )  # fmt: skip
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of the channels (default: 1)")
    parser.add_argument(
        "--until-px", type=int, default=UNTIL_PX, metavar="PX", help="size of its feature map (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=defaults.steps, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=defaults.batch_size, metavar="N", help="inversions per step (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=defaults.rate, help="learning rate of Adam (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="settings",
        help="any other field of the configuration, such as restart_every=50; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=defaults.precision, help="of the generator (default: %(default)s)"
    )
    add_course(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    prepare(args.device)
    training, held_out, judges = pictures_and_judges(args)
    pack = pack_for(args, training)
    try:
        config = FeatureTraining(
            features=discriminator_config(pack.resolution, args.width), until_px=args.until_px,
            steps=args.steps, batch_size=args.batch, rate=args.rate, seed=args.seed, precision=args.precision,
        )  # fmt: skip
        trainer = FeatureTrainer(
            with_settings(config, args.settings), pack, training, held_out, RunFolder(args.out), **judges
        )
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    trainer.run(until=args.until, sample_every=args.sample_every, stop_after_s=60 * args.minutes)
    print(f"step {trainer.step} of {config.steps} in {args.out}: {trainer.measure()}")
    return 0
