"""`inversion train judge`: a judge of faces, from people's ratings of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.training.judge import fit_judge
from inversion_core.training.ratings import load_study


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train judge`."""
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument(
        "ratings", type=Path, metavar="RATINGS.csv",
        help="mean ratings: a column `stimulus` with the image number (NUMBER.jpg), and one column per attribute",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="for the judge")
    parser.add_argument("--source", metavar="TEXT", help="what the pictures and ratings are, with their licence")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the images of DATA at full size, for the landmarks")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    study = load_study(args.data, args.ratings, held_out=args.held_out, photos=args.photos)
    fitted = int((~study.is_held_out_N).sum())
    judge = fit_judge(study, f"ridge regression of ratings of {fitted} pictures: {args.source or args.ratings.name}")
    judge.save(args.out)
    for name, r2 in zip(judge.names, judge.held_out_r2, strict=True):
        print(f"{name}: R2 {r2:.2f} on {study.num_rated - fitted} pictures held out")
    return 0
