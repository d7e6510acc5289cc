"""Edit lists: plain data in, plain data out, and no PyTorch (docs/editing.md).

A list of up to 32 objects, applied in order, one kind each:

    {"direction": "smile", "strength": 1.5, "layers": [4, 9], "hold": ["age"]}
    {"mix": {"seed": 7}, "amount": 0.5, "layers": [4, 9]}
    {"truncate": 0.7, "layers": [0, 7]}

Each may have a "mask", in coordinates of the aligned picture. A further kind is a file in kinds/ and an entry here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inversion_core.editing.fields import Fields, shown
from inversion_core.editing.kinds.base import Edit as Edit
from inversion_core.editing.kinds.direction import DirectionEdit
from inversion_core.editing.kinds.mix import MixEdit
from inversion_core.editing.kinds.truncate import TruncateEdit
from inversion_core.errors import OptionInvalid

KINDS: Mapping[str, type[Edit]] = {kind.KEY: kind for kind in (DirectionEdit, MixEdit, TruncateEdit)}
"""The kinds, by the key that only they have."""
MOST_EDITS = 32
SHORT = re.compile(r"([^:]+):([^:]+)")


def parse_edits(data: object) -> tuple[Edit, ...]:
    """Check an edit list. What depends on a pack (names of directions, number of layers) is checked when it is applied.

    Raises:
        OptionInvalid: it is not one; the message names the place, and what to write there.
    """
    if not isinstance(data, list | tuple):
        raise OptionInvalid(f"edits is {shown(data)}; it must be a list of edits")
    if len(data) > MOST_EDITS:
        raise OptionInvalid(f"edits has {len(data)} entries; at most {MOST_EDITS} are taken")
    return tuple(_parse(f"edits[{index}]", each) for index, each in enumerate(data))


def _parse(where: str, data: object) -> Edit:
    fields = Fields(where, data)
    edit = KINDS[fields.one_of(tuple(KINDS))].parse(fields)
    fields.end()
    return edit


def to_json(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """What `parse_edits` makes the same list of; defaults are left out."""
    return [edit.to_json() for edit in edits]


def parse_short(text: str) -> dict[str, Any]:
    """The short form, `smile:1.5` or `truncate:0.7`, as an object of an edit list.

    Raises:
        OptionInvalid: it is not of that form.
    """
    if (match := SHORT.fullmatch(text)) is None:
        raise OptionInvalid(f"edit is {shown(text)}; write a direction and a strength, such as smile:1.5")
    name, amount = match[1].strip(), match[2].strip()
    try:
        number = float(amount)
    except ValueError:
        raise OptionInvalid(f"edit is {shown(text)}; what follows the colon must be a number") from None
    return {name: number} if name == TruncateEdit.KEY else {"direction": name, "strength": number}
