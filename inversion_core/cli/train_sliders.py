"""`inversion train sliders`: directions whose unit and range hold on inverted pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.errors import OptionInvalid
from inversion_core.packs import find_pack, load_pack, put_directions
from inversion_core.packs.places import refuse_shipped
from inversion_core.training.identity import load_identity
from inversion_core.training.judge import SHIPPED_JUDGE, load_judge
from inversion_core.training.ratings import load_study
from inversion_core.training.slider_report import write_report
from inversion_core.training.sliders import SliderTraining, train_sliders


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train sliders`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder; it must have directions")
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument("ratings", type=Path, metavar="RATINGS.csv", help="as of `inversion train directions`")
    parser.add_argument(
        "--identity", type=Path, required=True, metavar="FILE", help="face recognition network, ONNX (needs onnx)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables and report")
    parser.add_argument("--write-into", type=Path, metavar="PACK", help="pack folder to write the directions into")
    parser.add_argument(
        "--judge", type=Path, default=SHIPPED_JUDGE, metavar="FILE",
        help="made by `inversion train judge` (default: the one that comes with the library)",
    )  # fmt: skip
    parser.add_argument(
        "--least-identity", type=float, default=SliderTraining.least_identity, metavar="S",
        help="identity similarity at the ends of the ranges (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the images of DATA at full size, for the landmarks")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = SliderTraining(least_identity=args.least_identity)
    pack = load_pack(args.pack, device=args.device)
    if args.write_into is not None:  # refuse now, not after minutes of work
        refuse_shipped(args.write_into)
        target = load_pack(find_pack(args.write_into))
        if (target.num_layers, target.w_dim, target.name) != (pack.num_layers, pack.w_dim, pack.name):
            raise OptionInvalid(f"--write-into {args.write_into} is {target!r}, and the directions are of {pack!r}")
    judge = load_judge(args.judge)
    distance = load_identity(args.identity).to(args.device)
    study = load_study(args.data, args.ratings, held_out=args.held_out, photos=args.photos)
    run = train_sliders(pack, study, judge, distance.embed, config)
    print(write_report(run, pack, config, args.out))
    if args.write_into is not None:
        put_directions(args.write_into, run.directions)
    print(f"{len(run.directions)} sliders in {args.write_into or args.out}")
    return 0
