"""`inversion pack copy|extend|change|use-...|add-optimizer`: what makes another pack of one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.packs import (
    DetailSpec,
    PackManifest,
    change_pack,
    copy_pack,
    find_pack,
    make_extension,
    read_manifest,
)
from inversion_core.training.detail_run import put_predictor
from inversion_core.training.encoder_run import put_trained
from inversion_core.training.features_run import put_features
from inversion_core.training.optimizer_run import put_best

DETAIL_FIELDS = {"after": int, "steps": int, "learning_rate": float, "beta1": float, "beta2": float}
"""What `pack change --detail` takes, and its kind; size and network are those of a training run."""
Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_parsers(kinds: Commands[argparse.ArgumentParser]) -> None:
    """Register the sub-commands of `pack` that change one."""
    _add_copy(kinds)
    _add_extend(kinds)
    _add_encoder(kinds)
    _add_features(kinds)
    _add_detail(kinds)
    _add_optimizer(kinds)
    _add_change(kinds)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add --out and --overwrite."""
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the new pack (default: change the pack in place)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack in --out")


def _add_copy(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("copy", help="copy a pack, so that you can change it")
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("out", type=Path, metavar="DIR", help="folder of the copy")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    parser.set_defaults(run=_run_copy)


def _add_extend(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("extend", help="create an extension: a folder that adds optimizers to a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder; must later be found by name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the extension")
    parser.add_argument("--name", required=True, help="small letters, digits and dashes")
    parser.add_argument("--version", default="1", help="(default: 1)")
    parser.add_argument("--description", default="")
    parser.add_argument("--licence", help="(default: that of the pack)")
    parser.add_argument("--provenance", default="", help="data, program and command")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    parser.set_defaults(run=_run_extend)


def _add_encoder(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("use-encoder", help="use the encoder of a training run in a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train encoder`")
    add_out(parser)
    parser.set_defaults(run=_run_encoder)


def _add_features(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("use-features", help="use the perceptual network of a training run in a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train features`")
    parser.add_argument(
        "--weight", type=float, metavar="LAMBDA",
        help="weight of the term (default: a third of the pixel term at the encoder's codes)",
    )  # fmt: skip
    add_out(parser)
    parser.set_defaults(run=_run_features)


def _add_detail(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("use-detail", help="begin detail with the network of a training run in a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train detail`")
    add_out(parser)
    parser.set_defaults(run=_run_detail)


def _add_optimizer(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("add-optimizer", help="add the learned optimizer of a training run to a pack")
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of `inversion train optimizer`")
    add_out(parser)
    parser.set_defaults(run=_run_optimizer)


def _add_change(kinds: Commands[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "change", help="change name, version, card, focus, detail, default optimizer or optimizer settings of a pack"
    )
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("--name", help="small letters, digits and dashes")
    parser.add_argument("--version")
    parser.add_argument("--description")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="model card, stored as README.md")
    parser.add_argument(
        "--optimizer", action="append", default=[], type=_settings, metavar="NAME=JSON",
        help="settings as pack.json has them, such as adam='{\"learning_rate\": 0.1}'; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--default-optimizer", metavar="NAME", help="optimizer that is used by default; the pack must offer it"
    )
    parser.add_argument(
        "--focus", type=float, metavar="F",
        help="default focus: how much more the centre of the face counts than the border; 0: uniform",
    )  # fmt: skip
    parser.add_argument(
        "--detail", action="append", default=[], type=_number, metavar="FIELD=VALUE",
        help=f"how detail is found, one of {', '.join(DETAIL_FIELDS)}: such as steps=10; repeatable",
    )  # fmt: skip
    add_out(parser)
    parser.set_defaults(run=_run_change)


def _settings(text: str) -> tuple[str, Any]:
    name, sign, settings = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=JSON")
    try:
        return name, json.loads(settings)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{settings!r} is no JSON: {error}") from error


def _number(text: str) -> tuple[str, float]:
    name, sign, value = text.partition("=")
    if not sign or name not in DETAIL_FIELDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE with FIELD one of {', '.join(DETAIL_FIELDS)}")
    try:
        return name, int(value) if DETAIL_FIELDS[name] is int else float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no number for {name}") from error


def _detail(spec: DetailSpec, changes: Sequence[tuple[str, float]]) -> DetailSpec:
    try:
        return dataclasses.replace(spec, **dict(changes))  # type: ignore[arg-type]
    except ValueError as error:
        raise OptionInvalid(f"--detail: {error}") from error


def _told(args: argparse.Namespace, before: PackManifest) -> Path:
    """The folder of the pack that was written; says so where it has another content than before and the version of
    before."""
    folder: Path = args.out or find_pack(args.pack)
    after = read_manifest(folder)
    if after.version == before.version and after != before:
        print(
            f"{after.name} {after.version} has other content than before under the same version. Before you hand it "
            f"out, give it a new one: inversion pack change {folder} --version VERSION",
            file=sys.stderr,
        )
    return folder


def _run_copy(args: argparse.Namespace) -> int:
    copy_pack(find_pack(args.pack), args.out, overwrite=args.overwrite)
    print(f"{args.out}: a copy of {find_pack(args.pack)}")
    return 0


def _run_extend(args: argparse.Namespace) -> int:
    manifest = make_extension(
        args.pack, args.out, name=args.name, version=args.version, description=args.description,
        licence=args.licence, provenance=args.provenance, overwrite=args.overwrite,
    )  # fmt: skip
    print(f"{args.out}: {manifest.name} {manifest.version}, an extension of {manifest.extends}")
    print(f"put optimizers into it with: inversion pack add-optimizer {args.out} RUN", file=sys.stderr)
    return 0


def _run_encoder(args: argparse.Namespace) -> int:
    source = find_pack(args.pack)
    before = read_manifest(source)
    steps = put_trained(args.run_folder, source, out=args.out, overwrite=args.overwrite)
    print(f"{_told(args, before)}: the encoder of {args.run_folder}, after {steps} steps")
    return 0


def _run_features(args: argparse.Namespace) -> int:
    source = find_pack(args.pack)
    before = read_manifest(source)
    manifest = put_features(args.run_folder, source, weight=args.weight, out=args.out, overwrite=args.overwrite)
    print(f"{_told(args, before)}: the features of {args.run_folder}, lambda {manifest.perceptual.weight:g}")
    return 0


def _run_detail(args: argparse.Namespace) -> int:
    source = find_pack(args.pack)
    before = read_manifest(source)
    manifest = put_predictor(args.run_folder, source, out=args.out, overwrite=args.overwrite)
    print(
        f"{_told(args, before)}: detail at {manifest.detail_or_default.px} px begins with the network of "
        f"{args.run_folder}"
    )
    return 0


def _run_optimizer(args: argparse.Namespace) -> int:
    source = find_pack(args.pack)
    before = read_manifest(source)
    variant = put_best(args.run_folder, source, out=args.out, overwrite=args.overwrite)
    folder, name = _told(args, before), variant.optimizer
    print(f"{folder}: {variant.file}; use it with: inversion invert --pack {folder} --optimizer {name}")
    if before.default_optimizer != name:
        print(f"where nobody names one it runs after: inversion pack change {folder} --default-optimizer {name}")
    return 0


def _run_change(args: argparse.Namespace) -> int:
    fields = ("name", "version", "description", "default_optimizer", "focus")
    given = {key: value for key in fields if (value := getattr(args, key)) is not None}
    try:
        card = None if args.card is None else args.card.read_bytes()
    except OSError as error:
        raise PackInvalid(f"--card {args.card} cannot be read: {error.strerror or error}") from error
    source = find_pack(args.pack)
    before, settings = read_manifest(source), dict(args.optimizer)
    if args.detail:
        given["detail"] = _detail(before.detail_or_default, args.detail)
    manifest = change_pack(source, card=card, optimizers=settings, out=args.out, overwrite=args.overwrite, **given)
    print(f"{_told(args, before)}: {manifest.name} {manifest.version}")
    return 0
