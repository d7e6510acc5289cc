"""`inversion invert PHOTO... --out DIR`: its arguments. What it does is in inverting.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.options import STARTS

FILES = """For each photo a folder DIR/NAME (its file name without the ending) with:
  aligned.png         the picture that was inverted
  reconstruction.png  the generator's picture of the best code
  latents.npy         that code, float32, (layers, width)
  losses.csv          step, loss (with the focus, where there is one) and its two terms
  strip.png           the aligned picture, the pictures on the way, the reconstruction

Ctrl-C keeps the best code so far; the same command with --resume goes on from there."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `invert`."""
    parser.epilog, parser.formatter_class = FILES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos of faces, from 64 px")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--pack", metavar="PACK", help="a pack's name or folder (default: the one that ships with the program)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where Ctrl-C stopped it; photos that are done stay as they are"
    )
    _add_search(parser)
    _add_picture(parser)
    _add_running(parser)
    parser.set_defaults(run=_run)


def _add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument("--steps", type=int, default=100, metavar="N", help="updates after the start (default: 100)")
    group.add_argument("--optimizer", metavar="NAME", help="an optimizer that the pack offers (default: the pack's)")
    group.add_argument(
        "--learning-rate", type=float, metavar="R", help="of a classic optimizer (default: the pack's, with schedule)"
    )
    group.add_argument("--start", choices=STARTS, help="start code (default: encoder if the pack has one, else mean)")
    group.add_argument(
        "--start-code", type=Path, metavar="FILE.npy", help="start from this code, (layers, width), of the same pack"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random start (default: 0)")
    group.add_argument("--target-loss", type=float, metavar="L", help="stop where the loss is no greater")
    group.add_argument("--max-seconds", type=float, metavar="S", help="stop after so many seconds a photo")
    group.add_argument("--plateau-steps", type=int, metavar="N", help="stop when the loss has not fallen for N steps")


def _add_picture(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("picture and loss")
    group.add_argument(
        "--focus", type=float, metavar="F",
        help="how much more the middle of the face counts than the rim; 0 is the paper's loss (default: the pack's)",
    )  # fmt: skip
    group.add_argument(
        "--regulariser", type=float, default=0.0, metavar="W",
        help="weight of the in-domain regulariser; IDInvert's code has 2 (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--mask", type=Path, metavar="FILE",
        help="a picture as large as the upright photo, white where the result must agree with it",
    )  # fmt: skip
    group.add_argument(
        "--face", type=int, metavar="N", help="which face of a photo with several, from 0, largest first (default: 0)"
    )
    group.add_argument(
        "--no-align", action="store_true", help="take the centre of the photo as it is, without looking for a face"
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument(
        "--frame-every", type=int, default=10, metavar="K", help="a picture of the strip every K steps (default: 10)"
    )
    group.add_argument(
        "--batch", type=int, metavar="N", help="photos inverted together; codes do not depend on it (default: as fits)"
    )
    group.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: as many as are fastest just now)"
    )
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: CUDA where there is one)")


def _run(args: argparse.Namespace) -> int:
    from inversion_core.cli.inverting import run  # PyTorch, only now

    return run(args)
