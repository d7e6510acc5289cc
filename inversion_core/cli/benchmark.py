"""`inversion benchmark speed|quality|groups`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inversion_core.benchmark.groups import GroupsConfig, measure_groups
from inversion_core.benchmark.methods import ADAM
from inversion_core.benchmark.quality import QualityConfig, measure_quality
from inversion_core.benchmark.speed import PACKS, SpeedConfig, measure_speed
from inversion_core.cli.threads import add_threads, use_threads
from inversion_core.engine import Precision
from inversion_core.errors import OptionInvalid

QUALITY_FILES = """The folder DIR gets:
  quality.json  mean and standard deviation of each measure by each method
  quality.csv   a row for each picture and method
  quality.md    the table, and what each measure is
  sheet.png     the first pictures: photo, aligned, start, and the pictures on the way"""


def fill_speed(speed: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark speed`."""
    speed.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for speed.json and speed.md")
    speed.add_argument(
        "--pack", nargs="+", default=PACKS, metavar="PACK", help=f"packs to time (default: {' '.join(PACKS)})"
    )
    speed.add_argument("--small-only", action="store_true", help="skip the 256 px pack with random weights")
    speed.add_argument("--iterations", type=int, default=5, metavar="N", help="iterations per timing (default: 5)")
    speed.add_argument("--repeats", type=int, default=5, metavar="N", help="timings of each, interleaved (default: 5)")
    speed.add_argument(
        "--concurrent", type=int, nargs="*", metavar="N",
        help="batch sizes; no number: skip this part (default: 1 2 4 8, on CUDA 1 8 32 64 128)",
    )  # fmt: skip
    speed.add_argument(
        "--precision", choices=("auto", *Precision), default="auto",
        help="precision of the engine; auto: the fastest that does not change the final loss (default: auto)",
    )  # fmt: skip
    speed.add_argument("--device", default="cpu", help="(default: cpu)")
    add_threads(speed)
    speed.set_defaults(run=_run_speed)


def fill_quality(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark quality`."""
    parser.epilog, parser.formatter_class = QUALITY_FILES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("pack", metavar="PACK", help="a pack's name or folder")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="pictures, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=QualityConfig.steps, metavar="N",
        help="numbers of steps to compare (default: 100 500)",
    )  # fmt: skip
    parser.add_argument(
        "--detail-steps", type=int, nargs="+", default=QualityConfig.detail_steps, metavar="N",
        help="numbers of steps of detail to compare, each after each number of steps (default: 0)",
    )  # fmt: skip
    _add_optimizers(parser)
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS squeeze weights, safetensors")
    parser.add_argument(
        "--identity", type=Path, metavar="FILE", help="face recognition network, ONNX (needs onnxruntime)"
    )
    parser.add_argument(
        "--descriptor", action="store_true",
        help="the distance of dlib's face descriptors too, which no training has used (needs the extra descriptor)",
    )  # fmt: skip
    parser.add_argument(
        "--focus", type=float, metavar="F", help="how much more the centre of the face counts (default: the pack's)"
    )
    parser.add_argument("--no-align", action="store_true", help="the photos are already aligned: use their centre")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N photos")
    parser.add_argument("--sheet", type=int, default=QualityConfig.sheet_rows, metavar="N",
                        help="rows of sheet.png (default: %(default)s)")  # fmt: skip
    _add_common(parser)
    parser.set_defaults(run=_run_quality)


def fill_groups(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark groups`."""
    parser.add_argument("pack", metavar="PACK", help="a pack's name or folder")
    parser.add_argument("data", type=Path, metavar="DATA.npz", help="archive made by `inversion train data`")
    parser.add_argument(
        "ratings",
        type=Path,
        metavar="RATINGS.csv",
        help="mean ratings: a column `stimulus` with the image number (NUMBER.jpg), and one column per rating",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for groups.json and groups.md")
    parser.add_argument(
        "--by", nargs="+", default=(), metavar="COLUMN", help="ratings to group by (default: the usual ones)"
    )
    parser.add_argument("--folder", default=GroupsConfig.folder, metavar="NAME",
                        help="folder of the rated pictures in the archive (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--held-out", type=int, default=GroupsConfig.held_out, metavar="N",
        help="held-out images, as in training; a larger number includes training images (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=GroupsConfig.steps, metavar="N", help="updates (default: %(default)s)"
    )
    _add_optimizers(parser)
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS squeeze weights, safetensors")
    _add_common(parser)
    parser.set_defaults(run=_run_groups)


def _add_optimizers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--optimizers", nargs="+", default=(ADAM,), metavar="NAME",
        help="optimizers of the pack to compare, at each number of steps (default: adam)",
    )  # fmt: skip


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="images inverted together (default: 8)")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    add_threads(parser)


def _run_speed(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    try:
        config = SpeedConfig(
            iterations=args.iterations, repeats=args.repeats, device=args.device, with_256=not args.small_only,
            concurrent=None if args.concurrent is None else tuple(args.concurrent),
            precision=None if args.precision == "auto" else Precision(args.precision),
        )  # fmt: skip
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    table = measure_speed(args.out, config, packs=args.pack)
    print(table)
    return 0


def _run_quality(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    config = QualityConfig(
        steps=tuple(args.steps), detail_steps=tuple(args.detail_steps), optimizers=tuple(args.optimizers),
        lpips=args.lpips, identity=args.identity,
        descriptor=args.descriptor,
        align=not args.no_align, focus=args.focus, batch=args.batch, sheet_rows=args.sheet, limit=args.limit,
        device=args.device,
    )  # fmt: skip
    print(measure_quality(args.pack, args.photos, args.out, config))
    return 0


def _run_groups(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    config = GroupsConfig(
        by=tuple(args.by), folder=args.folder, held_out=args.held_out, steps=args.steps,
        optimizers=tuple(args.optimizers), lpips=args.lpips, batch=args.batch, device=args.device,
    )  # fmt: skip
    print(measure_groups(args.pack, args.data, args.ratings, args.out, config))
    return 0
