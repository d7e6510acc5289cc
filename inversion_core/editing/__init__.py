"""Editing latents: edit lists, and what they are made of (docs/editing.md).

from inversion_core.editing import apply_edits, parse_edits

edits = parse_edits([{"direction": "smile", "strength": 1.5}, {"truncate": 0.8}])
edited = apply_edits(pack, latent, edits)

Names are imported on first use: an edit list is read and checked without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inversion_core.editing.codes import Code
from inversion_core.editing.edits import Edit, parse_edits, parse_short, to_json

if TYPE_CHECKING:
    from inversion_core.editing.apply import apply_edits, own_codes
    from inversion_core.editing.moves import move

__all__ = ["Code", "Edit", "apply_edits", "move", "own_codes", "parse_edits", "parse_short", "to_json"]

_WITH_TORCH = {
    "inversion_core.editing.apply": ("apply_edits", "own_codes"),
    "inversion_core.editing.moves": ("move",),
}


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals().update({name: value})
            return value
    raise AttributeError(f"module 'inversion_core.editing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
