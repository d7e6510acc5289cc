"""`inversion interpolate`: from one latent or edit list to another, as a film."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from inversion_core.cli.editing import add_device, add_edits, edited, edits_of, open_pack
from inversion_core.cli.sources import SOURCE_HELP, add_inverting, read_source
from inversion_core.editing import Edit
from inversion_core.editing.films import KINDS, film
from inversion_core.editing.interpolation import WAYS, between_edits, check_frames, path
from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent
from inversion_core.packs import Pack
from inversion_core.pictures import to_image
from inversion_core.progress import progress

EXAMPLE = """examples:
  inversion interpolate anna.jpg berta.jpg --out film.webp
  inversion interpolate face.jpg --edit smile:2 --there-and-back --out smile.mp4
  inversion interpolate seed:1 seed:2 seed:3 --frames 100 --way spherical --out dream.webp

With one SOURCE the film goes from it to its edits; with several, from the first to the last, all with the edits. --out
ends in .webp, .gif, .mp4 (needs the extra `film`), or names a folder for the frames as PNG."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `interpolate`."""
    parser.epilog, parser.formatter_class = EXAMPLE, argparse.RawDescriptionHelpFormatter
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=SOURCE_HELP)
    add_edits(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the film, or a folder for frames")
    parser.add_argument("--frames", type=int, default=50, metavar="N", help="number of frames (default: 50)")
    parser.add_argument("--fps", type=float, default=25.0, metavar="F", help="frames a second (default: 25)")
    parser.add_argument("--way", choices=WAYS, default="linear", help="between codes (default: linear)")
    parser.add_argument("--there-and-back", action="store_true", help="the same frames in reverse at the end")
    parser.add_argument("--side", type=int, metavar="PX", help="side of the film (default: the pack's)")
    parser.add_argument("--pack", metavar="PACK", help="a pack's name or folder (default: the default pack)")
    add_device(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    kind = args.out.suffix.lower().removeprefix(".")
    if kind not in KINDS and kind:
        raise OptionInvalid(f"--out {args.out} must end in .{', .'.join(KINDS)}, or name a folder")
    edits = edits_of(args)
    if len(args.sources) == 1 and not edits:
        raise OptionInvalid("one source goes nowhere; give a second one, or --edit NAME:STRENGTH")
    check_frames(args.frames, least=max(2, len(args.sources)))
    if args.side is not None and not 16 <= args.side <= 2048:
        raise OptionInvalid(f"--side is {args.side}; give from 16 to 2048")
    pack = open_pack(args)
    latents = [read_source(pack, text, args).latent for text in args.sources]
    found = progress(_latents(pack, latents, edits, args), total=args.frames, desc="frames", unit="frame")
    pictures = [_picture(pack, latent, args.side) for latent in found]
    if kind:
        args.out.write_bytes(film(pictures, kind, args.fps, there_and_back=args.there_and_back))
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures):
            picture.save(args.out / f"{index:04d}.png")
    print(args.out)
    return 0


def _latents(pack: Pack, latents: list[Latent], edits: tuple[Edit, ...], args: argparse.Namespace) -> Iterator[Latent]:
    if len(latents) > 1:
        yield from path(pack, [edited(pack, latent, edits, args) for latent in latents], args.frames, args.way)
        return
    for index in range(args.frames):
        yield edited(pack, latents[0], between_edits((), edits, index / (args.frames - 1)), args)


@torch.no_grad()
def _picture(pack: Pack, latent: Latent, side: int | None) -> Image.Image:
    picture = to_image(pack.synthesize(latent))
    return picture if side is None else picture.resize((side, side), Image.Resampling.LANCZOS)
