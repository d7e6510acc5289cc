"""CODE: whose code a mix takes, as plain data.

{"inversion": ID} | {"latents": [[...], ...]} | {"seed": 7}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inversion_core.editing.fields import Fields, is_number, shown

MOST_LAYERS = 32
MOST_WIDTH = 4096
MOST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""
MOST_ID = 200
KEYS = ("inversion", "latents", "seed")


@dataclass(frozen=True, kw_only=True)
class Code:
    """Exactly one of the three is given."""

    inversion: str | None = None
    """The id of an inversion, which only those who keep inversions can look up."""
    latents: tuple[tuple[float, ...], ...] | None = None
    """A code (L, D)."""
    seed: int | None = None
    """Of a random z, which the pack maps: a person who does not exist."""

    def to_json(self) -> dict[str, Any]:
        if self.latents is not None:
            return {"latents": [list(row) for row in self.latents]}
        return {"inversion": self.inversion} if self.inversion is not None else {"seed": self.seed}


def parse_code(where: str, data: object) -> Code:
    """Check a CODE; `where` is named in messages.

    Raises:
        OptionInvalid: it is not one.
    """
    fields = Fields(where, data)
    kind = fields.one_of(KEYS)
    if kind == "inversion":
        code = Code(inversion=fields.text(kind, MOST_ID))
    elif kind == "seed":
        code = Code(seed=fields.integer(kind, 0, MOST_SEED))
    else:
        code = Code(latents=_latents(fields, fields.take(kind)))
    fields.end()
    return code


def _latents(fields: Fields, rows: object) -> tuple[tuple[float, ...], ...]:
    if not isinstance(rows, list | tuple) or not 0 < len(rows) <= MOST_LAYERS:
        raise fields.fault("latents", f"is {shown(rows)}; give a list of lists of numbers, one list for each layer")
    for index, row in enumerate(rows):
        if not isinstance(row, list | tuple) or not 0 < len(row) <= MOST_WIDTH or len(row) != len(rows[0]):
            raise fields.fault(f"latents[{index}]", "must be a list of numbers, as long as the other layers'")
        if wrong := [value for value in row if not is_number(value)]:
            raise fields.fault(f"latents[{index}]", f"has {shown(wrong[0])}; give finite numbers")
    return tuple(tuple(map(float, row)) for row in rows)
