"""`inversion pack list|show|verify|convert-idinvert|use-imagenet-vgg|use-encoder|use-features|add-optimizer|change`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from inversion_core.errors import PackInvalid
from inversion_core.packs import PackManifest, change_pack, find_pack, list_packs, read_manifest, verify_pack
from inversion_core.packs.convert import convert_idinvert
from inversion_core.packs.imagenet import use_imagenet_vgg
from inversion_core.training.encoder_run import put_trained
from inversion_core.training.features_run import put_features
from inversion_core.training.optimizer_run import put_best

Commands = argparse._SubParsersAction  # argparse has no public name for it


def fill(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `pack`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    kinds.add_parser("list", help="packs that can be had by name").set_defaults(run=_run_list)
    for name, run, text in (
        ("show", _run_show, "what a pack's pack.json says"),
        ("verify", _run_verify, "check every file of a pack"),
    ):
        kind = kinds.add_parser(name, help=text)
        kind.add_argument("pack", nargs="?", metavar="PACK", help="name or folder (default: the default pack)")
        kind.set_defaults(run=run)
    _add_convert(kinds)
    _add_imagenet(kinds)
    _add_encoder(kinds)
    _add_features(kinds)
    _add_optimizer(kinds)
    _add_change(kinds)


def _add_convert(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("convert-idinvert", help="make a pack of the published IDInvert files")
    parser.add_argument("--generator", type=Path, required=True, metavar="G.pth", help="styleganinv_*_generator.pth")
    parser.add_argument(
        "--encoder", type=Path, metavar="E.pth", help="styleganinv_*_encoder.pth (without it the pack has no encoder)"
    )
    parser.add_argument("--vgg", type=Path, required=True, metavar="V.pth", help="vgg16.pth")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new pack")
    parser.add_argument("--name", default="idinvert-ffhq-256", help="name of the pack (default: %(default)s)")
    parser.add_argument(
        "--half", action="store_true", help="store float16: half the size, not quite the published weights"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    parser.set_defaults(run=_run_convert)


def _add_imagenet(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "use-imagenet-vgg", help="give a pack torchvision's ImageNet VGG-16 as its perceptual network"
    )
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the new pack (default: the pack is changed where it is)"
    )
    parser.add_argument(
        "--weight", type=float, metavar="LAMBDA", help="weight of the term (default: it counts as much as before)"
    )
    parser.set_defaults(run=_run_imagenet)


def _add_encoder(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("use-encoder", help="give a pack the encoder of a run")
    parser.add_argument("pack", metavar="PACK", help="name or folder; it is changed where it is")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train encoder`")
    parser.set_defaults(run=_run_encoder)


def _add_features(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("use-features", help="give a pack the perceptual network of a run")
    parser.add_argument("pack", metavar="PACK", help="name or folder; it is changed where it is")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train features`")
    parser.add_argument(
        "--weight", type=float, metavar="LAMBDA",
        help="weight of the term (default: a third of the pixels' at the encoder's start)",
    )  # fmt: skip
    parser.set_defaults(run=_run_features)


def _add_optimizer(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("add-optimizer", help="put the learned optimizer of a run into a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder; it is changed where it is")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train optimizer`")
    parser.set_defaults(run=_run_optimizer)


def _add_change(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "change", help="give a pack another version, card, focus, default optimizer or settings of one"
    )
    parser.add_argument("pack", metavar="PACK", help="name or folder; it is changed where it is")
    parser.add_argument("--version")
    parser.add_argument("--description")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="model card, goes in as README.md")
    parser.add_argument(
        "--optimizer", action="append", default=[], type=_settings, metavar="NAME=JSON",
        help="settings as pack.json has them, such as adam='{\"learning_rate\": 0.1}'; again for more",
    )  # fmt: skip
    parser.add_argument(
        "--default-optimizer", metavar="NAME", help="the one that runs where nobody names one; the pack must offer it"
    )
    parser.add_argument(
        "--focus", type=float, metavar="F",
        help="how much more the middle of the face counts than the rim where nobody says; 0: all alike",
    )  # fmt: skip
    parser.set_defaults(run=_run_change)


def _settings(text: str) -> tuple[str, Any]:
    name, sign, settings = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=JSON")
    try:
        return name, json.loads(settings)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{settings!r} is no JSON: {error}") from error


def _run_list(args: argparse.Namespace) -> int:
    packs = list_packs()
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
    manifest = use_imagenet_vgg(args.pack, out=args.out, weight=args.weight)
    print(
        f"{args.out or find_pack(args.pack)}: {manifest.name} {manifest.version}, perceptual weight "
        f"{manifest.perceptual.weight:.3g}"
    )
    return 0


def _run_encoder(args: argparse.Namespace) -> int:
    folder = find_pack(args.pack)
    steps = put_trained(args.run_folder, folder)
    print(f"{folder}: the encoder of {args.run_folder}, after {steps} steps")
    return 0


def _run_features(args: argparse.Namespace) -> int:
    folder = find_pack(args.pack)
    manifest = put_features(args.run_folder, folder, weight=args.weight)
    print(f"{folder}: the features of {args.run_folder}, lambda {manifest.perceptual.weight:g}")
    return 0


def _run_optimizer(args: argparse.Namespace) -> int:
    folder = find_pack(args.pack)
    variant = put_best(args.run_folder, folder)
    name = variant.optimizer
    print(f"{folder}: {variant.file}; use it with: inversion invert --optimizer {name}")
    if read_manifest(folder).default_optimizer != name:
        print(f"where nobody names one it runs after: inversion pack change {args.pack} --default-optimizer {name}")
    return 0


def _run_change(args: argparse.Namespace) -> int:
    folder = find_pack(args.pack)
    fields = ("version", "description", "default_optimizer", "focus")
    given = {key: value for key in fields if (value := getattr(args, key)) is not None}
    try:
        card = None if args.card is None else args.card.read_bytes()
    except OSError as error:
        raise PackInvalid(f"--card {args.card} cannot be read: {error.strerror or error}") from error
    manifest = change_pack(folder, card=card, optimizers=dict(args.optimizer), **given)
    print(f"{folder}: {manifest.name} {manifest.version}")
    return 0
