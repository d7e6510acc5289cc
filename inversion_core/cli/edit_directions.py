"""`inversion directions`: where directions come from, and what they do.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from inversion_core.cli.editing import add_device, open_pack
from inversion_core.cli.sources import CODE_SUFFIXES, SOURCE_HELP, add_inverting, parse_layers, read_source
from inversion_core.editing.directions.computed import ganspace, sefa
from inversion_core.editing.directions.fitted import METHODS, fit_direction
from inversion_core.editing.directions.imported import UNITS, import_directions
from inversion_core.editing.directions.store import load_directions, save_directions, with_files
from inversion_core.editing.moves import move
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, Pack, find_pack, load_pack, put_directions
from inversion_core.pictures import grid, to_image

ENDING = ".safetensors"
SHEET_SEEDS = (3, 7)
"""The faces of a sheet, where nobody names others."""
SHEET_SHARES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Of the lower and the upper end of a direction's range."""
LABEL_PX = 16

Compute = Callable[[Pack, int, tuple[int, int] | None], list[Direction]]


def fill_show(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions show`."""
    parser.add_argument("pack", nargs="?", metavar="PACK", help="name or folder (default: the default pack)")
    parser.add_argument(
        "--directions", type=Path, action="append", default=[], metavar="FILE", help="directions of a file besides"
    )
    add_sheet(parser)
    add_device(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run_show)


def fill_sefa(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions sefa`."""
    _add_computed(parser)
    parser.set_defaults(run=lambda args: _run_computed(args, sefa))


def fill_ganspace(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions ganspace`."""
    _add_computed(parser)
    parser.set_defaults(run=lambda args: _run_computed(args, ganspace))


def fill_from(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions from`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=f"faces with the attribute: {SOURCE_HELP}, or a "
                        "folder of such folders")  # fmt: skip
    parser.add_argument("--minus", nargs="+", required=True, metavar="SOURCE", help="faces without it")
    parser.add_argument("--name", required=True, metavar="NAME", help="small letters, digits and dashes")
    parser.add_argument("--label", metavar="TEXT", help="what a positive strength does (default: the name)")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="difference of the means, or the normal "
                        "of the plane between the sets, for tens of faces (default: difference)")  # fmt: skip
    _add_out(parser)
    add_inverting(parser)
    parser.set_defaults(run=_run_from)


def fill_import(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions import`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder of the pack whose generator they are for")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="InterFaceGAN, IDInvert or "
                        "StyleFeatureEditor .npy, e4e .pt, GANSpace .npz, SeFa .pt; none is run")  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="instead of the file's; for one file")
    parser.add_argument("--layers", type=parse_layers, metavar="FIRST-LAST", help="style layers that they move "
                        "(default: what the file says, else all)")  # fmt: skip
    parser.add_argument("--unit", choices=UNITS, default=UNITS[0], help="what a strength of 1 is: the vector in the "
                        "file, or one standard deviation of random codes along it (default: file)")  # fmt: skip
    _add_out(parser)
    parser.set_defaults(run=_run_import, steps=None, detail_steps=None, face=0, no_align=False)


