"""`inversion benchmark edits`: what a pack's directions do to inverted photographs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.benchmark.edits import EditsConfig, measure_edits
from inversion_core.cli.threads import add_threads, use_threads

FILES = """The folder DIR gets:
  edits.json  for each direction and end: strength, identity, change of its own attribute and of others, background
  edits.csv   a row for each picture, direction and end
  edits.md    the table, and what each measure is
  sheet.png   the first pictures, each with detail and without"""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark edits`."""
    parser.epilog, parser.formatter_class = FILES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("pack", metavar="PACK", help="a pack's name or folder; it must have directions")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="pictures, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--identity", type=Path, metavar="FILE", help="face recognition network, ONNX (needs onnxruntime)"
    )
    parser.add_argument(
        "--judge", type=Path, default=EditsConfig.judge, metavar="FILE",
        help="judge of faces, made by `inversion train judge` (default: the one that comes with the library)",
    )  # fmt: skip
    parser.add_argument("--directions", nargs="+", metavar="NAME", help="measure only these (default: all)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of w (default: the pack's before detail)")
    parser.add_argument(
        "--detail-steps", type=int, metavar="N", help="steps of detail (default: the pack's, or 10 where it has none)"
    )
    parser.add_argument("--no-align", action="store_true", help="the photos are already aligned: use their centre")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N photos")
    parser.add_argument("--sheet", type=int, default=EditsConfig.sheet_rows, metavar="N",
                        help="photos on sheet.png (default: %(default)s)")  # fmt: skip
    parser.add_argument("--batch", type=int, default=EditsConfig.batch, metavar="N",
                        help="images inverted together (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    add_threads(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    config = EditsConfig(
        judge=args.judge, identity=args.identity, steps=args.steps, detail_steps=args.detail_steps,
        directions=None if args.directions is None else tuple(args.directions), align=not args.no_align,
        batch=args.batch, sheet_rows=args.sheet, limit=args.limit, device=args.device,
    )  # fmt: skip
    print(measure_edits(args.pack, args.photos, args.out, config))
    return 0
