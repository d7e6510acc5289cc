"""`inversion benchmark faces`: how robust face detection is."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.benchmark.faces import measure_faces


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark faces`."""
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO", help="photographs of upright faces, or folders of them"
    )
    parser.add_argument(
        "--without", nargs="+", type=Path, default=[], metavar="PICTURE", help="pictures without a face, or folders"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N of each only")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for faces.md")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    print(measure_faces(args.out, args.photos, args.without, args.limit))
    return 0
