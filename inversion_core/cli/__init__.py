"""The command line: `inversion invert|submit|pack|train|benchmark`. One file a group, each with `add_parser(commands)`.

A group's parsers set `run`, a function that takes the arguments and returns the exit status. What the library
refuses ends as one line on stderr and exit status 2, as a wrong option does.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from inversion_core.cli import benchmark, invert, pack, submit, train
from inversion_core.errors import InversionError

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` is without the program's name, None takes the process's own."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [submit.NAME]:  # the client's own command line, which the core knows nothing of
        return submit.run(argv[1:])
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (InversionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, without running anything."""
    parser = argparse.ArgumentParser(
        prog="inversion",
        description="StyleGAN inversion: pictures to W+ codes.",
        epilog="`inversion COMMAND --help` tells more. Exit status: 0 done, 2 refused (one line on "
        "stderr says why and what to do).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (invert, submit, pack, train, benchmark):
        group.add_parser(commands)
    return parser
