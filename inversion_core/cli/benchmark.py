"""`inversion benchmark speed|samples`."""

from __future__ import annotations

import argparse
from pathlib import Path

from inversion_core.benchmark.speed import SpeedConfig, measure_speed
from inversion_core.cli import benchmark_samples
from inversion_core.errors import OptionInvalid


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `benchmark` and its sub-commands."""
    parser = commands.add_parser("benchmark", help="measure, and write tables for docs/benchmarks")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    speed = kinds.add_parser(
        "speed", help="seconds per iteration, beside the same loop as the public reference writes it"
    )
    speed.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for speed.json and speed.md")
    speed.add_argument("--pack", metavar="PACK", help="the first pack to time (default: the default pack)")
    speed.add_argument("--small-only", action="store_true", help="leave the 256 px pack of random weights out")
    speed.add_argument("--iterations", type=int, default=5, metavar="N", help="iterations of one timing (default: 5)")
    speed.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="timings of each, taken in turns (default: 5)"
    )
    speed.add_argument("--device", default="cpu", help="(default: cpu)")
    speed.set_defaults(run=_run_speed)
    benchmark_samples.add_parser(kinds)


def _run_speed(args: argparse.Namespace) -> int:
    try:
        config = SpeedConfig(
            iterations=args.iterations, repeats=args.repeats, device=args.device, with_256=not args.small_only
        )
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    table = measure_speed(args.out, config, pack=args.pack)
    print(table)
    return 0