def fill_add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `directions add`."""
    parser.add_argument(
        "pack", type=Path, metavar="PACK", help="folder of a pack of your own; see `inversion pack copy`"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="made by `inversion directions`")
    parser.set_defaults(run=_run_add)


def add_sheet(parser: argparse.ArgumentParser) -> None:
    """Whether and of whom pictures are made."""
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw each direction over its range")
    parser.add_argument("--faces", nargs="+", metavar="SOURCE", help=f"of whom (default: two seeds): {SOURCE_HELP}")


def draw_sheet(pack: Pack, directions: Iterable[Direction], faces: Sequence[torch.Tensor]) -> Image.Image:
    """A row for each direction and face, from the lower end of the range to the upper; its name on top."""
    rows = []
    for direction in directions:
        low, high = direction.spec.range
        for w_BLD in faces:
            strengths = [-low * share if share < 0 else high * share for share in SHEET_SHARES]
            with torch.no_grad():
                pictures = [to_image(pack.synthesize(move(w_BLD, direction, strength))) for strength in strengths]
            row = grid(pictures, len(pictures))
            named = Image.new("RGB", (row.width, row.height + LABEL_PX), "white")
            named.paste(row, (0, LABEL_PX))
            title = f"{direction.spec.name}: {low:g} to {high:g}"
            ImageDraw.Draw(named).text((2, 2), title, fill="black")
            rows.append(named)
    return grid(rows, 1)


def _add_computed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="the N strongest (default: 8)")
    parser.add_argument(
        "--layers", type=parse_layers, metavar="FIRST-LAST", help="style layers that they move (default: all)"
    )
    _add_out(parser)
    parser.set_defaults(steps=None, detail_steps=None, face=0, no_align=False)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar=f"FILE{ENDING}", help="for --directions")
    add_sheet(parser)
    add_device(parser)


def _run_show(args: argparse.Namespace) -> int:
    pack = open_pack(args)
    directions = with_files(pack, args.directions)
    for direction in directions.values():
        spec = direction.spec
        print(f"{spec.name}: {spec.range[0]:g} to {spec.range[1]:g}; {spec.label}; a unit is {spec.unit}")
    if not directions:
        print(f"pack {pack.name} has no directions")
    _sheet(pack, list(directions.values()), args)
    return 0


def _run_computed(args: argparse.Namespace, compute: Compute) -> int:
    _check_out(args)
    pack = open_pack(args)
    return _finish(pack, compute(pack, args.count, args.layers), args)


def _run_from(args: argparse.Namespace) -> int:
    _check_out(args)
    pack = open_pack(args)
    with_NLD, without_MLD = (_codes(pack, texts, args) for texts in (args.sources, args.minus))
    label = args.label or args.name
    found = fit_direction(pack, with_NLD, without_MLD, name=args.name, label=label, method=args.method)
    return _finish(pack, [found], args)


def _run_import(args: argparse.Namespace) -> int:
    _check_out(args)
    if args.name is not None and len(args.files) > 1:
        raise OptionInvalid("--name is for one file; import several one by one, or leave it out")
    pack = open_pack(args)
    found = [
        direction
        for file in args.files
        for direction in import_directions(pack, file, name=args.name, layers=args.layers, unit=args.unit)
    ]
    return _finish(pack, found, args)


def _run_add(args: argparse.Namespace) -> int:
    pack = load_pack(find_pack(args.pack))
    added = [direction for file in args.files for direction in load_directions(file, pack).values()]
    put_directions(find_pack(args.pack), list(with_files(pack, args.files).values()))
    print(f"{args.pack}: {', '.join(direction.spec.name for direction in added)} added")
    return 0


def _codes(pack: Pack, texts: Sequence[str], args: argparse.Namespace) -> torch.Tensor:
    return torch.cat([read_source(pack, each, args).latent.w_BLD for text in texts for each in _below(text)])


def _below(text: str) -> list[str]:
    """A folder of results as its results; anything else is itself."""
    folder = Path(text)
    if not folder.is_dir() or any(file.suffix in CODE_SUFFIXES for file in folder.iterdir()):
        return [text]
    return [str(each) for each in sorted(folder.iterdir()) if each.is_dir()]


def _check_out(args: argparse.Namespace) -> None:
    if args.out.suffix != ENDING:
        raise OptionInvalid(f"--out {args.out} must end in {ENDING}")


def _finish(pack: Pack, directions: list[Direction], args: argparse.Namespace) -> int:
    save_directions(args.out, directions, pack)
    for direction in directions:
        print(f"{direction.spec.name}: {direction.spec.source}")
    _sheet(pack, directions, args)
    print(f"{args.out}: use it with --directions {args.out}")
    return 0


def _sheet(pack: Pack, directions: list[Direction], args: argparse.Namespace) -> None:
    if args.sheet is None or not directions:
        return
    texts = args.faces or [f"seed:{seed}" for seed in SHEET_SEEDS]
    draw_sheet(pack, directions, [read_source(pack, text, args).latent.w_BLD for text in texts]).save(args.sheet)
