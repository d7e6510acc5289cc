"""`inversion train directions`: semantic directions of a pack, from people's ratings of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.errors import OptionInvalid
from inversion_core.packs import find_pack, load_pack, put_directions
from inversion_core.packs.places import refuse_shipped
from inversion_core.training.direction_report import write_report
from inversion_core.training.direction_run import DirectionTraining, train_directions
from inversion_core.training.ratings import load_study


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train directions`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder; it must have an encoder")
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument(
        "ratings", type=Path, metavar="RATINGS.csv",
        help="mean ratings: a column `stimulus` with the image number (NUMBER.jpg), and one column per attribute",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for tables, report and sheet of edits"
    )
    parser.add_argument("--write-into", type=Path, metavar="PACK", help="pack folder to write the directions into")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the images of DATA at full size, for the landmarks")
    parser.add_argument(
        "--refine", type=int, default=0, metavar="N", help="optimization steps after the encoder (default: 0)"
    )
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    pack = load_pack(args.pack, device=args.device)
    if args.write_into is not None:  # refuse now, not after minutes of work
        refuse_shipped(args.write_into)
        target = load_pack(find_pack(args.write_into))
        if (target.num_layers, target.w_dim, target.name) != (pack.num_layers, pack.w_dim, pack.name):
            raise OptionInvalid(f"--write-into {args.write_into} is {target!r}, and the directions are of {pack!r}")
    config = DirectionTraining(refine_steps=args.refine)
    study = load_study(args.data, args.ratings, held_out=args.held_out, photos=args.photos)
    run = train_directions(pack, study, config)
    write_report(run, pack, args.out)
    for spec in (direction.spec for direction in run.directions):
        print(f"{spec.name}: {spec.range[0]:g} to {spec.range[1]:g}, held-out R2 {spec.held_out_r2:.2f}, {spec.source}")
    if args.write_into is not None:
        put_directions(args.write_into, run.directions)
    print(f"{len(run.directions)} directions in {args.write_into or args.out}; look at {args.out / 'sheet.png'}")
    return 0
