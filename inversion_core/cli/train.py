"""`inversion train data|export`: from pictures to an archive, from a run to a pack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from inversion_core.packs import find_pack
from inversion_core.training.calibration import calibrate
from inversion_core.training.data import load_pictures, pack_pictures
from inversion_core.training.export import assemble, write


def fill_data(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train data`."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="images, aligned as in FFHQ")
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="size of the images (default: 64)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    parser.set_defaults(run=_run_data)


def fill_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train export`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="archive that the run was trained on, to tune the optimizers"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="folder of the pack")
    parser.add_argument("--name", required=True, help="small letters, digits and dashes")
    parser.add_argument("--version", default="1", help="(default: 1)")
    parser.add_argument("--description", default="")
    parser.add_argument("--licence", required=True, help="licence of the weights, usually that of the images")
    parser.add_argument("--provenance", required=True, help="data, program and command")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="model card, stored as README.md")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training")
    parser.add_argument(
        "--until-px", type=int, default=16, metavar="PX",
        help="size of the discriminator's feature map to use as perceptual features (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--features-from", metavar="PACK",
        help="use the perceptual network of this pack (name or folder); required for a run with a projected critic",
    )  # fmt: skip
    parser.add_argument(
        "--calibration-steps", type=int, default=100, metavar="N",
        help="steps per inversion when tuning the optimizers (default: 100)",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="for the tuning")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    parser.set_defaults(run=_run_export)


def _run_data(args: argparse.Namespace) -> int:
    packed = pack_pictures(args.folders, args.out, args.size)
    print(f"{packed.count} pictures of {args.size} px in {args.out}")
    if packed.broken:
        print(f"{len(packed.broken)} of {packed.count + len(packed.broken)} files cannot be read", file=sys.stderr)
    return 0


def _run_export(args: argparse.Namespace) -> int:
    _, held_out = load_pictures(args.data, held_out=args.held_out)
    pack = assemble(
        args.run_folder, name=args.name, version=args.version, description=args.description,
        licence=args.licence, provenance=args.provenance, until_px=args.until_px, device=args.device,
        features_from=find_pack(args.features_from) if args.features_from else None,
    )  # fmt: skip
    pack, losses = calibrate(pack, held_out, num_steps=args.calibration_steps)
    for trial, loss in losses.items():
        print(f"{trial}: median of the best loss {loss:.5f}", file=sys.stderr)
    write(pack, args.out, extra_files={"README.md": args.card} if args.card else None, overwrite=args.overwrite)
    print(f"{args.out}: {pack!r}, lambda {pack.perceptual_weight:g}, {pack.optimizers}")
    return 0
