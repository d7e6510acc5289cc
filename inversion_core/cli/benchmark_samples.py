"""`inversion benchmark samples`: how near a pack's random faces are to real ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.benchmark.features import embedders
from inversion_core.benchmark.samples import SamplesConfig, measure_samples
from inversion_core.cli.threads import add_threads, use_threads
from inversion_core.errors import OptionInvalid
from inversion_core.models.lpips import load_lpips
from inversion_core.packs import load_pack
from inversion_core.training.data import load_pictures
from inversion_core.training.identity import load_identity


def fill(parser: argparse.ArgumentParser) -> None:
    """The arguments of `benchmark samples`."""
    parser.add_argument("pack", metavar="PACK", help="name or folder")
    parser.add_argument("data", type=Path, metavar="DATA.npz", help="archive made by `inversion train data`")
    parser.add_argument(
        "--lpips", type=Path, required=True, metavar="FILE", help="LPIPS squeeze weights, for the features"
    )
    parser.add_argument(
        "--identity", type=Path, metavar="FILE",
        help="face recognition network (ONNX): KID and FID on its embeddings too, which no critic has used",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="samples per psi (default: 2000)")
    parser.add_argument("--psi", type=float, nargs="+", default=[1.0, 0.7], help="truncation psi (default: 1.0 0.7)")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training (default: 96)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    add_threads(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for samples.json, samples.png")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    use_threads(args.threads, args.device)
    pack = load_pack(args.pack, device=args.device)
    lpips = load_lpips(args.lpips).to(args.device)
    identity = load_identity(args.identity).to(args.device) if args.identity else None
    try:
        config = SamplesConfig(count=args.count, psis=tuple(args.psi))
        training, held_out = load_pictures(args.data, held_out=args.held_out)
        table = measure_samples(args.out, pack, training, held_out, embedders(lpips, identity), config)
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    print(table)
    return 0
