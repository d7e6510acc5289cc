"""`inversion pack list|show|verify|convert|use-imagenet-vgg`; more in pack_change.py and pack_install.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from inversion_core.cli import pack_change, pack_install
from inversion_core.errors import PackInvalid
from inversion_core.packs import PackManifest, find_pack, list_packs, read_manifest, verify_pack
from inversion_core.packs.convert import convert_idinvert
from inversion_core.packs.converting import convert_files
from inversion_core.packs.imagenet import use_imagenet_vgg

Commands = argparse._SubParsersAction  # argparse has no public name for it


def fill(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `pack`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    kinds.add_parser("list", help="list the packs that are found by name").set_defaults(run=_run_list)
    for name, run, text in (
        ("show", _run_show, "print a pack's pack.json"),
        ("verify", _run_verify, "check every file of a pack"),
    ):
        kind = kinds.add_parser(name, help=text)
        kind.add_argument("pack", nargs="?", metavar="PACK", help="name or folder (default: the default pack)")
        kind.set_defaults(run=run)
    _add_convert(kinds)
    _add_convert_idinvert(kinds)
    _add_imagenet(kinds)
    pack_change.add_parsers(kinds)
    pack_install.add_parsers(kinds)


def _add_convert(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "convert", help="convert published files to a pack: StyleGAN2 of NVIDIA, rosinality and others, IDInvert"
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help=".pkl, .pt or .pth; what each one is, is found out"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new pack")
    parser.add_argument("--name", help="name of the pack (default: from the generator's file name)")
    parser.add_argument("--licence", help="terms under which the weights may be used")
    parser.add_argument(
        "--label", type=int, default=0, metavar="N", help="class to draw, of a class-conditional generator (default: 0)"
    )
    parser.add_argument("--half", action="store_true", help="store float16: half the size, slightly different weights")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    parser.set_defaults(run=_run_convert)


def _add_convert_idinvert(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("convert-idinvert", help="convert published IDInvert files to a pack")
    parser.add_argument("--generator", type=Path, required=True, metavar="G.pth", help="styleganinv_*_generator.pth")
    parser.add_argument(
        "--encoder", type=Path, metavar="E.pth", help="styleganinv_*_encoder.pth (without it the pack has no encoder)"
    )
    parser.add_argument("--vgg", type=Path, required=True, metavar="V.pth", help="vgg16.pth")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new pack")
    parser.add_argument("--name", help="name of the pack (default: from the generator's file name and size)")
    parser.add_argument("--half", action="store_true", help="store float16: half the size, slightly different weights")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    parser.set_defaults(run=_run_convert_idinvert)


def _add_imagenet(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "use-imagenet-vgg", help="use torchvision's ImageNet VGG-16 as a pack's perceptual network"
    )
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    pack_change.add_out(parser)
    parser.add_argument(
        "--weight",
        type=float,
        metavar="LAMBDA",
        help="weight of the perceptual term (default: keeps its share of the loss)",
    )
    parser.set_defaults(run=_run_imagenet)


def _run_list(args: argparse.Namespace) -> int:
    packs = list_packs(extensions=True)
    rows = [("NAME", "VERSION", "SIZE", "CODE", "STARTS", "OPTIMIZERS"), *(_row(manifest) for manifest in packs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(manifest: PackManifest) -> tuple[str, ...]:
    size, code = f"{manifest.resolution} px", f"{manifest.num_layers}x{manifest.w_dim}"
    return manifest.name, manifest.version, size, code, ",".join(manifest.starts), ",".join(manifest.offered)


def _run_show(args: argparse.Namespace) -> int:
    folder = find_pack(args.pack)
    manifest = read_manifest(folder)
    print(f"folder: {folder}")
    print(manifest.to_json(), end="")
    return 0


def _run_verify(args: argparse.Namespace) -> int:
    manifest = verify_pack(args.pack)
    print(
        f"{find_pack(args.pack)}: {manifest.name} {manifest.version} is sound: "
        f"{len(manifest.files)} files, digests, keys, shapes and numbers"
    )
    return 0


def _run_convert(args: argparse.Namespace) -> int:
    try:
        manifest = convert_files(
            args.files, args.out, name=args.name, licence=args.licence, label=args.label, half=args.half,
            overwrite=args.overwrite, say=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
    except ValueError as error:
        raise PackInvalid(f"--name: {error}") from error
    print(f"{args.out}: {manifest.name}, {manifest.resolution} px, codes {manifest.num_layers}x{manifest.w_dim}")
    return 0


def _run_convert_idinvert(args: argparse.Namespace) -> int:
    try:
        manifest = convert_idinvert(
            args.generator,
            args.vgg,
            args.out,
            encoder_file=args.encoder,
            name=args.name,
            half=args.half,
            overwrite=args.overwrite,
        )
    except ValueError as error:
        raise PackInvalid(f"--name: {error}") from error
    print(f"{args.out}: {manifest.name}, {manifest.resolution} px, codes {manifest.num_layers}x{manifest.w_dim}")
    return 0


def _run_imagenet(args: argparse.Namespace) -> int:
    manifest = use_imagenet_vgg(args.pack, out=args.out, weight=args.weight, overwrite=args.overwrite)
    print(
        f"{args.out or find_pack(args.pack)}: {manifest.name} {manifest.version}, perceptual weight "
        f"{manifest.perceptual.weight:.3g}"
    )
    return 0
