"""`inversion invert PHOTO... --out DIR`: its arguments. What it does is in inverting.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.options import STARTS

FILES = """For each photo a folder DIR/NAME (its file name without the ending) with:
  aligned.png         the picture that was inverted
  reconstruction.png  the generator's picture of the best code
  latents.npy         that code, float32, (layers, width)
  latents.safetensors with detail: the code as w_plus and the detail, float16, (channels, height, width)
  losses.csv          step, loss (including the focus) and its two terms
  strip.png           aligned photo, intermediate images, reconstruction

Ctrl-C keeps the best code so far. Repeat the command with --resume to continue."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `invert`."""
    parser.epilog, parser.formatter_class = FILES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos of faces, at least 64 px")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--pack", metavar="PACK", help="a pack's name or folder (default: the default pack)")
    parser.add_argument("--resume", action="store_true", help="continue after Ctrl-C; finished photos are skipped")
    _add_search(parser)
    _add_picture(parser)
    _add_running(parser)
    parser.set_defaults(run=_run)


def _add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument(
        "--steps", type=int, metavar="N", help="steps of the code (default: the pack's; 100 without detail)"
    )
    group.add_argument(
        "--detail-steps", type=int, metavar="N", help="steps of detail after them, 0 for none (default: the pack's)"
    )
    group.add_argument(
        "--detail-px", type=int, metavar="PX", help="side of the features that detail is added to (default: the pack's)"
    )
    group.add_argument("--optimizer", metavar="NAME", help="an optimizer that the pack offers (default: the pack's)")
    group.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help="for a classic optimizer (default: the pack's, with its schedule)",
    )
    group.add_argument("--start", choices=STARTS, help="start code (default: encoder if the pack has one, else mean)")
    group.add_argument(
        "--start-code",
        type=Path,
        metavar="FILE",
        help="start from this latents.npy or latents.safetensors of the same pack",
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="seed for the random start (default: 0)")
    group.add_argument("--target-loss", type=float, metavar="L", help="stop when the loss is at most L")
    group.add_argument("--max-seconds", type=float, metavar="S", help="stop after S seconds per photo")
    group.add_argument("--plateau-steps", type=int, metavar="N", help="stop when the loss has not fallen for N steps")


def _add_picture(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("picture and loss")
    group.add_argument(
        "--focus", type=float, metavar="F",
        help="how much more the centre of the face counts than the border; 0 is the paper's loss (default: the pack's)",
    )  # fmt: skip
    group.add_argument(
        "--regulariser", type=float, default=0.0, metavar="W",
        help="weight of the in-domain regulariser; IDInvert's code uses 2 (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--mask", type=Path, metavar="FILE",
        help="an image of the size of the upright photo, white where the result must match it",
    )  # fmt: skip
    group.add_argument(
        "--face", type=int, metavar="N", help="which face of the photo, from 0, largest first (default: 0)"
    )
    group.add_argument("--no-align", action="store_true", help="use the centre of the photo, without detecting a face")


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument(
        "--frame-every", type=int, default=10, metavar="K", help="add an image to the strip every K steps (default: 10)"
    )
    group.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="photos inverted together; does not change the codes (default: automatic)",
    )
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: whatever is fastest)")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: CUDA if available)")


def _run(args: argparse.Namespace) -> int:
    from inversion_core.cli.inverting import run  # PyTorch, only now

    return run(args)
