"""`inversion edit` and `inversion mix`: the latent of a photo, edited."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from inversion_core.cli.sources import (
    CODE_SUFFIXES,
    SOURCE_HELP,
    Source,
    add_inverting,
    parse_layers,
    read_source,
    write_latent,
)
from inversion_core.cli.threads import add_threads, use_threads
from inversion_core.editing import Edit, apply_edits, own_codes, parse_edits, parse_short
from inversion_core.editing.directions.store import with_files
from inversion_core.errors import OptionInvalid
from inversion_core.faces import Mode, paste
from inversion_core.latents import Latent
from inversion_core.packs import Pack, load_pack
from inversion_core.pictures import encoded, to_image

PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
EXAMPLE = """examples:
  inversion edit face.jpg --edit smile:1.5 --edit age:-1 --out smiling.jpg
  inversion edit result/face --edits edits.json --out edited.safetensors
  inversion edit seed:7 --edit truncate:0.5 --out calm.png

--out ends in .png, .jpg or .webp: the picture, in the photo where SOURCE is a photo; in .npy: the W+ code alone; in
.safetensors: the latent with its detail. Strength 0 changes nothing; `inversion directions show` lists directions."""


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `edit`."""
    parser.epilog, parser.formatter_class = EXAMPLE, argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    add_edits(parser)
    add_out(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run_edit)


def fill_mix(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mix`."""
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("other", metavar="OTHER", help="whom it is mixed with: the same kinds")
    parser.add_argument(
        "--amount", type=float, default=0.5, metavar="A", help="from 0, SOURCE, to 1, OTHER (default: 0.5)"
    )
    parser.add_argument(
        "--layers", type=parse_layers, metavar="FIRST-LAST", help="only these style layers: coarse ones are pose and "
        "shape, the middle ones features, the last ones colours (default: all)",
    )  # fmt: skip
    add_out(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run_mix)


def add_edits(parser: argparse.ArgumentParser) -> None:
    """Where edits come from."""
    group = parser.add_argument_group("edits, applied in order: those of FILE first")
    group.add_argument(
        "--edit", action="append", default=[], metavar="NAME:STRENGTH", help="a direction, such as smile:1.5, or "
        "truncate:0.7; may be given again",
    )  # fmt: skip
    group.add_argument("--edits", type=Path, metavar="FILE.json", help="an edit list, see docs/editing.md")
    group.add_argument(
        "--directions", type=Path, action="append", default=[], metavar="FILE", help="more directions, made by "
        "`inversion directions`; may be given again",
    )  # fmt: skip


def add_out(parser: argparse.ArgumentParser) -> None:
    """Where the result goes, and what makes it."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a picture or a latent, by its ending")
    parser.add_argument(
        "--crop", action="store_true", help="the aligned face as the generator makes it, and not the whole photo"
    )
    parser.add_argument("--pack", metavar="PACK", help="a pack's name or folder (default: the default pack)")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """What computes."""
    add_threads(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: CUDA if available)")


def open_pack(args: argparse.Namespace) -> Pack:
    """The pack that was asked for, where it was asked for."""
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    use_threads(args.threads, device)
    return load_pack(args.pack, device=device)


def edits_of(args: argparse.Namespace) -> tuple[Edit, ...]:
    """The edit list that the options spell.

    Raises:
        OptionInvalid: it is none, or its file cannot be read.
    """
    listed: list[Any] = []
    if args.edits is not None:
        try:
            read = json.loads(args.edits.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise OptionInvalid(f"--edits {args.edits}: {error}. Give a file with a JSON list") from error
        listed = read if isinstance(read, list) else [read]
    return parse_edits([*listed, *map(parse_short, args.edit)])


def edited(pack: Pack, latent: Latent, edits: tuple[Edit, ...], args: argparse.Namespace) -> Latent:
    """The latent after the edits; `inversion` in a mix names a SOURCE."""
    resolve = own_codes(pack, lambda name: read_source(pack, name, args).latent)
    return apply_edits(pack, latent, edits, resolve, directions=with_files(pack, getattr(args, "directions", ())))


def check_out(file: Path) -> None:
    """Refuse what cannot be written, before the work begins."""
    if file.suffix.lower() not in (*PICTURES, *CODE_SUFFIXES):
        raise OptionInvalid(f"--out {file} must end in {', '.join((*PICTURES, *CODE_SUFFIXES))}")
    if not file.absolute().parent.is_dir():
        raise OptionInvalid(f"--out {file}: there is no folder {file.absolute().parent}; make it first")


@torch.no_grad()
def write_result(
    pack: Pack, source: Source, latent: Latent, args: argparse.Namespace, mode: Mode = "difference"
) -> None:
    """The result as the ending of `--out` says; in a photo it is put back as `paste` has it."""
    if args.out.suffix.lower() in CODE_SUFFIXES:
        write_latent(args.out, latent)
        return
    picture = to_image(pack.synthesize(latent))
    if source.photo is not None and source.aligned is not None and not args.crop:
        before = to_image(pack.synthesize(source.latent))
        picture = paste(source.photo, source.aligned.quad, before, picture, mode=mode)
    args.out.write_bytes(encoded(picture, PICTURES[args.out.suffix.lower()]))


def _run_edit(args: argparse.Namespace) -> int:
    check_out(args.out)
    edits = edits_of(args)
    if not edits:
        raise OptionInvalid("there is no edit; give --edit NAME:STRENGTH, such as smile:1.5, or --edits FILE.json")
    pack = open_pack(args)
    source = read_source(pack, args.source, args)
    write_result(pack, source, edited(pack, source.latent, edits, args), args)
    print(args.out)
    return 0


def _run_mix(args: argparse.Namespace) -> int:
    check_out(args.out)
    layers = {} if args.layers is None else {"layers": list(args.layers)}
    edits = parse_edits([{"mix": {"inversion": args.other}, "amount": args.amount} | layers])
    pack = open_pack(args)
    source = read_source(pack, args.source, args)
    write_result(pack, source, edited(pack, source.latent, edits, args), args)
    print(args.out)
    return 0
