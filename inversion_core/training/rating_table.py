"""The table of people's ratings: that of One Million Impressions (Peterson 2022), or any other of its form."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from inversion_core.errors import OptionInvalid

KEY_COLUMN = "stimulus"
"""Column that holds a picture's number; any folder's NUMBER.jpg is that picture."""

Table = dict[int, dict[str, float]]
"""Picture's number -> column -> rating; every picture has every column."""


def read_ratings(file: Path) -> Table:
    """Read a CSV: a header with the column `stimulus`, then a line for each picture, with a number in every cell.

    Raises:
        OptionInvalid: it is no such table; the message says where.
    """
    table: Table = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream, strict=True)
            header = next(lines, [])
            _check_header(header)
            for cells in lines:
                if cells:
                    _add(table, header, cells, lines.line_num)
        if not table:
            raise ValueError("there is no line below the header")
    except (ValueError, csv.Error) as error:
        raise OptionInvalid(f"{file} is no table of ratings: {error}") from error
    return table


def _check_header(header: list[str]) -> None:
    if KEY_COLUMN not in header:
        raise ValueError(f"it has no column {KEY_COLUMN!r}, which says whose ratings a line holds")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"it has more than one column {', '.join(map(repr, twice))}")


def _add(table: Table, header: list[str], cells: list[str], line: int) -> None:
    """Put a line into the table; ValueError where it has a fault."""
    if len(cells) != len(header):
        raise ValueError(f"line {line} has {len(cells)} cells, and the header has {len(header)}")
    values = {name: _number(text, name, line) for name, text in zip(header, cells, strict=True)}
    key = values.pop(KEY_COLUMN)
    if key != int(key) or int(key) in table:
        raise ValueError(f"line {line}, column {KEY_COLUMN!r}: {key:g} must be a whole number, each once")
    table[int(key)] = values


def _number(text: str, column: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"line {line}, column {column!r}: {text!r} is no number. Leave out lines of pictures that lack a rating"
        )
    return value
