"""Named settings of the reconstruction, and which of them a run has that does not say.

The configurations' defaults leave a run as earlier versions made it; what was found better since is a recipe.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from inversion_core.training.options import TrainingOptions
from inversion_core.training.run import CHECKPOINT, read_facts

FACES = "faces"
PLAIN = "plain"
RECIPES: dict[str, dict[str, float]] = {
    FACES: {
        "lpips_weight": 0.3,
        "face_lpips_weight": 0.5,
        "face_weight": 2.0,
        "identity_weight": 0.5,
        "identity_every": 2,
        "encoder_clip": 2.0,
        "jitter_probability": 0.5,
        "w_share": 0.2,
    },
    PLAIN: {},
}
"""For aligned faces, of which a few thousand overfit; and for pictures of anything, where no place is worth more."""


def recipe_fields(kind: type[TrainingOptions], name: str | None, run: Path) -> dict[str, Any]:
    """The fields that recipes set, as far as a `kind` of configuration has them.

    Without a name a new run takes `FACES` and one that has begun keeps its own: what its checkpoint says, and the
    defaults for fields that came later. So no run changes its loss because it was stopped.
    """
    names = {field for recipe in RECIPES.values() for field in recipe}
    defaults = {field.name: field.default for field in dataclasses.fields(kind) if field.name in names}
    facts = read_facts(run / CHECKPOINT) if name is None else None
    chosen = RECIPES[name or FACES] if facts is None else facts["config"]
    return {field: chosen.get(field, default) for field, default in defaults.items()}
