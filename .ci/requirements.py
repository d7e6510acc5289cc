"""Print what extras of pyproject.toml require: `python3 .ci/requirements.py app s3`.

The Dockerfile installs this list before our own code, so that the layer of some GB is made anew when a requirement
changes, and not when a version, an entry point or a setting of a tool does.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
OURS = re.compile(rf"{PROJECT['name']}\[(.*)\]")


def required(extras: list[str]) -> Iterator[str]:
    """The requirements of these extras, and of those of ours that they name."""
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            if ours := OURS.fullmatch(requirement):
                yield from required(ours[1].split(","))
            else:
                yield requirement


if __name__ == "__main__":
    print(*sorted({*PROJECT["dependencies"], *required(sys.argv[1:])}), sep="\n")
