"""`inversion diffuse FACE CONTEXT`: a face in another picture's context."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from inversion_core.cli.editing import add_out, check_out, open_pack, write_result
from inversion_core.cli.sources import Source, add_inverting, aligned_crop, config, search
from inversion_core.editing.diffusion import FACE, Diffusion, diffuse
from inversion_core.editing.shapes import parse_mask
from inversion_core.errors import OptionInvalid
from inversion_core.pictures import to_tensor


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffuse`."""
    parser.add_argument("face_photo", type=Path, metavar="FACE", help="photo of the face that is kept")
    parser.add_argument(
        "context_photo", type=Path, metavar="CONTEXT", help="photo of a face whose hair, light and background it gets"
    )
    parser.add_argument(
        "--context", type=float, default=Diffusion.context, metavar="C",
        help="how much the context counts: 0, as IDInvert has it, to 1 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--ring", type=float, default=Diffusion.ring, metavar="R",
        help="width of the free ring around the face, as a share of the crop's side (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mask", metavar="JSON", help='where the face is kept, such as \'{"ellipse": [0.5, 0.58, 0.24, 0.28]}\' (the '
        "default), in coordinates of the crop from 0 to 1",
    )  # fmt: skip
    add_out(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_out(args.out)
    try:
        mask = FACE if args.mask is None else parse_mask("--mask", json.loads(args.mask))
    except (ValueError, RecursionError) as error:
        raise OptionInvalid(f"--mask is no JSON: {error}") from error
    chosen = Diffusion(mask=mask, context=args.context, ring=args.ring)
    pack = open_pack(args)
    face, context = (aligned_crop(pack, photo, args) for photo in (args.face_photo, args.context_photo))
    steps = diffuse(pack, to_tensor(face.crop), to_tensor(context.crop), config(args), chosen)
    latent = search(steps, f"{args.face_photo.name} in {args.context_photo.name}")
    source = Source(latent=latent, photo=context.photo, aligned=context.aligned)
    write_result(pack, source, latent, args, mode="replace")
    print(args.out)
    return 0
