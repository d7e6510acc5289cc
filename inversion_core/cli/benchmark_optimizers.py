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
  optimizers.json  each optimizer against each baseline, and at equal seconds
  optimizers.md    the tables
  losses.csv       every loss: optimizer, tuned, photo, iteration, seconds, lowest loss so far, loss of the iteration
  loss-by-*.png    loss against iteration and seconds, for the paper's settings and for tuned ones
  strip-N.png      the pictures on the way
  tuned.json       the classic optimizers' best settings; a run that was interrupted goes on from it"""
COUNTS = {
    "steps": "iterations of each run",
    "pairs": "synthetic pairs to tune the classic optimizers on",
    "held_out": "of an archive, as in training; a larger number takes in pictures that were trained on",
    "batch": "pictures inverted together",
    "rounds": "timed runs of each optimizer, all in turns",
    "strips": "first photographs whose pictures on the way are drawn",
    "seed": "of random starts and of the bootstrap",
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
    parser.add_argument("--start", choices=STARTS, help="(default: encoder where the pack has one, else random)")
    parser.add_argument(
        "--optimizers", default="", metavar="A,B,C", help="names (default: all that the pack offers); adam always runs"
    )
    parser.add_argument("--tuned", type=Path, metavar="FILE", help="tuned.json of an earlier run: nothing is tuned")
    for name, text in COUNTS.items():
        default, option = getattr(OptimizersConfig, name), f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument("--limit", type=int, metavar="N", help="first N photographs, N pictures of each archive")
    parser.add_argument("--no-align", action="store_true", help="the photos are ready crops: take their centre")
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
