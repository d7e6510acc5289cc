"""`inversion train detail`: the network that begins detail, for a pack."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.cli.settings import with_settings
from inversion_core.cli.train_networks import add_course, pack_for
from inversion_core.errors import OptionInvalid
from inversion_core.models import DetailPredictorConfig
from inversion_core.training.data import load_pictures
from inversion_core.training.detail import DetailTrainer, DetailTraining
from inversion_core.training.options import PRECISIONS
from inversion_core.training.precision import prepare
from inversion_core.training.run import RunFolder


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train detail`."""
    defaults = DetailTraining
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument("--pack", help="pack with the generator and encoder, name or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint, log, samples")
    parser.add_argument("--px", type=int, metavar="PX", help="side of the detail in pixels (default: the pack's)")
    parser.add_argument(
        "--width", type=int, default=DetailPredictorConfig.width, metavar="N",
        help="channels of the network at that size (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--inner-width", type=int, default=DetailPredictorConfig.inner_width, metavar="N",
        help="channels at half that size (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=defaults.steps, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=defaults.batch_size, metavar="N", help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=defaults.rate, help="learning rate of AdamW (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="settings",
        help="any other field of the configuration, such as edit_weight=0.05; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=defaults.precision, help="of forward passes (default: %(default)s)"
    )
    add_course(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    prepare(args.device)
    training, held_out = load_pictures(args.data, held_out=args.held_out)
    pack = pack_for(args, training)
    try:
        config = DetailTraining(
            predictor=DetailPredictorConfig(width=args.width, inner_width=args.inner_width),
            px=pack.detail.px if args.px is None else args.px, steps=args.steps, batch_size=args.batch,
            rate=args.rate, seed=args.seed, precision=args.precision,
        )  # fmt: skip
        trainer = DetailTrainer(with_settings(config, args.settings), pack, training, held_out, RunFolder(args.out))
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    trainer.run(until=args.until, sample_every=args.sample_every, stop_after_s=60 * args.minutes)
    print(f"step {trainer.step} of {config.steps} in {args.out}: {trainer.measure()}")
    return 0
