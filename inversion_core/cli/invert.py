"""`inversion invert PHOTO... --out DIR`: photos to W+ codes, with the pictures on the way."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inversion_core.cli.folders import folders
from inversion_core.errors import NoFaceFound, PictureInvalid
from inversion_core.faces import find_and_align
from inversion_core.inverter import STARTS, BestSteps, InvertConfig, Step, invert, make_optimizer
from inversion_core.packs import Pack, load_pack
from inversion_core.pictures import centre_crop, load_photo, strip, to_image, to_tensor
from inversion_core.progress import progress
from inversion_pictures.formats import NAMED

FILES = """For each photo a folder DIR/NAME (its file name without the ending) with:
  aligned.png         the picture that was inverted
  reconstruction.png  the generator's picture of the best code
  latents.npy         that code, float32, (layers, width)
  losses.csv          step, loss (with the focus, where there is one) and its two terms
  strip.png           the aligned picture, the pictures on the way, the reconstruction"""

NO_FACE_REMEDY = "Or give --no-align to take the centre of the picture as it is."


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `invert`."""
    parser = commands.add_parser(
        "invert",
        help="invert photos of faces into W+ codes",
        epilog=FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help=f"{NAMED}, from 64 px to 50 megapixels")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--pack", metavar="PACK", help="a pack's name or folder (default: the one that ships with the program)"
    )
    parser.add_argument("--optimizer", metavar="NAME", help="an optimizer that the pack offers (default: the pack's)")
    parser.add_argument(
        "--steps", type=int, default=100, metavar="N", help="updates after the start code (default: 100)"
    )
    parser.add_argument(
        "--start", choices=STARTS, help="start code (default: encoder where the pack has one, else mean)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random start (default: 0)")
    parser.add_argument(
        "--focus", type=float, metavar="F",
        help="how much more the middle of the face counts than the rim; 0 is the paper's loss (default: the pack's)",
    )  # fmt: skip
    parser.add_argument(
        "--no-align", action="store_true", help="take the centre of the photo as it is, without looking for a face"
    )
    parser.add_argument(
        "--frame-every", type=int, default=10, metavar="K", help="a picture of the strip every K steps (default: 10)"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.frame_every < 1:
        print(f"error: --frame-every is {args.frame_every}; it must be at least 1", file=sys.stderr)
        return 2
    config = InvertConfig(
        num_steps=args.steps, optimizer=args.optimizer, start=args.start, seed=args.seed, focus=args.focus
    )
    pack = load_pack(args.pack, device=args.device)
    make_optimizer(pack, config)  # a wrong option ends here, before any photo
    failed = 0
    for photo, folder in folders(args.photos, args.out):
        try:
            image, faces = _prepare(photo, pack.resolution, align=not args.no_align)
        except (PictureInvalid, NoFaceFound) as error:
            remedy = f" {NO_FACE_REMEDY}" if isinstance(error, NoFaceFound) else ""
            print(f"error: {photo}: {error}{remedy}", file=sys.stderr)
            failed += 1
            continue
        _invert_one(pack, image, config, folder, every=args.frame_every, label=photo.name)
        if faces > 1:
            print(f"{photo}: {faces} faces, the largest was taken", file=sys.stderr)
    if failed and len(args.photos) > 1:
        print(f"error: {failed} of {len(args.photos)} photos failed", file=sys.stderr)
    return 2 if failed else 0


def _prepare(photo: Path, side_px: int, *, align: bool) -> tuple[Image.Image, int]:
    """The picture to invert, and how many faces the photo has (0 where nobody looked)."""
    image = load_photo(photo)
    if not align:
        return centre_crop(image, side_px), 0
    aligned, faces = find_and_align(image, side_px)
    return aligned.image, faces


def _invert_one(pack: Pack, image: Image.Image, config: InvertConfig, folder: Path, *, every: int, label: str) -> None:
    best, rows, frames = BestSteps(), [], [image]
    steps = progress(invert(pack, to_tensor(image), config), total=config.num_steps + 1, desc=label, unit="step")
    for step in steps:
        best.update(step)
        rows.append(_row(step))
        steps.set_postfix(loss=f"{float(step.loss_B):.4f}")
        if step.index % every == 0 or step.index == config.num_steps:
            frames.append(to_image(step.image_BCHW))
    if best.nonfinite_B.any():
        print(f"{label}: the loss became infinite or NaN; the best step before that is kept", file=sys.stderr)
    _write(folder, image, best, rows, frames)
    print(f"{folder}: loss {float(best.loss_B):.5f} at step {int(best.index_B)}")  # type: ignore[arg-type]


def _row(step: Step) -> tuple[int, float, float, float]:
    return step.index, float(step.loss_B), float(step.terms.pixel_B), float(step.terms.perceptual_B)


def _write(
    folder: Path,
    image: Image.Image,
    best: BestSteps,
    rows: list[tuple[int, float, float, float]],
    frames: list[Image.Image],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reconstruction = to_image(best.image_BCHW)
    image.save(folder / "aligned.png")
    reconstruction.save(folder / "reconstruction.png")
    np.save(folder / "latents.npy", best.w_BLD[0].cpu().numpy())
    with (folder / "losses.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("step", "loss", "pixel", "perceptual"), *rows])
    strip([*frames, reconstruction]).save(folder / "strip.png")
