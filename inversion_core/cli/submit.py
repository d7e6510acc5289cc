"""`inversion submit PHOTO...`: to a running service. All of it is the client's, and is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

NAME = "submit"
NEEDED = ("httpx", "tqdm", "inversion_client")


def run(argv: Sequence[str]) -> int:
    """The client's command; `argv` is what follows `submit`."""
    try:
        from inversion_client.command import main
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDED:
            raise
        print(f"error: inversion submit needs {missing}: pip install 'stylegan-inversion[client]'", file=sys.stderr)
        return 2
    return main(argv, prog=f"inversion {NAME}")
