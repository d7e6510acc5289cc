"""The command line: `inversion invert|submit|pack|train|benchmark`. `commands.py` lists the commands.

A command's parser sets `run`, a function that takes the arguments and returns the exit status. What the library
refuses ends as one line on stderr and exit status 2, as a wrong option does.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

from inversion_core.cli import submit
from inversion_core.cli.commands import add_commands
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
        description="StyleGAN inversion: from photos to W+ codes.",
        epilog="See `inversion COMMAND --help` for more. Exit status: 0 success, 2 refused (one line on "
        "stderr says why and what to do).",
    )
    parser.add_argument("--version", action="version", version=f"inversion {version('stylegan-inversion')}")
    add_commands(parser)
    return parser
