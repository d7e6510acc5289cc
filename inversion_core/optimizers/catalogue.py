"""The optimizers by name, and how one is made of the settings in pack.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inversion_core.optimizers.adam import Adam
from inversion_core.optimizers.adaptive import Adagrad, RMSProp
from inversion_core.optimizers.lbfgs import LBFGS
from inversion_core.optimizers.protocol import Optimizer
from inversion_core.optimizers.schedule import Schedule
from inversion_core.optimizers.sgd import NAG, SGD

CLASSIC: Mapping[str, Callable[..., Optimizer[Any]]] = {
    "sgd": SGD,
    "nag": NAG,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "lbfgs": LBFGS,
}
"""Those that need no weights: every pack offers them all."""
OPTIMIZERS: Mapping[str, Callable[..., Optimizer[Any]]] = {**CLASSIC}
"""Name, as options and pack.json spell it, to class."""
SCHEDULE_SETTINGS = ("warmup_steps", "final_factor")
"""The settings in pack.json that belong to the schedule; all others are arguments of the class."""


def build_optimizer(name: str, settings: Mapping[str, Any], *, total_steps: int | None = None) -> Optimizer[Any]:
    """The optimizer `name` with the settings of a pack.json, for a run of `total_steps` updates.

    Raises:
        TypeError, ValueError: it does not take such settings.
    """
    own = {key: value for key, value in settings.items() if key not in SCHEDULE_SETTINGS}
    shape = {key: value for key, value in settings.items() if key in SCHEDULE_SETTINGS}
    return OPTIMIZERS[name](**own, schedule=Schedule(**shape, total_steps=total_steps))
