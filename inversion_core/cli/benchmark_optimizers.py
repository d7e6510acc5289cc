"""`inversion benchmark optimizers`: how many iterations and seconds each optimizer needs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.benchmark.optimizers.config import OptimizersConfig
from inversion_core.benchmark.optimizers.measure import measure_optimizers
from inversion_core.cli.threads import add_threads, use_threads
from inversion_core.inverter import STARTS

FILES = """The folder DIR gets:
  optimizers.json  each optimizer compared with each baseline, and at equal time
  optimizers.md    the tables
  losses.csv       every loss: optimizer, tuned, photo, iteration, seconds, lowest loss so far, loss of the iteration
  loss-by-*.png    loss against iteration and seconds, for the paper's settings and for tuned ones
  strip-N.png      intermediate images
  tuned.json       the tuned settings of the classic optimizers; an interrupted run resumes from it"""
COUNTS = {
    "steps": "iterations of each run",
    "pairs": "synthetic pairs to tune the classic optimizers on",
    "held_out": "held-out images of an archive, as in training; a larger number includes training images",
    "batch": "images inverted together",
    "rounds": "timed runs of each optimizer, interleaved",
    "strips": "number of photographs with a strip of intermediate images",
    "seed": "seed of random starts and bootstrap",
}
"""Options that are whole numbers and fields of OptimizersConfig."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark optimizers`."""
    parser.epilog, parser.formatter_class = FILES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("pack", metavar="PACK", help="a pack's name or folder")
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO",
        help="pictures, folders of them, or archives made by `inversion train data`: their held-out pictures",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--start", choices=STARTS, help="(default: encoder if the pack has one, else random)")
    parser.add_argument(
        "--optimizers",
        default="",
        metavar="A,B,C",
        help="names (default: all that the pack offers); adam is always included",
    )
    parser.add_argument("--tuned", type=Path, metavar="FILE", help="tuned.json of an earlier run; skips the tuning")
    for name, text in COUNTS.items():
        default, option = getattr(OptimizersConfig, name), f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument("--limit", type=int, metavar="N", help="first N photographs, N pictures of each archive")
    parser.add_argument("--no-align", action="store_true", help="the photos are already aligned: use their centre")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    add_threads(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    config = OptimizersConfig(
        start=args.start, optimizers=tuple(name.strip() for name in args.optimizers.split(",") if name.strip()),
        tuned=args.tuned, limit=args.limit, align=not args.no_align, device=args.device,
        **{name: getattr(args, name) for name in COUNTS},
    )  # fmt: skip
    print(measure_optimizers(args.pack, args.photos, args.out, config))
    return 0
